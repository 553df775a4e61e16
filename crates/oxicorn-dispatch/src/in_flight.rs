//! What is placed at one worker, in order of placement, and how far the worker presumably is.
//!
//! A worker takes requests from its ring in order, and takes one whenever it works on fewer than its
//! capacity. So the flight has, from its head:
//!
//! ```text
//!   head                                                       tail
//!    [ running: as many as the capacity ][ ahead: placed ahead    ]
//!    [ known claimed      ][ maybe unclaimed                      ]
//! ```
//!
//! The two boundaries are independent. *Running* is what must have been claimed if the worker is well;
//! *known claimed* is what was reported: a claim, a completion or a refused revocation of a request tells
//! that everything before it was claimed too. The driver may report late or only completions, so the
//! second boundary usually lags behind the first.

use crate::requests::{Chain, Key, NONE, Placement, Requests};
use crate::time::Nanos;

#[derive(Debug)]
pub(crate) struct InFlight {
    chain: Chain,
    capacity: u32,
    ahead: u32,
    first_ahead: Key,
    first_unclaimed: Key,
}

impl InFlight {
    pub(crate) fn new(capacity: u32) -> Self {
        Self {
            chain: Chain::new(),
            capacity,
            ahead: 0,
            first_ahead: NONE,
            first_unclaimed: NONE,
        }
    }

    pub(crate) fn len(&self) -> u32 {
        self.chain.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.chain.len() == 0
    }

    pub(crate) const fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Below capacity: the next one placed runs at once.
    pub(crate) fn has_room(&self) -> bool {
        self.chain.len() < self.capacity
    }

    /// How many are placed ahead. Above zero, the worker is at capacity.
    pub(crate) fn ahead(&self) -> u32 {
        self.ahead
    }

    pub(crate) fn head(&self) -> Key {
        self.chain.head()
    }

    pub(crate) fn first_ahead(&self) -> Key {
        self.first_ahead
    }

    pub(crate) fn first_unclaimed(&self) -> Key {
        self.first_unclaimed
    }

    pub(crate) fn may_be_unclaimed(&self, requests: &Requests, key: Key) -> bool {
        self.first_unclaimed != NONE
            && requests.get(key).placement().serial
                >= requests.get(self.first_unclaimed).placement().serial
    }

    /// Places at the tail. Whether it runs follows from the room there was.
    pub(crate) fn push(&mut self, requests: &mut Requests, key: Key) {
        let running = self.has_room();
        requests.get_mut(key).placement_mut().running = running;
        self.chain.push_back(requests, key);
        if !running {
            self.ahead += 1;
            self.first_ahead = first_of(self.first_ahead, key);
        }
        self.first_unclaimed = first_of(self.first_unclaimed, key);
    }

    /// Takes it out; if it ran, the next one moves up. `moved_up` is the new `since` of that one, if it is
    /// known that the worker turns to it now.
    pub(crate) fn remove(&mut self, requests: &mut Requests, key: Key, moved_up: Option<Nanos>) {
        let next = Chain::next(requests, key);
        if self.first_unclaimed == key {
            self.first_unclaimed = next;
        }
        if self.first_ahead == key {
            self.first_ahead = next;
        }
        if requests.get(key).placement().running {
            self.move_up(requests, moved_up);
        } else {
            self.ahead -= 1;
        }
        self.chain.unlink(requests, key);
    }

    /// It was claimed, and so was everything before it.
    pub(crate) fn claimed_through(&mut self, requests: &Requests, key: Key) {
        if self.may_be_unclaimed(requests, key) {
            self.first_unclaimed = Chain::next(requests, key);
        }
    }

    fn move_up(&mut self, requests: &mut Requests, moved_up: Option<Nanos>) {
        if self.first_ahead == NONE {
            return;
        }
        let placement: &mut Placement = requests.get_mut(self.first_ahead).placement_mut();
        placement.running = true;
        if let Some(now) = moved_up {
            placement.since = now;
        }
        self.first_ahead = Chain::next(requests, self.first_ahead);
        self.ahead -= 1;
    }
}

fn first_of(cursor: Key, pushed: Key) -> Key {
    if cursor == NONE { pushed } else { cursor }
}
