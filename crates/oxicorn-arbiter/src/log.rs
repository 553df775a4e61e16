//! What the arbiter says, typed; `Display` gives the words.
//!
//! Where Gunicorn has a line for it, the words are Gunicorn's to the letter, because people search for them.

use std::fmt;

use crate::event::{BootFailure, Command, Exit};
use crate::plan::{Generation, WorkerId};

/// How loud.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// For developers of the server.
    Debug,
    /// The normal course of things.
    Info,
    /// Unusual, nothing lost.
    Warning,
    /// Something was lost or does not work.
    Error,
    /// A worker stands still.
    Critical,
}

/// One line for the error log.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "the words below say what each line is; `pid` is the process spoken of"
)]
pub enum LogLine {
    HandlingSignal(Command),
    HangUp,
    QuickShutdownRequested,
    ActiveWorkers(usize),
    WorkerTimeout {
        pid: u32,
    },
    WorkerGracefulTimeout {
        pid: u32,
    },
    /// It ended by itself or by somebody else's signal.
    WorkerEnded {
        pid: u32,
        exit: Exit,
    },
    /// It ended by the SIGKILL the arbiter sent.
    WorkerKilled {
        pid: u32,
    },
    WorkerFaulty {
        pid: u32,
    },
    WorkerSpawnFailed {
        worker: WorkerId,
    },
    WorkerUnreapable {
        pid: u32,
    },
    GatewayEnded {
        pid: u32,
        exit: Exit,
    },
    GatewaySpawnFailed,
    GatewayUnreapable {
        pid: u32,
    },
    Reloaded {
        generation: Generation,
    },
    ReloadGivenUp {
        generation: Generation,
        serving: Generation,
        reason: Reason,
    },
    ShuttingDown,
    ReasonForShutdown(Reason),
    /// An event that the state does not know: stale, or a fault of the performer.
    EventIgnored {
        event: &'static str,
    },
}

/// Why a generation, or the server, is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// A worker said so.
    Boot(BootFailure),
    /// Too many workers died before they served.
    WorkersDied,
    /// The configuration is not valid.
    Configuration,
    /// The gateway ended before it was ever ready.
    Gateway,
    /// The application could not be loaded ahead of the workers.
    Preload,
}

impl fmt::Display for Reason {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        todo!()
    }
}

impl fmt::Display for LogLine {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        todo!()
    }
}
