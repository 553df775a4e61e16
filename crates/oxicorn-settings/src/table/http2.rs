//! HTTP/2.

use crate::definition::{
    Applies, Choice, Default, Definition, Flags, Kind, NoneMeans, Parity, Section, Since,
};

const CLEARTEXT: Choice = Choice {
    words: &["off", "prior-knowledge", "upgrade", "both"],
    synonyms: &[],
    switches: Some(("prior-knowledge", "off")),
    none: NoneMeans::Word("off"),
    exact: false,
};

/// The section's settings.
pub(super) const DEFINITIONS: &[Definition] = &[
    Definition {
        name: "http_protocols",
        section: Section::Http2,
        flags: Flags::text(&["--http-protocols"], "STRING"),
        kind: Kind::Protocols,
        default: Default::Str("h1"),
        doc: "Which versions of HTTP are spoken, in order of preference, separated by commas: `h1`, `h2`.",
        since: Since::Gunicorn("25.0.0"),
        applies: Applies::Reload,
        parity: Parity::Better(
            "every class speaks it, sync and tornado too; `h2` alone is HTTP/2 alone",
        ),
    },
    Definition {
        name: "http2_cleartext",
        section: Section::Http2,
        flags: Flags::text(&["--http2-cleartext"], "STRING"),
        kind: Kind::Choice(&CLEARTEXT),
        default: Default::Str("off"),
        doc: "Whether HTTP/2 is spoken without TLS: `off`, `prior-knowledge`, `upgrade` or `both`.",
        since: Since::Gunicorn("26.2.0"),
        applies: Applies::Reload,
        parity: Parity::Better(
            "with `prior-knowledge` clients that speak HTTP/1 are served too, where `http_protocols` has `h1`",
        ),
    },
    Definition {
        name: "http2_max_concurrent_streams",
        section: Section::Http2,
        flags: Flags::integer(&["--http2-max-concurrent-streams"]),
        kind: Kind::Integer {
            least: 1,
            most: i64::MAX,
        },
        default: Default::Int(100),
        doc: "How many requests one HTTP/2 connection may have open.",
        since: Since::Gunicorn("25.0.0"),
        applies: Applies::Reload,
        parity: Parity::Same,
    },
    Definition {
        name: "http2_initial_window_size",
        section: Section::Http2,
        flags: Flags::integer(&["--http2-initial-window-size"]),
        kind: Kind::Integer {
            least: 0,
            most: 0x7fff_ffff,
        },
        default: Default::Int(65_535),
        doc: "How many bytes an HTTP/2 peer may send on a stream before it is given more room.",
        since: Since::Gunicorn("25.0.0"),
        applies: Applies::Reload,
        parity: Parity::Same,
    },
    Definition {
        name: "http2_max_frame_size",
        section: Section::Http2,
        flags: Flags::integer(&["--http2-max-frame-size"]),
        kind: Kind::Integer {
            least: 16_384,
            most: 16_777_215,
        },
        default: Default::Int(16_384),
        doc: "How long one HTTP/2 frame may be.",
        since: Since::Gunicorn("25.0.0"),
        applies: Applies::Reload,
        parity: Parity::Same,
    },
    Definition {
        name: "http2_max_header_list_size",
        section: Section::Http2,
        flags: Flags::integer(&["--http2-max-header-list-size"]),
        kind: Kind::Integer {
            least: 0,
            most: i64::MAX,
        },
        default: Default::Int(65_536),
        doc: "How many bytes the headers of one HTTP/2 request may have, together; 0: no bound is announced.",
        since: Since::Gunicorn("25.0.0"),
        applies: Applies::Reload,
        parity: Parity::Better("what is longer is answered with 431"),
    },
];

#[cfg(test)]
mod tests {
    use crate::testing::{accepted, list, refused, text, texts};
    use crate::value::{Raw, Value};

    #[test]
    fn orders_protocols_by_preference() {
        for (raw, expected) in [
            (text("h2, H1"), &["h2", "h1"][..]),
            (text("h2,"), &["h2"]),
            (text(" , "), &["h1"]),
            (Raw::None, &["h1"]),
        ] {
            assert_eq!(accepted("http_protocols", raw), list(expected));
        }
        for raw in [text("h3"), text("h1,h1"), texts(&["h1"]), Raw::Bool(true)] {
            let allowed = "must be h1 and h2 separated by commas, each at most once";
            assert_eq!(refused("http_protocols", raw), allowed);
        }
    }

    #[test]
    fn speaks_it_without_tls_if_told_how() {
        for (raw, expected) in [
            (text("Both"), "both"),
            (Raw::Bool(true), "prior-knowledge"),
            (Raw::Bool(false), "off"),
            (Raw::None, "off"),
        ] {
            assert_eq!(
                accepted("http2_cleartext", raw),
                Value::Str(expected.into())
            );
        }
        let allowed = "must be one of: off, prior-knowledge, upgrade, both";
        assert_eq!(refused("http2_cleartext", text("true")), allowed);
    }

    #[test]
    fn keeps_within_the_bounds_of_rfc_9113() {
        for (name, least, most) in [
            ("http2_max_concurrent_streams", 1, i64::MAX),
            ("http2_initial_window_size", 0, (1 << 31) - 1),
            ("http2_max_frame_size", 1 << 14, (1 << 24) - 1),
        ] {
            assert_eq!(accepted(name, Raw::Int(least)), Value::Int(least));
            assert_eq!(accepted(name, Raw::Int(most)), Value::Int(most));
            assert!(refused(name, Raw::Int(least - 1)).starts_with("must be an integer"));
            if most < i64::MAX {
                let allowed = format!("must be an integer from {least} to {most}");
                assert_eq!(refused(name, Raw::Int(most + 1)), allowed);
            }
        }
    }
}
