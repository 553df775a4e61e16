//! The callers' end: a get, and a put, without the broker, where that is simple.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

use oxicorn_os::mapping::Mapping;

use super::area::{Area, BUCKETS_USED_MAX, Field, Place, State, WORDS, in_force};
use super::record::{HEAD, Head, Kind, Name, VALUE_MAX, WORD};
use crate::stash::cost;

/// How often a get looks again while somebody changes what it looks at, and a put whether it can have the lock.
const TURNS: usize = 64;

/// Words that may lie there before the broker has to take them over: so long it does nothing else.
const PENDING_MAX: u64 = (1 << 20) / WORD as u64;

/// What a get finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sought {
    /// The value, as it was put.
    Value(Vec<u8>),
    /// There is no such entry.
    Missing,
    /// That only the broker can say.
    Ask,
}

/// Whether a put is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It counts.
    Done,
    /// Nothing has changed; the broker is to do it.
    Ask,
}

/// The stash as a caller sees it.
#[derive(Debug)]
pub struct View {
    mapping: Mapping,
    area: usize,
}

/// Why an attempt gives nothing.
enum Attempt<T> {
    Sure(T),
    /// Somebody is changing something.
    Again,
}

impl View {
    /// Bytes of a value above which it goes by the broker in any case.
    pub const VALUE_MAX: usize = VALUE_MAX;

    /// Maps the file that the broker gave. [`InvalidData`](io::ErrorKind::InvalidData): nothing is shown in it.
    pub fn attach(file: &OwnedFd) -> io::Result<Self> {
        let mapping = Mapping::new(file)?;
        let area = in_force(&mapping);
        let area = area.filter(|area| Area::new(&mapping, *area).is_some());
        let area = area.ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { mapping, area })
    }

    /// Whether nothing will be shown here any more: the broker may give another view.
    pub fn is_over(&self) -> bool {
        self.area().is_none_or(|area| is_closed(&area))
    }

    fn area(&self) -> Option<Area<'_>> {
        Area::new(&self.mapping, self.area)
    }

    /// Looks for an entry at the time `now` (monotonic).
    pub fn get(&self, table: &str, key: &[u8], now: Duration) -> Sought {
        let (Some(area), Some(name)) = (self.area(), Name::new(table, key)) else {
            return Sought::Ask;
        };
        let now = nanos(now);
        if area.get(Field::Lease) <= now {
            return Sought::Ask;
        }
        for _ in 0..TURNS {
            if let Attempt::Sure(sought) = look(&area, &name, now) {
                if sought != Sought::Ask {
                    area.field(Field::Gets).fetch_add(1, Ordering::Relaxed);
                }
                return sought;
            }
            std::hint::spin_loop();
        }
        Sought::Ask
    }

    /// Puts an entry at the time `now`, until `expires` or for good.
    pub fn put(
        &self,
        table: &str,
        key: &[u8],
        value: &[u8],
        expires: Option<Duration>,
        now: Duration,
    ) -> Put {
        let (Some(area), Some(name)) = (self.area(), Name::new(table, key)) else {
            return Put::Ask;
        };
        if value.len() > VALUE_MAX {
            return Put::Ask;
        }
        for _ in 0..TURNS {
            if area.try_lock() {
                let head = Head::new(Kind::Put, &name, value.len(), expires);
                let is_open = area.get(Field::Lease) > nanos(now);
                let done = is_open.then(|| append(&area, &head, &name, value));
                let done = done.flatten().unwrap_or(Put::Ask);
                area.unlock();
                return done;
            }
            std::hint::spin_loop();
        }
        Put::Ask
    }
}

fn is_closed(area: &Area<'_>) -> bool {
    matches!(area.state(), State::Closed { .. })
}

fn look(area: &Area<'_>, name: &Name, now: u64) -> Attempt<Sought> {
    let version = area.field(Field::Version).load(Ordering::Acquire);
    if version & 1 == 1 {
        return Attempt::Again;
    }
    let sought = read(area, name, now);
    fence(Ordering::Acquire);
    if area.get(Field::Version) != version {
        return Attempt::Again;
    }
    // Behind a closed area the broker may have gone on elsewhere.
    Attempt::Sure(if is_closed(area) { Sought::Ask } else { sought })
}

fn read(area: &Area<'_>, name: &Name, now: u64) -> Sought {
    let head = match area.find(name) {
        Place::Found { at, .. } => area.head(at).map(|head| (at, head)),
        Place::Free { .. } if area.get(Field::Complete) == 1 => return Sought::Missing,
        Place::Free { .. } | Place::Nowhere => None,
    };
    match head {
        None => Sought::Ask,
        Some((_, head)) if head.has_ended(now) => Sought::Missing,
        Some((_, head)) if head.kind == Kind::Elsewhere => Sought::Ask,
        Some((at, head)) => Sought::Value(area.copy_out(at + head.value_at(), head.value)),
    }
}

/// Appends a record and lets readers find it. `None`: that is not simple.
fn append(area: &Area<'_>, head: &Head, name: &Name, value: &[u8]) -> Option<Put> {
    let State::Open { end } = area.state() else {
        return None;
    };
    let after = end.checked_add(head.words)?;
    if after > WORDS - HEAD || end as u64 > area.get(Field::Taken).saturating_add(PENDING_MAX) {
        return None;
    }
    let (bucket, before, fresh) = match area.find(name) {
        Place::Found { bucket, at } => {
            let old = area.head(at)?;
            if old.kind == Kind::Elsewhere {
                return None;
            }
            (bucket, cost(name.key, old.value), false)
        }
        Place::Free { bucket, fresh } if area.get(Field::Complete) == 1 => (bucket, 0, fresh),
        Place::Free { .. } | Place::Nowhere => return None,
    };
    let used = area.get(Field::Used).saturating_add(u64::from(fresh));
    let bytes = bytes_after(area, before, cost(name.key, value.len()))?;
    if used > BUCKETS_USED_MAX {
        return None;
    }
    area.write(end, head, name, value);
    area.change(|| {
        if !area.commit(end, after) {
            return None;
        }
        area.lead(bucket, name, end);
        area.set(Field::Used, used);
        area.set(Field::Bytes, bytes);
        area.set(Field::Puts, area.get(Field::Puts).wrapping_add(1));
        Some(Put::Done)
    })
}

/// Bytes of the stash when so many have taken the place of so many. `None`: they are more than there may be.
fn bytes_after(area: &Area<'_>, before: usize, after: usize) -> Option<u64> {
    let (bytes, limit) = (area.get(Field::Bytes), area.get(Field::Limit));
    let rest = bytes.saturating_sub(before as u64);
    let sum = rest.saturating_add(after as u64);
    (limit == 0 || sum <= limit || sum <= bytes).then_some(sum)
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
