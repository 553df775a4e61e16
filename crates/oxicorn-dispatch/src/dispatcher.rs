//! The face of the dispatcher.

use std::time::Duration;

use crate::{Action, Cancelled, Generation, Policy, RequestId, WorkerId};

/// The queue and the book of workers. The crate's head tells how to drive it.
#[derive(Debug)]
pub struct Dispatcher {
    policy: Policy,
}

impl Dispatcher {
    /// Without workers, and serving no generation: requests wait until [`Self::serve_generation`].
    pub fn new(policy: Policy) -> Self {
        Self { policy }
    }

    /// From now on; what is already placed stays where it is.
    pub fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
    }

    /// A worker that boots: it gets nothing before [`Self::worker_ready`]. `capacity` is how many requests
    /// it works on at a time (sync 1, gthread `threads`), at least 1.
    pub fn add_worker(&mut self, _worker: WorkerId, _generation: Generation, _capacity: u32) {
        todo!()
    }

    /// The worker's application is loaded and its hooks ran.
    pub fn worker_ready(&mut self, _worker: WorkerId, _now: Duration) {
        todo!()
    }

    /// No new requests for it; unclaimed ones are revoked and given to others; then [`Action::Drained`].
    pub fn retire_worker(&mut self, _worker: WorkerId, _now: Duration) {
        todo!()
    }

    /// The worker died or is gone. Returns what was placed there, oldest placement first; the driver
    /// answers each with [`Self::handle_revoked`] (unclaimed: it goes to another worker) or
    /// [`Self::handle_lost`] (claimed).
    pub fn remove_worker(&mut self, _worker: WorkerId, _now: Duration) -> Vec<RequestId> {
        todo!()
    }

    /// Dispatch moves: only workers of this generation get requests.
    pub fn serve_generation(&mut self, _generation: Generation, _now: Duration) {
        todo!()
    }

    /// A request that wants a worker.
    pub fn submit(&mut self, _request: RequestId, _now: Duration) {
        todo!()
    }

    /// The client left.
    pub fn cancel(&mut self, _request: RequestId, _now: Duration) -> Cancelled {
        todo!()
    }

    /// The driver saw the claim word taken. It need not look: a completion implies it.
    pub fn handle_claimed(&mut self, _request: RequestId, _now: Duration) {
        todo!()
    }

    /// The worker is through with it: the response is complete, or the worker gave it up.
    pub fn handle_completed(&mut self, _request: RequestId, _now: Duration) {
        todo!()
    }

    /// The request was taken back unclaimed (after [`Action::Revoke`], or from a dead worker's ring).
    pub fn handle_revoked(&mut self, _request: RequestId, _now: Duration) {
        todo!()
    }

    /// It had been claimed in the meantime and stays where it is.
    pub fn handle_revoke_refused(&mut self, _request: RequestId, _now: Duration) {
        todo!()
    }

    /// The request died with its worker. Not for one that was merely answered early (504, client gone): as
    /// long as the worker works on it, it takes up capacity there.
    pub fn handle_lost(&mut self, _request: RequestId) {
        todo!()
    }

    /// The ring was full: the request goes back to the front, and the worker gets nothing more until it
    /// shows progress or a moment has passed.
    pub fn handle_placement_refused(&mut self, _request: RequestId, _now: Duration) {
        todo!()
    }

    /// The timer for [`Self::next_deadline`] rang (early is harmless).
    pub fn handle_timeout(&mut self, _now: Duration) {
        todo!()
    }

    /// What to do next; `None` when there is nothing to do, or a revocation waits for its answer.
    pub fn poll_action(&mut self) -> Option<Action> {
        todo!()
    }

    /// When [`Self::handle_timeout`] is due; ask after `poll_action` returned `None`. Then it always lies
    /// after the last `now`.
    pub fn next_deadline(&self) -> Option<Duration> {
        todo!()
    }

    /// Requests that wait for a worker.
    pub fn queued(&self) -> usize {
        todo!()
    }

    /// Requests placed at this worker, claimed or not; 0 if it is unknown.
    pub fn in_flight(&self, _worker: WorkerId) -> u32 {
        todo!()
    }

    /// Requests placed at all workers.
    pub fn total_in_flight(&self) -> usize {
        todo!()
    }

    /// How long the oldest waiting request has waited since it was submitted.
    pub fn waiting_longest(&self, _now: Duration) -> Option<Duration> {
        todo!()
    }

    /// The measured time between two completions of this worker while it is busy.
    pub fn pace(&self, _worker: WorkerId) -> Option<Duration> {
        todo!()
    }
}
