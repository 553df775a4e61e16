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
        name: "dirty_stash",
        section: Section::DirtyArbiters,
        flags: Flags::text(&["--dirty-stash"], "URL"),
        kind: Kind::Text,
        default: Default::None,
        doc: "Where the stash is. Left out, it lies in the pool's broker, and is this server's alone. The address of \
          a Redis or Valkey, as `redis://:PASSWORD@HOST:6379/0`, `rediss://...` (TLS) or \
          `unix:///run/redis.sock?db=0`: it is shared by all servers with that address, and needs the package \
          `oxicorn[redis]`. `?prefix=NAME` keeps stashes of one Redis apart, `?timeout=SECONDS` (5) is how long an \
          operation may take, `?ssl_ca_certs=FILE` the authority that TLS trusts.",
        since: Since::Oxicorn("0.1.0"),
        applies: Applies::Reload,
        parity: Parity::Own,
    },
    Definition {
        name: "dirty_app_env",
        section: Section::DirtyArbiters,
        flags: Flags::repeat(&["--dirty-app-env"], "[APP ]NAME=VALUE"),
        kind: Kind::TextList,
        default: Default::List(&[]),
        doc: "Environment variables of the pool's workers, set before they load anything: `NAME=VALUE` for all of them, \
          `MODULE:CLASS NAME=VALUE` for those that have the application. `{index}` in the latter is which of the \
          application's workers it is, from 0 on: `model:Model CUDA_VISIBLE_DEVICES={index}`; `{place}` is its place in \
          the whole pool.",
        since: Since::Oxicorn("0.1.0"),
        applies: Applies::Reload,
        parity: Parity::Own,
    },
    Definition {
        name: "dirty_affinity",
        section: Section::DirtyArbiters,
        flags: Flags::repeat(&["--dirty-affinity"], "[APP ]CPUS"),
        kind: Kind::TextList,
        default: Default::List(&[]),
        doc: "The processors that the pool's workers run on, by their places in the pool: `0-3,8` for the first, the next \
          entry for the second, and again from the first. Entries such as `model:Model 0-3` are those of an application's \
          workers alone, in the same way. Empty: all.",
        since: Since::Oxicorn("0.1.0"),
        applies: Applies::Reload,
        parity: Parity::Own,
    },
    Definition {
        name: "dirty_max_calls",
        section: Section::DirtyArbiters,
        flags: Flags::integer(&["--dirty-max-calls"]),
        kind: Kind::Integer {
            least: 0,
            most: i64::MAX,
        },
        default: Default::Int(0),
        doc: "How many calls a worker of the pool runs before another takes its place, which is ready first; 0: any \
          number.",
        since: Since::Oxicorn("0.1.0"),
        applies: Applies::Reload,
        parity: Parity::Own,
    },
    Definition {
        name: "dirty_memory_limit",
        section: Section::DirtyArbiters,
        flags: Flags::integer(&["--dirty-memory-limit"]),
        kind: Kind::Integer {
            least: 0,
            most: i64::MAX,
        },
        default: Default::Int(0),
        doc: "How many bytes of memory a worker of the pool may hold after a call before another takes its place, which \
          is ready first; 0: any number. It is looked at between calls: a call is not interrupted.",
        since: Since::Oxicorn("0.1.0"),
        applies: Applies::Reload,
        parity: Parity::Own,
    },
    Definition {
        name: "dirty_idle_timeout",
        section: Section::DirtyArbiters,
        flags: Flags::integer(&["--dirty-idle-timeout"]),
        kind: Kind::Integer {
            least: 0,
            most: i64::MAX,
        },
        default: Default::Int(0),
        doc: "After how many seconds without a call a worker of the pool ends, to give back its memory; the next call of one \
          of its applications starts another and waits for it. 0: never.",
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
    Definition {
        name: "dirty_pool",
        section: Section::DirtyArbiters,
        flags: Flags::text(&["--dirty-pool"], "STRING"),
        kind: Kind::Text,
        default: Default::Str("processes"),
        doc: "What runs the heavy applications: processes of the server's own, or actors of Ray. `processes` are the \
          server's. `ray` has actors in the cluster that `RAY_ADDRESS` names or that runs on this machine, else in one \
          that is started for the pool; `ray://HOST:PORT` those of a cluster elsewhere, by its client server.",
        since: Since::Oxicorn("0.1.0"),
        applies: Applies::Reload,
        parity: Parity::Own,
    },
    Definition {
        name: "dirty_ray_resources",
        section: Section::DirtyArbiters,
        flags: Flags::repeat(&["--dirty-ray-resources"], "STRING"),
        kind: Kind::TextList,
        default: Default::List(&[]),
        doc: "What an actor of Ray is placed by: `NAME=AMOUNT`, separated by commas. Names are `num_cpus`, `num_gpus`, \
          `memory` in bytes, or a resource of the cluster's. It holds for all applications or, behind its path and a space, \
          for one: `app:Model num_gpus=0.5,num_cpus=2`. Where nothing is said an actor takes up nothing.",
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
