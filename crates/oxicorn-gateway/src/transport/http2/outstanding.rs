//! Bytes of bodies that the h2 crate holds: what bounds them is counted here.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// What h2 has of bodies, of each stream (by its number) and of all.
#[derive(Debug, Default)]
pub(super) struct Outstanding {
    streams: HashMap<u32, usize, BuildHasherDefault<StreamHasher>>,
    pub(super) all: usize,
}

/// Hashes numbers of streams. A client chooses them, but as many as have bytes here are permitted at once, and they
/// rise: numbers that meet in the table cost it no more than a look at each stream.
#[derive(Debug, Default)]
struct StreamHasher(u64);

impl Hasher for StreamHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    /// Multiplied by 2^64 over the golden ratio, so that low bits (a place in the table) and high ones (what is compared
    /// there) differ.
    fn write_u32(&mut self, number: u32) {
        let spread = (self.0 ^ u64::from(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = spread ^ spread >> 32;
    }
}

impl Outstanding {
    pub(super) fn give(&mut self, stream: u32, count: usize) {
        *self.streams.entry(stream).or_default() += count;
        self.all += count;
    }

    /// So many bytes have left h2.
    pub(super) fn take(&mut self, stream: u32, count: usize) {
        let Some(own) = self.streams.get_mut(&stream) else {
            return;
        };
        let count = count.min(*own);
        *own -= count;
        self.all -= count;
        if *own == 0 {
            self.streams.remove(&stream);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::hash::BuildHasher as _;

    use super::*;

    /// The places of a table of 256, and what is compared there: 7 bits from the other end.
    #[test]
    fn numbers_of_streams_in_a_row_meet_no_more_often_than_by_chance() {
        let hashes: Vec<_> = (1_u32..400)
            .step_by(2)
            .map(|stream| BuildHasherDefault::<StreamHasher>::default().hash_one(stream))
            .collect();
        let places: HashSet<_> = hashes.iter().map(|hash| hash & 0xff).collect();
        let marks: HashSet<_> = hashes.iter().map(|hash| hash >> 57).collect();
        assert!(places.len() > 100, "{} places", places.len());
        assert!(marks.len() > 60, "{} marks", marks.len());
    }

    #[test]
    fn what_streams_have_given_is_counted_until_it_has_left() {
        let mut outstanding = Outstanding::default();
        for stream in (1..200).step_by(2) {
            outstanding.give(stream, 10);
            outstanding.give(stream, 5);
        }
        assert_eq!(outstanding.all, 1500);
        outstanding.take(7, 10);
        outstanding.take(7, 100);
        outstanding.take(8, 1);
        assert_eq!(outstanding.all, 1485);
        for stream in (1..200).step_by(2) {
            outstanding.take(stream, usize::MAX);
        }
        assert_eq!(outstanding.all, 0);
        assert!(outstanding.streams.is_empty());
    }
}
