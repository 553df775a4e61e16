//! Where the records lie, and how they are found: a table of buckets, and behind it a heap that is only appended to.

use std::sync::atomic::{AtomicU64, Ordering};

use oxicorn_os::mapping::Mapping;

use super::record::{HEAD, Head, Name, WORD, low, words};

/// Bytes before the first area; the first word is the number of the area in force, counted from 1, or 0.
const FILE_HEAD: usize = 4096;
/// Bytes of an area.
const AREA_BYTES: usize = 16 << 20;
/// Areas of a file. One is used up by a process that dies while it writes; others are used again.
pub(super) const AREAS: usize = 8;
/// Bytes of the file, of which those that were never written to take no memory.
pub(super) const FILE_BYTES: usize = FILE_HEAD + AREAS * AREA_BYTES;

/// Words of an area.
pub(super) const WORDS: usize = AREA_BYTES / WORD;
/// Buckets, of which so many may be in use; a power of two.
pub(super) const BUCKETS: usize = 64 << 10;
pub(super) const BUCKETS_USED_MAX: u64 = BUCKETS as u64 / 2;
/// Buckets that are looked at for a name.
const PROBES: usize = 64;
/// Where buckets and heap begin.
pub(super) const INDEX: usize = 64;
pub(super) const HEAP: usize = INDEX + BUCKETS;

/// An empty bucket ends a search, a freed one does not.
const EMPTY: u64 = 0;
const FREED: u64 = 1;

/// The words that tell about an area. Those that readers write lie apart from those that they read.
#[derive(Clone, Copy, Debug)]
#[repr(usize)]
pub(super) enum Field {
    /// Where the heap ends, shifted by one; the lowest bit: closed. 0: not open.
    Commit = 0,
    /// Up to where the broker has taken over what callers put.
    Taken = 1,
    /// Who writes, if anybody does.
    Lock = 2,
    /// Odd: what readers follow is being changed.
    Version = 3,
    /// 1: what is not shown here is not there at all.
    Complete = 4,
    /// Bytes of the stash, and how many it may hold.
    Bytes = 5,
    Limit = 6,
    /// Until when callers may go the direct way, in nanoseconds of the monotonic clock.
    Lease = 7,
    /// Buckets that are in use or were freed.
    Used = 8,
    /// How many puts and gets went the direct way since the broker has looked.
    Puts = 16,
    Gets = 24,
}

/// Whether an area can be written to, and up to where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Open { end: usize },
    Closed { end: usize },
}

/// Where a name is, or could be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Found {
        bucket: usize,
        at: usize,
    },
    Free {
        bucket: usize,
        fresh: bool,
    },
    /// There is no bucket for it.
    Nowhere,
}

/// An area of a mapped file.
#[derive(Debug)]
pub(super) struct Area<'a> {
    mapping: &'a Mapping,
    base: usize,
}

/// Who has the lock of an area.
const NOBODY: u64 = 0;
const A_CALLER: u64 = 1;
const THE_BROKER: u64 = 2;

/// The number of the area in force.
pub(super) fn in_force(mapping: &Mapping) -> Option<usize> {
    let number = mapping.atomic_u64(0).load(Ordering::Acquire);
    usize::try_from(number).ok()?.checked_sub(1)
}

/// Lets callers find an area.
pub(super) fn put_in_force(mapping: &Mapping, number: usize) {
    let number = number as u64 + 1;
    mapping.atomic_u64(0).store(number, Ordering::Release);
}

impl<'a> Area<'a> {
    /// `None`: there is none with this number.
    pub(super) fn new(mapping: &'a Mapping, number: usize) -> Option<Self> {
        let base = FILE_HEAD + number.checked_mul(AREA_BYTES)?;
        let fits = number < AREAS && base + AREA_BYTES <= mapping.len();
        fits.then_some(Self { mapping, base })
    }

    fn word(&self, at: usize) -> &'a AtomicU64 {
        self.mapping.atomic_u64(self.base + at * WORD)
    }

    pub(super) fn field(&self, field: Field) -> &'a AtomicU64 {
        self.word(field as usize)
    }

    pub(super) fn get(&self, field: Field) -> u64 {
        self.field(field).load(Ordering::Relaxed)
    }

    pub(super) fn set(&self, field: Field, value: u64) {
        self.field(field).store(value, Ordering::Relaxed);
    }

    pub(super) fn state(&self) -> State {
        let commit = self.field(Field::Commit).load(Ordering::Acquire);
        let end = usize::try_from(commit >> 1)
            .unwrap_or(WORDS)
            .clamp(HEAP, WORDS);
        if commit == 0 || commit & 1 == 1 {
            State::Closed { end }
        } else {
            State::Open { end }
        }
    }

    /// What was appended between these two counts from now on. `false`: the area was closed.
    pub(super) fn commit(&self, from: usize, to: usize) -> bool {
        let (from, to) = ((from as u64) << 1, (to as u64) << 1);
        self.field(Field::Commit)
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// From now on nothing counts that did not before.
    pub(super) fn close(&self) {
        self.field(Field::Commit).fetch_or(1, Ordering::AcqRel);
    }

    /// A caller's attempt to have the lock.
    pub(super) fn try_lock(&self) -> bool {
        self.try_lock_as(A_CALLER)
    }

    pub(super) fn try_lock_as_broker(&self) -> bool {
        self.try_lock_as(THE_BROKER)
    }

    fn try_lock_as(&self, holder: u64) -> bool {
        self.field(Field::Lock)
            .compare_exchange(NOBODY, holder, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }

    pub(super) fn unlock(&self) {
        self.field(Field::Lock).store(NOBODY, Ordering::Release);
    }

    /// Takes the lock from a broker that has died.
    pub(super) fn unlock_for_broker(&self) {
        let _ = self.field(Field::Lock).compare_exchange(
            THE_BROKER,
            NOBODY,
            Ordering::AcqRel,
            Ordering::Relaxed,
        );
    }

    /// Changes what readers follow. Only who has the lock may.
    pub(super) fn change<T>(&self, change: impl FnOnce() -> T) -> T {
        let version = self.get(Field::Version) | 1;
        self.set(Field::Version, version);
        std::sync::atomic::fence(Ordering::Release);
        let changed = change();
        self.field(Field::Version)
            .store(version.wrapping_add(1), Ordering::Release);
        changed
    }

    /// The record at a word; `None`: there is none.
    pub(super) fn head(&self, at: usize) -> Option<Head> {
        if !(HEAP..WORDS - HEAD).contains(&at) {
            return None;
        }
        let word = |place: usize| self.word(at + place).load(Ordering::Relaxed);
        let head = Head::read([word(0), word(1), word(2), word(3)])?;
        (head.words <= WORDS - at).then_some(head)
    }

    /// So many bytes from a word on, which must be within the area.
    pub(super) fn copy_out(&self, at: usize, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length.next_multiple_of(WORD));
        for place in 0..length.div_ceil(WORD) {
            let word = self.word(at + place).load(Ordering::Relaxed);
            bytes.extend_from_slice(&word.to_ne_bytes());
        }
        bytes.truncate(length);
        bytes
    }

    /// Writes a record, which must fit, where nobody looks yet.
    pub(super) fn write(&self, at: usize, head: &Head, name: &Name, value: &[u8]) {
        let head = head.encode();
        let all = head.iter().chain(&name.words).copied().chain(words(value));
        for (place, word) in all.enumerate() {
            self.word(at + place).store(word, Ordering::Relaxed);
        }
    }

    /// Writes what nobody should.
    #[cfg(test)]
    pub(super) fn spoil(&self, at: usize, word: u64) {
        self.word(at).store(word, Ordering::Relaxed);
    }

    pub(super) fn find(&self, name: &Name) -> Place {
        let mut free = None;
        for probe in 0..PROBES {
            let bucket = (name.hash as usize).wrapping_add(probe) % BUCKETS;
            let content = self.word(INDEX + bucket).load(Ordering::Relaxed);
            match content {
                EMPTY => {
                    return free.unwrap_or(Place::Free {
                        bucket,
                        fresh: true,
                    });
                }
                FREED => {
                    free.get_or_insert(Place::Free {
                        bucket,
                        fresh: false,
                    });
                }
                _ => {
                    let at = low(content);
                    if content >> 32 == u64::from(name.hash) && self.is_of(at, name) {
                        return Place::Found { bucket, at };
                    }
                }
            }
        }
        free.unwrap_or(Place::Nowhere)
    }

    fn is_of(&self, at: usize, name: &Name) -> bool {
        let Some(head) = self.head(at) else {
            return false;
        };
        let same = |(place, word): (usize, &u64)| {
            self.word(at + HEAD + place).load(Ordering::Relaxed) == *word
        };
        (head.table, head.key) == (name.table, name.key) && name.words.iter().enumerate().all(same)
    }

    /// Lets a bucket lead to a record.
    pub(super) fn lead(&self, bucket: usize, name: &Name, at: usize) {
        let content = u64::from(name.hash) << 32 | at as u64;
        self.word(INDEX + bucket).store(content, Ordering::Relaxed);
    }

    /// Whether a bucket leads to the record at a word, whose name has this hash.
    pub(super) fn leads_to(&self, hash: u32, at: usize) -> bool {
        let content = u64::from(hash) << 32 | at as u64;
        (0..PROBES).any(|probe| {
            let bucket = (hash as usize).wrapping_add(probe) % BUCKETS;
            self.word(INDEX + bucket).load(Ordering::Relaxed) == content
        })
    }

    pub(super) fn free(&self, bucket: usize) {
        self.word(INDEX + bucket).store(FREED, Ordering::Relaxed);
    }

    /// Empties buckets and heap. Only who has the lock may, and nobody may be about to append.
    pub(super) fn empty(&self) {
        for bucket in 0..BUCKETS {
            let word = self.word(INDEX + bucket);
            if word.load(Ordering::Relaxed) != EMPTY {
                word.store(EMPTY, Ordering::Relaxed);
            }
        }
        self.set(Field::Used, 0);
        // In this order: a broker that dies in between leaves nothing that the next one would take over again.
        self.field(Field::Commit)
            .store((HEAP as u64) << 1, Ordering::Release);
        self.field(Field::Taken)
            .store(HEAP as u64, Ordering::Release);
    }
}
