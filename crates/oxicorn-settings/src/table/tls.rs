//! TLS.

use crate::definition::{
    Applies, Choice, Default, Definition, Flags, Kind, NoneMeans, Parity, Section, Since,
};

/// How many of the section's settings Gunicorn does not have.
pub(super) const OWN: usize = 6;

/// Older versions are not offered (RFC 8996).
const VERSIONS: Choice = Choice {
    words: &["1.2", "1.3"],
    synonyms: &[
        ("tlsv1.2", "1.2"),
        ("tlsv1.2", "1.2"),
        ("tlsv1.3", "1.3"),
        ("tlsv1.3", "1.3"),
    ],
    switches: None,
    none: NoneMeans::Word("1.2"),
    exact: false,
};

/// The section's settings.
pub(super) const DEFINITIONS: &[Definition] = &[
    Definition {
        name: "keyfile",
        section: Section::Tls,
        flags: Flags::text(&["--keyfile"], "FILE"),
        kind: Kind::Text,
        default: Default::None,
        doc: "The private key, a PEM file (PKCS #8, PKCS #1 or SEC 1; encrypted with `keyfile_password`). Without it the \
          key is looked for in `certfile`. It is read before privileges are given up, and no worker has it.",
        since: Since::Always,
        applies: Applies::Reload,
        parity: Parity::Better(
            "read before privileges are given up, and again when the file changes",
        ),
    },
    Definition {
        name: "certfile",
        section: Section::Tls,
        flags: Flags::text(&["--certfile"], "FILE"),
        kind: Kind::Text,
        default: Default::None,
        doc: "The certificate and its chain, a PEM file. Setting it turns TLS on, at every address of `bind` that does not \
          say `http://`. It is read again with HUP, and when the file changes; connections that are open stay as \
          they are.",
        since: Since::Always,
        applies: Applies::Reload,
        parity: Parity::Better(
            "read again with HUP and when the file changes; broken, the server does not start, or keeps the old one",
        ),
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
        doc: "Whether clients show a certificate: 0 no, 1 if they have one, 2 they must. Applications find it in \
          `SSL_CLIENT_S_DN` and the like, or in ASGI's extension `tls`.",
        since: Since::Always,
        applies: Applies::Reload,
        parity: Parity::Better("applications are told who the client is"),
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
        parity: Parity::Same,
    },
    Definition {
        name: "crlfile",
        section: Section::Tls,
        flags: Flags::text(&["--crlfile"], "FILE"),
        kind: Kind::Text,
        default: Default::None,
        doc: "Lists of the certificates that the authorities in `ca_certs` have revoked, a PEM file. Each certificate of a \
          client is looked up, up to its authority; one whose authority has no list here, or one that has expired, is \
          refused. Read again when it changes.",
        since: Since::Oxicorn("0.1.0"),
        applies: Applies::Reload,
        parity: Parity::Own,
    },
    Definition {
        name: "suppress_ragged_eofs",
        section: Section::Tls,
        flags: Flags::switch_on(&["--suppress-ragged-eofs"]),
        kind: Kind::Bool,
        default: Default::Bool(true),
        doc: "Take a connection that ends without a TLS goodbye as ended. Where it is off that is an error, and logged.",
        since: Since::Always,
        applies: Applies::Reload,
        parity: Parity::Same,
    },
    Definition {
        name: "do_handshake_on_connect",
        section: Section::Tls,
        flags: Flags::switch_on(&["--do-handshake-on-connect"]),
        kind: Kind::Bool,
        default: Default::Bool(false),
        doc: "Do the TLS handshake as soon as a connection is accepted. It has no effect: the gateway does handshakes as \
          their bytes come, and nobody waits for them.",
        since: Since::Always,
        applies: Applies::Reload,
        parity: Parity::NotApplicable("no worker waits for a handshake"),
    },
    Definition {
        name: "ciphers",
        section: Section::Tls,
        flags: Flags::text(&["--ciphers"], "CIPHERS"),
        kind: Kind::Text,
        default: Default::None,
        doc: "Which cipher suites are offered, in OpenSSL's notation, in the order of preference. Those with forward secrecy \
          and authenticated encryption are (`ECDHE-...-GCM-...`, `ECDHE-...-CHACHA20-POLY1305`), and those of TLS \
          1.3; of others in the list the log says that they are not offered, and a list without any is refused.",
        since: Since::Always,
        applies: Applies::Reload,
        parity: Parity::Better("old suites are not offered, and said not to be"),
    },
    Definition {
        name: "keyfile_password",
        section: Section::Tls,
        flags: Flags::text(&["--keyfile-password"], "PASSWORD"),
        kind: Kind::Text,
        default: Default::None,
        doc: "The passphrase of encrypted private keys: `file:PATH` (its first line), `env:NAME`, or the passphrase \
          itself, which the list of processes shows if it is given on the command line.",
        since: Since::Oxicorn("0.1.0"),
        applies: Applies::Reload,
        parity: Parity::Own,
    },
    Definition {
        name: "sni_certificates",
        section: Section::Tls,
        flags: Flags::repeat(&["--sni-certificate"], "FILES"),
        kind: Kind::TextList,
        default: Default::List(&[]),
        doc: "More certificates, shown to clients that ask for a host one of them is for: each `CERTFILE`, \
          `CERTFILE,KEYFILE` or `CERTFILE,KEYFILE,OCSPFILE`. Hosts are taken from the certificates (subject \
          alternative names, with `*` too). Who names another host, or none, is shown `certfile`.",
        since: Since::Oxicorn("0.1.0"),
        applies: Applies::Reload,
        parity: Parity::Own,
    },
    Definition {
        name: "ocsp_file",
        section: Section::Tls,
        flags: Flags::text(&["--ocsp-file"], "FILE"),
        kind: Kind::Text,
        default: Default::None,
        doc: "An OCSP response for `certfile`, a DER file, which is stapled to it. Whoever renews the file need not \
          tell the server.",
        since: Since::Oxicorn("0.1.0"),
        applies: Applies::Reload,
        parity: Parity::Own,
    },
    Definition {
        name: "tls_minimum_version",
        section: Section::Tls,
        flags: Flags::text(&["--tls-minimum-version"], "VERSION"),
        kind: Kind::Choice(&VERSIONS),
        default: Default::Str("1.2"),
        doc: "The lowest version of TLS that is offered.",
        since: Since::Oxicorn("0.1.0"),
        applies: Applies::Reload,
        parity: Parity::Own,
    },
    Definition {
        name: "https_redirect",
        section: Section::Tls,
        flags: Flags::integer(&["--https-redirect"]),
        kind: Kind::Integer {
            least: 0,
            most: 65_535,
        },
        default: Default::Int(0),
        doc: "Requests that come without TLS are sent to `https://` at this port (443: it is not named) with 308, but \
          for those of certificate authorities (`/.well-known/acme-challenge/`). A request of which a trusted proxy \
          says that it came by https is served. 0: all are served.",
        since: Since::Oxicorn("0.1.0"),
        applies: Applies::Reload,
        parity: Parity::Own,
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
    fn versions_are_called_as_everywhere() {
        assert_eq!(
            accepted("tls_minimum_version", text("TLSv1.3")),
            Value::Str("1.3".into())
        );
        assert_eq!(
            accepted("tls_minimum_version", text("1.2")),
            Value::Str("1.2".into())
        );
        let refusal = refused("tls_minimum_version", text("1.1"));
        assert!(
            refusal.contains("1.2, 1.3") || refusal.contains("1.2 or 1.3"),
            "{refusal}"
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
