//! The requests that wait for a worker, in order of arrival.
//!
//! Only the head is ever placed, so whatever was placed arrived before everything that never was. The
//! queue is therefore two stretches: what came back from workers, then what was never placed. A cursor
//! marks the last of the first stretch; what comes back is put into its place from there, which is one
//! step when a ring's content comes back oldest first.

use crate::requests::{Chain, Key, NONE, Requests};

#[derive(Debug)]
pub(crate) struct Queue {
    chain: Chain,
    /// The youngest of those that came back, or `NONE`.
    youngest_returned: Key,
}

impl Queue {
    pub(crate) const fn new() -> Self {
        Self {
            chain: Chain::new(),
            youngest_returned: NONE,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.chain.len() as usize
    }

    pub(crate) fn head(&self) -> Option<Key> {
        (self.chain.head() != NONE).then_some(self.chain.head())
    }

    /// The youngest request, unless a worker has had it before: then it was admitted and stays.
    pub(crate) fn youngest_never_placed(&self) -> Option<Key> {
        (self.chain.tail() != self.youngest_returned).then_some(self.chain.tail())
    }

    pub(crate) fn push_new(&mut self, requests: &mut Requests, key: Key) {
        self.chain.push_back(requests, key);
    }

    pub(crate) fn put_back(&mut self, requests: &mut Requests, key: Key) {
        let arrival = requests.get(key).arrival;
        let mut older = self.youngest_returned;
        while older != NONE && requests.get(older).arrival > arrival {
            older = Chain::previous(requests, older);
        }
        self.chain.insert_after(requests, older, key);
        if older == self.youngest_returned {
            self.youngest_returned = key;
        }
    }

    pub(crate) fn unlink(&mut self, requests: &mut Requests, key: Key) {
        if key == self.youngest_returned {
            self.youngest_returned = Chain::previous(requests, key);
        }
        self.chain.unlink(requests, key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RequestId;

    fn ids(queue: &Queue, requests: &Requests) -> Vec<u64> {
        let mut ids = Vec::new();
        let mut at = queue.chain.head();
        while at != NONE {
            ids.push(requests.get(at).id.0);
            at = Chain::next(requests, at);
        }
        ids
    }

    /// Six requests; the first four are placed and come back in `order`.
    fn after_returns(order: [usize; 4]) -> (Queue, Requests, Vec<Key>) {
        let (mut queue, mut requests) = (Queue::new(), Requests::new());
        let keys: Vec<_> = (0..6)
            .map(|id| requests.insert(RequestId(id), 0).expect("fresh ids"))
            .collect();
        for key in &keys {
            queue.push_new(&mut requests, *key);
        }
        for key in &keys[..4] {
            queue.unlink(&mut requests, *key);
        }
        for at in order {
            queue.put_back(&mut requests, keys[at]);
        }
        (queue, requests, keys)
    }

    #[test]
    fn what_comes_back_stands_in_order_of_arrival_before_the_rest() {
        for order in [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1], [1, 3, 0, 2]] {
            let (queue, requests, _) = after_returns(order);
            assert_eq!(ids(&queue, &requests), [0, 1, 2, 3, 4, 5], "{order:?}");
        }
    }

    #[test]
    fn the_cursor_survives_the_removal_of_its_request() {
        let (mut queue, mut requests, keys) = after_returns([0, 2, 1, 3]);
        queue.unlink(&mut requests, keys[3]);
        queue.unlink(&mut requests, keys[1]);
        queue.put_back(&mut requests, keys[3]);
        queue.put_back(&mut requests, keys[1]);
        assert_eq!(ids(&queue, &requests), [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn names_as_youngest_only_what_no_worker_had() {
        let (mut queue, mut requests, keys) = after_returns([0, 1, 2, 3]);
        assert_eq!(queue.youngest_never_placed(), Some(keys[5]));
        queue.unlink(&mut requests, keys[5]);
        queue.unlink(&mut requests, keys[4]);
        assert_eq!(queue.youngest_never_placed(), None);
        for key in &keys[..4] {
            queue.unlink(&mut requests, *key);
        }
        assert_eq!(queue.youngest_never_placed(), None);
        assert_eq!(queue.head(), None);
    }
}
