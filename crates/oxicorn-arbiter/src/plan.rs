//! What the user wants to run, and the fixed times of the machine.
//!
//! Only the settings that decide about processes are here; everything else stays with the performer, filed under the
//! [`Generation`] it was loaded for.

use std::fmt;
use std::time::Duration;

/// The part of the settings the arbiter decides by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Plan {
    /// How many workers serve. 0 is allowed: the server runs with none until TTIN.
    ///
    /// How many processes that makes at most, for `n` wanted now and `m` by a generation being loaded:
    /// * `n`, while nothing changes;
    /// * `n + max(1, n / 4)` while workers are replaced one by one (`max_requests`), those on their way out included;
    /// * `n + m` during a reload, those on their way out included: a reload on the heels of another one waits for room;
    /// * where requests expire, workers die, a new generation has to serve before it is complete, or TTIN and TTOU
    ///   alternate besides: three times the largest number wanted since last nobody was on his way out. Below that a
    ///   dead worker is replaced whatever is still leaving, and an expired one unless `n` of those lost before it are
    ///   still alive.
    ///
    /// Those that were sent SIGKILL do not count; they are gone as soon as they are reaped.
    pub workers: u32,
    /// What requests in flight are given when their worker, or the server, stops.
    pub graceful_timeout: Duration,
    /// What a worker may take until it is ready, at first ([`timing::BOOT_DOUBLINGS`]). Zero: as long as it likes.
    pub boot_timeout: Duration,
    /// Load the application in a process of its own, from which the generation's workers are forked
    /// ([`crate::Action::SpawnTemplate`]).
    pub preload_app: bool,
    /// How many processors there are for this server. Where they are fewer than workers, its first workers do not boot all
    /// at once ([`timing::VANGUARD`]).
    pub processors: u32,
    /// It runs in the background: WINCH, which terminals send when they are resized, is an order there.
    pub daemon: bool,
}

impl Default for Plan {
    /// The settings' defaults, and processors for everybody.
    fn default() -> Self {
        Self {
            workers: 1,
            graceful_timeout: Duration::from_secs(30),
            boot_timeout: Duration::from_mins(5),
            preload_app: false,
            processors: u32::MAX,
            daemon: false,
        }
    }
}

/// One worker process in the life of an arbiter; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(pub u32);

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The workers started from one loading of the configuration. The first one is 1; a refused or given up generation
/// leaves a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u32);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The fixed times and bounds of the machine.
pub mod timing {
    use std::time::Duration;

    /// Between the last polite word to a process (its release, QUIT) and SIGKILL. Gunicorn's quick stop
    /// waits as long.
    pub const STOP_GRACE: Duration = Duration::from_secs(2);

    /// Between ABRT and SIGKILL for a worker that expired: time for the `worker_abort` hook and its traceback.
    pub const ABORT_GRACE: Duration = Duration::from_secs(1);

    /// During a shutdown: how long a process may stay unreaped after SIGKILL (it sits in the kernel, for example on a
    /// dead network file system) before the arbiter exits without it.
    pub const REAP_GRACE: Duration = Duration::from_secs(5);

    /// From the first fork of a start, so long at most workers that would find no processor wait for one to be ready.
    /// Boots that take longer are long anyway.
    pub const VANGUARD: Duration = Duration::from_millis(200);

    /// A process that lived this long did not die young, and back-off starts over when this long nothing died young.
    pub const HEALTHY_AGE: Duration = Duration::from_secs(10);

    /// The wait after the second young death in a row; the first is replaced at once. Doubles from here.
    pub const BACKOFF_FIRST: Duration = Duration::from_millis(100);

    /// A wait as long as this is told of: shorter ones may be a mishap that is over.
    pub const BACKOFF_TOLD: Duration = Duration::from_millis(500);

    /// The longest wait of the back-off.
    pub const BACKOFF_MAX: Duration = Duration::from_secs(10);

    /// So often the time for a boot is doubled after boots that took longer: the sixteenfold is enough for what only
    /// has a lot to load.
    pub const BOOT_DOUBLINGS: u32 = 4;

    /// So many changes of source files are remembered. Every worker that watches reports each of them, within seconds.
    pub const CHANGES_REMEMBERED: usize = 256;

    /// So many workers of a new generation may die before it serves (killed, crashed, fork refused) until it is given up.
    /// One that says it cannot boot is enough.
    pub const RELOAD_DEATH_LIMIT: u32 = 3;

    /// Of `timeout`, the part between two heartbeats of a worker: one late beat is no lost worker, and one that stands
    /// still is found soon enough.
    const HEARTBEATS: u32 = 8;

    /// Between two heartbeats at least: several in the shortest `timeout` there is.
    const HEARTBEAT_LEAST: Duration = Duration::from_millis(250);

    /// And at most, for who reads how long a worker has been silent.
    const HEARTBEAT_MOST: Duration = Duration::from_secs(4);

    /// Between two heartbeats of a worker with this `timeout`; zero is none.
    pub fn heartbeat_interval(timeout: Duration) -> Duration {
        if timeout.is_zero() {
            return HEARTBEAT_MOST;
        }
        (timeout / HEARTBEATS).clamp(HEARTBEAT_LEAST, HEARTBEAT_MOST)
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn several_heartbeats_come_in_any_timeout() {
            for (timeout, beat) in [(1, 250), (2, 250), (8, 1000), (30, 3750), (600, 4000)] {
                let interval = heartbeat_interval(Duration::from_secs(timeout));
                assert_eq!(interval, Duration::from_millis(beat), "timeout {timeout}");
            }
            assert_eq!(heartbeat_interval(Duration::ZERO), HEARTBEAT_MOST);
        }
    }
}
