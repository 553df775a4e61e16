//! Cipher suites by name.
//!
//! Suites have two names: OpenSSL's, which settings use up to TLS 1.2, and the registry's (IANA), which everybody uses
//! for TLS 1.3. What OpenSSL's language for lists of them means (`HIGH:!aNULL`) only OpenSSL knows; here come names.

use rustls::{CipherSuite, SupportedCipherSuite};

use crate::provider::suites;

/// OpenSSL's names of the suites with TLS 1.2.
const OPENSSL: [(CipherSuite, &str); 6] = [
    (
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        "ECDHE-ECDSA-AES256-GCM-SHA384",
    ),
    (
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        "ECDHE-ECDSA-AES128-GCM-SHA256",
    ),
    (
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        "ECDHE-ECDSA-CHACHA20-POLY1305",
    ),
    (
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        "ECDHE-RSA-AES256-GCM-SHA384",
    ),
    (
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        "ECDHE-RSA-AES128-GCM-SHA256",
    ),
    (
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        "ECDHE-RSA-CHACHA20-POLY1305",
    ),
];

/// OpenSSL's names of what is offered with TLS 1.2.
pub fn offered() -> Vec<&'static str> {
    OPENSSL.iter().map(|(_, name)| *name).collect()
}

/// OpenSSL's name of a suite; those of TLS 1.3 have one name.
pub(crate) fn name_of(suite: CipherSuite) -> &'static str {
    let found = OPENSSL.iter().find(|(known, _)| *known == suite);
    found
        .map(|(_, name)| *name)
        .or_else(|| tls13_name(suite))
        .unwrap_or("?")
}

/// rustls calls them `TLS13_...`, everybody else `TLS_...`.
fn tls13_name(suite: CipherSuite) -> Option<&'static str> {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => Some("TLS_AES_128_GCM_SHA256"),
        CipherSuite::TLS13_AES_256_GCM_SHA384 => Some("TLS_AES_256_GCM_SHA384"),
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => Some("TLS_CHACHA20_POLY1305_SHA256"),
        _ => None,
    }
}

/// The suite of a name, if it is offered.
fn named(name: &str) -> Option<SupportedCipherSuite> {
    let matches = |suite: &&SupportedCipherSuite| {
        let suite = suite.suite();
        name == name_of(suite) || suite.as_str() == Some(name)
    };
    suites().iter().find(matches).copied()
}

/// What is offered of `names`, in their order. Where none of TLS 1.3 is named, as in lists made for OpenSSL, all of
/// them are offered, before the others. Gives the names that are not offered, too.
pub(crate) fn choose(names: &[String]) -> (Vec<SupportedCipherSuite>, Vec<&str>) {
    let mut chosen = Vec::new();
    let mut unknown = Vec::new();
    for name in names {
        match named(name) {
            Some(suite) if chosen.contains(&suite) => {}
            Some(suite) => chosen.push(suite),
            None => unknown.push(name.as_str()),
        }
    }
    let is_new = |suite: &SupportedCipherSuite| suite.tls13().is_some();
    if !chosen.is_empty() && !chosen.iter().any(is_new) {
        chosen.splice(0..0, suites().iter().copied().filter(is_new));
    }
    (chosen, unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(names: &[&str]) -> (Vec<&'static str>, usize) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let (chosen, unknown) = choose(&names);
        let chosen = chosen.iter().map(|suite| name_of(suite.suite()));
        (chosen.collect(), unknown.len())
    }

    #[test]
    fn every_suite_has_a_name() {
        for suite in suites() {
            let name = name_of(suite.suite());
            assert_eq!(named(name), Some(*suite), "{name}");
        }
        assert_eq!(offered().len() + 3, suites().len());
    }

    #[test]
    fn keeps_the_order_and_says_what_is_not_offered() {
        let (names, unknown) = chosen(&[
            "ECDHE-RSA-AES128-GCM-SHA256",
            "DHE-RSA-AES128-GCM-SHA256",
            "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        ]);
        assert_eq!(unknown, 1);
        assert_eq!(names.len(), 5, "with those of TLS 1.3");
        assert_eq!(
            names[3..],
            ["ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES256-GCM-SHA384"]
        );
    }

    #[test]
    fn suites_of_tls_13_may_be_chosen_alone() {
        let (names, unknown) = chosen(&["TLS_AES_128_GCM_SHA256"]);
        assert_eq!((names, unknown), (vec!["TLS_AES_128_GCM_SHA256"], 0));
        assert_eq!(chosen(&["RC4-SHA"]), (vec![], 1));
    }
}
