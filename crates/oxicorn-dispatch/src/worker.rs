//! One worker in the table: whether it may get requests, how much it offers, and what it should give back.
//!
//! Nothing here is known about the process beyond what came through the dispatcher's face. Signs of
//! trouble are read from the flight alone:
//!
//! * *stalled*: it has requests and completed none for `stall_after`. That is no fault (every slow request
//!   looks so), but nothing may be placed ahead of it, and what lies ahead should leave. What it had room
//!   for and may not have claimed should leave too: most likely it was claimed and nobody said so, which
//!   the refused revocation clears up at the price of one compare-and-swap.
//! * *suspect*: such a revocation succeeded, so the worker hung (or waits for a processor). For a while
//!   others are preferred, and nothing moves there.

use crate::in_flight::InFlight;
use crate::policy::Bounds;
use crate::requests::{Key, NONE, Requests};
use crate::service_time::ServiceTime;
use crate::time::{NEVER, Nanos};
use crate::{Generation, WorkerId};

/// A suspect is avoided for so many times `stall_after`: long enough that a hung worker delays few
/// requests, short enough that one that merely waited for a processor is soon used again.
const SUSPICION: u64 = 4;

/// After a full ring the worker is tried again when it shows progress, or after this: the ring is drained
/// by claims, which the driver need not report.
const RING_RETRY: Nanos = 1_000_000;

/// From this pace on, a request placed ahead is worth moving as soon as somebody is free: what it costs to
/// revoke it and to wake another worker is below this. Faster workers will have done it themselves.
const MOVE_AT_ONCE: Nanos = 50_000;

/// In a load: there is no room, the rest counts what is placed ahead.
const FULL: u32 = 1 << 31;

/// In place of a load: gets nothing.
const OUT: u32 = u32::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Booting,
    Ready,
    Retiring,
    /// The slot is free for another worker.
    Gone,
}

#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) id: WorkerId,
    pub(crate) generation: Generation,
    pub(crate) stage: Stage,
    /// Ready and of the generation being served: derived, kept for the scan.
    pub(crate) eligible: bool,
    pub(crate) in_flight: InFlight,
    pub(crate) service_time: ServiceTime,
    /// Its last completion, or when it last got something to do.
    progress: Nanos,
    suspect_until: Nanos,
    blocked_until: Nanos,
}

/// How good a place is; better ones first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rank {
    /// It would be worked on at once.
    Free,
    /// Ahead of a worker that is making progress.
    Ahead,
    /// Room at a worker that lately hung: better than waiting, for it can be taken back.
    Doubtful,
}

/// A request that may leave for a better place, and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Movable {
    pub(crate) key: Key,
    /// From when on it may move to where it would run at once.
    pub(crate) to_free: Nanos,
    /// From when on it may also move to where it would be placed ahead. Never before `to_free`.
    to_ahead: Nanos,
    /// From when on it goes back to the queue, whatever others offer.
    to_queue: Nanos,
}

impl Movable {
    pub(crate) fn due(&self, best: Option<Rank>) -> Nanos {
        match best {
            Some(Rank::Free) => self.to_free,
            Some(Rank::Ahead) => self.to_ahead,
            Some(Rank::Doubtful) | None => self.to_queue,
        }
    }
}

impl Worker {
    pub(crate) fn new(id: WorkerId, generation: Generation, capacity: u32) -> Self {
        Self {
            id,
            generation,
            stage: Stage::Booting,
            eligible: false,
            in_flight: InFlight::new(capacity.clamp(1, FULL - 1)),
            service_time: ServiceTime::new(),
            progress: 0,
            suspect_until: 0,
            blocked_until: 0,
        }
    }

    /// How much it has, so that the least is the best offer as far as the flight alone tells.
    pub(crate) fn load(&self) -> u32 {
        if !self.eligible {
            OUT
        } else if self.in_flight.has_room() {
            self.in_flight.len()
        } else {
            FULL | self.in_flight.ahead()
        }
    }

    /// Whether this load leaves room for nothing, not even ahead.
    pub(crate) fn is_full(load: u32, bounds: &Bounds) -> bool {
        load >= FULL && load - FULL >= bounds.prefetch_limit
    }

    /// When the first of its requests may become due to move, at the earliest. Later placements and
    /// completions only put it off, unless the pace turns out slow.
    pub(crate) fn earliest_move(&self, bounds: &Bounds, now: Nanos) -> Nanos {
        if self.in_flight.ahead() == 0 {
            now.saturating_add(bounds.stall_after)
        } else if self.moves_at_once() {
            0
        } else {
            self.stalls_at(bounds)
        }
    }

    fn moves_at_once(&self) -> bool {
        self.service_time
            .typical()
            .is_some_and(|pace| pace >= MOVE_AT_ONCE)
    }

    /// The place it offers, and how many are there before.
    pub(crate) fn offer(&self, bounds: &Bounds, now: Nanos) -> Option<(Rank, u32)> {
        if !self.eligible || self.blocked_until > now {
            None
        } else if self.in_flight.has_room() {
            let rank = if self.suspect_until > now {
                Rank::Doubtful
            } else {
                Rank::Free
            };
            Some((rank, self.in_flight.len()))
        } else {
            self.offers_ahead(bounds, now)
                .then(|| (Rank::Ahead, self.in_flight.ahead()))
        }
    }

    fn offers_ahead(&self, bounds: &Bounds, now: Nanos) -> bool {
        let ahead = self.in_flight.ahead();
        ahead < bounds.prefetch_limit
            && !self.stalled(bounds, now)
            && self.suspect_until <= now
            && self.service_time.typical().is_some_and(|pace| {
                pace.saturating_mul(u64::from(ahead) + 1) <= bounds.prefetch_budget
            })
    }

    fn stalls_at(&self, bounds: &Bounds) -> Nanos {
        self.progress.saturating_add(bounds.stall_after)
    }

    fn stalled(&self, bounds: &Bounds, now: Nanos) -> bool {
        !self.in_flight.is_empty() && self.stalls_at(bounds) <= now
    }

    /// The requests it could give back, the older first: the oldest that it had room for but may not have
    /// claimed, and the oldest placed ahead. Those behind them follow when they are gone.
    pub(crate) fn movables(
        &self,
        requests: &Requests,
        bounds: &Bounds,
    ) -> impl Iterator<Item = Movable> + use<> {
        let startable = self.oldest_startable(requests, bounds);
        startable
            .into_iter()
            .chain(self.oldest_ahead(requests, bounds))
    }

    fn oldest_startable(&self, requests: &Requests, bounds: &Bounds) -> Option<Movable> {
        let key = self.in_flight.first_unclaimed();
        if key == NONE {
            return None;
        }
        let placement = requests.get(key).placement();
        // Progress made after it was placed shows that the worker claims.
        let overdue = placement
            .since
            .max(self.progress)
            .saturating_add(bounds.stall_after);
        placement
            .running
            .then(|| self.movable(key, overdue, overdue, NEVER))
    }

    /// When the oldest of those placed ahead has waited as long as one in the queue may. A worker that
    /// makes progress will soon have it, and is left to it.
    pub(crate) fn expires_ahead(&self, requests: &Requests, bounds: &Bounds) -> Nanos {
        let key = self.in_flight.first_ahead();
        if key == NONE || !self.in_flight.may_be_unclaimed(requests, key) {
            return NEVER;
        }
        let submitted = requests.get(key).submitted;
        (submitted.saturating_add(bounds.queue_timeout)).max(self.stalls_at(bounds))
    }

    fn oldest_ahead(&self, requests: &Requests, bounds: &Bounds) -> Option<Movable> {
        let key = self.in_flight.first_ahead();
        if key == NONE || !self.in_flight.may_be_unclaimed(requests, key) {
            return None;
        }
        let to_ahead = self.stalls_at(bounds);
        let to_free = if self.moves_at_once() {
            0
        } else {
            let since = requests.get(key).placement().since;
            since.saturating_add(bounds.stall_after).min(to_ahead)
        };
        let to_queue = self.expires_ahead(requests, bounds);
        Some(self.movable(key, to_free, to_ahead, to_queue))
    }

    fn movable(&self, key: Key, to_free: Nanos, to_ahead: Nanos, to_queue: Nanos) -> Movable {
        match self.stage {
            Stage::Retiring => Movable {
                key,
                to_free: 0,
                to_ahead: 0,
                to_queue: 0,
            },
            _ => Movable {
                key,
                to_free,
                to_ahead,
                to_queue,
            },
        }
    }

    /// When it offers more than now without any event: an end of suspicion or of a blockade.
    pub(crate) fn recovers_at(&self, now: Nanos) -> Nanos {
        [self.suspect_until, self.blocked_until]
            .into_iter()
            .filter(|at| self.eligible && *at > now)
            .min()
            .unwrap_or(NEVER)
    }

    pub(crate) fn handle_placed(&mut self, now: Nanos) {
        if self.in_flight.is_empty() {
            self.progress = now;
        }
    }

    pub(crate) fn handle_completed(&mut self, bounds: &Bounds, now: Nanos) {
        self.service_time
            .add(now.saturating_sub(self.progress), bounds.sample_cap);
        self.progress = now;
        self.handle_life();
    }

    pub(crate) fn handle_life(&mut self) {
        self.suspect_until = 0;
        self.blocked_until = 0;
    }

    pub(crate) fn handle_hang_proved(&mut self, bounds: &Bounds, now: Nanos) {
        self.suspect_until = now.saturating_add(bounds.stall_after.saturating_mul(SUSPICION));
    }

    pub(crate) fn handle_ring_full(&mut self, now: Nanos) {
        self.blocked_until = now.saturating_add(RING_RETRY);
    }
}
