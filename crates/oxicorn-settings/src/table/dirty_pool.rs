//! What Gunicorn's pool of heavy applications has no settings for.

use crate::definition::{
    Applies, Choice, Default, Definition, Flags, Kind, NoneMeans, Parity, Section, Since,
};

const SERIALIZER: Choice = Choice {
    words: &["values", "pickle"],
    synonyms: &[],
    switches: None,
    none: NoneMeans::Word("values"),
    exact: false,
};

/// The settings.
pub(super) const DEFINITIONS: &[Definition] = &[
    Definition {
        name: "dirty_queue_limit",
        section: Section::DirtyArbiters,
        flags: Flags::integer(&["--dirty-queue-limit"]),
        kind: Kind::Integer {
            least: 0,
            most: i64::MAX,
        },
        default: Default::Int(1024),
        doc: "How many calls may wait for one heavy application at once; 0: as many as come. One more fails with \
          `DirtyQueueFullError`, at once.",
        since: Since::Oxicorn("0.1.0"),
        applies: Applies::Reload,
        parity: Parity::Own,
    },
    Definition {
        name: "dirty_stash_size",
        section: Section::DirtyArbiters,
        flags: Flags::integer(&["--dirty-stash-size"]),
        kind: Kind::Integer {
            least: 0,
            most: i64::MAX,
        },
        default: Default::Int(64 << 20),
        doc: "How many bytes the stash may hold; 0: as many as are put there. What does not fit fails with \
          `StashFullError`.",
        since: Since::Oxicorn("0.1.0"),
        applies: Applies::Reload,
        parity: Parity::Own,
    },
    Definition {
        name: "dirty_serializer",
        section: Section::DirtyArbiters,
        flags: Flags::text(&["--dirty-serializer"], "STRING"),
        kind: Kind::Choice(&SERIALIZER),
        default: Default::Str("values"),
        doc: "How arguments and results of calls travel: as `values` of Python's basic types, or as a `pickle`, which takes \
          any object, and lets whoever can write to the pool's socket run code in its workers.",
        since: Since::Oxicorn("0.1.0"),
        applies: Applies::Reload,
        parity: Parity::Own,
    },
];

#[cfg(test)]
mod tests {
    use crate::testing::{accepted, text};
    use crate::value::{Raw, Value};

    #[test]
    fn pickles_only_where_that_is_said() {
        for (raw, expected) in [
            (text("pickle"), "pickle"),
            (text("Values"), "values"),
            (Raw::None, "values"),
        ] {
            assert_eq!(
                accepted("dirty_serializer", raw),
                Value::Str(expected.into())
            );
        }
    }
}
