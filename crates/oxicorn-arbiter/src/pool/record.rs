//! One pool worker in the book.

use std::time::Duration;

use crate::plan::Generation;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Ordered.
    Starting,
    /// Ordered, and not wanted any more.
    Unwanted,
    /// Loads its applications.
    Booting { until: Option<Duration> },
    /// Can take calls; the broker knows it if it was announced.
    Ready { announced: bool },
    /// Finishes what it has.
    Retiring { deadline: Duration },
    /// Was signalled to end.
    Stopping { kill_at: Duration, killed: bool },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PoolWorker {
    pub(super) generation: Generation,
    pub(super) place: u32,
    /// `None`: the numbers of workers are not known yet.
    pub(super) applications: Option<Vec<usize>>,
    pub(super) pid: u32,
    pub(super) state: State,
    pub(super) started: Duration,
    pub(super) round: u32,
    pub(super) boot_limit: Duration,
    /// It serves until its successor is ready.
    pub(super) outgoing: bool,
    /// It goes without a successor being there.
    pub(super) lost: bool,
}

impl PoolWorker {
    /// It serves, or is on its way to.
    pub(super) const fn is_active(&self) -> bool {
        matches!(
            self.state,
            State::Starting | State::Booting { .. } | State::Ready { .. }
        )
    }

    pub(super) const fn is_ready(&self) -> bool {
        matches!(self.state, State::Ready { .. })
    }

    pub(super) const fn deadline(&self) -> Option<Duration> {
        match self.state {
            State::Booting { until } => until,
            State::Retiring { deadline } => Some(deadline),
            State::Stopping {
                kill_at,
                killed: false,
            } => Some(kill_at),
            State::Stopping { killed: true, .. }
            | State::Starting
            | State::Unwanted
            | State::Ready { .. } => None,
        }
    }
}
