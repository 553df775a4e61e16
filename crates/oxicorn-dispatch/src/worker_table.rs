//! The table of workers and the two questions asked of it for every decision: who offers the best place,
//! and which placed request should move there.
//!
//! Both are plain scans. Workers are few (tens), their slots lie side by side, and a scan has no order to
//! maintain on every completion.

use crate::policy::Bounds;
use crate::requests::{Key, Requests};
use crate::time::{NEVER, Nanos};
use crate::worker::{Movable, Rank, Stage, Worker};
use crate::{Generation, WorkerId};

#[derive(Debug)]
pub(crate) struct WorkerTable {
    /// A worker keeps its slot until it is removed; then the slot is used again.
    slots: Vec<Worker>,
    /// `Worker::load` of each slot, packed: the scan for an offer reads these only.
    loads: Vec<u32>,
    serving: Option<Generation>,
    /// Where the scan for an offer starts. It moves behind each worker that got something, so that equals
    /// take turns: otherwise, at low load, the first would do everything, and a worker that fails fast
    /// (always free) would swallow everything instead of its share.
    turn: usize,
}

/// The best place to be had.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offer {
    pub(crate) worker: usize,
    pub(crate) rank: Rank,
    load: u32,
}

/// What should leave its place, and when to look again.
#[derive(Debug)]
pub(crate) struct Misplaced {
    /// The oldest (by arrival) request that should move now.
    pub(crate) oldest: Option<Key>,
    /// Before this, no other will become due, whatever the workers offer then.
    pub(crate) look_again: Nanos,
    /// When the next one becomes due if the workers go on offering what they do now.
    pub(crate) next: Nanos,
}

impl WorkerTable {
    pub(crate) const fn new() -> Self {
        Self {
            slots: Vec::new(),
            loads: Vec::new(),
            serving: None,
            turn: 0,
        }
    }

    /// Whether the id is new.
    pub(crate) fn add(&mut self, worker: Worker) -> bool {
        if self.find(worker.id).is_some() {
            return false;
        }
        match self.slots.iter().position(|slot| slot.stage == Stage::Gone) {
            Some(free) => self.slots[free] = worker,
            None => self.slots.push(worker),
        }
        self.derive_eligible();
        true
    }

    pub(crate) fn find(&self, id: WorkerId) -> Option<usize> {
        self.slots
            .iter()
            .position(|slot| slot.id == id && slot.stage != Stage::Gone)
    }

    pub(crate) fn get(&self, worker: usize) -> &Worker {
        &self.slots[worker]
    }

    pub(crate) fn get_mut(&mut self, worker: usize) -> &mut Worker {
        &mut self.slots[worker]
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Worker> {
        self.slots.iter()
    }

    pub(crate) fn set_stage(&mut self, worker: usize, stage: Stage) {
        self.slots[worker].stage = stage;
        self.derive_eligible();
    }

    pub(crate) fn serve(&mut self, generation: Generation) {
        self.serving = Some(generation);
        self.derive_eligible();
    }

    pub(crate) const fn serving(&self) -> Option<Generation> {
        self.serving
    }

    fn derive_eligible(&mut self) {
        for slot in &mut self.slots {
            slot.eligible = slot.stage == Stage::Ready && self.serving == Some(slot.generation);
        }
        self.loads.clear();
        self.loads.extend(self.slots.iter().map(Worker::load));
    }

    /// To be called after every change of a flight.
    pub(crate) fn note_load(&mut self, worker: usize) {
        self.loads[worker] = self.slots[worker].load();
    }

    pub(crate) fn end_turn(&mut self, worker: usize) {
        self.turn = worker + 1;
    }

    /// The least load, if its worker is well, is the best offer: trouble only ever makes an offer worse. If
    /// it is not well, all have to be asked.
    pub(crate) fn best_offer(&self, bounds: &Bounds, now: Nanos) -> Option<Offer> {
        let (worker, load) = self.least_load()?;
        if Worker::is_full(load, bounds) {
            return None;
        }
        match self.slots[worker].offer(bounds, now) {
            Some((rank @ (Rank::Free | Rank::Ahead), load)) => Some(Offer { worker, rank, load }),
            Some((Rank::Doubtful, _)) | None => self.best_of_all(bounds, now),
        }
    }

    /// The first one from the turn on that has it.
    fn least_load(&self) -> Option<(usize, u32)> {
        let (before, from) = self.loads.split_at(self.turn.min(self.loads.len()));
        let least = |loads: &[u32]| {
            loads
                .iter()
                .copied()
                .enumerate()
                .min_by_key(|(_, load)| *load)
        };
        let from = least(from).map(|(worker, load)| (worker + before.len(), load));
        match (from, least(before)) {
            (Some(from), Some(before)) if before.1 < from.1 => Some(before),
            (from, before) => from.or(before),
        }
    }

    fn best_of_all(&self, bounds: &Bounds, now: Nanos) -> Option<Offer> {
        let (before, from) = self.slots.split_at(self.turn.min(self.slots.len()));
        let mut best = None;
        for (worker, slot) in from.iter().enumerate() {
            consider(&mut best, worker + before.len(), slot.offer(bounds, now));
        }
        for (worker, slot) in before.iter().enumerate() {
            consider(&mut best, worker, slot.offer(bounds, now));
        }
        best
    }

    /// What lies badly, compared with what the other workers offer.
    pub(crate) fn misplaced(&self, requests: &Requests, bounds: &Bounds, now: Nanos) -> Misplaced {
        let mut misplaced = Misplaced {
            oldest: None,
            look_again: NEVER,
            next: NEVER,
        };
        let mut oldest_arrival = u64::MAX;
        self.each_movable(requests, bounds, now, |movable, due| {
            misplaced.look_again = misplaced.look_again.min(movable.to_free);
            let arrival = requests.get(movable.key).arrival;
            if due > now {
                misplaced.next = misplaced.next.min(due);
            } else if arrival < oldest_arrival {
                oldest_arrival = arrival;
                misplaced.oldest = Some(movable.key);
            }
        });
        misplaced
    }

    /// With the time at which each is due to move to what is offered elsewhere.
    fn each_movable(
        &self,
        requests: &Requests,
        bounds: &Bounds,
        now: Nanos,
        mut visit: impl FnMut(Movable, Nanos),
    ) {
        let rank = |slot: &Worker| slot.offer(bounds, now).map(|(rank, _)| rank);
        let mut offers = Offers::default();
        self.slots
            .iter()
            .filter_map(rank)
            .for_each(|rank| offers.add(rank));
        for slot in &self.slots {
            // A worker's own room is no reason to take something away from it.
            let best = offers.best_elsewhere(rank(slot));
            for movable in slot.movables(requests, bounds) {
                visit(movable, movable.due(best));
            }
        }
    }

    /// When the next worker in trouble is to be tried again.
    pub(crate) fn next_recovery(&self, now: Nanos) -> Nanos {
        let recoveries = self.slots.iter().map(|slot| slot.recovers_at(now));
        recoveries.min().unwrap_or(NEVER)
    }

    /// When the next that was placed ahead has waited too long to stay there.
    pub(crate) fn next_expiry(&self, requests: &Requests, bounds: &Bounds) -> Nanos {
        let expiries = self.slots.iter();
        let expiries = expiries.map(|slot| slot.expires_ahead(requests, bounds));
        expiries.min().unwrap_or(NEVER)
    }

    /// Whether there is another worker to which requests could move.
    pub(crate) fn has_several(&self) -> bool {
        self.slots.len() > 1
    }
}

/// How many workers offer a place worth moving to.
#[derive(Debug, Default)]
struct Offers {
    free: u32,
    ahead: u32,
}

impl Offers {
    fn add(&mut self, rank: Rank) {
        match rank {
            Rank::Free => self.free += 1,
            Rank::Ahead => self.ahead += 1,
            Rank::Doubtful => {}
        }
    }

    fn best_elsewhere(&self, own: Option<Rank>) -> Option<Rank> {
        if self.free > u32::from(own == Some(Rank::Free)) {
            Some(Rank::Free)
        } else if self.ahead > u32::from(own == Some(Rank::Ahead)) {
            Some(Rank::Ahead)
        } else {
            None
        }
    }
}

fn consider(best: &mut Option<Offer>, worker: usize, offer: Option<(Rank, u32)>) {
    let Some((rank, load)) = offer else { return };
    if best.is_none_or(|best| (rank, load) < (best.rank, best.load)) {
        *best = Some(Offer { worker, rank, load });
    }
}
