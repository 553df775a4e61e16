//! What to do next. The rules, in the order in which they are asked:
//!
//! 1. A drained worker is reported.
//! 2. While a revocation has no answer: nothing.
//! 3. A retired worker gives back what it did not claim.
//! 4. The best place there is goes to the request that arrived first, be it the head of the queue or one
//!    that lies badly at a worker (behind a slow one, at a worker that hangs, or ahead while somebody else
//!    is free). The latter is revoked, so comes to the head of the queue, and is placed in the next step.
//! 5. With no place left, the head of the queue is rejected if it waited too long (so is one that was placed
//!    ahead at a worker which has stalled: it is revoked first),
//! 6. and the youngest one if more wait than may.
//!
//! The last two come last so that a request that can be served is never rejected.

use std::time::Duration;

use super::Dispatcher;
use crate::requests::Key;
use crate::time::{NEVER, Nanos};
use crate::worker::Stage;
use crate::worker_table::Offer;
use crate::{Action, RejectReason, WorkerId};

/// Clients are asked to wait at least a second, because `Retry-After` has no fractions,
const RETRY_AFTER_LEAST: u64 = 1;
/// and at most a minute, because nobody can foretell more.
const RETRY_AFTER_MOST: u64 = 60;

const NANOS_PER_SECOND: u64 = 1_000_000_000;

impl Dispatcher {
    /// What to do next; `None` when there is nothing to do, or a revocation waits for its answer.
    pub fn poll_action(&mut self) -> Option<Action> {
        if self.settled {
            return None;
        }
        let action = self.next_drained().or_else(|| self.decide());
        self.settled = action.is_none();
        action
    }

    /// Whether nothing has happened since [`Self::poll_action`] said that there is nothing to do.
    #[inline]
    pub fn is_settled(&self) -> bool {
        self.settled
    }

    /// When [`Self::handle_timeout`] is due; ask after `poll_action` returned `None`. Then it always lies
    /// after the last `now`. It may turn out too early: while requests come and go it is kept rather than
    /// moved with each of them, so that the driver seldom has to set its timer anew.
    pub fn next_deadline(&self) -> Option<Duration> {
        let expiry = self
            .queue
            .head()
            .map_or(NEVER, |head| self.expires_at(head));
        let recovery = if self.recovery > self.now {
            self.recovery
        } else {
            NEVER
        };
        let deadline = expiry.min(recovery).min(self.next_move());
        (deadline != NEVER).then(|| Duration::from_nanos(deadline))
    }

    fn next_move(&self) -> Nanos {
        if self.placed == 0 {
            NEVER
        } else if !self.workers.has_several() {
            self.workers.next_expiry(&self.requests, &self.bounds)
        } else if self.look_again > self.now {
            self.look_again
        } else {
            self.workers
                .misplaced(&self.requests, &self.bounds, self.now)
                .next
        }
    }

    fn next_drained(&mut self) -> Option<Action> {
        while let Some(worker) = self.drained.pop_front() {
            if self.is_retiring(worker) {
                return Some(Action::Drained(worker));
            }
        }
        None
    }

    fn is_retiring(&self, worker: WorkerId) -> bool {
        self.workers
            .find(worker)
            .is_some_and(|slot| self.workers.get(slot).stage == Stage::Retiring)
    }

    fn decide(&mut self) -> Option<Action> {
        if self.unanswered > 0 {
            return None;
        }
        if self.recovery <= self.now {
            self.recovery = self.workers.next_recovery(self.now);
        }
        let head = self.queue.head();
        let misplaced_possible = self.look_again <= self.now;
        if head.is_none() && !misplaced_possible {
            return None;
        }
        let misplaced = if misplaced_possible {
            self.misplaced()
        } else {
            None
        };
        if let Some(misplaced) = misplaced
            && head.is_none_or(|head| self.arrived_before(misplaced, head))
        {
            return Some(self.revoke(misplaced));
        }
        let offer = head.and_then(|_| self.workers.best_offer(&self.bounds, self.now));
        match (head, offer, misplaced) {
            (Some(head), Some(offer), _) => Some(self.place(head, offer)),
            // Without a place to be had: a retired worker gives back, or one has waited too long where it is.
            (_, None, Some(misplaced)) => Some(self.revoke(misplaced)),
            _ => self.reject(),
        }
    }

    fn misplaced(&mut self) -> Option<Key> {
        let misplaced = self
            .workers
            .misplaced(&self.requests, &self.bounds, self.now);
        self.look_again = misplaced.look_again;
        misplaced.oldest
    }

    fn arrived_before(&self, one: Key, other: Key) -> bool {
        self.requests.get(one).arrival < self.requests.get(other).arrival
    }

    fn place(&mut self, key: Key, offer: Offer) -> Action {
        self.queue.unlink(&mut self.requests, key);
        self.enter_flight(key, offer.worker);
        self.workers.end_turn(offer.worker);
        Action::Place {
            request: self.requests.get(key).id,
            worker: self.workers.get(offer.worker).id,
        }
    }

    fn revoke(&mut self, key: Key) -> Action {
        self.unanswered += 1;
        self.calm = 0;
        self.bounds.be_cautious();
        let request = self.requests.get_mut(key);
        let placement = request.placement_mut();
        placement.revoking = true;
        let worker = placement.worker;
        Action::Revoke {
            request: request.id,
            worker: self.workers.get(worker).id,
        }
    }

    fn reject(&mut self) -> Option<Action> {
        let head = self.queue.head()?;
        if self.expires_at(head) <= self.now {
            return Some(self.reject_for(head, RejectReason::WaitedTooLong));
        }
        if self.queue.len() <= self.bounds.queue_limit {
            return None;
        }
        let youngest = self.queue.youngest_never_placed()?;
        Some(self.reject_for(youngest, RejectReason::QueueFull))
    }

    fn reject_for(&mut self, key: Key, reason: RejectReason) -> Action {
        let retry_after = self.retry_after();
        let request = self.requests.get(key).id;
        self.forget(key);
        Action::Reject {
            request,
            reason,
            retry_after,
        }
    }

    fn expires_at(&self, key: Key) -> Nanos {
        self.requests
            .get(key)
            .submitted
            .saturating_add(self.bounds.queue_timeout)
    }

    /// How long the workers will have to do with what waits now.
    fn retry_after(&self) -> Duration {
        let eligible = self.workers.iter().filter(|worker| worker.eligible);
        let paces = eligible.filter_map(|worker| worker.service_time.mean());
        // In requests per thousand seconds, so that a worker slower than a second a request still counts.
        let rate: u64 = paces
            .map(|pace| NANOS_PER_SECOND * 1000 / pace.max(1))
            .sum();
        let waiting = self.queue.len() as u64;
        let seconds = waiting
            .saturating_mul(1000)
            .checked_div(rate)
            .unwrap_or(RETRY_AFTER_LEAST);
        Duration::from_secs(seconds.clamp(RETRY_AFTER_LEAST, RETRY_AFTER_MOST))
    }
}
