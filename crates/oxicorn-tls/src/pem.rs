//! PEM (RFC 7468): what is in a file, and how a certificate is shown.

use pkcs8::der::pem::{LineEnding, encode_string};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

/// The certificates in a text, in their order.
pub(crate) fn certificates(text: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_slice_iter(text.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())
}

/// The lists of revoked certificates in a text, in their order.
pub(crate) fn revocation_lists(
    text: &str,
) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
    CertificateRevocationListDer::pem_slice_iter(text.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())
}

/// The first key in a text that is not encrypted.
pub(crate) fn key(text: &str) -> Option<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_slice(text.as_bytes()).ok()
}

/// The block with this label, borders included.
pub(crate) fn block<'a>(text: &'a str, label: &str) -> Option<&'a str> {
    let start = text.find(&format!("-----BEGIN {label}-----"))?;
    let border = format!("-----END {label}-----");
    let end = text[start..].find(&border)?;
    Some(&text[start..start + end + border.len()])
}

/// A certificate as text.
pub(crate) fn of_certificate(certificate: &CertificateDer<'_>) -> String {
    // It fails for lengths beyond the address space only.
    encode_string("CERTIFICATE", LineEnding::LF, certificate).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_block_with_a_label() {
        let text = "x\n-----BEGIN A-----\nb\n-----END A-----\n-----BEGIN B-----\n-----END B-----\n";
        assert_eq!(
            block(text, "A"),
            Some("-----BEGIN A-----\nb\n-----END A-----")
        );
        assert_eq!(block(text, "C"), None);
        assert_eq!(block("-----BEGIN A-----\nb", "A"), None);
    }
}
