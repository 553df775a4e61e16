//! A worker's slot.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use oxicorn_os::mapping::Mapping;

use super::waits::{self, WaitKind};
use super::{nanos, read, write};
use crate::wire_enum::wire_enum;

/// Bytes of a slot: two cache lines, which processors fetch together.
pub(super) const LEN: usize = 128;

const PID: usize = 0;
const AGE: usize = 8;
const GENERATION: usize = 16;
const STATE: usize = 24;
const SINCE: usize = 32;
const HEARTBEAT: usize = 40;
const BUSY: usize = 48;
const REQUESTS: usize = 56;

wire_enum! {
    /// What a worker is doing, in the large.
    WorkerState {
        /// Loading the application.
        Booting = 1,
        /// Takes requests.
        Ready = 2,
        /// Finishes what it has.
        Draining = 3,
        /// On its way out.
        Exiting = 4,
    }
}

impl WorkerState {
    /// As metrics and the control command write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Booting => "booting",
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Exiting => "exiting",
        }
    }
}

/// One worker's part of the scoreboard. Times are `Duration`s of the machine's monotonic clock.
#[derive(Clone, Debug)]
pub struct Slot {
    mapping: Arc<Mapping>,
    at: usize,
    /// Where all workers count what they wait for.
    waits_at: usize,
}

/// What a slot says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotReading {
    /// Process.
    pub pid: i32,
    /// Spawn number.
    pub age: u64,
    /// Cohort of a reload.
    pub generation: u32,
    /// What it does; `None` if the slot says nonsense.
    pub state: Option<WorkerState>,
    /// When the slot was assigned.
    pub since: Duration,
    /// Last sign of life.
    pub heartbeat: Duration,
    /// Requests it works on.
    pub busy: u64,
    /// Requests it has finished.
    pub requests: u64,
}

impl Slot {
    pub(super) const fn new(mapping: Arc<Mapping>, at: usize, waits_at: usize) -> Self {
        Self {
            mapping,
            at,
            waits_at,
        }
    }

    /// Counts, among those of all workers, how long this one has waited. By any thread.
    pub fn record_wait(&self, kind: WaitKind, duration: Duration) {
        waits::record(&self.mapping, self.waits_at, kind, duration);
    }

    /// Children that this process forks do not have the scoreboard: to touch it there ends them.
    pub fn keep_from_children(&self) -> std::io::Result<()> {
        self.mapping.keep_from_children()
    }

    fn number(&self, what: usize) -> &AtomicU64 {
        self.mapping.atomic_u64(self.at + what)
    }

    fn get(&self, what: usize) -> u64 {
        read(&self.mapping, self.at + what)
    }

    fn set(&self, what: usize, number: u64) {
        write(&self.mapping, self.at + what, number);
    }

    /// Gives the slot to a worker that is about to be started, since what that says of itself would be lost in this. By
    /// the arbiter. `pid` is who has the slot until [`set_pid`](Self::set_pid); 0: nobody, for who looks.
    pub fn assign(&self, pid: i32, age: u64, generation: u32, now: Duration) {
        self.clear();
        self.set(AGE, age);
        self.set(GENERATION, generation.into());
        self.set(STATE, WorkerState::Booting.as_u8().into());
        self.set(SINCE, nanos(now));
        self.set(HEARTBEAT, nanos(now));
        self.set_pid(pid);
    }

    /// Says which process the worker is. By who knows it first; nothing else changes.
    pub fn set_pid(&self, pid: i32) {
        self.set(PID, u64::try_from(pid).unwrap_or(0));
    }

    /// Frees the slot. By the arbiter when the worker is gone.
    pub fn clear(&self) {
        for what in (0..LEN).step_by(8) {
            self.set(what, 0);
        }
    }

    /// By the worker.
    pub fn set_state(&self, state: WorkerState) {
        self.set(STATE, state.as_u8().into());
    }

    /// A sign of life. By the worker's wait loop or a native thread.
    pub fn beat(&self, now: Duration) {
        self.set(HEARTBEAT, nanos(now));
    }

    /// A request begins. By any thread of the worker.
    pub fn begin_request(&self, now: Duration) {
        self.number(BUSY).fetch_add(1, Ordering::Relaxed);
        self.beat(now);
    }

    /// A request ends. By any thread of the worker.
    pub fn end_request(&self, now: Duration) {
        // What a slot says may be nonsense; it does not become less than nothing.
        let fewer = |busy: u64| Some(busy.saturating_sub(1));
        // It always has an answer, so it always succeeds.
        let _ = (self.number(BUSY)).fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer);
        self.number(REQUESTS).fetch_add(1, Ordering::Relaxed);
        self.beat(now);
    }

    /// What it says, if somebody has it.
    pub fn read(&self) -> Option<SlotReading> {
        let pid = i32::try_from(self.get(PID)).ok().filter(|pid| *pid != 0)?;
        Some(SlotReading {
            pid,
            age: self.get(AGE),
            generation: u32::try_from(self.get(GENERATION)).unwrap_or(u32::MAX),
            state: u8::try_from(self.get(STATE))
                .ok()
                .and_then(WorkerState::from_u8),
            since: Duration::from_nanos(self.get(SINCE)),
            heartbeat: Duration::from_nanos(self.get(HEARTBEAT)),
            busy: self.get(BUSY),
            requests: self.get(REQUESTS),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::thread;

    use super::*;
    use crate::scoreboard::Scoreboard;

    #[test]
    fn slot_follows_a_worker_through_its_life() {
        let (board, _file) = Scoreboard::create(1, 1).unwrap();
        let slot = board.slot(0).unwrap();
        let second = Duration::from_secs;
        assert_eq!(slot.read(), None);
        slot.assign(42, 1, 1, second(1));
        assert_eq!(slot.read().unwrap().state, Some(WorkerState::Booting));
        slot.set_state(WorkerState::Ready);
        slot.begin_request(second(2));
        slot.begin_request(second(3));
        assert_eq!(slot.read().unwrap().busy, 2);
        slot.end_request(second(4));
        slot.end_request(second(5));
        let reading = slot.read().unwrap();
        assert_eq!((reading.busy, reading.requests), (0, 2));
        assert_eq!((reading.since, reading.heartbeat), (second(1), second(5)));
        slot.clear();
        assert_eq!(slot.read(), None);
    }

    #[test]
    fn what_a_worker_said_before_its_pid_was_known_stays() {
        let (board, _file) = Scoreboard::create(1, 1).unwrap();
        let slot = board.slot(0).unwrap();
        slot.assign(0, 1, 1, Duration::ZERO);
        slot.set_state(WorkerState::Ready);
        slot.begin_request(Duration::from_secs(1));
        assert_eq!(slot.read(), None, "nobody has it yet");
        slot.set_pid(42);
        let reading = slot.read().unwrap();
        assert_eq!((reading.pid, reading.age), (42, 1));
        assert_eq!(reading.state, Some(WorkerState::Ready));
        assert_eq!(
            (reading.busy, reading.heartbeat),
            (1, Duration::from_secs(1))
        );
    }

    #[test]
    fn threads_that_begin_and_end_at_once_are_all_counted() {
        const THREADS: usize = 4;
        const EACH: u64 = 20_000;
        let (board, _file) = Scoreboard::create(1, 1).unwrap();
        let slot = board.slot(0).unwrap();
        slot.assign(42, 1, 1, Duration::ZERO);
        let start = Barrier::new(THREADS);
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    start.wait();
                    for at in 1..=EACH {
                        slot.begin_request(Duration::from_nanos(at));
                        slot.end_request(Duration::from_nanos(at));
                    }
                });
            }
        });
        let reading = slot.read().unwrap();
        assert_eq!((reading.busy, reading.requests), (0, THREADS as u64 * EACH));
    }

    #[test]
    fn nonsense_in_a_slot_is_readable() {
        let (board, _file) = Scoreboard::create(1, 1).unwrap();
        let slot = board.slot(0).unwrap();
        for what in (0..LEN).step_by(8) {
            slot.set(what, u64::MAX);
        }
        assert_eq!(slot.read(), None);
        slot.set(PID, 1);
        assert_eq!(slot.read().unwrap().state, None);
        slot.end_request(Duration::ZERO);
    }
}
