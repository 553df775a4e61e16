//! The broker's end: takes over what callers have put, and shows what it has.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::time::Duration;

use oxicorn_os::mapping::Mapping;
use oxicorn_proto::pool::value_length;

use super::area::{AREAS, Area, BUCKETS_USED_MAX, Field, HEAP, Place, State, WORDS, opened};
use super::record::{HEAD, Head, Kind, Name, VALUE_MAX};
use crate::stash::operation::NONE;
use crate::stash::{Change, Stash};

/// How long callers may go the direct way before the broker looks what they did.
const LEASE: Duration = Duration::from_secs(1);
/// Attempts to have the lock, each after the processor was given to others; then as many after a pause. A caller
/// has it for a microsecond, unless it is dead or stopped.
const STUCK: usize = 50;
const PAUSE: Duration = Duration::from_micros(100);
/// Up to where a rebuild fills the heap, so that there is room for what comes.
const FILLED: usize = HEAP + (WORDS - HEAP) / 2;

/// What callers did by themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) puts: u64,
    pub(crate) gets: u64,
}

/// What callers have put since the broker has looked.
#[derive(Debug, Default)]
struct Pending {
    changes: Vec<Change>,
    /// There is something that no caller of ours writes.
    is_broken: bool,
}

#[derive(Debug)]
struct Shared {
    file: OwnedFd,
    mapping: Mapping,
}

#[derive(Debug, Default)]
pub(crate) struct Mirror {
    shared: Option<Shared>,
    /// The area in force; none before somebody wants to see, and after one was given up.
    area: Option<usize>,
    /// Area and end of what [`begin`](Self::begin) has given and [`taken`](Self::taken) is to confirm.
    unconfirmed: Option<(usize, usize)>,
    is_locked: bool,
    lease_end: Option<Duration>,
    counts: Counts,
}

impl Mirror {
    /// Begins with the file of the server, and with what callers put beside an earlier broker. Without a file nobody is
    /// shown anything.
    pub(crate) fn open(file: Option<OwnedFd>) -> (Self, Vec<Change>) {
        let mut mirror = Self::default();
        let mapped = file.and_then(|file| {
            let mapping = Mapping::new(&file).ok()?;
            Some(Shared { file, mapping })
        });
        mirror.shared = mapped;
        let Some(shared) = &mirror.shared else {
            return (mirror, Vec::new());
        };
        let count = opened(&shared.mapping).load(Ordering::Acquire);
        let last = usize::try_from(count).unwrap_or(0).checked_sub(1);
        let Some((last, area)) = last.and_then(|last| Some((last, shared.area(last)?))) else {
            return (mirror, Vec::new());
        };
        area.close();
        let (pending, end) = (pending(&area, Order::AsWritten), end_of(&area));
        mirror.counts.add(&area);
        mirror.unconfirmed = Some((last, end));
        (mirror, pending.changes)
    }

    /// The file for a caller's view. `None`: nothing can be shown any more.
    pub(crate) fn show(&mut self, stash: &Stash) -> Option<BorrowedFd<'_>> {
        let shared = self.shared.as_ref()?;
        if self.area.is_none() {
            let count = opened(&shared.mapping);
            let next = usize::try_from(count.load(Ordering::Acquire)).unwrap_or(AREAS);
            let area = shared.area(next)?;
            rebuild(&area, stash);
            publish(&area, stash);
            count.store(next as u64 + 1, Ordering::Release);
            self.area = Some(next);
        }
        Some(shared.file.as_fd())
    }

    /// Keeps callers from writing, and gives what they have put: to be taken over, then [`taken`](Self::taken) is to be
    /// called. Each call is followed by one of [`finish`](Self::finish).
    pub(crate) fn begin(&mut self) -> Vec<Change> {
        let Some((number, area)) = self.area.and_then(|number| {
            let area = self.shared.as_ref()?.area(number)?;
            Some((number, area))
        }) else {
            return Vec::new();
        };
        let mut is_locked = lock(&area);
        let order = if is_locked {
            Order::Latest
        } else {
            // Whoever has it may be anywhere.
            area.close();
            Order::AsWritten
        };
        let pending = pending(&area, order);
        if pending.is_broken && is_locked {
            area.close();
            is_locked = false;
        }
        self.counts.add(&area);
        self.unconfirmed = Some((number, end_of(&area)));
        self.is_locked = is_locked;
        if !is_locked {
            self.area = None;
            self.lease_end = None;
        }
        pending.changes
    }

    /// What was given last outlives this broker: nobody takes it over once more.
    pub(crate) fn taken(&mut self) {
        if let Some((number, end)) = self.unconfirmed.take()
            && let Some(shared) = &self.shared
            && let Some(area) = shared.area(number)
        {
            area.field(Field::Taken)
                .store(end as u64, Ordering::Release);
        }
    }

    /// Shows what has changed, and lets callers go on; for another second, if one of them has `asked`.
    pub(crate) fn finish(&mut self, changes: &[Change], stash: &Stash, asked: bool, now: Duration) {
        if !std::mem::take(&mut self.is_locked) {
            return;
        }
        let area = self.area.zip(self.shared.as_ref());
        let Some(area) = area.and_then(|(number, shared)| shared.area(number)) else {
            return;
        };
        if !changes.is_empty() {
            let all_shown = area.change(|| changes.iter().all(|change| apply(&area, change)));
            if !all_shown {
                rebuild(&area, stash);
            }
            area.field(Field::Taken)
                .store(end_of(&area) as u64, Ordering::Release);
        }
        publish(&area, stash);
        if self.lease_end.is_some_and(|end| end <= now) {
            self.lease_end = None;
        }
        if asked && self.lease_end.is_none() {
            let end = now + LEASE;
            let nanos = u64::try_from(end.as_nanos()).unwrap_or(u64::MAX);
            area.set(Field::Lease, nanos);
            self.lease_end = Some(end);
        }
        area.unlock();
    }

    /// When it is time to look what callers did.
    pub(crate) const fn lease_end(&self) -> Option<Duration> {
        self.lease_end
    }

    /// What callers did since the last call.
    pub(crate) fn take_counts(&mut self) -> Counts {
        std::mem::take(&mut self.counts)
    }
}

impl Shared {
    fn area(&self, number: usize) -> Option<Area<'_>> {
        Area::new(&self.mapping, number)
    }
}

impl Counts {
    fn add(&mut self, area: &Area<'_>) {
        let swap = |field| area.field(field).swap(0, Ordering::Relaxed);
        self.puts = self.puts.wrapping_add(swap(Field::Puts));
        self.gets = self.gets.wrapping_add(swap(Field::Gets));
    }
}

/// `false`: whoever has the lock does not give it back.
fn lock(area: &Area<'_>) -> bool {
    for turn in 0..2 * STUCK {
        if area.try_lock() {
            return true;
        }
        if turn < STUCK {
            std::thread::yield_now();
        } else {
            std::thread::sleep(PAUSE);
        }
    }
    false
}

fn end_of(area: &Area<'_>) -> usize {
    let (State::Open { end } | State::Closed { end }) = area.state();
    end
}

/// Which of several values of one key are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// All, one after the other.
    AsWritten,
    /// The one that readers find.
    Latest,
}

fn pending(area: &Area<'_>, order: Order) -> Pending {
    let mut pending = Pending::default();
    let taken = usize::try_from(area.get(Field::Taken)).unwrap_or(WORDS);
    let (mut at, end) = (taken.max(HEAP), end_of(area));
    while at < end {
        let Some(head) = area.head(at) else {
            pending.is_broken = true;
            return pending;
        };
        if head.kind == Kind::Put {
            match put_at(area, at, &head, order) {
                Ok(Some(change)) => pending.changes.push(change),
                Ok(None) => {}
                Err(Broken) => {
                    pending.is_broken = true;
                    return pending;
                }
            }
        }
        at += head.words;
    }
    pending
}

/// A record that no caller of ours writes.
struct Broken;

fn put_at(area: &Area<'_>, at: usize, head: &Head, order: Order) -> Result<Option<Change>, Broken> {
    let mut table = area.copy_out(at + HEAD, head.table + head.key);
    let key = table.split_off(head.table);
    let table = String::from_utf8(table).map_err(|_| Broken)?;
    if order == Order::Latest {
        let name = Name::new(&table, &key).ok_or(Broken)?;
        if !area.leads_to(&name, at) {
            return Ok(None);
        }
    }
    let value = area.copy_out(at + head.value_at(), head.value);
    let is_whole = |bytes: &[u8]| value_length(bytes) == Ok(bytes.len());
    if key == NONE || !is_whole(&key) || !is_whole(&value) {
        return Err(Broken);
    }
    Ok(Some(Change::Entry {
        table,
        key,
        value,
        expires: head.expires(),
    }))
}

/// What callers go by when they put something.
fn publish(area: &Area<'_>, stash: &Stash) {
    area.set(Field::Bytes, stash.bytes() as u64);
    area.set(Field::Limit, stash.limit() as u64);
}

/// Shows a change. `false`: there is no room for it.
fn apply(area: &Area<'_>, change: &Change) -> bool {
    match change {
        Change::Table(_) => true,
        Change::Entry {
            table,
            key,
            value,
            expires,
        } => show(area, table, key, value, *expires),
        Change::NoEntry { table, key } => {
            if let Some(name) = Name::new(table, key)
                && let Place::Found { bucket, .. } = area.find(&name)
            {
                area.free(bucket);
            }
            true
        }
        Change::NoTable(table) | Change::Cleared(table) => {
            for (bucket, at) in area.occupied() {
                if is_in(area, at, table) {
                    area.free(bucket);
                }
            }
            true
        }
    }
}

fn is_in(area: &Area<'_>, at: usize, table: &str) -> bool {
    area.head(at).is_some_and(|head| {
        head.table == table.len() && area.copy_out(at + HEAD, head.table) == table.as_bytes()
    })
}

/// Shows an entry. `false`: there is no room for it.
fn show(area: &Area<'_>, table: &str, key: &[u8], value: &[u8], expires: Option<Duration>) -> bool {
    let Some(name) = Name::new(table, key) else {
        // Callers ask for such a name in any case.
        return true;
    };
    let (kind, value) = if value.len() > VALUE_MAX {
        (Kind::Elsewhere, &[][..])
    } else {
        (Kind::Shown, value)
    };
    let head = Head::new(kind, &name, value.len(), expires);
    let (bucket, used) = match area.find(&name) {
        Place::Found { bucket, .. } => (bucket, area.get(Field::Used)),
        Place::Free { bucket, fresh } => (
            bucket,
            area.get(Field::Used).saturating_add(u64::from(fresh)),
        ),
        Place::Nowhere => {
            area.set(Field::Complete, 0);
            return true;
        }
    };
    let end = end_of(area);
    let after = end + head.words;
    if used > BUCKETS_USED_MAX || after > WORDS - HEAD {
        return false;
    }
    area.write(end, &head, &name, value);
    if area.commit(end, after) {
        area.lead(bucket, &name, end);
        area.set(Field::Used, used);
    }
    true
}

/// Shows everything anew, or as much as leaves room for what comes.
fn rebuild(area: &Area<'_>, stash: &Stash) {
    area.change(|| {
        area.empty();
        area.set(Field::Complete, 1);
        for (table, key, value, expires) in stash.entries() {
            let has_room = end_of(area) < FILLED && area.get(Field::Used) < BUCKETS_USED_MAX / 2;
            if !has_room || !show(area, table, key, value, expires) {
                area.set(Field::Complete, 0);
                break;
            }
        }
        area.field(Field::Taken)
            .store(end_of(area) as u64, Ordering::Release);
    });
}
