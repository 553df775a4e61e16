//! The scoreboard: who serves, what each worker does and how long, and the gateway's figures.
//!
//! One sealed memory file that the arbiter makes before it forks and everybody maps. It replaces
//! heartbeat files and tells the control command, the metrics and the timeouts what they want to
//! know without asking Python anything.
//!
//! Every number has one writer at a time (but for those of a slot that count requests, which all threads of
//! a worker write, and what workers wait for, which all of them do) and any number of readers, who may see the numbers of one slot from slightly
//! different moments. Nothing is decided here by what is read that could harm
//! if it were wrong: a worker that scribbles over it spoils the figures.
//!
//! ```text
//!      0  magic, layout version, number of slots and of gateway blocks
//!   1024  the arbiter's figures
//!   4096  gateway blocks, one for each gateway thread
//!    ...  slots, one for each worker, 128 bytes each
//!    ...  histograms of what workers wait for, which all of them write
//!    ...  the figures of the pool of heavy applications
//! ```

mod arbiter_block;
mod block;
mod histogram;
mod pool;
mod pool_calls;
mod slot;
mod waits;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use oxicorn_os::mapping::Mapping;
use oxicorn_os::memfd;

use crate::AttachError;

pub use arbiter_block::{ArbiterBlock, ArbiterCounter, ArbiterGauge};
pub use block::{Counter, GatewayBlock, Gauge, HistogramKind, Method, StatusClass};
pub use histogram::{BUCKETS, HistogramReading};
pub use pool::{
    CallGauge, CallHistogram, CallOutcome, CallRow, OTHER, POOL_ROWS, PoolBlock, PoolCounter,
    PoolGauge, STASH_OPERATIONS,
};
pub use pool_calls::{CALL_NAME_LEN, POOL_CALLS, RunningCall, RunningCalls};
pub use slot::{Slot, SlotReading, WorkerState};
pub use waits::WaitKind;

/// Most workers that can be shown. Those beyond it serve, but without figures.
pub const MAX_SLOTS: usize = 4096;
/// Most gateway threads.
pub const MAX_GATEWAY_THREADS: usize = 64;

/// "oxiscore", in the order of the machine that wrote it.
const MAGIC: u64 = u64::from_be_bytes(*b"oxiscore");
const VERSION: u64 = 8;

const MAGIC_AT: usize = 0;
const VERSION_AT: usize = 8;
const SLOTS_AT: usize = 16;
const GATEWAY_THREADS_AT: usize = 24;
const BLOCKS_AT: usize = 4096;

/// The mapped scoreboard. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Scoreboard {
    mapping: Arc<Mapping>,
    slots: usize,
    gateway_threads: usize,
}

fn file_len(slots: usize, gateway_threads: usize) -> usize {
    pool_at(slots, gateway_threads) + pool::LEN
}

fn pool_at(slots: usize, gateway_threads: usize) -> usize {
    waits_at(slots, gateway_threads) + waits::LEN
}

fn waits_at(slots: usize, gateway_threads: usize) -> usize {
    BLOCKS_AT + gateway_threads * block::LEN + slots * slot::LEN
}

impl Scoreboard {
    /// Makes one with so many slots (as many workers as can be at a time, successors of all of them
    /// included) and its file, to be mapped by others with [`attach`](Self::attach).
    pub fn create(slots: usize, gateway_threads: usize) -> io::Result<(Self, OwnedFd)> {
        let slots = slots.clamp(1, MAX_SLOTS);
        let gateway_threads = gateway_threads.clamp(1, MAX_GATEWAY_THREADS);
        let file = memfd::create_sealed("oxicorn-scoreboard", file_len(slots, gateway_threads))?;
        let mapping = Arc::new(Mapping::new(&file)?);
        mapping
            .atomic_u64(VERSION_AT)
            .store(VERSION, Ordering::Relaxed);
        mapping
            .atomic_u64(SLOTS_AT)
            .store(slots as u64, Ordering::Relaxed);
        mapping
            .atomic_u64(GATEWAY_THREADS_AT)
            .store(gateway_threads as u64, Ordering::Relaxed);
        mapping.atomic_u64(MAGIC_AT).store(MAGIC, Ordering::Release);
        Ok((
            Self {
                mapping,
                slots,
                gateway_threads,
            },
            file,
        ))
    }

    /// Maps one, after checking that it is one.
    pub fn attach<F: AsFd>(file: F) -> Result<Self, AttachError> {
        if !memfd::is_sealed(&file)? {
            return Err(AttachError::NotSealed);
        }
        if memfd::len(&file)? < BLOCKS_AT as u64 {
            return Err(AttachError::NotALink);
        }
        let mapping = Arc::new(Mapping::new(file)?);
        let word = |at| mapping.atomic_u64(at).load(Ordering::Acquire);
        let number = |at, most| {
            usize::try_from(word(at))
                .ok()
                .filter(|number| *number <= most)
        };
        let slots = number(SLOTS_AT, MAX_SLOTS).ok_or(AttachError::NotALink)?;
        let gateway_threads =
            number(GATEWAY_THREADS_AT, MAX_GATEWAY_THREADS).ok_or(AttachError::NotALink)?;
        let is_one = (word(MAGIC_AT), word(VERSION_AT)) == (MAGIC, VERSION);
        if !is_one || file_len(slots, gateway_threads) != mapping.len() {
            return Err(AttachError::NotALink);
        }
        Ok(Self {
            mapping,
            slots,
            gateway_threads,
        })
    }

    /// Number of slots.
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// Number of gateway blocks.
    pub fn gateway_threads(&self) -> usize {
        self.gateway_threads
    }

    /// One worker's slot.
    pub fn slot(&self, number: usize) -> Option<Slot> {
        let start = BLOCKS_AT + self.gateway_threads * block::LEN;
        let waits = waits_at(self.slots, self.gateway_threads);
        (number < self.slots)
            .then(|| Slot::new(Arc::clone(&self.mapping), start + number * slot::LEN, waits))
    }

    /// A slot that nobody has, for the arbiter to give to the next worker.
    pub fn free_slot(&self) -> Option<(usize, Slot)> {
        (0..self.slots)
            .filter_map(|number| Some((number, self.slot(number)?)))
            .find(|(_, slot)| slot.read().is_none())
    }

    /// What all workers do that have a slot.
    pub fn workers(&self) -> impl Iterator<Item = SlotReading> + '_ {
        (0..self.slots).filter_map(|number| self.slot(number)?.read())
    }

    /// How long all workers together have waited for something, since the server was started.
    pub fn waits(&self, kind: WaitKind) -> HistogramReading {
        waits::read(
            &self.mapping,
            waits_at(self.slots, self.gateway_threads),
            kind,
        )
    }

    /// The arbiter's figures.
    pub fn arbiter(&self) -> ArbiterBlock {
        ArbiterBlock::new(Arc::clone(&self.mapping))
    }

    /// The figures of the pool of heavy applications.
    pub fn pool(&self) -> PoolBlock {
        let at = pool_at(self.slots, self.gateway_threads);
        PoolBlock::new(Arc::clone(&self.mapping), at)
    }

    /// One gateway thread's figures.
    pub fn gateway(&self, thread: usize) -> Option<GatewayBlock> {
        (thread < self.gateway_threads)
            .then(|| GatewayBlock::new(Arc::clone(&self.mapping), BLOCKS_AT + thread * block::LEN))
    }
}

/// One number on the scoreboard: written by one, read by many.
fn read(mapping: &Mapping, at: usize) -> u64 {
    mapping.atomic_u64(at).load(Ordering::Relaxed)
}

fn write(mapping: &Mapping, at: usize, number: u64) {
    mapping.atomic_u64(at).store(number, Ordering::Relaxed);
}

/// Cheaper than an atomic addition, and right with one writer.
fn add(mapping: &Mapping, at: usize, number: u64) {
    let counter = mapping.atomic_u64(at);
    counter.store(
        counter.load(Ordering::Relaxed).wrapping_add(number),
        Ordering::Relaxed,
    );
}

/// Nanoseconds, as times are kept on the scoreboard.
#[expect(clippy::cast_possible_truncation, reason = "five hundred years fit")]
fn nanos(duration: std::time::Duration) -> u64 {
    duration.as_nanos() as u64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_one_writes_the_other_reads() {
        let (arbiter, file) = Scoreboard::create(3, 2).unwrap();
        let other = Scoreboard::attach(&file).unwrap();
        assert_eq!((other.slots(), other.gateway_threads()), (3, 2));
        assert_eq!(other.workers().count(), 0);

        let (number, slot) = arbiter.free_slot().unwrap();
        slot.assign(4711, 9, 2, Duration::from_secs(1));
        assert_eq!(arbiter.free_slot().unwrap().0, number + 1);
        let worker: Vec<_> = other.workers().collect();
        assert_eq!(
            (worker[0].pid, worker[0].age, worker[0].generation),
            (4711, 9, 2)
        );

        arbiter.gateway(1).unwrap().add(Counter::Requests, 5);
        assert_eq!(other.gateway(1).unwrap().counter(Counter::Requests), 5);
        assert_eq!(other.gateway(0).unwrap().counter(Counter::Requests), 0);
        assert!(other.gateway(2).is_none() && other.slot(3).is_none());
    }

    #[test]
    fn slots_and_blocks_do_not_touch() {
        let (board, _file) = Scoreboard::create(2, 2).unwrap();
        for thread in 0..2 {
            let block = board.gateway(thread).unwrap();
            for gauge in Gauge::ALL {
                block.set(*gauge, u64::MAX);
            }
            for counter in Counter::ALL {
                block.add(*counter, u64::MAX);
            }
            for kind in HistogramKind::ALL {
                block.record(*kind, Duration::ZERO);
                block.record(*kind, Duration::MAX);
            }
        }
        assert_eq!(board.workers().count(), 0);
        board.slot(0).unwrap().assign(1, 1, 1, Duration::ZERO);
        assert_eq!(board.workers().count(), 1);
    }

    #[test]
    fn other_files_are_refused() {
        let refused = |file: OwnedFd| Scoreboard::attach(file).unwrap_err();
        let unsealed = memfd::with_content("test", &[0; 8192]).unwrap();
        assert!(matches!(refused(unsealed), AttachError::NotSealed));
        for len in [0, 4096, 100_000] {
            let zeros = memfd::create_sealed("test", len).unwrap();
            assert!(matches!(refused(zeros), AttachError::NotALink), "{len}");
        }
    }
}
