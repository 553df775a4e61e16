//! Every request not yet forgotten, once, in one slab; and chains through them.
//!
//! A request is always in exactly one place: the queue, the flight of one worker, or (its worker died) in
//! nobody's. The first two are chains, doubly linked through the slab, so that a request leaves from the
//! middle without a search and nothing is allocated once the slab has its size.

use slab::Slab;

use crate::RequestId;
use crate::index::Index;
use crate::time::Nanos;

/// Position of a request in the slab.
pub(crate) type Key = u32;

/// No request: end of a chain, cursor at rest.
pub(crate) const NONE: Key = Key::MAX;

#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) id: RequestId,
    /// Counts submissions; the order everything strives for.
    pub(crate) arrival: u64,
    pub(crate) submitted: Nanos,
    pub(crate) state: State,
    links: Links,
}

#[derive(Debug)]
pub(crate) enum State {
    /// In the queue.
    Queued,
    /// In a worker's flight.
    Placed(Placement),
    /// Its worker is gone; the driver will say whether it had been claimed.
    Orphaned,
}

#[derive(Debug)]
pub(crate) struct Placement {
    /// Position in the table of workers.
    pub(crate) worker: usize,
    /// Counts placements: what has a smaller one is nearer to the head of the ring.
    pub(crate) serial: u64,
    /// Since when it is where it is: placed, or moved up from ahead to running.
    pub(crate) since: Nanos,
    /// Within the worker's capacity, so presumably claimed; otherwise placed ahead.
    pub(crate) running: bool,
    /// A revocation was ordered and not yet answered.
    pub(crate) revoking: bool,
    /// The client left: taken back, it is forgotten.
    pub(crate) cancelled: bool,
}

impl Request {
    /// For code that found the request in a worker's flight.
    pub(crate) fn placement(&self) -> &Placement {
        match &self.state {
            State::Placed(placement) => placement,
            State::Queued | State::Orphaned => unreachable!("a flight holds placed requests only"),
        }
    }

    pub(crate) fn placement_mut(&mut self) -> &mut Placement {
        match &mut self.state {
            State::Placed(placement) => placement,
            State::Queued | State::Orphaned => unreachable!("a flight holds placed requests only"),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Requests {
    slots: Slab<Request>,
    index: Index,
    arrivals: u64,
}

impl Requests {
    pub(crate) fn new() -> Self {
        Self {
            slots: Slab::new(),
            index: Index::new(),
            arrivals: 0,
        }
    }

    /// `None` if the id is known already: the driver would give two requests one name.
    pub(crate) fn insert(&mut self, id: RequestId, submitted: Nanos) -> Option<Key> {
        if self.index.find(id).is_some() {
            return None;
        }
        self.arrivals += 1;
        let request = Request {
            id,
            arrival: self.arrivals,
            submitted,
            state: State::Queued,
            links: Links::default(),
        };
        let key =
            Key::try_from(self.slots.insert(request)).expect("memory ends before 2^32 requests");
        self.index.insert(id, key);
        Some(key)
    }

    pub(crate) fn find(&self, id: RequestId) -> Option<Key> {
        self.index.find(id)
    }

    /// The request must have been taken out of its chain.
    pub(crate) fn remove(&mut self, key: Key) {
        let request = self.slots.remove(key as usize);
        self.index.remove(request.id);
    }

    pub(crate) fn get(&self, key: Key) -> &Request {
        &self.slots[key as usize]
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> &mut Request {
        &mut self.slots[key as usize]
    }
}

#[derive(Clone, Copy, Debug)]
struct Links {
    previous: Key,
    next: Key,
}

impl Default for Links {
    fn default() -> Self {
        Self {
            previous: NONE,
            next: NONE,
        }
    }
}

/// A list of requests. It owns no memory; the links are in the slab.
#[derive(Debug)]
pub(crate) struct Chain {
    head: Key,
    tail: Key,
    len: u32,
}

impl Chain {
    pub(crate) const fn new() -> Self {
        Self {
            head: NONE,
            tail: NONE,
            len: 0,
        }
    }

    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    pub(crate) fn head(&self) -> Key {
        self.head
    }

    pub(crate) fn tail(&self) -> Key {
        self.tail
    }

    pub(crate) fn next(requests: &Requests, key: Key) -> Key {
        requests.get(key).links.next
    }

    pub(crate) fn previous(requests: &Requests, key: Key) -> Key {
        requests.get(key).links.previous
    }

    pub(crate) fn push_back(&mut self, requests: &mut Requests, key: Key) {
        self.insert_after(requests, self.tail, key);
    }

    /// Behind `previous`, or at the head if that is `NONE`.
    pub(crate) fn insert_after(&mut self, requests: &mut Requests, previous: Key, key: Key) {
        let next = match previous {
            NONE => self.head,
            previous => Self::next(requests, previous),
        };
        requests.get_mut(key).links = Links { previous, next };
        self.join(requests, previous, key);
        self.join(requests, key, next);
        self.len += 1;
    }

    pub(crate) fn unlink(&mut self, requests: &mut Requests, key: Key) {
        let Links { previous, next } = std::mem::take(&mut requests.get_mut(key).links);
        match previous {
            NONE => self.head = next,
            previous => requests.get_mut(previous).links.next = next,
        }
        match next {
            NONE => self.tail = previous,
            next => requests.get_mut(next).links.previous = previous,
        }
        self.len -= 1;
    }

    /// Makes two neighbours know each other; `NONE` stands for the end of the chain.
    fn join(&mut self, requests: &mut Requests, left: Key, right: Key) {
        match left {
            NONE => self.head = right,
            left => requests.get_mut(left).links.next = right,
        }
        match right {
            NONE => self.tail = left,
            right => requests.get_mut(right).links.previous = left,
        }
    }
}
