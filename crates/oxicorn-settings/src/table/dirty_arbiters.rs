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
        doc: "A heavy application, `MODULE:CLASS` or `MODULE:CLASS:WORKERS`. May be given several times. Each is loaded in \
          as many workers of the pool as it says, as its class's attribute `workers` says, or in all.",
        since: Since::Gunicorn("25.0.0"),
        applies: Applies::Reload,
        parity: Parity::Same,
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
        applies: Applies::Reload,
        parity: Parity::Same,
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
        doc: "How many seconds a call of a heavy application may take from when it begins; 0: as long as it likes. A call \
          that does not end when it is told to takes its worker with it.",
        since: Since::Gunicorn("25.0.0"),
        applies: Applies::Reload,
        parity: Parity::Same,
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
        doc: "How many calls a worker of the pool runs at once, each in a thread; at most 120.",
        since: Since::Gunicorn("25.0.0"),
        applies: Applies::Reload,
        parity: Parity::Same,
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
        doc: "How many seconds calls have to finish when their worker is replaced or the pool stops.",
        since: Since::Gunicorn("25.0.0"),
        applies: Applies::Reload,
        parity: Parity::Same,
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
