//! A gauge's numbers: one for each process that has the gauge, in an entry of its own.
//!
//! An entry belongs to a process until that has ended. Then the next one that wants such an entry takes it, and what
//! the one before left is kept beside the new number, as far as the mode wants the dead to count. So there are not more
//! entries than there ever were processes at a time, however many come and go. Where each process is shown by itself
//! (`all`), the numbers of the last [`DEPARTED_SHOWN`] that have ended stay.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use super::{
    EntryKind, Index, MetricStore, Number, Owner, Series, StoreFull, add, hash, load, store,
};
use crate::wire_enum::wire_enum;

wire_enum! {
    /// What is made of the numbers of several processes: the modes of `prometheus_client`. Those that begin with
    /// `live` forget a process that has ended.
    GaugeMode {
        /// Each by itself, with a label `pid`.
        All = 1,
        /// The same, of those that live.
        LiveAll = 2,
        /// The smallest.
        Min = 3,
        /// The smallest of those that live.
        LiveMin = 4,
        /// The greatest.
        Max = 5,
        /// The greatest of those that live.
        LiveMax = 6,
        /// The sum.
        Sum = 7,
        /// The sum over those that live.
        LiveSum = 8,
        /// The one set last.
        MostRecent = 9,
        /// The one set last by one that lives.
        LiveMostRecent = 10,
    }
}

impl GaugeMode {
    /// Its name in `prometheus_client`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::LiveAll => "liveall",
            Self::Min => "min",
            Self::LiveMin => "livemin",
            Self::Max => "max",
            Self::LiveMax => "livemax",
            Self::Sum => "sum",
            Self::LiveSum => "livesum",
            Self::MostRecent => "mostrecent",
            Self::LiveMostRecent => "livemostrecent",
        }
    }

    /// The mode of this name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|mode| mode.name() == name)
    }

    /// Whether processes that have ended do not count.
    pub(super) const fn is_live(self) -> bool {
        matches!(
            self,
            Self::LiveAll | Self::LiveMin | Self::LiveMax | Self::LiveSum | Self::LiveMostRecent
        )
    }
}

/// Of a gauge with the mode `all`: how many processes that have ended are still shown.
const DEPARTED_SHOWN: usize = 64;

/// How often an entry that is changing hands is looked at before it is taken as it is.
const LOOKS: usize = 100;

/// Numbers of an entry.
pub(super) const CELLS: usize = 6;
const OWNER: usize = 0;
/// Odd while the entry changes hands.
const CHANGE: usize = 1;
const VALUE: usize = 2;
/// When the value was set, in seconds since 1970; 0: not said.
const TIME: usize = 3;
/// What those before left.
const LEFT: usize = 4;
/// When that was set; 0: nobody left anything.
const LEFT_TIME: usize = 5;

/// Stands for the time of what was left where no time was given.
const SOME_TIME: f64 = f64::MIN_POSITIVE;

/// A gauge's entry, as it was found.
#[derive(Debug, Clone, Copy)]
pub(super) struct GaugeReading {
    pub(super) owner: Owner,
    pub(super) value: f64,
    pub(super) time: f64,
    /// Of those before, and when it was set.
    pub(super) left: Option<(f64, f64)>,
}

impl MetricStore {
    /// This process's number of a gauge; 0 at first. Not to be called by two threads of a process at once.
    pub fn gauge(&self, series: &Series, owner: Owner) -> Result<Number, StoreFull> {
        let key = self.key_of(series)?;
        let mode = series.family.mode.unwrap_or(GaugeMode::All);
        let hash = hash(&key);
        let first = self.bucket(hash).load(Acquire);
        let mut departed = Vec::new();
        for index in self.chain(first) {
            if !self.is(index, EntryKind::Gauge, hash, &key) {
                continue;
            }
            let found = Owner::of_word(self.cell(index, OWNER).load(Acquire));
            if found == owner {
                return Ok(Number(index));
            }
            if !found.is_alive() {
                departed.push((found, index));
            }
        }
        // Where the dead are shown, the one that was started first has been shown for long enough.
        departed.sort_unstable_by_key(|(owner, _)| owner.started);
        let spare = if mode == GaugeMode::All {
            DEPARTED_SHOWN
        } else {
            0
        };
        if departed.len() > spare
            && let Some(index) = self.take_over(&departed, mode, owner)
        {
            return Ok(Number(index));
        }
        let cells = [owner.to_word(), 0, 0, 0, 0, 0];
        match self.insert(hash, &key, &cells) {
            Ok(index) => Ok(Number(index)),
            Err(full) => self
                .take_over(&departed, mode, owner)
                .map(Number)
                .ok_or(full),
        }
    }

    fn take_over(&self, from: &[(Owner, Index)], mode: GaugeMode, owner: Owner) -> Option<Index> {
        let (_, index) = from.iter().find(|(found, index)| {
            let cell = self.cell(*index, OWNER);
            cell.compare_exchange(found.to_word(), owner.to_word(), AcqRel, Relaxed)
                .is_ok()
        })?;
        let change = self.cell(*index, CHANGE);
        let odd = change.load(Relaxed) | 1;
        change.store(odd, Release);
        self.keep_what_was_left(*index, mode);
        change.store(odd.wrapping_add(1), Release);
        Some(*index)
    }

    fn keep_what_was_left(&self, index: Index, mode: GaugeMode) {
        let cell = |number| self.cell(index, number);
        let (value, time) = (load(cell(VALUE)), load(cell(TIME)));
        let (left, left_time) = (load(cell(LEFT)), load(cell(LEFT_TIME)));
        let is_first = left_time == 0.0;
        let kept = match mode {
            GaugeMode::Sum => Some((left + value, SOME_TIME)),
            GaugeMode::Min if is_first || value < left => Some((value, SOME_TIME)),
            GaugeMode::Max if is_first || value > left => Some((value, SOME_TIME)),
            GaugeMode::MostRecent if time > left_time => Some((value, time)),
            _ => None,
        };
        if let Some((value, time)) = kept {
            store(cell(LEFT), value);
            store(cell(LEFT_TIME), time);
        }
        store(cell(VALUE), 0.0);
        store(cell(TIME), 0.0);
    }

    /// Sets a gauge of this process. `time` in seconds since 1970, 0: not said.
    pub fn set_gauge(&self, number: Number, value: f64, time: f64) {
        store(self.cell(number.0, VALUE), value);
        store(self.cell(number.0, TIME), time);
    }

    /// Adds to a gauge of this process.
    pub fn add_gauge(&self, number: Number, amount: f64) {
        add(self.cell(number.0, VALUE), amount);
    }

    /// A gauge of this process as it is now.
    pub fn get_gauge(&self, number: Number) -> f64 {
        load(self.cell(number.0, VALUE))
    }

    pub(super) fn read_gauge(&self, index: Index) -> GaugeReading {
        let cell = |number| self.cell(index, number);
        let mut looks = 0;
        loop {
            let change = cell(CHANGE).load(Acquire);
            let left = (load(cell(LEFT)), load(cell(LEFT_TIME)));
            let reading = GaugeReading {
                owner: Owner::of_word(cell(OWNER).load(Relaxed)),
                value: load(cell(VALUE)),
                time: load(cell(TIME)),
                left: (left.1 != 0.0).then_some(left),
            };
            std::sync::atomic::fence(Acquire);
            looks += 1;
            // Who changed it may have died over it.
            let is_whole = change.is_multiple_of(2) && cell(CHANGE).load(Relaxed) == change;
            if is_whole || looks == LOOKS {
                return reading;
            }
            std::hint::spin_loop();
        }
    }
}
