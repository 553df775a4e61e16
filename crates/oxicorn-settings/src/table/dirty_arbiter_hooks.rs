//! Python callables of the config file, called as the pool for heavy applications goes through its life.

use crate::definition::{
    Applies, Default, Definition, Flags, Kind, Parity, Process, Section, Since,
};

/// The section's settings.
pub(super) const DEFINITIONS: &[Definition] = &[
    Definition {
        name: "on_dirty_starting",
        section: Section::DirtyArbiterHooks,
        flags: Flags::NONE,
        kind: Kind::Hook {
            parameters: "arbiter",
            arities: &[1],
            process: Process::Arbiter,
        },
        default: Default::None,
        doc: "Called when the pool starts, before any of its processes is there.",
        since: Since::Gunicorn("25.0.0"),
        applies: Applies::Reload,
        parity: Parity::Same,
    },
    Definition {
        name: "dirty_post_fork",
        section: Section::DirtyArbiterHooks,
        flags: Flags::NONE,
        kind: Kind::Hook {
            parameters: "arbiter, worker",
            arities: &[2],
            process: Process::Arbiter,
        },
        default: Default::None,
        doc: "Called in the arbiter when a worker of the pool was forked.",
        since: Since::Gunicorn("25.0.0"),
        applies: Applies::Reload,
        parity: Parity::Same,
    },
    Definition {
        name: "dirty_worker_init",
        section: Section::DirtyArbiterHooks,
        flags: Flags::NONE,
        kind: Kind::Hook {
            parameters: "worker",
            arities: &[1],
            process: Process::Pool,
        },
        default: Default::None,
        doc: "Called in a worker of the pool when its applications are loaded.",
        since: Since::Gunicorn("25.0.0"),
        applies: Applies::Reload,
        parity: Parity::Same,
    },
    Definition {
        name: "dirty_worker_exit",
        section: Section::DirtyArbiterHooks,
        flags: Flags::NONE,
        kind: Kind::Hook {
            parameters: "arbiter, worker",
            arities: &[2],
            process: Process::Arbiter,
        },
        default: Default::None,
        doc: "Called when a worker of the pool has exited.",
        since: Since::Gunicorn("25.0.0"),
        applies: Applies::Reload,
        parity: Parity::Same,
    },
];
