//! How much a client may send.

use crate::definition::{Applies, Default, Definition, Flags, Kind, Parity, Section, Since};

/// The section's settings.
pub(super) const DEFINITIONS: &[Definition] = &[
    Definition {
        name: "limit_request_line",
        section: Section::Security,
        flags: Flags::integer(&["--limit-request-line"]),
        kind: Kind::Integer {
            least: 0,
            most: i64::MAX,
        },
        default: Default::Int(4094),
        doc: "How many bytes a request line may have; 0: 1 MiB. A longer one is answered with 414. \
              More than 8190 is cut down to 8190, as in Gunicorn: for longer ones write 0.",
        since: Since::Always,
        applies: Applies::Reload,
        parity: Parity::Same,
    },
    Definition {
        name: "limit_request_fields",
        section: Section::Security,
        flags: Flags::integer(&["--limit-request-fields"]),
        kind: Kind::Integer {
            least: 0,
            most: i64::MAX,
        },
        default: Default::Int(100),
        doc: "How many headers a request may have, 32768 at most, which 0 means too. One more is answered with 431.",
        since: Since::Always,
        applies: Applies::Reload,
        parity: Parity::Same,
    },
    Definition {
        name: "limit_request_field_size",
        section: Section::Security,
        flags: Flags::integer(&["--limit-request-field_size"]),
        kind: Kind::Integer {
            least: 0,
            most: i64::MAX,
        },
        default: Default::Int(8190),
        doc: "How many bytes one header line may have; 0: 8190. A longer one is answered with 431.",
        since: Since::Always,
        applies: Applies::Reload,
        parity: Parity::Same,
    },
];

#[cfg(test)]
mod tests {
    use crate::testing::{accepted, default_in, refused, text};
    use crate::value::Value;

    #[test]
    fn has_the_limits_of_gunicorn() {
        for (name, expected) in [
            ("limit_request_line", 4094),
            ("limit_request_fields", 100),
            ("limit_request_field_size", 8190),
        ] {
            assert_eq!(default_in(&[], name), Value::Int(expected));
            assert_eq!(accepted(name, text("0")), Value::Int(0));
            assert_eq!(refused(name, text("many")), "must be an integer, 0 or more");
        }
    }
}
