//! The figures of the pool of heavy applications, by application: what the broker and the arbiter count.
//!
//! They outlive brokers, pool workers and reloads. An application keeps its row for as long as the server lives, so the rows
//! have a bound: applications beyond it, and those that are called and do not exist, share the first one, which is called
//! [`OTHER`]. The arbiter gives rows away, before it tells the broker of an application. Each number has one writer: the broker, or the arbiter where that is said.
//!
//! ```text
//!      0  number of rows, then the arbiter's and the broker's numbers
//!   4096  rows: name, numbers, two histograms
//!    ...  the calls that run
//! ```

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use oxicorn_os::mapping::Mapping;

use super::histogram::{self, HistogramReading};
use super::pool_calls::{self, RunningCalls};
use super::{add, nanos, read, write};
use crate::wire_enum::wire_enum;

/// Most rows, that of all further applications included.
pub const POOL_ROWS: usize = 64;
/// The name of the row of all applications that have none of their own.
pub const OTHER: &str = "other";

const ROWS_AT: usize = 4096;
const GAUGES_AT: usize = 256;
const COUNTERS_AT: usize = 512;
const OPERATIONS_AT: usize = 1024;

/// Bytes of a name; the word before it has its length.
const NAME_LEN: usize = 248;
const APP_GAUGES_AT: usize = 256;
const OUTCOMES_AT: usize = 320;
const HISTOGRAMS_AT: usize = 512;
const ROW_LEN: usize = HISTOGRAMS_AT + CallHistogram::ALL.len() * histogram::LEN;

const RUNNING_CALLS_AT: usize = ROWS_AT + POOL_ROWS * ROW_LEN;

/// Bytes of all of it.
pub(super) const LEN: usize = RUNNING_CALLS_AT + pool_calls::LEN;

/// The stash's operations by the numbers that their requests have, from 1 on.
pub const STASH_OPERATIONS: [&str; 16] = [
    "put",
    "get",
    "delete",
    "keys",
    "clear",
    "info",
    "ensure",
    "delete_table",
    "tables",
    "exists",
    "add",
    "replace",
    "increment",
    "touch",
    "pop",
    "delete_if",
];

wire_enum! {
    /// What goes up and down, of the whole pool.
    PoolGauge {
        /// Connections of callers.
        Callers = 0,
        /// Bytes that the stash holds.
        StashBytes = 1,
        /// Entries of all its tables.
        StashEntries = 2,
        /// Its tables.
        StashTables = 3,
    }
}

wire_enum! {
    /// What only goes up, of the whole pool.
    PoolCounter {
        /// Operations that were refused because the stash was full.
        StashFull = 0,
        /// Brokers forked; the arbiter's, as all that follow.
        BrokersSpawned = 1,
        /// Pool workers forked.
        WorkersSpawned = 2,
        /// Pool workers that exited with 0.
        ExitedNormally = 3,
        /// Pool workers that exited with another code.
        ExitedWithError = 4,
        /// Pool workers that a signal ended.
        EndedBySignal = 5,
        /// Pool workers that the kernel ended because there was no memory left.
        OutOfMemory = 6,
        /// Replaced after `dirty_max_calls`.
        ReplacedMaxCalls = 7,
        /// Replaced because they had grown beyond `dirty_memory_limit`.
        ReplacedMemory = 8,
        /// Replaced because somebody told them to end.
        ReplacedRequested = 9,
        /// Replaced because a call did not end.
        ReplacedTimeout = 10,
        /// Could not be made ready.
        BootFailed = 11,
    }
}

wire_enum! {
    /// What goes up and down, of one application.
    CallGauge {
        /// Calls that wait.
        Queued = 0,
        /// Calls that run.
        InFlight = 1,
        /// Workers that are given calls; the arbiter's.
        Workers = 2,
        /// When the call arrived that has waited longest, in nanoseconds of the monotonic clock; 0: none waits.
        QueuedSince = 3,
        /// When the call began that has run longest, likewise.
        RunningSince = 4,
    }
}

wire_enum! {
    /// How a call ended for its caller.
    CallOutcome {
        /// With a result, or the end of a stream.
        Ok = 0,
        /// The application raised an exception.
        Error = 1,
        /// It took longer than `dirty_timeout`.
        Timeout = 2,
        /// Its worker ended meanwhile.
        WorkerLost = 3,
        /// Its caller did not want it any more.
        Cancelled = 4,
        /// Too many waited.
        QueueFull = 5,
        /// Nobody had the application.
        NoWorkers = 6,
        /// It waited or ran when the broker ended; the arbiter's.
        BrokerLost = 7,
    }
}

impl CallOutcome {
    /// As a label has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
            Self::Timeout => "timeout",
            Self::WorkerLost => "worker_lost",
            Self::Cancelled => "cancelled",
            Self::QueueFull => "queue_full",
            Self::NoWorkers => "no_workers",
            Self::BrokerLost => "broker_lost",
        }
    }
}

wire_enum! {
    /// What is measured of a call.
    CallHistogram {
        /// From being received to being given to a worker.
        Wait = 0,
        /// From being given to a worker to its end.
        Run = 1,
    }
}

/// The pool's part of the scoreboard.
#[derive(Clone, Debug)]
pub struct PoolBlock {
    mapping: Arc<Mapping>,
    at: usize,
}

impl PoolBlock {
    pub(super) const fn new(mapping: Arc<Mapping>, at: usize) -> Self {
        Self { mapping, at }
    }

    /// Sets a gauge.
    pub fn set(&self, gauge: PoolGauge, number: u64) {
        write(&self.mapping, self.gauge_at(gauge), number);
    }

    /// Reads a gauge.
    pub fn gauge(&self, gauge: PoolGauge) -> u64 {
        read(&self.mapping, self.gauge_at(gauge))
    }

    /// Counts one more.
    pub fn count(&self, counter: PoolCounter) {
        add(&self.mapping, self.counter_at(counter), 1);
    }

    /// Reads a counter.
    pub fn counter(&self, counter: PoolCounter) -> u64 {
        read(&self.mapping, self.counter_at(counter))
    }

    /// The calls that run.
    pub fn running_calls(&self) -> RunningCalls {
        RunningCalls::new(Arc::clone(&self.mapping), self.at + RUNNING_CALLS_AT)
    }

    /// Counts operations on the stash, by their place in [`STASH_OPERATIONS`].
    pub fn count_operations(&self, place: usize, count: u64) {
        if place < STASH_OPERATIONS.len() {
            add(&self.mapping, self.at + OPERATIONS_AT + place * 8, count);
        }
    }

    /// The operations on the stash, with how many there were.
    pub fn operations(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let at = self.at + OPERATIONS_AT;
        let names = STASH_OPERATIONS.iter().enumerate();
        names.map(move |(place, name)| (*name, read(&self.mapping, at + place * 8)))
    }

    /// The rows given away, in that order.
    pub fn rows(&self) -> impl Iterator<Item = CallRow> + '_ {
        let word = self.mapping.atomic_u64(self.at);
        let count = usize::try_from(word.load(Ordering::Acquire)).unwrap_or(0);
        (0..count.min(POOL_ROWS)).map(|number| self.row(number))
    }

    /// The row of an application, or of all that have none; `None`: nobody has one.
    pub fn row_of(&self, path: &str) -> Option<CallRow> {
        let known = self.rows().find(|row| row.name() == path);
        known.or_else(|| self.rows().next())
    }

    /// Gives an application a row, if it has none and there is one left. The arbiter's.
    pub fn give_row(&self, path: &str) {
        if self.rows().next().is_none() {
            self.add_row(OTHER);
        }
        // A name that is too long would be cut, and then perhaps be another's.
        if path.len() <= NAME_LEN && self.rows().all(|row| row.name() != path) {
            self.add_row(path);
        }
    }

    fn add_row(&self, name: &str) {
        let count = self.rows().count();
        if count < POOL_ROWS {
            self.row(count).set_name(name);
            let word = self.mapping.atomic_u64(self.at);
            word.store(count as u64 + 1, Ordering::Release);
        }
    }

    /// There is no broker: what waited and ran is lost, and nothing is known of the stash. The arbiter's, which is then the
    /// only one that writes.
    pub fn broker_is_gone(&self) {
        for row in self.rows() {
            let lost = row.gauge(CallGauge::Queued) + row.gauge(CallGauge::InFlight);
            row.count_many(CallOutcome::BrokerLost, lost);
            for gauge in [
                CallGauge::Queued,
                CallGauge::InFlight,
                CallGauge::QueuedSince,
                CallGauge::RunningSince,
            ] {
                row.set(gauge, 0);
            }
        }
        self.running_calls().hide_all();
        for gauge in PoolGauge::ALL {
            self.set(*gauge, 0);
        }
    }

    fn row(&self, number: usize) -> CallRow {
        CallRow {
            mapping: Arc::clone(&self.mapping),
            at: self.at + ROWS_AT + number * ROW_LEN,
        }
    }

    const fn gauge_at(&self, gauge: PoolGauge) -> usize {
        self.at + GAUGES_AT + gauge.as_u8() as usize * 8
    }

    const fn counter_at(&self, counter: PoolCounter) -> usize {
        self.at + COUNTERS_AT + counter.as_u8() as usize * 8
    }
}

/// The figures of one application's calls.
#[derive(Clone, Debug)]
pub struct CallRow {
    mapping: Arc<Mapping>,
    at: usize,
}

impl CallRow {
    /// The application's path (`module:Class`), or [`OTHER`].
    pub fn name(&self) -> String {
        let length = usize::try_from(read(&self.mapping, self.at)).unwrap_or(0);
        let words = (0..NAME_LEN / 8).map(|word| read(&self.mapping, self.at + 8 + word * 8));
        let mut bytes: Vec<u8> = words.flat_map(u64::to_ne_bytes).collect();
        bytes.truncate(length);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn set_name(&self, name: &str) {
        let (words, rest) = name.as_bytes().as_chunks();
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        for (place, word) in words.iter().chain([&last]).take(NAME_LEN / 8).enumerate() {
            let word = u64::from_ne_bytes(*word);
            write(&self.mapping, self.at + 8 + place * 8, word);
        }
        write(&self.mapping, self.at, name.len() as u64);
    }

    /// Sets a gauge.
    pub fn set(&self, gauge: CallGauge, number: u64) {
        write(&self.mapping, self.gauge_at(gauge), number);
    }

    /// Reads a gauge.
    pub fn gauge(&self, gauge: CallGauge) -> u64 {
        read(&self.mapping, self.gauge_at(gauge))
    }

    /// Says since when the oldest call waits (or runs); `None`: none does.
    pub fn set_since(&self, gauge: CallGauge, since: Option<Duration>) {
        self.set(gauge, since.map_or(0, |since| nanos(since).max(1)));
    }

    /// Since when it does.
    pub fn since(&self, gauge: CallGauge) -> Option<Duration> {
        let since = self.gauge(gauge);
        (since > 0).then(|| Duration::from_nanos(since))
    }

    /// Counts the end of a call.
    pub fn count(&self, outcome: CallOutcome) {
        self.count_many(outcome, 1);
    }

    fn count_many(&self, outcome: CallOutcome, number: u64) {
        add(&self.mapping, self.outcome_at(outcome), number);
    }

    /// How many calls ended like this.
    pub fn outcomes(&self, outcome: CallOutcome) -> u64 {
        read(&self.mapping, self.outcome_at(outcome))
    }

    /// Counts how long something took.
    pub fn record(&self, kind: CallHistogram, duration: Duration) {
        histogram::record(&self.mapping, self.histogram_at(kind), duration);
    }

    /// How long something took.
    pub fn histogram(&self, kind: CallHistogram) -> HistogramReading {
        histogram::read_all(&self.mapping, self.histogram_at(kind))
    }

    const fn gauge_at(&self, gauge: CallGauge) -> usize {
        self.at + APP_GAUGES_AT + gauge.as_u8() as usize * 8
    }

    const fn outcome_at(&self, outcome: CallOutcome) -> usize {
        self.at + OUTCOMES_AT + outcome.as_u8() as usize * 8
    }

    const fn histogram_at(&self, kind: CallHistogram) -> usize {
        self.at + HISTOGRAMS_AT + kind.as_u8() as usize * histogram::LEN
    }
}

const _: () = {
    assert!(GAUGES_AT + PoolGauge::ALL.len() * 8 <= COUNTERS_AT);
    assert!(COUNTERS_AT + PoolCounter::ALL.len() * 8 <= OPERATIONS_AT);
    assert!(OPERATIONS_AT + STASH_OPERATIONS.len() * 8 <= ROWS_AT);
    assert!(APP_GAUGES_AT + CallGauge::ALL.len() * 8 <= OUTCOMES_AT);
    assert!(OUTCOMES_AT + CallOutcome::ALL.len() * 8 <= HISTOGRAMS_AT);
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scoreboard::Scoreboard;

    fn names(block: &PoolBlock) -> Vec<String> {
        block.rows().map(|row| row.name()).collect()
    }

    #[test]
    fn an_application_keeps_its_row() {
        let (board, file) = Scoreboard::create(1, 1).unwrap();
        let block = board.pool();
        assert!(block.row_of("a:A").is_none());
        for path in ["model:Model", "a:A", "model:Model", "eight:bb"] {
            block.give_row(path);
        }
        let other = Scoreboard::attach(&file).unwrap().pool();
        assert_eq!(names(&other), [OTHER, "model:Model", "a:A", "eight:bb"]);
        let row = other.row_of("a:A").unwrap();
        row.count(CallOutcome::Ok);
        assert_eq!(block.row_of("a:A").unwrap().outcomes(CallOutcome::Ok), 1);
    }

    #[test]
    fn rows_have_a_bound_and_the_first_is_for_all_the_rest() {
        let (board, _file) = Scoreboard::create(1, 1).unwrap();
        let block = board.pool();
        let long = "x".repeat(NAME_LEN);
        block.give_row(&long);
        for number in 0..2 * POOL_ROWS {
            block.give_row(&format!("m:App{number}"));
        }
        let names = names(&block);
        assert_eq!(names.len(), POOL_ROWS);
        assert_eq!(names[..2], [OTHER.to_owned(), long]);
        assert_eq!(block.row_of("m:App3").unwrap().name(), "m:App3");
        for path in ["m:App100", "never:Named"] {
            assert_eq!(block.row_of(path).unwrap().name(), OTHER);
        }
    }

    #[test]
    fn names_too_long_to_be_kept_are_no_names() {
        let (board, _file) = Scoreboard::create(1, 1).unwrap();
        let block = board.pool();
        block.give_row(&"x".repeat(NAME_LEN + 1));
        assert_eq!(names(&block), [OTHER]);
        assert_eq!(block.rows().count(), 1);
    }

    #[test]
    fn what_a_dead_broker_had_is_counted_and_its_gauges_are_not_kept() {
        let (board, _file) = Scoreboard::create(1, 1).unwrap();
        let block = board.pool();
        block.give_row("a:A");
        let row = block.row_of("a:A").unwrap();
        row.set(CallGauge::Queued, 2);
        row.set(CallGauge::InFlight, 3);
        row.set(CallGauge::Workers, 4);
        block.set(PoolGauge::StashBytes, 100);
        block.broker_is_gone();
        assert_eq!(row.outcomes(CallOutcome::BrokerLost), 5);
        assert_eq!(row.gauge(CallGauge::InFlight), 0);
        assert_eq!(row.gauge(CallGauge::Workers), 4);
        assert_eq!(block.gauge(PoolGauge::StashBytes), 0);
        block.broker_is_gone();
        assert_eq!(row.outcomes(CallOutcome::BrokerLost), 5);
    }

    #[test]
    fn every_number_has_its_own_place() {
        let (board, file) = Scoreboard::create(2, 2).unwrap();
        let block = board.pool();
        for number in 0..POOL_ROWS {
            block.give_row(&format!("m:App{number}"));
        }
        for gauge in PoolGauge::ALL {
            block.set(*gauge, u64::MAX);
        }
        for counter in PoolCounter::ALL {
            block.count(*counter);
        }
        for place in 0..=STASH_OPERATIONS.len() {
            block.count_operations(place, 1);
        }
        for row in block.rows() {
            for gauge in CallGauge::ALL {
                row.set(*gauge, u64::MAX);
            }
            for outcome in CallOutcome::ALL {
                row.count(*outcome);
            }
            for kind in CallHistogram::ALL {
                row.record(*kind, Duration::MAX);
            }
        }
        let other = Scoreboard::attach(&file).expect("still one").pool();
        assert_eq!(names(&other)[1], "m:App0");
        assert!(other.operations().all(|(_, count)| count == 1));
        let one = |row: CallRow| {
            let ones = |outcome: &CallOutcome| row.outcomes(*outcome) == 1;
            let recorded = |kind: &CallHistogram| row.histogram(*kind).count() == 1;
            CallOutcome::ALL.iter().all(ones) && CallHistogram::ALL.iter().all(recorded)
        };
        assert!(other.rows().all(one));
        assert_eq!(board.workers().count(), 0);
    }
}
