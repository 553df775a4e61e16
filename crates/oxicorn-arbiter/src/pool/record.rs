//! One pool worker in the table.

use std::collections::{BTreeMap, BTreeSet};
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
    /// Those of its place; `None`: the numbers of workers are not known yet.
    pub(super) applications: Option<Vec<usize>>,
    /// Those of them that it does not have: they could not be loaded, or were not tried.
    pub(super) missing: BTreeSet<usize>,
    /// Of each, which of the application's workers it is, from 0 on.
    pub(super) indexes: BTreeMap<usize, u32>,
    /// What it loads.
    pub(super) loading: Option<usize>,
    /// It was counted with one of its applications that it could not load.
    pub(super) failed: bool,
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
    /// The applications it has, or is about to have.
    pub(super) fn held(&self) -> Vec<usize> {
        let all = self.applications.iter().flatten().copied();
        all.filter(|app| !self.missing.contains(app)).collect()
    }

    /// Whether it has the application, or may be about to.
    pub(super) fn may_have(&self, app: usize) -> bool {
        let of_place = self.applications.as_ref();
        of_place.is_none_or(|all| all.contains(&app)) && !self.missing.contains(&app)
    }

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
