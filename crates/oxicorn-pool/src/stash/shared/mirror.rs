//! The broker's end: takes over what callers have put, and shows what it has.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::time::Duration;

use oxicorn_os::mapping::Mapping;

use super::area::{
    AREAS, Area, BUCKETS_USED_MAX, Field, HEAP, Place, State, WORDS, in_force, put_in_force,
};
use super::is_whole;
use super::record::{HEAD, Head, Kind, Name, VALUE_MAX, WORD};
use crate::stash::operation::NONE;
use crate::stash::{Change, Stash};

/// How long callers may go the direct way before the broker looks what they did.
const LEASE: Duration = Duration::from_secs(1);
/// Attempts to have the lock, each after the processor was given to others; then as many after a pause. A caller
/// has it for a microsecond, unless it is dead or stopped.
const STUCK: usize = 50;
const PAUSE: Duration = Duration::from_micros(100);
/// How much of the heap, and of the buckets, a rebuild fills, so that there is room for what comes.
const FILLED: usize = (WORDS - HEAP) / 2;
const BUCKETS_FILLED: u64 = BUCKETS_USED_MAX / 4 * 3;

/// What a caller wants of the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked<'a> {
    /// Nothing: it is the broker's own doing.
    No,
    Something,
    /// This value, which it did not see by itself.
    Value {
        table: &'a str,
        key: &'a [u8],
    },
}

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
    said_used_up: bool,
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
        // Also that of an area which an earlier broker was about to open.
        for area in (0..AREAS).filter_map(|number| shared.area(number)) {
            area.unlock_for_broker();
        }
        let last = in_force(&shared.mapping);
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
        self.area = self.area.or_else(|| shared.open_area(stash));
        self.area.map(|_| shared.file.as_fd())
    }

    /// Whether each area has been left by somebody who died there, to be said once.
    pub(crate) fn is_used_up(&mut self) -> bool {
        let is_used_up = self.shared.is_some() && self.area.is_none();
        is_used_up && !std::mem::replace(&mut self.said_used_up, true)
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
            area.unlock();
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

    /// Shows what has changed, and what somebody has [`Asked`] for, and lets callers go on: for another second, if one of
    /// them has asked for anything.
    pub(crate) fn finish(
        &mut self,
        changes: &[Change],
        stash: &Stash,
        asked: Asked<'_>,
        now: Duration,
    ) {
        if !std::mem::take(&mut self.is_locked) {
            return;
        }
        let area = self.area.zip(self.shared.as_ref());
        let Some(area) = area.and_then(|(number, shared)| shared.area(number)) else {
            return;
        };
        let begins = asked != Asked::No && self.lease_end.is_none_or(|end| end <= now);
        let all_shown = area.change(|| {
            let fits = changes.iter().all(|change| apply(&area, change));
            fits && show_again(&area, stash, asked)
        });
        let is_due = begins || changes.iter().any(makes_room);
        if !all_shown || is_due && could_show_more(&area, stash) {
            rebuild(&area, stash);
        }
        area.field(Field::Taken)
            .store(end_of(&area) as u64, Ordering::Release);
        publish(&area, stash);
        if self.lease_end.is_some_and(|end| end <= now) {
            self.lease_end = None;
        }
        if begins {
            let end = now + LEASE;
            let nanos = u64::try_from(end.as_nanos()).unwrap_or(u64::MAX);
            area.set(Field::Lease, nanos);
            self.lease_end = Some(end);
        }
        area.unlock();
    }

    /// Nothing is shown any more, and nothing that is put from now on counts.
    pub(crate) fn close(&mut self) {
        if let Some(number) = self.area.take()
            && let Some(shared) = &self.shared
            && let Some(area) = shared.area(number)
        {
            area.close();
        }
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
    /// Opens an area in which nobody is about to write: the one that was in force, if it can be. `None`: there is none.
    fn open_area(&self, stash: &Stash) -> Option<usize> {
        let first = in_force(&self.mapping).unwrap_or(0);
        let numbers = (0..AREAS).map(|number| first.wrapping_add(number) % AREAS);
        for number in numbers {
            let area = self.area(number)?;
            if area.try_lock_as_broker() {
                rebuild(&area, stash);
                publish(&area, stash);
                put_in_force(&self.mapping, number);
                area.unlock();
                return Some(number);
            }
        }
        None
    }

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
        if area.try_lock_as_broker() {
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
        let is_wanted = order == Order::AsWritten || area.leads_to(head.hash, at);
        if head.kind == Kind::Put && is_wanted {
            // What no caller of ours writes is nobody's; what lies behind it may be.
            pending.changes.extend(put_at(area, at, &head));
        }
        at += head.words;
    }
    pending
}

/// What was put; `None`: it is no entry.
fn put_at(area: &Area<'_>, at: usize, head: &Head) -> Option<Change> {
    let mut table = area.copy_out(at + HEAD, head.table + head.key);
    let key = table.split_off(head.table);
    let value = area.copy_out(at + head.value_at(), head.value);
    (key != NONE && is_whole(&key) && is_whole(&value)).then_some(Change::Entry {
        table: String::from_utf8(table).ok()?,
        key,
        value,
        expires: head.expires(),
    })
}

/// What callers go by when they put something.
fn publish(area: &Area<'_>, stash: &Stash) {
    area.set(Field::Bytes, stash.bytes() as u64);
    area.set(Field::Limit, stash.limit() as u64);
}

/// Whether there may be room now for much that is not shown.
fn makes_room(change: &Change) -> bool {
    matches!(change, Change::NoTable { .. } | Change::Cleared { .. })
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
            hide(area, table, key);
            true
        }
        Change::NoTable { table, keys } | Change::Cleared { table, keys } => {
            for key in keys {
                hide(area, table, key);
            }
            true
        }
    }
}

fn hide(area: &Area<'_>, table: &str, key: &[u8]) {
    if let Some(name) = Name::new(table, key)
        && let Place::Found { bucket, .. } = area.find(&name)
    {
        area.free(bucket);
    }
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

/// Shows what was asked for and is not shown. `false`: there is no room for it.
fn show_again(area: &Area<'_>, stash: &Stash, asked: Asked<'_>) -> bool {
    let Asked::Value { table, key } = asked else {
        return true;
    };
    let is_shown =
        Name::new(table, key).is_none_or(|name| matches!(area.find(&name), Place::Found { .. }));
    match stash.entry(table, key).filter(|_| !is_shown) {
        None => true,
        Some((value, expires)) => show(area, table, key, value, expires),
    }
}

/// Whether less is shown than there would be room for.
fn could_show_more(area: &Area<'_>, stash: &Stash) -> bool {
    area.get(Field::Complete) == 0
        && (stash.size().1 as u64) < BUCKETS_FILLED
        && stash.bytes() < FILLED * WORD / 2
}

/// Shows everything anew, or as much as leaves room for what comes.
fn rebuild(area: &Area<'_>, stash: &Stash) {
    area.change(|| {
        area.empty();
        area.set(Field::Complete, 1);
        for (table, key, value, expires) in stash.entries() {
            let has_room = end_of(area) < HEAP + FILLED && area.get(Field::Used) < BUCKETS_FILLED;
            if !has_room || !show(area, table, key, value, expires) {
                area.set(Field::Complete, 0);
                break;
            }
        }
        area.field(Field::Taken)
            .store(end_of(area) as u64, Ordering::Release);
    });
}
