//! The face of the dispatcher: every event and every transition of a request. What to do next is decided
//! in `decide.rs`; this file only keeps the books, so that any number of events may be told before one
//! decision is made with all of them known.
//!
//! Order that matters: an event first notes the time, then moves the request, then tells its worker. A
//! request's state is assigned nowhere else than here (and `running` in `in_flight.rs`).

mod decide;

use std::collections::VecDeque;
use std::time::Duration;

use crate::policy::Bounds;
use crate::queue::Queue;
use crate::requests::{Key, NONE, Placement, Requests, State};
use crate::time::{NEVER, Nanos, nanos};
use crate::worker::{Stage, Worker};
use crate::worker_table::WorkerTable;
use crate::{Cancelled, Generation, Policy, RequestId, WorkerId};

/// So many completions without a request that had to be moved, and more are placed ahead: where one of a hundred sleeps,
/// that does not come.
const CALM: u32 = 2000;

/// The queue and the table of workers. The crate's head tells how to drive it.
#[derive(Debug)]
pub struct Dispatcher {
    bounds: Bounds,
    requests: Requests,
    queue: Queue,
    workers: WorkerTable,
    /// Workers that became idle after they were retired: said once, and checked again when it is said.
    drained: VecDeque<WorkerId>,
    /// The latest time told.
    now: Nanos,
    /// Counts placements.
    placements: u64,
    /// How many are placed.
    placed: usize,
    /// Revocations without answer. While there are any, nothing is placed or revoked: the answer decides
    /// who stands at the front.
    unanswered: u32,
    /// No placed request needs to move before this time, whatever the workers offer: spares the scan for
    /// them on almost every decision. May be too early, never too late.
    look_again: Nanos,
    /// When the next worker in trouble is to be tried again. May be too early, never too late.
    recovery: Nanos,
    /// Requests that were completed since one had to be moved, up to [`CALM`].
    calm: u32,
    /// Nothing happened since `poll_action` returned `None`.
    settled: bool,
}

/// The workers that get requests: ready, and of the generation that serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Staffing {
    /// The generation that serves, if one does.
    pub generation: Option<Generation>,
    /// Workers.
    pub workers: u32,
    /// Workers that have a request.
    pub busy_workers: u32,
    /// Requests they work on at a time, all together.
    pub capacity: u32,
    /// Requests they work on.
    pub busy: u32,
}

impl Dispatcher {
    /// Without workers, and serving no generation: requests wait until [`Self::serve_generation`].
    pub fn new(policy: Policy) -> Self {
        Self {
            bounds: Bounds::from(policy),
            requests: Requests::new(),
            queue: Queue::new(),
            workers: WorkerTable::new(),
            drained: VecDeque::new(),
            now: 0,
            placements: 0,
            placed: 0,
            unanswered: 0,
            look_again: NEVER,
            recovery: NEVER,
            calm: 0,
            settled: true,
        }
    }

    /// From now on; what is already placed stays where it is.
    pub fn set_policy(&mut self, policy: Policy) {
        self.bounds = Bounds::from(policy);
        self.calm = 0;
        self.look_again = 0;
        self.settled = false;
    }

    /// A worker that boots: it gets nothing before [`Self::worker_ready`]. `capacity` is how many requests
    /// it works on at a time (sync 1, gthread `threads`), at least 1. A known id is ignored.
    pub fn add_worker(&mut self, worker: WorkerId, generation: Generation, capacity: u32) {
        self.workers.add(Worker::new(worker, generation, capacity));
    }

    /// The worker's application is loaded and its hooks ran.
    pub fn worker_ready(&mut self, worker: WorkerId, now: Duration) {
        self.note_time(now);
        if let Some(slot) = self.workers.find(worker)
            && self.workers.get(slot).stage == Stage::Booting
        {
            self.workers.set_stage(slot, Stage::Ready);
        }
    }

    /// No new requests for it; unclaimed ones are revoked and given to others; then [`Action::Drained`](crate::Action::Drained).
    pub fn retire_worker(&mut self, worker: WorkerId, now: Duration) {
        self.note_time(now);
        if let Some(slot) = self.workers.find(worker)
            && self.workers.get(slot).stage != Stage::Retiring
        {
            self.workers.set_stage(slot, Stage::Retiring);
            self.look_again = 0;
            self.note_if_drained(slot);
        }
    }

    /// The worker died or is gone. Returns what was placed there, oldest placement first; the driver
    /// answers each with [`Self::handle_revoked`] (unclaimed: it goes to another worker) or
    /// [`Self::handle_lost`] (claimed). Those whose client had left are returned too, but need no answer.
    pub fn remove_worker(&mut self, worker: WorkerId, now: Duration) -> Vec<RequestId> {
        self.note_time(now);
        let Some(slot) = self.workers.find(worker) else {
            return Vec::new();
        };
        let mut orphans = Vec::with_capacity(self.workers.get(slot).in_flight.len() as usize);
        while self.workers.get(slot).in_flight.head() != NONE {
            let key = self.workers.get(slot).in_flight.head();
            orphans.push(self.requests.get(key).id);
            self.orphan(key);
        }
        self.workers.set_stage(slot, Stage::Gone);
        orphans
    }

    fn orphan(&mut self, key: Key) {
        let cancelled = self.requests.get(key).placement().cancelled;
        self.leave_flight(key, None);
        if cancelled {
            self.requests.remove(key);
        } else {
            self.requests.get_mut(key).state = State::Orphaned;
        }
    }

    /// Dispatch moves: only workers of this generation get requests. What is placed at others stays there.
    pub fn serve_generation(&mut self, generation: Generation, now: Duration) {
        self.note_time(now);
        self.workers.serve(generation);
    }

    /// A request that wants a worker. A known id is ignored.
    pub fn submit(&mut self, request: RequestId, now: Duration) {
        self.note_time(now);
        if let Some(key) = self.requests.insert(request, self.now) {
            self.queue.push_new(&mut self.requests, key);
        }
    }

    /// The client left. For a placed request the driver tries at once to take it back, and answers with
    /// [`Self::handle_revoked`] or [`Self::handle_revoke_refused`]: only the ring knows for certain whether
    /// a worker has to be told.
    pub fn cancel(&mut self, request: RequestId, now: Duration) -> Cancelled {
        self.note_time(now);
        let Some(key) = self.requests.find(request) else {
            return Cancelled::Forgotten;
        };
        if let State::Placed(placement) = &mut self.requests.get_mut(key).state {
            placement.cancelled = true;
            let slot = placement.worker;
            return Cancelled::Placed(self.workers.get(slot).id);
        }
        self.forget(key);
        Cancelled::Forgotten
    }

    /// The driver saw the claim word taken. It need not look: a completion implies it.
    pub fn handle_claimed(&mut self, request: RequestId, now: Duration) {
        self.note_time(now);
        if let Some((key, slot)) = self.find_placed(request) {
            self.note_claimed(key, slot);
        }
    }

    fn note_claimed(&mut self, key: Key, slot: usize) {
        let worker = self.workers.get_mut(slot);
        worker.in_flight.claimed_through(&self.requests, key);
        worker.handle_life();
    }

    /// The worker is through with it: the response is complete, or the worker gave it up.
    /// So it was claimed, and everything placed there before it: the ring is taken from in order.
    pub fn handle_completed(&mut self, request: RequestId, now: Duration) {
        self.note_time(now);
        let Some(key) = self.requests.find(request) else {
            return;
        };
        if let State::Placed(placement) = &self.requests.get(key).state {
            let worker = self.workers.get_mut(placement.worker);
            worker.in_flight.claimed_through(&self.requests, key);
            worker.handle_completed(&self.bounds, self.now);
            if self.calm < CALM {
                self.calm += 1;
                if self.calm == CALM {
                    self.bounds.be_generous();
                }
            }
            if worker.in_flight.ahead() > 0 {
                // What lies ahead may have become worth moving by the change of pace.
                self.look_again = self
                    .look_again
                    .min(worker.earliest_move(&self.bounds, self.now));
            }
        }
        self.forget(key);
    }

    /// The request was taken back unclaimed (after [`Action::Revoke`](crate::Action::Revoke), or from a dead worker's ring).
    pub fn handle_revoked(&mut self, request: RequestId, now: Duration) {
        self.note_time(now);
        let Some(key) = self.requests.find(request) else {
            return;
        };
        let mut cancelled = false;
        match &self.requests.get(key).state {
            State::Queued => return,
            State::Orphaned => {}
            State::Placed(placement) => {
                cancelled = placement.cancelled;
                self.note_hang(
                    placement.worker,
                    placement.running && placement.revoking && !cancelled,
                );
                self.leave_flight(key, None);
            }
        }
        self.settle_returned(key, cancelled);
    }

    fn settle_returned(&mut self, key: Key, cancelled: bool) {
        if cancelled {
            self.requests.remove(key);
        } else {
            self.requests.get_mut(key).state = State::Queued;
            self.queue.put_back(&mut self.requests, key);
        }
    }

    /// It had been claimed in the meantime and stays where it is.
    pub fn handle_revoke_refused(&mut self, request: RequestId, now: Duration) {
        self.note_time(now);
        let Some((key, slot)) = self.find_placed(request) else {
            return;
        };
        let placement = self.requests.get_mut(key).placement_mut();
        if std::mem::take(&mut placement.revoking) {
            self.unanswered -= 1;
        }
        self.note_claimed(key, slot);
    }

    /// The request died with its worker, or was never written into the ring of the worker it was placed at.
    /// Unlike a completion it tells nothing about the worker: neither its pace nor what it has claimed. Not
    /// for one that was merely answered early (504, client gone): as
    /// long as the worker works on it, it takes up capacity there.
    pub fn handle_lost(&mut self, request: RequestId) {
        self.settled = false;
        if let Some(key) = self.requests.find(request) {
            self.forget(key);
        }
    }

    /// The ring was full: the request goes back to the front, and the worker gets nothing more until it
    /// shows progress or a moment has passed.
    pub fn handle_placement_refused(&mut self, request: RequestId, now: Duration) {
        self.note_time(now);
        let Some((key, slot)) = self.find_placed(request) else {
            return;
        };
        self.workers.get_mut(slot).handle_ring_full(self.now);
        self.recovery = self.workers.next_recovery(self.now);
        let cancelled = self.requests.get(key).placement().cancelled;
        self.leave_flight(key, None);
        self.settle_returned(key, cancelled);
    }

    /// The timer for [`Self::next_deadline`] rang (early is harmless).
    pub fn handle_timeout(&mut self, now: Duration) {
        self.note_time(now);
    }

    /// Requests that wait for a worker.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Requests placed at this worker, claimed or not; 0 if it is unknown.
    pub fn in_flight(&self, worker: WorkerId) -> u32 {
        self.workers
            .find(worker)
            .map_or(0, |slot| self.workers.get(slot).in_flight.len())
    }

    /// Requests placed at all workers.
    pub fn total_in_flight(&self) -> usize {
        self.placed
    }

    /// Who could take requests now.
    pub fn staffing(&self) -> Staffing {
        let mut staffing = Staffing {
            generation: self.workers.serving(),
            ..Staffing::default()
        };
        for worker in self.workers.iter().filter(|worker| worker.eligible) {
            staffing.workers += 1;
            staffing.capacity += worker.in_flight.capacity();
            staffing.busy += worker.in_flight.len().min(worker.in_flight.capacity());
            staffing.busy_workers += u32::from(!worker.in_flight.is_empty());
        }
        staffing
    }

    /// How long the oldest waiting request has waited since it was submitted.
    pub fn waiting_longest(&self, now: Duration) -> Option<Duration> {
        let head = self.queue.head()?;
        let waited = nanos(now).saturating_sub(self.requests.get(head).submitted);
        Some(Duration::from_nanos(waited))
    }

    /// The measured time between two completions of this worker while it is busy.
    pub fn service_time(&self, worker: WorkerId) -> Option<Duration> {
        let slot = self.workers.find(worker)?;
        self.workers
            .get(slot)
            .service_time
            .mean()
            .map(Duration::from_nanos)
    }

    fn note_time(&mut self, now: Duration) {
        self.now = self.now.max(nanos(now));
        self.settled = false;
    }

    fn find_placed(&self, request: RequestId) -> Option<(Key, usize)> {
        let key = self.requests.find(request)?;
        match &self.requests.get(key).state {
            State::Placed(placement) => Some((key, placement.worker)),
            State::Queued | State::Orphaned => None,
        }
    }

    /// Out of wherever it is, and out of the slab.
    fn forget(&mut self, key: Key) {
        match &self.requests.get(key).state {
            State::Queued => self.queue.unlink(&mut self.requests, key),
            State::Placed(_) => self.leave_flight(key, Some(self.now)),
            State::Orphaned => {}
        }
        self.requests.remove(key);
    }

    /// `moved_up`: see [`InFlight::remove`](crate::in_flight::InFlight::remove).
    fn leave_flight(&mut self, key: Key, moved_up: Option<Nanos>) {
        let placement = self.requests.get(key).placement();
        let slot = placement.worker;
        self.unanswered -= u32::from(placement.revoking);
        self.placed -= 1;
        let in_flight = &mut self.workers.get_mut(slot).in_flight;
        in_flight.remove(&mut self.requests, key, moved_up);
        self.workers.note_load(slot);
        self.note_if_drained(slot);
    }

    fn enter_flight(&mut self, key: Key, slot: usize) {
        let worker = self.workers.get_mut(slot);
        worker.handle_placed(self.now);
        self.placements += 1;
        self.placed += 1;
        self.requests.get_mut(key).state = State::Placed(Placement {
            worker: slot,
            serial: self.placements,
            since: self.now,
            running: false,
            revoking: false,
            cancelled: false,
        });
        worker.in_flight.push(&mut self.requests, key);
        self.look_again = self
            .look_again
            .min(worker.earliest_move(&self.bounds, self.now));
        self.workers.note_load(slot);
    }

    fn note_hang(&mut self, slot: usize, proved: bool) {
        let worker = self.workers.get_mut(slot);
        if proved && worker.stage == Stage::Ready {
            worker.handle_hang_proved(&self.bounds, self.now);
            self.recovery = self.workers.next_recovery(self.now);
        }
    }

    fn note_if_drained(&mut self, slot: usize) {
        let worker = self.workers.get(slot);
        if worker.stage == Stage::Retiring && worker.in_flight.is_empty() {
            self.drained.push_back(worker.id);
        }
    }
}
