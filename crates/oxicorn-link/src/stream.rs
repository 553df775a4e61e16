//! Stream ids: which exchange of which gateway a message belongs to.
//!
//! The gateway chooses them so that it can look an exchange up in a slab without a hash table and
//! recognise an answer that comes too late: `epoch << 48 | generation << 24 | key`. The worker
//! treats them as plain numbers.

/// Names one exchange on a link. Chosen by the gateway, echoed by the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub u64);

/// Bits that slab key and slab generation have each.
const PART_BITS: u32 = 24;
const PART_MASK: u32 = (1 << PART_BITS) - 1;

/// The lowest part of `bits`.
#[expect(clippy::cast_possible_truncation, reason = "masked to fewer bits")]
const fn part(bits: u64) -> u32 {
    (bits & PART_MASK as u64) as u32
}

impl StreamId {
    /// Most exchanges that can be told apart at a time, and the number of generations of a key.
    pub const PARTS: u32 = 1 << PART_BITS;

    /// Puts an id together; the upper bits of each part beyond its field are dropped.
    pub const fn new(epoch: u32, generation: u32, key: u32) -> Self {
        let epoch = (epoch & 0xffff) as u64;
        let generation = (generation & PART_MASK) as u64;
        let key = (key & PART_MASK) as u64;
        Self(epoch << (2 * PART_BITS) | generation << PART_BITS | key)
    }

    /// Low sixteen bits of the epoch of the gateway that chose this id.
    pub const fn epoch(self) -> u16 {
        (self.0 >> (2 * PART_BITS)) as u16
    }

    /// How often the slab entry had been used before.
    pub const fn generation(self) -> u32 {
        part(self.0 >> PART_BITS)
    }

    /// Place in the gateway's slab.
    pub const fn key(self) -> u32 {
        part(self.0)
    }

    /// Whether a gateway of `epoch` chose this id.
    pub const fn is_of_epoch(self, epoch: u32) -> bool {
        self.epoch() as u32 == epoch & 0xffff
    }
}

#[cfg(test)]
mod tests {
    use super::StreamId;

    #[test]
    fn parts_come_back_as_they_went_in() {
        let id = StreamId::new(0x1_0007, 0xab_cdef, 42);
        assert_eq!((id.epoch(), id.generation(), id.key()), (7, 0xab_cdef, 42));
        assert!(id.is_of_epoch(7) && id.is_of_epoch(0x2_0007) && !id.is_of_epoch(8));
    }

    #[test]
    fn parts_that_are_too_large_do_not_touch_their_neighbours() {
        let id = StreamId::new(1, u32::MAX, u32::MAX);
        assert_eq!(
            (id.epoch(), id.generation(), id.key()),
            (1, 0xff_ffff, 0xff_ffff)
        );
    }
}
