//! From the driver's request id to the place of the request: an open-addressing table with linear probing.
//!
//! Three look-ups are made for every request, so this is written for that: one multiplication spreads the
//! ids (drivers count them up or build them from slab keys, so they differ in few bits), at most half of
//! the entries are in use, and a removal moves followers back instead of leaving tombstones, so that the
//! table never degrades and never has to be rebuilt at a steady load. It grows and does not shrink.
//!
//! The ids are the driver's, not a peer's: nobody outside can provoke collisions.

use crate::RequestId;
use crate::requests::{Key, NONE};

/// 2^64 divided by the golden ratio: spreads neighbouring ids over the whole word (Knuth, volume 3, 6.4).
const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;

const SMALLEST: usize = 64;

#[derive(Clone, Copy, Debug)]
struct Entry {
    id: u64,
    /// `NONE`: the entry is free.
    key: Key,
}

const FREE: Entry = Entry { id: 0, key: NONE };

#[derive(Debug)]
pub(crate) struct Index {
    /// A power of two of them.
    entries: Vec<Entry>,
    used: usize,
}

impl Index {
    pub(crate) fn new() -> Self {
        Self {
            entries: vec![FREE; SMALLEST],
            used: 0,
        }
    }

    pub(crate) fn find(&self, id: RequestId) -> Option<Key> {
        let entry = self.entries[self.position(id.0)];
        (entry.key != NONE).then_some(entry.key)
    }

    /// The caller has made sure that `id` is not there yet.
    pub(crate) fn insert(&mut self, id: RequestId, key: Key) {
        if (self.used + 1) * 2 > self.entries.len() {
            self.grow();
        }
        let position = self.position(id.0);
        self.entries[position] = Entry { id: id.0, key };
        self.used += 1;
    }

    pub(crate) fn remove(&mut self, id: RequestId) {
        let position = self.position(id.0);
        if self.entries[position].key != NONE {
            self.used -= 1;
            self.close_gap(position);
        }
    }

    /// Where `id` is, or the free entry where it would go. Ends because half of the entries are free.
    fn position(&self, id: u64) -> usize {
        let mask = self.entries.len() - 1;
        let mut at = self.home(id);
        loop {
            let entry = self.entries[at];
            if entry.key == NONE || entry.id == id {
                return at;
            }
            at = (at + 1) & mask;
        }
    }

    /// The upper bits of the product are the well mixed ones.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "shifted to fewer bits than the table's length has"
    )]
    fn home(&self, id: u64) -> usize {
        let bits = self.entries.len().trailing_zeros();
        (id.wrapping_mul(SPREAD) >> (64 - bits)) as usize
    }

    /// Moves back every follower that probed across the gap, so that each is found from its home again.
    fn close_gap(&mut self, mut gap: usize) {
        let mask = self.entries.len() - 1;
        let mut at = gap;
        loop {
            at = (at + 1) & mask;
            let entry = self.entries[at];
            if entry.key == NONE {
                break;
            }
            let distance = at.wrapping_sub(self.home(entry.id)) & mask;
            if distance >= at.wrapping_sub(gap) & mask {
                self.entries[gap] = entry;
                gap = at;
            }
        }
        self.entries[gap] = FREE;
    }

    fn grow(&mut self) {
        let doubled = vec![FREE; self.entries.len() * 2];
        let old = std::mem::replace(&mut self.entries, doubled);
        for entry in old.into_iter().filter(|entry| entry.key != NONE) {
            let position = self.position(entry.id);
            self.entries[position] = entry;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    /// Marsaglia's xorshift; any spread of operations will do.
    fn next(state: &mut u64) -> u64 {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state
    }

    #[test]
    fn behaves_like_a_map_under_insertions_and_removals() {
        for spacing in [1_u64, 64, 1 << 24, 1 << 40, SPREAD] {
            let (mut index, mut model, mut state) = (Index::new(), HashMap::new(), 1);
            for step in 0..20_000_u32 {
                let id = RequestId((next(&mut state) % 300).wrapping_mul(spacing));
                if model.remove(&id).is_some() {
                    index.remove(id);
                } else {
                    index.insert(id, step);
                    model.insert(id, step);
                }
                let probe = RequestId((next(&mut state) % 300).wrapping_mul(spacing));
                assert_eq!(index.find(probe), model.get(&probe).copied());
            }
            assert_eq!(index.used, model.len());
        }
    }

    #[test]
    fn ignores_the_removal_of_what_is_not_there() {
        let mut index = Index::new();
        index.insert(RequestId(1), 7);
        index.remove(RequestId(2));
        assert_eq!(index.find(RequestId(1)), Some(7));
        assert_eq!(index.used, 1);
    }
}
