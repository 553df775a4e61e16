//! How long things took: counts in buckets whose width grows with the value.
//!
//! Microseconds; four buckets for each doubling, so a value is known to a quarter. The last bucket
//! takes what is longer than an hour and three quarters.

use std::sync::atomic::Ordering;
use std::time::Duration;

use oxicorn_os::mapping::Mapping;

use super::{add, read};

/// Number of buckets: with the sum they fill whole cache lines.
pub const BUCKETS: usize = 127;

/// Bytes of a histogram: the sum, the buckets.
pub(super) const LEN: usize = (BUCKETS + 1) * 8;
const SUM: usize = 0;
const BUCKETS_AT: usize = 8;

/// Buckets of one doubling, as a power of two.
const PARTS_LOG2: u32 = 2;
const PARTS: u64 = 1 << PARTS_LOG2;

/// 0, 1, 2, 3 have a bucket each; then 4, 5, 6, 7; 8-9, 10-11, 12-13, 14-15; 16-19 ...
fn bucket(micros: u64) -> usize {
    let doubling = (micros | 1).ilog2().saturating_sub(PARTS_LOG2);
    let index = u64::from(doubling) * PARTS + (micros >> doubling);
    usize::try_from(index).unwrap_or(BUCKETS).min(BUCKETS - 1)
}

/// The least value that belongs to a later bucket.
fn upper_bound(bucket: usize) -> u64 {
    let next = bucket as u64 + 1;
    if next < PARTS {
        return next;
    }
    let doubling = next / PARTS - 1;
    (next - doubling * PARTS) << doubling
}

fn micros(duration: Duration) -> u64 {
    let seconds = duration.as_secs().saturating_mul(1_000_000);
    seconds.saturating_add(duration.subsec_micros().into())
}

/// Counts one.
pub(super) fn record(mapping: &Mapping, at: usize, duration: Duration) {
    let micros = micros(duration);
    add(mapping, at + SUM, micros);
    add(mapping, at + BUCKETS_AT + bucket(micros) * 8, 1);
}

/// Counts one where others count at the same time.
pub(super) fn record_with_others(mapping: &Mapping, at: usize, duration: Duration) {
    let micros = micros(duration);
    let more = |at, number| mapping.atomic_u64(at).fetch_add(number, Ordering::Relaxed);
    more(at + SUM, micros);
    more(at + BUCKETS_AT + bucket(micros) * 8, 1);
}

/// Reads all of it.
pub(super) fn read_all(mapping: &Mapping, at: usize) -> HistogramReading {
    HistogramReading {
        sum_micros: read(mapping, at + SUM),
        counts: std::array::from_fn(|bucket| read(mapping, at + BUCKETS_AT + bucket * 8)),
    }
}

/// What a histogram says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistogramReading {
    /// Sum of all values, in microseconds.
    pub sum_micros: u64,
    counts: [u64; BUCKETS],
}

impl HistogramReading {
    /// Number of values.
    pub fn count(&self) -> u64 {
        let counts = self.counts.iter();
        counts.fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// (upper bound, exclusive, in microseconds; number of values) of each bucket. The last one has
    /// no bound: `None`.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<u64>, u64)> + '_ {
        let bound = |bucket| (bucket + 1 < BUCKETS).then(|| upper_bound(bucket));
        self.counts
            .iter()
            .enumerate()
            .map(move |(bucket, count)| (bound(bucket), *count))
    }

    /// A duration that at least this part (0 to 1) of the values did not reach; zero if there are
    /// none.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "a bucket is not more exact than that"
    )]
    pub fn quantile(&self, part: f64) -> Duration {
        let wanted = (self.count() as f64 * part.clamp(0.0, 1.0)).ceil() as u64;
        let mut seen = 0_u64;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen = seen.saturating_add(*count);
            if *count > 0 && seen >= wanted {
                return Duration::from_micros(upper_bound(bucket));
            }
        }
        Duration::ZERO
    }

    /// What was recorded after `before` was read.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self {
            sum_micros: self.sum_micros.wrapping_sub(before.sum_micros),
            counts: std::array::from_fn(|bucket| {
                self.counts[bucket].wrapping_sub(before.counts[bucket])
            }),
        }
    }

    /// Adds the values of another thread's.
    pub fn merge(&mut self, other: &Self) {
        self.sum_micros = self.sum_micros.wrapping_add(other.sum_micros);
        for (mine, theirs) in self.counts.iter_mut().zip(other.counts) {
            *mine = mine.wrapping_add(theirs);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_each_other_without_gap() {
        for bucket_number in 0..BUCKETS - 1 {
            let bound = upper_bound(bucket_number);
            assert_eq!(bucket(bound - 1), bucket_number, "{bound}");
            assert_eq!(bucket(bound), bucket_number + 1, "{bound}");
        }
        assert_eq!(bucket(0), 0);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
        assert!(
            upper_bound(BUCKETS - 2) > 6300 * 1_000_000,
            "an hour and three quarters"
        );
    }

    #[test]
    fn quantiles_are_known_to_a_quarter() {
        let (board, _file) = crate::scoreboard::Scoreboard::create(1, 1).unwrap();
        let block = board.gateway(0).unwrap();
        let kind = super::super::HistogramKind::Latency;
        assert_eq!(block.histogram(kind).quantile(0.5), Duration::ZERO);
        for millis in 1..=100 {
            block.record(kind, Duration::from_millis(millis));
        }
        let mut reading = block.histogram(kind);
        assert_eq!((reading.count(), reading.sum_micros), (100, 5_050_000));
        for percent in [1_u32, 50, 99, 100] {
            let exact = Duration::from_millis(percent.into());
            let shown = reading.quantile(f64::from(percent) / 100.0);
            assert!(shown > exact && shown <= exact * 5 / 4 + Duration::from_micros(1));
        }
        assert_eq!(reading.buckets().map(|(_, count)| count).sum::<u64>(), 100);
        let before = reading.clone();
        reading.merge(&reading.clone());
        assert_eq!(reading.count(), 200);
        assert_eq!(reading.since(&before), before);
    }
}
