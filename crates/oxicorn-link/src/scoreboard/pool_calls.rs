//! Calls of heavy applications that run, one by one, as the pool's broker shows them.
//!
//! A table with a bound, written by the broker alone (by the arbiter when there is none). A place is shown and hidden as a
//! whole: its first word is odd while it is written, and a reader that has met that, or a change, leaves it out.
//!
//! ```text
//!      0  how many places have ever been used
//!     64  places: version, worker, caller, times, text
//! ```

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

use oxicorn_os::mapping::Mapping;

use super::{nanos, read, write};

/// Most calls that are shown.
pub const POOL_CALLS: usize = 256;
/// Bytes of a call's name that are shown.
pub const CALL_NAME_LEN: usize = 320;

const PLACES_AT: usize = 64;
const VERSION: usize = 0;
/// Pid of the worker; 0: nothing is shown here.
const WORKER: usize = 8;
const CALLER: usize = 16;
const RECEIVED: usize = 24;
const BEGUN: usize = 32;
const NAME_LENGTH: usize = 40;
const NAME: usize = 48;
const PLACE_LEN: usize = NAME + CALL_NAME_LEN + 16;
/// How often a reader looks again at a place that was written meanwhile.
const TRIES: usize = 8;

/// Bytes of all of it.
pub(super) const LEN: usize = PLACES_AT + POOL_CALLS * PLACE_LEN;

const _: () = assert!(PLACE_LEN.is_multiple_of(8) && CALL_NAME_LEN.is_multiple_of(8));

/// A call that a worker of the pool runs. Times are those of the machine's monotonic clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningCall {
    /// Application and action (`module:Class.action`); of a long one the beginning.
    pub name: String,
    /// The worker's process.
    pub worker: i32,
    /// The caller's process; 0: unknown.
    pub caller: i32,
    /// When it arrived at the pool.
    pub received: Duration,
    /// When it was given to the worker.
    pub begun: Duration,
}

/// See the head of this file.
#[derive(Clone, Debug)]
pub struct RunningCalls {
    mapping: Arc<Mapping>,
    at: usize,
}

impl RunningCalls {
    pub(super) const fn new(mapping: Arc<Mapping>, at: usize) -> Self {
        Self { mapping, at }
    }

    /// Shows a call at a place below [`POOL_CALLS`], which are best used from the first on.
    pub fn show(&self, place: usize, call: &RunningCall) {
        if place >= POOL_CALLS {
            return;
        }
        let used = read(&self.mapping, self.at).max(place as u64 + 1);
        self.change(place, |at| {
            let number = |pid: i32| u64::try_from(pid).unwrap_or(0);
            write(&self.mapping, at + WORKER, number(call.worker));
            write(&self.mapping, at + CALLER, number(call.caller));
            write(&self.mapping, at + RECEIVED, nanos(call.received));
            write(&self.mapping, at + BEGUN, nanos(call.begun));
            self.write_name(at, &call.name);
        });
        self.mapping
            .atomic_u64(self.at)
            .store(used, Ordering::Release);
    }

    /// Shows nothing at this place any more.
    pub fn hide(&self, place: usize) {
        if place < POOL_CALLS {
            self.change(place, |at| write(&self.mapping, at + WORKER, 0));
        }
    }

    /// Shows nothing at all any more.
    pub fn hide_all(&self) {
        for place in 0..self.used() {
            self.hide(place);
        }
    }

    /// What is shown, the longest under way first.
    pub fn all(&self) -> Vec<RunningCall> {
        let mut all: Vec<_> = (0..self.used()).filter_map(|at| self.shown(at)).collect();
        all.sort_by_key(|call| call.begun);
        all
    }

    fn used(&self) -> usize {
        let used = self.mapping.atomic_u64(self.at).load(Ordering::Acquire);
        usize::try_from(used).map_or(POOL_CALLS, |used| used.min(POOL_CALLS))
    }

    const fn place_at(&self, place: usize) -> usize {
        self.at + PLACES_AT + place * PLACE_LEN
    }

    /// Changes a place so that no reader takes half of it for the whole. Who died in the middle has left it odd.
    fn change(&self, place: usize, body: impl FnOnce(usize)) {
        let at = self.place_at(place);
        let version = self.mapping.atomic_u64(at + VERSION);
        let odd = version.load(Ordering::Relaxed) | 1;
        version.store(odd, Ordering::Relaxed);
        fence(Ordering::Release);
        body(at);
        version.store(odd.wrapping_add(1), Ordering::Release);
    }

    fn shown(&self, place: usize) -> Option<RunningCall> {
        let at = self.place_at(place);
        let version = self.mapping.atomic_u64(at + VERSION);
        for _ in 0..TRIES {
            let before = version.load(Ordering::Acquire);
            let call = self.read_place(at);
            fence(Ordering::Acquire);
            if before.is_multiple_of(2) && version.load(Ordering::Relaxed) == before {
                return call;
            }
        }
        None
    }

    fn read_place(&self, at: usize) -> Option<RunningCall> {
        let number = |what| read(&self.mapping, at + what);
        let pid = |what| i32::try_from(number(what)).unwrap_or(0);
        let worker = Some(pid(WORKER)).filter(|pid| *pid != 0)?;
        Some(RunningCall {
            name: self.read_name(at),
            worker,
            caller: pid(CALLER),
            received: Duration::from_nanos(number(RECEIVED)),
            begun: Duration::from_nanos(number(BEGUN)),
        })
    }

    fn write_name(&self, at: usize, name: &str) {
        let name = &name[..name.floor_char_boundary(CALL_NAME_LEN)];
        for (word, bytes) in name.as_bytes().chunks(8).enumerate() {
            let mut whole = [0; 8];
            whole[..bytes.len()].copy_from_slice(bytes);
            write(
                &self.mapping,
                at + NAME + word * 8,
                u64::from_ne_bytes(whole),
            );
        }
        write(&self.mapping, at + NAME_LENGTH, name.len() as u64);
    }

    fn read_name(&self, at: usize) -> String {
        let length = usize::try_from(read(&self.mapping, at + NAME_LENGTH)).unwrap_or(0);
        let length = length.min(CALL_NAME_LEN);
        let words = (0..length.div_ceil(8)).map(|word| read(&self.mapping, at + NAME + word * 8));
        let mut bytes: Vec<u8> = words.flat_map(u64::to_ne_bytes).collect();
        bytes.truncate(length);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::thread;

    use super::*;
    use crate::scoreboard::Scoreboard;

    fn call(number: u64) -> RunningCall {
        RunningCall {
            name: format!("heavy:App.{}", number.to_string().repeat(5)),
            worker: i32::try_from(number).unwrap(),
            caller: i32::try_from(number).unwrap(),
            received: Duration::from_nanos(number),
            begun: Duration::from_nanos(number),
        }
    }

    #[test]
    fn calls_are_shown_by_age_until_they_are_hidden() {
        let (board, file) = Scoreboard::create(1, 1).unwrap();
        let calls = board.pool().running_calls();
        assert_eq!(calls.all(), []);
        for (place, number) in [(0, 30), (1, 10), (2, 20)] {
            calls.show(place, &call(number));
        }
        let reader = Scoreboard::attach(&file).unwrap().pool().running_calls();
        assert_eq!(reader.all(), [call(10), call(20), call(30)]);
        calls.hide(1);
        assert_eq!(reader.all(), [call(20), call(30)]);
        calls.show(1, &call(5));
        assert_eq!(reader.all(), [call(5), call(20), call(30)]);
        calls.hide_all();
        assert_eq!(reader.all(), []);
    }

    #[test]
    fn the_table_has_a_bound_and_a_name_too() {
        let (board, _file) = Scoreboard::create(1, 1).unwrap();
        let calls = board.pool().running_calls();
        for place in 0..POOL_CALLS + 2 {
            calls.show(place, &call(place as u64 + 1));
            calls.hide(POOL_CALLS + place);
        }
        assert_eq!(calls.all().len(), POOL_CALLS);
        let mut long = call(1);
        long.name = format!("x{}", "ü".repeat(CALL_NAME_LEN));
        calls.show(0, &long);
        let shown = calls.all().remove(0).name;
        assert!(long.name.starts_with(&shown));
        assert_eq!(shown.len(), CALL_NAME_LEN - 1);
    }

    #[test]
    fn a_place_that_its_writer_left_half_written_is_not_shown_and_can_be_used_again() {
        let (board, _file) = Scoreboard::create(1, 1).unwrap();
        let calls = board.pool().running_calls();
        calls.show(0, &call(1));
        write(&calls.mapping, calls.place_at(0) + VERSION, 7);
        assert_eq!(calls.all(), []);
        calls.hide_all();
        calls.show(0, &call(2));
        assert_eq!(calls.all(), [call(2)]);
    }

    #[test]
    fn a_reader_never_sees_half_a_call() {
        const ROUNDS: u64 = 20_000;
        let (board, _file) = Scoreboard::create(1, 1).unwrap();
        let calls = board.pool().running_calls();
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                for number in 1..=ROUNDS {
                    calls.show(0, &call(number));
                }
                is_over.store(true, Ordering::Release);
            });
            while !is_over.load(Ordering::Acquire) {
                for seen in calls.all() {
                    assert_eq!(seen, call(u64::try_from(seen.worker).unwrap()));
                }
            }
        });
        assert_eq!(calls.all(), [call(ROUNDS)]);
    }
}
