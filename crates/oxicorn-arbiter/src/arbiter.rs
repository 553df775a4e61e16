//! The machine itself.

use std::time::Duration;

use crate::action::Action;
use crate::event::Event;
use crate::plan::{Generation, Plan, WorkerId};
use crate::worker::WorkerRecord;

/// The supervising process's decisions. See the crate's description for how to drive it.
///
/// Kinds of method: `handle*` is told what happened, `poll_action` and `next_deadline` say what to do and when to wake
/// up, the rest only looks.
#[derive(Debug, Clone)]
pub struct Arbiter {
    plan: Plan,
}

impl Arbiter {
    /// An arbiter that waits for [`Event::Started`].
    pub fn new(plan: Plan) -> Self {
        Self { plan }
    }

    /// Something happened.
    pub fn handle(&mut self, _event: Event, _now: Duration) {
        todo!()
    }

    /// The deadline of [`Self::next_deadline`] has come (being early does no harm).
    pub fn handle_timeout(&mut self, _now: Duration) {
        todo!()
    }

    /// The next thing to do. Ask until there is none.
    pub fn poll_action(&mut self) -> Option<Action> {
        todo!()
    }

    /// When [`Self::handle_timeout`] is to be called if nothing happens before. Ask after every `handle`.
    pub fn next_deadline(&self) -> Option<Duration> {
        todo!()
    }

    /// Every worker not yet reaped, the oldest first.
    pub fn workers(&self) -> impl Iterator<Item = &WorkerRecord> {
        std::iter::empty()
    }

    /// One of them.
    pub fn worker(&self, _worker: WorkerId) -> Option<&WorkerRecord> {
        todo!()
    }

    /// The generation that gets the requests.
    pub fn serving(&self) -> Generation {
        todo!()
    }

    /// The generation being booted beside it, if a reload is under way.
    pub fn loading(&self) -> Option<Generation> {
        todo!()
    }

    /// How many workers are wanted (`plan.workers`, TTIN and TTOU applied).
    pub fn wanted(&self) -> u32 {
        self.plan.workers
    }
}
