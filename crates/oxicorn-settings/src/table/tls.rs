//! TLS.

use crate::definition::{Applies, Default, Definition, Flags, Kind, Parity, Section, Since};

/// The section's settings.
pub(super) const DEFINITIONS: &[Definition] = &[
    Definition {
        name: "keyfile",
        section: Section::Tls,
        flags: Flags::text(&["--keyfile"], "FILE"),
        kind: Kind::Text,
        default: Default::None,
        doc: "The private key, a PEM file.",
        since: Since::Always,
        applies: Applies::Reload,
        parity: Parity::NotYet("TLS"),
    },
    Definition {
        name: "certfile",
        section: Section::Tls,
        flags: Flags::text(&["--certfile"], "FILE"),
        kind: Kind::Text,
        default: Default::None,
        doc: "The certificate and its chain, a PEM file. Setting it turns TLS on.",
        since: Since::Always,
        applies: Applies::Reload,
        parity: Parity::NotYet("TLS"),
    },
    Definition {
        name: "ssl_version",
        section: Section::Tls,
        flags: Flags::text(&["--ssl-version"], "SSL_VERSION"),
        kind: Kind::Anything,
        default: Default::Int(2),
        doc: "The TLS version, in the past.",
        since: Since::Always,
        applies: Applies::Reload,
        parity: Parity::NotApplicable("Gunicorn ignores it too; `ssl_context` is its successor"),
    },
    Definition {
        name: "cert_reqs",
        section: Section::Tls,
        flags: Flags::text(&["--cert-reqs"], "CERT_REQS"),
        kind: Kind::Integer {
            least: 0,
            most: i64::MAX,
        },
        default: Default::Int(0),
        doc: "Whether clients show a certificate: 0 no, 1 if they have one, 2 they must.",
        since: Since::Always,
        applies: Applies::Reload,
        parity: Parity::NotYet("TLS"),
    },
    Definition {
        name: "ca_certs",
        section: Section::Tls,
        flags: Flags::text(&["--ca-certs"], "FILE"),
        kind: Kind::Text,
        default: Default::None,
        doc: "The authorities that certificates of clients are checked against, a PEM file.",
        since: Since::Always,
        applies: Applies::Reload,
        parity: Parity::NotYet("TLS"),
    },
    Definition {
        name: "suppress_ragged_eofs",
        section: Section::Tls,
        flags: Flags::switch_on(&["--suppress-ragged-eofs"]),
        kind: Kind::Bool,
        default: Default::Bool(true),
        doc: "Take a connection that ends without a TLS goodbye as ended.",
        since: Since::Always,
        applies: Applies::Reload,
        parity: Parity::NotYet("TLS"),
    },
    Definition {
        name: "do_handshake_on_connect",
        section: Section::Tls,
        flags: Flags::switch_on(&["--do-handshake-on-connect"]),
        kind: Kind::Bool,
        default: Default::Bool(false),
        doc: "Do the TLS handshake as soon as a connection is accepted.",
        since: Since::Always,
        applies: Applies::Reload,
        parity: Parity::NotYet("TLS"),
    },
    Definition {
        name: "ciphers",
        section: Section::Tls,
        flags: Flags::text(&["--ciphers"], "CIPHERS"),
        kind: Kind::Text,
        default: Default::None,
        doc: "Which cipher suites are offered, in OpenSSL's notation.",
        since: Since::Always,
        applies: Applies::Reload,
        parity: Parity::NotYet("TLS"),
    },
];

#[cfg(test)]
mod tests {
    use crate::testing::{accepted, default_in, refused, text};
    use crate::value::{Raw, Value};

    #[test]
    fn asks_for_certificates_of_clients_by_number() {
        assert_eq!(default_in(&[], "cert_reqs"), Value::Int(0));
        assert_eq!(accepted("cert_reqs", text("2")), Value::Int(2));
        assert_eq!(
            refused("cert_reqs", text("CERT_REQUIRED")),
            "must be an integer, 0 or more"
        );
    }

    #[test]
    fn takes_any_ssl_version_there_ever_was() {
        for (raw, expected) in [
            (text("TLSv1_2"), Value::Str("TLSv1_2".into())),
            (Raw::Int(5), Value::Int(5)),
            (Raw::None, Value::None),
            (Raw::Object(1, None), Value::Object(1)),
            (Raw::Float(1.5), Value::Str("1.5".into())),
        ] {
            assert_eq!(accepted("ssl_version", raw), expected);
        }
    }
}
