//! The knobs of dispatch and their defaults.

use std::time::Duration;

use crate::time::{Nanos, nanos};

/// How much may wait, how long, and how far ahead requests are placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How many requests may wait for a worker; beyond it the newest is rejected. What can be placed at
    /// once does not count, so 0 means "serve now or refuse".
    pub queue_limit: usize,
    /// How long a request may wait for a worker.
    pub queue_timeout: Duration,
    /// How many requests may be placed at one worker beyond its capacity, where they need not be moved; where they
    /// do it is at most 16. 0 makes dispatch strict.
    pub prefetch_limit: u32,
    /// How much work, by the measured pace of the worker, may be placed ahead of it.
    pub prefetch_budget: Duration,
    /// A worker that completes nothing for so long has stalled: what it did not claim is given to others.
    /// Also the longest an unclaimed request stays where it is while another worker is free.
    pub stall_after: Duration,
}

impl Default for Policy {
    /// 2048 waiting (Gunicorn's `backlog`) for at most 30 s (its `timeout`); at most half a
    /// millisecond of work and 64 requests ahead, which is where a further one no longer saves a wake-up
    /// worth measuring; 1 ms without progress is a stall: fifty times a hello, a tenth of what a person or
    /// a load balancer notices.
    fn default() -> Self {
        Self {
            queue_limit: 2048,
            queue_timeout: Duration::from_secs(30),
            prefetch_limit: 64,
            prefetch_budget: Duration::from_micros(500),
            stall_after: Duration::from_millis(1),
        }
    }
}

/// How many requests are placed ahead of one worker, at most, as long as some had to be moved from where they
/// were placed: each of them waited there until that was known.
const CAUTIOUS_PREFETCH: u32 = 16;

/// A policy as the decisions need it.
#[derive(Debug)]
pub(crate) struct Bounds {
    pub(crate) queue_limit: usize,
    pub(crate) queue_timeout: Nanos,
    /// At present.
    pub(crate) prefetch_limit: u32,
    /// Where nothing had to be moved for long.
    prefetch_most: u32,
    pub(crate) prefetch_budget: Nanos,
    pub(crate) stall_after: Nanos,
    /// Samples of a worker's pace count at most this: twice what already forbids all prefetch.
    pub(crate) sample_cap: Nanos,
}

impl From<Policy> for Bounds {
    fn from(policy: Policy) -> Self {
        let prefetch_budget = nanos(policy.prefetch_budget);
        Self {
            queue_limit: policy.queue_limit,
            queue_timeout: nanos(policy.queue_timeout),
            prefetch_limit: policy.prefetch_limit.min(CAUTIOUS_PREFETCH),
            prefetch_most: policy.prefetch_limit,
            prefetch_budget,
            stall_after: nanos(policy.stall_after),
            sample_cap: prefetch_budget.saturating_mul(2),
        }
    }
}

impl Bounds {
    /// Something had to be moved.
    pub(crate) fn be_cautious(&mut self) {
        self.prefetch_limit = self.prefetch_most.min(CAUTIOUS_PREFETCH);
    }

    /// Nothing had to be moved for long.
    pub(crate) fn be_generous(&mut self) {
        self.prefetch_limit = self.prefetch_most;
    }
}
