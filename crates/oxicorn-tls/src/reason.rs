//! Why a handshake failed, in words for whoever reads the log.
//!
//! rustls tells many of its reasons by the names of its own types (`Other(OtherError(UnsupportedCertVersion))`). What an
//! operator can do something about is said here in a sentence; of everything else such names are taken apart into words.

use rustls::{CertificateError, Error};

/// Names longer than this in parts are taken apart; a single word with a capital is a word already.
const LEAST_PARTS: usize = 2;

/// What an error of TLS means, without a full stop.
pub fn reason(error: &Error) -> String {
    match error {
        Error::NoCertificatesPresented => {
            "the client showed no certificate, and cert_reqs = 2 asks for one".into()
        }
        Error::InvalidCertificate(error) => {
            format!("the client's certificate was refused: {}", refusal(error))
        }
        Error::AlertReceived(alert) => {
            format!("the client gave up: {}", words(&format!("{alert:?}")))
        }
        Error::PeerIncompatible(what) => {
            format!(
                "nothing in common with the client: {}",
                words(&format!("{what:?}"))
            )
        }
        Error::PeerMisbehaved(what) => {
            format!("the client broke a rule: {}", words(&format!("{what:?}")))
        }
        other => words(&other.to_string()),
    }
}

fn refusal(error: &CertificateError) -> String {
    match error {
        CertificateError::UnknownIssuer => {
            "no authority in ca_certs has made it, or what leads to one was not sent along".into()
        }
        CertificateError::Revoked => "its authority has revoked it (crlfile)".into(),
        CertificateError::UnknownRevocationStatus => "crlfile has no list of its authority".into(),
        CertificateError::ExpiredRevocationList
        | CertificateError::ExpiredRevocationListContext { .. } => {
            "the list of its authority in crlfile has expired".into()
        }
        // webpki's own name for certificates of version 1, which have no extensions and so no purpose.
        other if format!("{other:?}").contains("UnsupportedCertVersion") => {
            "it is of version 1; clients need one of version 3 (X.509v3)".into()
        }
        other => words(&other.to_string()),
    }
}

/// The same with each `CamelCase` name as words: `NoCipherSuitesInCommon`, no cipher suites in common.
fn words(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let mut rest = text;
    while let Some(start) = rest.find(|letter: char| letter.is_ascii_alphanumeric()) {
        let (before, from) = rest.split_at(start);
        let end = from.find(|letter: char| !letter.is_ascii_alphanumeric());
        let (word, after) = from.split_at(end.unwrap_or(from.len()));
        out.push_str(before);
        push_word(word, &mut out);
        rest = after;
    }
    out.push_str(rest);
    out
}

fn push_word(word: &str, out: &mut String) {
    let parts = parts(word);
    if parts.len() < LEAST_PARTS || !word.starts_with(|letter: char| letter.is_ascii_uppercase()) {
        return out.push_str(word);
    }
    for (place, part) in parts.into_iter().enumerate() {
        if place > 0 {
            out.push(' ');
        }
        match part {
            "Tls12" => out.push_str("TLS 1.2"),
            "Tls13" => out.push_str("TLS 1.3"),
            _ if part.len() > 1 && !part.bytes().any(|byte| byte.is_ascii_lowercase()) => {
                out.push_str(part);
            }
            _ => out.push_str(&part.to_ascii_lowercase()),
        }
    }
}

/// Cuts before each capital that follows a small letter or a digit, or that a small letter follows.
fn parts(word: &str) -> Vec<&str> {
    let bytes = word.as_bytes();
    let is_cut = |at: usize| {
        let next_is_small = bytes.get(at + 1).is_some_and(u8::is_ascii_lowercase);
        bytes[at].is_ascii_uppercase() && (!bytes[at - 1].is_ascii_uppercase() || next_is_small)
    };
    let mut parts = Vec::new();
    let mut start = 0;
    for at in 1..bytes.len() {
        if is_cut(at) {
            parts.push(&word[start..at]);
            start = at;
        }
    }
    parts.push(&word[start..]);
    parts
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::{AlertDescription, OtherError, PeerIncompatible};

    use super::*;

    #[derive(Debug)]
    struct UnsupportedCertVersion;

    impl std::fmt::Display for UnsupportedCertVersion {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("UnsupportedCertVersion")
        }
    }

    impl std::error::Error for UnsupportedCertVersion {}

    #[test]
    fn names_are_words() {
        for (text, plain) in [
            ("NoCipherSuitesInCommon", "no cipher suites in common"),
            ("UnknownCA", "unknown CA"),
            ("Tls12NotOffered", "TLS 1.2 not offered"),
            (
                "received corrupt message of type InvalidCcs",
                "received corrupt message of type invalid ccs",
            ),
            ("Expired, OK", "Expired, OK"),
            (
                "peer doesn't support any known protocol",
                "peer doesn't support any known protocol",
            ),
        ] {
            assert_eq!(words(text), plain);
        }
    }

    #[test]
    fn what_an_operator_can_mend_is_a_sentence() {
        let version = CertificateError::Other(OtherError(Arc::new(UnsupportedCertVersion)));
        for (error, plain) in [
            (
                Error::InvalidCertificate(version),
                "the client's certificate was refused: it is of version 1; clients need one of version 3 (X.509v3)",
            ),
            (
                Error::AlertReceived(AlertDescription::UnknownCA),
                "the client gave up: unknown CA",
            ),
            (
                Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon),
                "nothing in common with the client: no cipher suites in common",
            ),
            (
                Error::InvalidCertificate(CertificateError::BadSignature),
                "the client's certificate was refused: bad signature",
            ),
        ] {
            assert_eq!(reason(&error), plain);
        }
    }
}
