//! The words between the dispatcher and its driver: names of things, and what the driver is asked to do.

use std::fmt;
use std::time::Duration;

/// Names a request. The driver chooses it; it must be unique among the requests not yet forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// Names a worker; unique among the workers not yet removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(pub u32);

/// The cohort a worker was booted in; a reload makes a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u32);

/// What the driver must do next; the table in the crate's head says what it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Write the request into this worker's ring.
    Place {
        /// The request to give away.
        request: RequestId,
        /// Who gets it.
        worker: WorkerId,
    },
    /// Take the request back if the worker has not claimed it yet.
    Revoke {
        /// The request to take back.
        request: RequestId,
        /// Who holds it.
        worker: WorkerId,
    },
    /// Refuse the request; it is forgotten here.
    Reject {
        /// The request to refuse.
        request: RequestId,
        /// What for.
        reason: RejectReason,
        /// When the client may try again, from the length of the queue and the pace of the workers.
        retry_after: Duration,
    },
    /// This retired worker has nothing in flight any more. Said once per worker.
    Drained(WorkerId),
}

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectReason {
    /// More requests wait than [`Policy::queue_limit`](crate::Policy::queue_limit) allows.
    QueueFull,
    /// It waited for a worker longer than [`Policy::queue_timeout`](crate::Policy::queue_timeout).
    WaitedTooLong,
}

impl fmt::Display for RejectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::QueueFull => "queue full",
            Self::WaitedTooLong => "waited too long for a worker",
        })
    }
}

/// Where a cancelled request was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancelled {
    /// No worker has it; it is forgotten (or was unknown).
    Forgotten,
    /// This worker has it. The driver takes it back at once if it can: then it is forgotten instead of
    /// queued. Otherwise it counts as in flight until the driver reports its end.
    Placed(WorkerId),
}
