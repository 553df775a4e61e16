//! The book of workers and the two questions asked of it for every decision: who offers the best place,
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
pub(crate) struct Book {
    /// A worker keeps its slot until it is removed; then the slot is used again.
    slots: Vec<Worker>,
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
pub(crate) struct Overdue {
    /// The oldest (by arrival) request that should move now.
    pub(crate) oldest: Option<Key>,
    /// Before this, no other will become due.
    pub(crate) look_again: Nanos,
}

impl Book {
    pub(crate) const fn new() -> Self {
        Self {
            slots: Vec::new(),
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

    fn derive_eligible(&mut self) {
        for slot in &mut self.slots {
            slot.eligible = slot.stage == Stage::Ready && self.serving == Some(slot.generation);
        }
    }

    pub(crate) fn end_turn(&mut self, worker: usize) {
        self.turn = worker + 1;
    }

    pub(crate) fn best_offer(
        &self,
        requests: &Requests,
        bounds: &Bounds,
        now: Nanos,
    ) -> Option<Offer> {
        let (before, from) = self.slots.split_at(self.turn.min(self.slots.len()));
        let mut best = None;
        for (worker, slot) in from.iter().enumerate() {
            consider(
                &mut best,
                worker + before.len(),
                slot.offer(requests, bounds, now),
            );
        }
        for (worker, slot) in before.iter().enumerate() {
            consider(&mut best, worker, slot.offer(requests, bounds, now));
        }
        best
    }

    /// `best` is what the best offer is: it decides who is badly off in comparison.
    pub(crate) fn overdue(
        &self,
        requests: &Requests,
        bounds: &Bounds,
        now: Nanos,
        best: Option<Rank>,
    ) -> Overdue {
        let mut overdue = Overdue {
            oldest: None,
            look_again: NEVER,
        };
        let mut oldest_arrival = u64::MAX;
        for movable in self.movables(requests, bounds) {
            overdue.look_again = overdue.look_again.min(movable.to_free);
            let arrival = requests.get(movable.key).arrival;
            if movable.due(best) <= now && arrival < oldest_arrival {
                oldest_arrival = arrival;
                overdue.oldest = Some(movable.key);
            }
        }
        overdue
    }

    fn movables<'a>(
        &'a self,
        requests: &'a Requests,
        bounds: &'a Bounds,
    ) -> impl Iterator<Item = Movable> + 'a {
        self.slots
            .iter()
            .flat_map(|slot| slot.movables(requests, bounds))
    }

    /// When the next request becomes due to move, or a worker offers more again, without any event.
    pub(crate) fn next_change(&self, requests: &Requests, bounds: &Bounds, now: Nanos) -> Nanos {
        let rank = |slot: &Worker| slot.offer(requests, bounds, now).map(|(rank, _)| rank);
        let mut offers = Offers::default();
        self.slots
            .iter()
            .filter_map(rank)
            .for_each(|rank| offers.add(rank));
        let mut soonest = NEVER;
        for slot in &self.slots {
            // A worker's own room is no reason to take something away from it.
            let best = offers.best_elsewhere(rank(slot));
            let dues = slot
                .movables(requests, bounds)
                .map(|movable| movable.due(best));
            let due = dues.filter(|due| *due > now).min().unwrap_or(NEVER);
            soonest = soonest.min(due).min(slot.recovers_at(now));
        }
        soonest
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
