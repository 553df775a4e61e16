//! Whether a client sends, or takes, fast enough.
//!
//! Decides by spans of time: in each of them so many bytes a second must have moved on average, and
//! one at least. A span is one deadline and one number, looked at when it ends; moving bytes costs
//! nothing. Who is fast in one span gains nothing for the next, so nobody who stops is kept for
//! longer than two spans.

use std::time::Duration;

/// What must move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MinRate {
    /// Zero: nothing is demanded.
    pub(crate) span: Duration,
    /// Bytes in a second of it.
    pub(crate) rate: u32,
}

impl MinRate {
    fn least(self) -> u64 {
        let bytes = self.span.as_secs_f64() * f64::from(self.rate);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "positive, and a float beyond the range becomes the largest number"
        )]
        let bytes = bytes as u64;
        bytes.max(1)
    }

    /// When a span that begins `now` ends.
    pub(crate) fn deadline(self, now: Duration) -> Option<Duration> {
        (!self.span.is_zero()).then(|| now + self.span)
    }
}

/// Where a span began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct RateSpan {
    moved: u64,
}

impl RateSpan {
    /// A span begins; `moved` bytes have moved before it.
    pub(crate) fn begin(moved: u64) -> Self {
        Self { moved }
    }

    /// The span is over: whether enough of the `moved` bytes moved in it.
    pub(crate) fn meets(self, demand: MinRate, moved: u64) -> bool {
        moved.saturating_sub(self.moved) >= demand.least()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demand(seconds: u64, rate: u32) -> MinRate {
        MinRate {
            span: Duration::from_secs(seconds),
            rate,
        }
    }

    #[test]
    fn the_average_over_the_span_counts() {
        let span = RateSpan::begin(1000);
        assert!(span.meets(demand(10, 100), 2000));
        assert!(!span.meets(demand(10, 100), 1999));
    }

    #[test]
    fn one_byte_at_least_must_move() {
        let span = RateSpan::begin(7);
        assert!(!span.meets(demand(10, 0), 7));
        assert!(span.meets(demand(10, 0), 8));
    }

    /// In which span a program is cut that reads `rate` bytes a second, and whose machine takes a `buffer`
    /// at once and a `part` again whenever so much was read. Not in many: never.
    fn cut_in_span(demand: MinRate, buffer: u64, part: u64, rate: u64) -> Option<u64> {
        let span = demand.span.as_secs();
        let acknowledged = |spans: u64| match spans {
            0 => 0,
            _ => buffer + rate * span * spans / part * part,
        };
        let mut span = RateSpan::begin(acknowledged(0));
        (1..=500).find(|&spans| {
            let meets = span.meets(demand, acknowledged(spans));
            span = RateSpan::begin(acknowledged(spans));
            !meets
        })
    }

    #[test]
    fn who_stops_has_two_spans_and_who_is_slow_as_many_as_its_machine_covers() {
        let demand = demand(10, 100);
        let least = demand.least();
        for buffer in [1, 500, 2000, 4096, 65536, 6 << 20] {
            for part in [1, 100, 536, 1448, 2048, 32768] {
                let stops = cut_in_span(demand, buffer, part, 0);
                assert!(stops.is_some_and(|span| span <= 2), "{buffer} {stops:?}");
                for rate in 1..100 {
                    let covered = (buffer + part) / (least - rate * 10);
                    let cut = cut_in_span(demand, buffer, part, rate);
                    let is_in_time = cut.is_some_and(|span| span <= covered + 1);
                    assert!(is_in_time, "{buffer} {part} {rate}: {cut:?}");
                }
                let fast_enough = (least + part).div_ceil(10);
                let machine_is_larger = buffer >= least;
                if machine_is_larger {
                    assert_eq!(cut_in_span(demand, buffer, part, fast_enough), None);
                }
            }
        }
    }

    #[test]
    fn without_a_span_there_is_no_deadline() {
        assert_eq!(demand(0, 100).deadline(Duration::from_secs(5)), None);
        assert_eq!(
            demand(2, 100).deadline(Duration::from_secs(5)),
            Some(Duration::from_secs(7))
        );
    }
}
