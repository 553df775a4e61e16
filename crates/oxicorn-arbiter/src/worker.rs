//! One worker in the arbiter's book.

use std::time::Duration;

use crate::plan::{Generation, WorkerId};

/// Where a worker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerState {
    /// Ordered; the performer has not reported its process.
    Starting {
        /// It is to be stopped as soon as it is there.
        unwanted: bool,
    },
    /// Loads the application.
    Booting,
    /// Takes requests if its generation serves.
    Ready {
        /// It serves until its successor is ready.
        outgoing: bool,
    },
    /// Gets nothing new; what it has is finished until the deadline.
    Retiring {
        /// When it is interrupted.
        deadline: Duration,
    },
    /// A request ran over its time; the others are finished until the deadline.
    Expiring {
        /// When it is aborted.
        deadline: Duration,
    },
    /// Was told to exit, or exits by itself.
    Stopping {
        /// When it is killed.
        kill_at: Duration,
    },
    /// SIGKILL was sent.
    Killed {
        /// When.
        since: Duration,
    },
}

/// What the arbiter knows about a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerRecord {
    id: WorkerId,
    generation: Generation,
    pid: Option<u32>,
    state: WorkerState,
}

impl WorkerRecord {
    /// Its number.
    pub const fn id(&self) -> WorkerId {
        self.id
    }

    /// Gunicorn's `worker.age`.
    pub const fn age(&self) -> u64 {
        self.id.0 as u64
    }

    /// The generation it was started for.
    pub const fn generation(&self) -> Generation {
        self.generation
    }

    /// Its process, once known.
    pub const fn pid(&self) -> Option<u32> {
        self.pid
    }

    /// Where it stands.
    pub const fn state(&self) -> WorkerState {
        self.state
    }
}
