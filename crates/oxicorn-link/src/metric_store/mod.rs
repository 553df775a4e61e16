//! Applications' own metrics: counters, gauges, histograms and summaries that all processes of a server share.
//!
//! One sealed memory file that the arbiter makes before it forks. Processes of the application add to it, the gateway
//! reads it. It outlives all of them, so counters never go back while the server runs.
//!
//! It is a hash table that only grows, and nobody ever locks it. An entry is written in a range of its own, then hung
//! in front of its bucket's chain by a compare-and-swap: a process that dies in between leaves a range that nobody
//! finds, and nothing else. An entry's key never changes; its numbers are atomics.
//!
//! ```text
//!      0  magic, layout version, length, granules in use, what was refused
//!   4096  the buckets: for each the first entry of its chain
//!    ...  entries, in granules of 32 bytes
//! ```
//!
//! A number is either *shared*, added to by all processes (counters, parts of histograms and summaries), or a gauge's,
//! of which each process has one of its own (`gauge`). Readers believe nothing they find (`reading`): a worker that
//! scribbles over it spoils the figures.

mod gauge;
mod key;
mod merge;
mod owner;
mod reading;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU32, AtomicU64};

use oxicorn_os::mapping::Mapping;
use oxicorn_os::memfd;

use crate::AttachError;
use crate::wire_enum::wire_enum;

pub use gauge::GaugeMode;
pub use merge::{FamilyReading, Sample};
pub use owner::Owner;

wire_enum! {
    /// What a family of metrics is.
    FamilyKind {
        /// Only goes up.
        Counter = 1,
        /// Goes up and down.
        Gauge = 2,
        /// Observations by size.
        Histogram = 3,
        /// Number and sum of observations.
        Summary = 4,
    }
}

impl FamilyKind {
    /// As the text formats call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Summary => "summary",
        }
    }

    /// The kind of this name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }
}

wire_enum! {
    /// What an entry is.
    EntryKind {
        /// Name, kind and help of a family.
        Family = 1,
        /// A number that all processes add to.
        Shared = 2,
        /// A number of one process.
        Gauge = 3,
    }
}

/// The least bytes of a store.
pub const LEAST_BYTES: usize = 64 * 1024;
/// The most.
pub const MOST_BYTES: usize = 1 << 30;
/// Bytes of a store where nobody has said anything else.
pub const DEFAULT_BYTES: usize = 4 * 1024 * 1024;
/// The longest key: a label value longer than that is nothing to group by.
const LONGEST_KEY: usize = 16 * 1024;

/// "oximetri", in the order of the machine that wrote it.
const MAGIC: u64 = u64::from_be_bytes(*b"oximetri");
const VERSION: u64 = 1;

const MAGIC_AT: usize = 0;
const VERSION_AT: usize = 8;
const LEN_AT: usize = 16;
/// Granules handed out, the first one (which stands for none) included.
const USED_AT: usize = 24;
/// Label sets there was no room for.
const REFUSED_AT: usize = 32;
const BUCKETS_AT: usize = 4096;

const GRANULE: usize = 32;
/// Bytes of the store for each bucket: a chain has a handful of entries when it is full.
const BYTES_PER_BUCKET: usize = 512;

/// Within an entry.
const NEXT: usize = 0;
const GRANULES: usize = 4;
const KIND: usize = 8;
const KEY_LEN: usize = 12;
const HASH: usize = 16;
const CELLS: usize = 24;

/// Where an entry lies: the number of its first granule. 0 is none.
type Index = u32;

/// A family of metrics: what all its series have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Family {
    /// As it is exposed, without `_total`.
    pub name: String,
    /// What it is.
    pub kind: FamilyKind,
    /// For gauges: what is made of the numbers of several processes.
    pub mode: Option<GaugeMode>,
    /// One line for people.
    pub help: String,
}

/// A series, or a part of one: which family, which end of the name (`_total`, `_bucket`, nothing), which labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Series {
    /// What it belongs to.
    pub family: Family,
    /// What follows the family's name.
    pub suffix: String,
    /// Name and value, in the order of the names.
    pub labels: Vec<(String, String)>,
}

/// A number in the store. Copies are the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Number(Index);

impl Number {
    /// As one word, not 0.
    pub const fn to_raw(self) -> u32 {
        self.0
    }

    /// From [`to_raw`](Self::to_raw) of a number of the same store.
    pub const fn from_raw(raw: u32) -> Option<Self> {
        if raw == 0 { None } else { Some(Self(raw)) }
    }
}

/// There is no room for another label set, or its key is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreFull;

/// The mapped store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct MetricStore {
    mapping: Arc<Mapping>,
    layout: Layout,
}

#[derive(Clone, Copy, Debug)]
struct Layout {
    buckets: usize,
    entries_at: usize,
    granules: u32,
}

impl Layout {
    fn of(len: usize) -> Self {
        let buckets = (len / BYTES_PER_BUCKET).next_power_of_two();
        let entries_at = BUCKETS_AT + buckets * 4;
        let granules = len.saturating_sub(entries_at) / GRANULE;
        Self {
            buckets,
            entries_at,
            granules: u32::try_from(granules).unwrap_or(u32::MAX),
        }
    }
}

impl MetricStore {
    /// Makes one of so many bytes and its file, to be mapped by others with [`attach`](Self::attach). Memory is taken
    /// as it fills.
    pub fn create(bytes: usize) -> io::Result<(Self, OwnedFd)> {
        let len = bytes
            .clamp(LEAST_BYTES, MOST_BYTES)
            .next_multiple_of(BUCKETS_AT);
        let file = memfd::create_sealed("oxicorn-metrics", len)?;
        let mapping = Arc::new(Mapping::new(&file)?);
        let store = Self {
            mapping,
            layout: Layout::of(len),
        };
        store.word(VERSION_AT).store(VERSION, Relaxed);
        store.word(LEN_AT).store(len as u64, Relaxed);
        store.word(USED_AT).store(1, Relaxed);
        store.word(MAGIC_AT).store(MAGIC, Release);
        Ok((store, file))
    }

    /// Maps one, after checking that it is one.
    pub fn attach<F: AsFd>(file: F) -> Result<Self, AttachError> {
        if !memfd::is_sealed(&file)? {
            return Err(AttachError::NotSealed);
        }
        let len = usize::try_from(memfd::len(&file)?).unwrap_or(0);
        if !(LEAST_BYTES..=MOST_BYTES).contains(&len) {
            return Err(AttachError::NotALink);
        }
        let store = Self {
            mapping: Arc::new(Mapping::new(file)?),
            layout: Layout::of(len),
        };
        let head = [MAGIC_AT, VERSION_AT, LEN_AT].map(|at| store.word(at).load(Acquire));
        if head != [MAGIC, VERSION, len as u64] {
            return Err(AttachError::NotALink);
        }
        Ok(store)
    }

    /// Its size in bytes.
    pub fn len(&self) -> usize {
        self.mapping.len()
    }

    /// Whether nobody has put anything into it.
    pub fn is_empty(&self) -> bool {
        self.word(USED_AT).load(Relaxed) <= 1
    }

    /// How many label sets there was no room for.
    pub fn refused(&self) -> u64 {
        self.word(REFUSED_AT).load(Relaxed)
    }

    /// Counts a label set there was no room for; `true`: the first one.
    pub fn count_refused(&self) -> bool {
        self.word(REFUSED_AT).fetch_add(1, Relaxed) == 0
    }

    /// The number of a series that all processes add to; 0 at first.
    pub fn shared(&self, series: &Series) -> Result<Number, StoreFull> {
        let key = self.key_of(series)?;
        self.find_or_insert(EntryKind::Shared, &key, &[0])
            .map(Number)
    }

    /// Adds to a shared number.
    pub fn add(&self, number: Number, amount: f64) {
        add(self.cell(number.0, 0), amount);
    }

    /// A shared number as it is now.
    pub fn get(&self, number: Number) -> f64 {
        load(self.cell(number.0, 0))
    }

    fn key_of(&self, series: &Series) -> Result<Vec<u8>, StoreFull> {
        let family = key::of_family(&series.family);
        let family = self.find_or_insert(EntryKind::Family, &family, &[])?;
        Ok(key::of_series(family, &series.suffix, &series.labels))
    }

    fn find_or_insert(
        &self,
        kind: EntryKind,
        key: &[u8],
        cells: &[u64],
    ) -> Result<Index, StoreFull> {
        let hash = hash(key);
        let bucket = self.bucket(hash);
        let mut first = bucket.load(Acquire);
        if let Some(found) = self.find(first, 0, kind, hash, key) {
            return Ok(found);
        }
        let index = self.write_entry(kind, hash, key, cells)?;
        loop {
            self.half(index, NEXT).store(first, Relaxed);
            match bucket.compare_exchange(first, index, AcqRel, Acquire) {
                Ok(_) => return Ok(index),
                Err(other) => {
                    // Somebody was quicker, perhaps with the same key: then this entry is one that nobody finds.
                    if let Some(found) = self.find(other, first, kind, hash, key) {
                        return Ok(found);
                    }
                    first = other;
                }
            }
        }
    }

    /// Hangs an entry of a gauge in front of its chain, whether or not there are others with this key.
    fn insert(&self, hash: u64, key: &[u8], cells: &[u64]) -> Result<Index, StoreFull> {
        let index = self.write_entry(EntryKind::Gauge, hash, key, cells)?;
        let bucket = self.bucket(hash);
        let mut first = bucket.load(Acquire);
        loop {
            self.half(index, NEXT).store(first, Relaxed);
            match bucket.compare_exchange(first, index, AcqRel, Acquire) {
                Ok(_) => return Ok(index),
                Err(other) => first = other,
            }
        }
    }

    /// The entry with this key between `first` and `end` of a chain.
    fn find(
        &self,
        first: Index,
        end: Index,
        kind: EntryKind,
        hash: u64,
        key: &[u8],
    ) -> Option<Index> {
        self.chain(first)
            .take_while(|index| *index != end)
            .find(|index| self.is(*index, kind, hash, key))
    }

    fn is(&self, index: Index, kind: EntryKind, hash: u64, key: &[u8]) -> bool {
        self.cell_at(index, HASH).load(Relaxed) == hash
            && self.kind(index) == Some(kind)
            && self.key(index).is_some_and(|found| found == key)
    }

    fn write_entry(
        &self,
        kind: EntryKind,
        hash: u64,
        key: &[u8],
        cells: &[u64],
    ) -> Result<Index, StoreFull> {
        if key.len() > LONGEST_KEY {
            return Err(StoreFull);
        }
        let len = CELLS + cells.len() * 8 + key.len();
        let index = self.reserve(len.div_ceil(GRANULE))?;
        let granules = u32::try_from(len.div_ceil(GRANULE)).unwrap_or(u32::MAX);
        self.half(index, GRANULES).store(granules, Relaxed);
        self.half(index, KIND).store(kind.as_u8().into(), Relaxed);
        let key_len = u32::try_from(key.len()).unwrap_or(u32::MAX);
        self.half(index, KEY_LEN).store(key_len, Relaxed);
        self.cell_at(index, HASH).store(hash, Relaxed);
        for (number, cell) in cells.iter().enumerate() {
            self.cell(index, number).store(*cell, Relaxed);
        }
        let at = self.offset(index) + CELLS + cells.len() * 8;
        // SAFETY: the range was reserved for this entry alone, and nobody knows of it before it hangs in a chain;
        // after that nobody writes it.
        unsafe { self.mapping.copy_in(at, key) };
        Ok(index)
    }

    fn reserve(&self, granules: usize) -> Result<Index, StoreFull> {
        let limit = u64::from(self.layout.granules);
        let fits = |used: u64| {
            let after = used.checked_add(granules as u64)?;
            (used > 0 && after <= limit).then_some(after)
        };
        let used =
            (self.word(USED_AT).fetch_update(Relaxed, Relaxed, fits)).map_err(|_| StoreFull)?;
        Index::try_from(used).map_err(|_| StoreFull)
    }

    /// The entries of a chain, as far as they can be ones; never more than there is room for.
    fn chain(&self, first: Index) -> impl Iterator<Item = Index> + '_ {
        let known = |index: Index| (index != 0 && self.is_within(index, CELLS)).then_some(index);
        std::iter::successors(known(first), move |index| {
            known(self.half(*index, NEXT).load(Acquire))
        })
        .take(self.layout.granules as usize)
    }

    /// Every entry of every chain.
    fn entries(&self) -> impl Iterator<Item = Index> + '_ {
        (0..self.layout.buckets)
            .flat_map(|bucket| self.chain(self.bucket_at(bucket).load(Acquire)))
            .take(self.layout.granules as usize)
    }

    fn kind(&self, index: Index) -> Option<EntryKind> {
        let number = self.half(index, KIND).load(Relaxed);
        u8::try_from(number).ok().and_then(EntryKind::from_u8)
    }

    /// An entry's key; `None`: what it says of itself cannot be.
    fn key(&self, index: Index) -> Option<Vec<u8>> {
        let cells = match self.kind(index)? {
            EntryKind::Family => 0,
            EntryKind::Shared => 1,
            EntryKind::Gauge => gauge::CELLS,
        };
        let len = self.half(index, KEY_LEN).load(Relaxed) as usize;
        let before = CELLS + cells * 8;
        if len > LONGEST_KEY || !self.is_within(index, before + len) {
            return None;
        }
        let mut key = Vec::with_capacity(len);
        // SAFETY: what hangs in a chain is written by nobody of this program any more.
        unsafe {
            self.mapping
                .copy_out(self.offset(index) + before, len, &mut key);
        };
        Some(key)
    }

    fn is_within(&self, index: Index, len: usize) -> bool {
        let granules = len.div_ceil(GRANULE);
        (index as usize).saturating_add(granules) <= self.layout.granules as usize
    }

    fn offset(&self, index: Index) -> usize {
        self.layout.entries_at + index as usize * GRANULE
    }

    fn cell(&self, index: Index, number: usize) -> &AtomicU64 {
        self.cell_at(index, CELLS + number * 8)
    }

    fn cell_at(&self, index: Index, at: usize) -> &AtomicU64 {
        self.mapping.atomic_u64(self.offset(index) + at)
    }

    fn half(&self, index: Index, at: usize) -> &AtomicU32 {
        self.mapping.atomic_u32(self.offset(index) + at)
    }

    fn bucket(&self, hash: u64) -> &AtomicU32 {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the low bits choose the bucket"
        )]
        let number = hash as usize & (self.layout.buckets - 1);
        self.bucket_at(number)
    }

    fn bucket_at(&self, number: usize) -> &AtomicU32 {
        self.mapping.atomic_u32(BUCKETS_AT + number * 4)
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        self.mapping.atomic_u64(at)
    }
}

/// FNV-1a: short keys, no secrets, the same in every process.
fn hash(key: &[u8]) -> u64 {
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = key.iter().fold(0xcbf2_9ce4_8422_2325, mix);
    // The low bits choose the bucket: let the high ones have a say.
    hash ^ (hash >> 32)
}

fn load(cell: &AtomicU64) -> f64 {
    f64::from_bits(cell.load(Relaxed))
}

fn store(cell: &AtomicU64, number: f64) {
    cell.store(number.to_bits(), Relaxed);
}

fn add(cell: &AtomicU64, amount: f64) {
    let added = |bits: u64| Some((f64::from_bits(bits) + amount).to_bits());
    // It always has an answer, so it always succeeds.
    let _ = cell.fetch_update(Relaxed, Relaxed, added);
}

#[cfg(test)]
mod tests;
