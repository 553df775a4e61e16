//! The pool of workers for heavy applications.

use crate::definition::{Applies, Default, Definition, Flags, Kind, Parity, Section, Since};

/// The section's settings.
pub(super) const DEFINITIONS: &[Definition] = &[
    Definition {
        name: "dirty_apps",
        section: Section::DirtyArbiters,
        flags: Flags::repeat(&["--dirty-app"], "STRING"),
        kind: Kind::TextList,
        default: Default::List(&[]),
        doc: "A heavy application, `MODULE:CLASS` or `MODULE:CLASS:WORKERS`. May be given several times.",
        since: Since::Gunicorn("25.0.0"),
        applies: Applies::Start,
        parity: Parity::NotYet("the pool for heavy applications (dirty arbiters)"),
    },
    Definition {
        name: "dirty_workers",
        section: Section::DirtyArbiters,
        flags: Flags::integer(&["--dirty-workers"]),
        kind: Kind::Integer {
            least: 0,
            most: i64::MAX,
        },
        default: Default::Int(0),
        doc: "How many workers hold the heavy applications; 0: none, the pool is off.",
        since: Since::Gunicorn("25.0.0"),
        applies: Applies::Start,
        parity: Parity::NotYet("the pool for heavy applications (dirty arbiters)"),
    },
    Definition {
        name: "dirty_timeout",
        section: Section::DirtyArbiters,
        flags: Flags::integer(&["--dirty-timeout"]),
        kind: Kind::Integer {
            least: 0,
            most: i64::MAX,
        },
        default: Default::Int(300),
        doc: "How many seconds one task of a heavy application may take.",
        since: Since::Gunicorn("25.0.0"),
        applies: Applies::Start,
        parity: Parity::NotYet("the pool for heavy applications (dirty arbiters)"),
    },
    Definition {
        name: "dirty_threads",
        section: Section::DirtyArbiters,
        flags: Flags::integer(&["--dirty-threads"]),
        kind: Kind::Integer {
            least: 0,
            most: i64::MAX,
        },
        default: Default::Int(1),
        doc: "How many threads a worker of the pool has.",
        since: Since::Gunicorn("25.0.0"),
        applies: Applies::Start,
        parity: Parity::NotYet("the pool for heavy applications (dirty arbiters)"),
    },
    Definition {
        name: "dirty_graceful_timeout",
        section: Section::DirtyArbiters,
        flags: Flags::integer(&["--dirty-graceful-timeout"]),
        kind: Kind::Integer {
            least: 0,
            most: i64::MAX,
        },
        default: Default::Int(30),
        doc: "How many seconds tasks have to finish when the pool stops.",
        since: Since::Gunicorn("25.0.0"),
        applies: Applies::Start,
        parity: Parity::NotYet("the pool for heavy applications (dirty arbiters)"),
    },
];

#[cfg(test)]
mod tests {
    use crate::testing::{accepted, list, refused, text};
    use crate::value::Raw;

    #[test]
    fn takes_one_application_or_several() {
        assert_eq!(
            accepted("dirty_apps", text("app:Model:2")),
            list(&["app:Model:2"])
        );
        assert_eq!(accepted("dirty_apps", Raw::None), list(&[]));
        assert_eq!(
            refused("dirty_workers", Raw::Int(-1)),
            "must be an integer, 0 or more"
        );
    }
}
