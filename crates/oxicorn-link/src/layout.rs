//! What lies where in a link's memory, and the memory of its rings.
//!
//! ```text
//!      0  magic, layout version, sizes of the rings       written once by who makes the link
//!    128  epoch                                           by each gateway that attaches
//!    256  indices of the rings, one in a cache line       by their owners
//!   1024  words for sleeping and waking                   by sleepers and wakers
//!   4096  requests | events | responses
//! ```
//!
//! What different ends write lies 128 bytes apart: processors fetch cache lines of 64 bytes in pairs.

use std::io;
use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use oxicorn_os::mapping::Mapping;
use oxicorn_os::{futex, memfd};

use crate::AttachError;
use crate::bell::{Bell, Fenced, SleepFlag};
use crate::ring::Memory;

/// "oxicorn" and a zero, in the order of the machine that wrote it.
const MAGIC: u64 = u64::from_be_bytes(*b"oxicorn\0");
/// Of everything both ends must agree on, the payloads of [`wire`](crate::wire) included.
const VERSION: u32 = 1;

const MAGIC_AT: usize = 0;
const VERSION_AT: usize = 8;
const SIZES_AT: [usize; 3] = [16, 24, 32];
const EPOCH_AT: usize = 128;

/// Indices of one ring.
#[derive(Clone, Copy, Debug)]
struct IndicesAt {
    tail: usize,
    head: usize,
}

const REQUESTS_AT: IndicesAt = IndicesAt {
    tail: 256,
    head: 384,
};
const EVENTS_AT: IndicesAt = IndicesAt {
    tail: 512,
    head: 640,
};
const RESPONSES_AT: IndicesAt = IndicesAt {
    tail: 768,
    head: 896,
};

/// Worker's threads waiting for requests; beside it, since the gateway looks at them together,
/// whether the worker's event loop sleeps, and who is to know of requests nobody waits for.
const REQUESTS_BELL_AT: usize = 1024;
const WORKER_SLEEPS_AT: usize = 1032;
const WATCH_BELL_AT: usize = 1040;
/// Worker's threads waiting for events.
const EVENTS_BELL_AT: usize = 1152;
/// Worker's threads waiting for room in the ring of responses.
const ROOM_BELL_AT: usize = 1280;
/// Whether the gateway sleeps.
const GATEWAY_SLEEPS_AT: usize = 1408;
/// Whether the gateway waits for room in the ring of events.
const GATEWAY_WANTS_ROOM_AT: usize = 1536;

/// Where the rings begin.
const RINGS_AT: usize = 4096;

/// Smallest and largest ring.
pub(crate) const RING_SIZES: std::ops::RangeInclusive<usize> = 4096..=1 << 30;

/// Whole size of a link's memory.
pub(crate) fn memory_len(rings: [usize; 3]) -> usize {
    RINGS_AT + rings.iter().sum::<usize>()
}

/// A mapped link.
#[derive(Clone, Debug)]
pub(crate) struct LinkMemory {
    mapping: Arc<Mapping>,
    rings: [usize; 3],
}

impl LinkMemory {
    /// Writes the header into a fresh memory file.
    pub(crate) fn format(file: impl AsFd, rings: [usize; 3]) -> io::Result<()> {
        let mapping = Mapping::new(file)?;
        for (at, size) in SIZES_AT.into_iter().zip(rings) {
            mapping.atomic_u64(at).store(size as u64, Ordering::Relaxed);
        }
        mapping
            .atomic_u32(VERSION_AT)
            .store(VERSION, Ordering::Relaxed);
        mapping.atomic_u64(MAGIC_AT).store(MAGIC, Ordering::Release);
        Ok(())
    }

    /// Maps a link's memory after checking that it is one. What is checked here is never read again.
    pub(crate) fn map(file: impl AsFd) -> Result<Self, AttachError> {
        if !memfd::is_sealed(&file)? {
            return Err(AttachError::NotSealed);
        }
        if memfd::len(&file)? < RINGS_AT as u64 {
            return Err(AttachError::NotALink);
        }
        let mapping = Mapping::new(file)?;
        let version = mapping.atomic_u32(VERSION_AT).load(Ordering::Relaxed);
        let magic = mapping.atomic_u64(MAGIC_AT).load(Ordering::Acquire);
        if (magic, version) != (MAGIC, VERSION) {
            return Err(AttachError::NotALink);
        }
        let size = |at| usize::try_from(mapping.atomic_u64(at).load(Ordering::Relaxed));
        let rings = SIZES_AT.map(|at| size(at).unwrap_or(0));
        let possible = |size: &usize| size.is_power_of_two() && RING_SIZES.contains(size);
        if !rings.iter().all(possible) || memory_len(rings) != mapping.len() {
            return Err(AttachError::NotALink);
        }
        Ok(Self {
            mapping: Arc::new(mapping),
            rings,
        })
    }

    /// Children that this process forks do not have it.
    pub(crate) fn keep_from_children(&self) -> io::Result<()> {
        self.mapping.keep_from_children()
    }

    pub(crate) fn epoch(&self) -> &AtomicU32 {
        self.mapping.atomic_u32(EPOCH_AT)
    }

    pub(crate) fn requests(&self) -> RingMemory {
        self.ring(RINGS_AT, self.rings[0], REQUESTS_AT)
    }

    pub(crate) fn events(&self) -> RingMemory {
        self.ring(RINGS_AT + self.rings[0], self.rings[1], EVENTS_AT)
    }

    pub(crate) fn responses(&self) -> RingMemory {
        self.ring(
            RINGS_AT + self.rings[0] + self.rings[1],
            self.rings[2],
            RESPONSES_AT,
        )
    }

    fn ring(&self, start: usize, capacity: usize, indices: IndicesAt) -> RingMemory {
        RingMemory {
            mapping: Arc::clone(&self.mapping),
            start,
            capacity: capacity as u64,
            indices,
        }
    }

    pub(crate) fn requests_bell(&self) -> FutexBell<'_> {
        FutexBell {
            mapping: &self.mapping,
            at: REQUESTS_BELL_AT,
        }
    }

    pub(crate) fn watch_bell(&self) -> FutexBell<'_> {
        FutexBell {
            mapping: &self.mapping,
            at: WATCH_BELL_AT,
        }
    }

    pub(crate) fn events_bell(&self) -> FutexBell<'_> {
        FutexBell {
            mapping: &self.mapping,
            at: EVENTS_BELL_AT,
        }
    }

    pub(crate) fn room_bell(&self) -> FutexBell<'_> {
        FutexBell {
            mapping: &self.mapping,
            at: ROOM_BELL_AT,
        }
    }

    pub(crate) fn worker_sleeps(&self) -> SleepFlag<'_> {
        SleepFlag::new(self.mapping.atomic_u32(WORKER_SLEEPS_AT))
    }

    pub(crate) fn gateway_sleeps(&self) -> SleepFlag<'_> {
        SleepFlag::new(self.mapping.atomic_u32(GATEWAY_SLEEPS_AT))
    }

    pub(crate) fn gateway_wants_room(&self) -> SleepFlag<'_> {
        SleepFlag::new(self.mapping.atomic_u32(GATEWAY_WANTS_ROOM_AT))
    }
}

/// A [`Bell`] and its futex.
#[derive(Clone, Copy)]
pub(crate) struct FutexBell<'a> {
    mapping: &'a Mapping,
    at: usize,
}

impl<'a> FutexBell<'a> {
    pub(crate) fn bell(self) -> Bell<'a> {
        Bell::new(self.mapping.atomic_u64(self.at))
    }

    /// The half of the bell's word that is the sequence.
    pub(crate) fn futex(self) -> &'a AtomicU32 {
        let lower_half = if cfg!(target_endian = "little") { 0 } else { 4 };
        self.mapping.atomic_u32(self.at + lower_half)
    }

    /// Wakes one thread if one sleeps; whether one was woken.
    #[inline]
    pub(crate) fn ring(self, fenced: Fenced) -> bool {
        self.ring_some(fenced, 1) > 0
    }

    /// Wakes at most `most` threads that sleep; how many were woken. (One that was about to fall asleep
    /// finds the sequence changed instead. Fewer are there than were counted if the bell counted too many.)
    #[inline]
    pub(crate) fn ring_some(self, fenced: Fenced, most: u32) -> usize {
        match self.bell().ring_some(fenced, most) {
            0 => 0,
            count => futex::wake(self.futex(), count),
        }
    }

    /// Wakes all threads.
    pub(crate) fn ring_all(self, fenced: Fenced) {
        self.bell().ring_all(fenced);
        futex::wake(self.futex(), futex::EVERYBODY);
    }
}

/// The memory of one ring.
#[derive(Clone, Debug)]
pub(crate) struct RingMemory {
    mapping: Arc<Mapping>,
    start: usize,
    capacity: u64,
    indices: IndicesAt,
}

impl RingMemory {
    /// Sends payload to a socket, between `before` and `after`. Only to be called for bytes that are the
    /// consumer's.
    pub(crate) fn send<S: AsFd>(
        &self,
        socket: S,
        before: &[u8],
        payload: Range<usize>,
        after: &[u8],
    ) -> io::Result<Option<usize>> {
        let range = self.start + payload.start..self.start + payload.end;
        // SAFETY: as for `Memory::read` below; what is sent is not looked at by us.
        unsafe { self.mapping.send(socket, before, range, after) }
    }
}

impl Memory for RingMemory {
    #[inline]
    fn capacity(&self) -> u64 {
        self.capacity
    }

    #[inline]
    fn tail(&self) -> &AtomicU64 {
        self.mapping.atomic_u64(self.indices.tail)
    }

    #[inline]
    fn head(&self) -> &AtomicU64 {
        self.mapping.atomic_u64(self.indices.head)
    }

    #[inline]
    fn claim(&self, offset: usize) -> &AtomicU64 {
        self.mapping.atomic_u64(self.start + offset)
    }

    #[inline]
    fn word(&self, offset: usize) -> u64 {
        self.mapping
            .atomic_u64(self.start + offset)
            .load(Ordering::Relaxed)
    }

    #[inline]
    fn set_word(&self, offset: usize, word: u64) {
        self.mapping
            .atomic_u64(self.start + offset)
            .store(word, Ordering::Relaxed);
    }

    #[inline]
    fn write(&self, offset: usize, bytes: &[u8]) {
        // SAFETY: the ring calls this only for bytes between tail and head, which are the
        // producer's: the consumer reads them after the tail was published (release, acquire) and
        // we write there again after it published its head. There is one producer: the types that
        // hold one are neither copied nor shared, and a link's end is attached once in a program.
        unsafe { self.mapping.copy_in(self.start + offset, bytes) }
    }

    #[inline]
    fn read(&self, offset: usize, len: usize, out: &mut Vec<u8>) {
        // SAFETY: the ring calls this only for bytes between head and tail, which are the
        // consumer's, see `write`. A producer in another process that does not keep to that makes
        // the copy a mixture, which is why copies are checked and not what they came from.
        unsafe { self.mapping.copy_out(self.start + offset, len, out) }
    }
}
