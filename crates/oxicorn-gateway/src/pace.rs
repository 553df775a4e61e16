//! Whether a client sends, or takes, fast enough.
//!
//! Decides by spans of time: in each of them so many bytes a second must have moved on average, and
//! one at least. A span is one deadline and one number, looked at when it ends; moving bytes costs
//! nothing. Who is fast in one span gains nothing for the next, so nobody who stops is kept for
//! longer than two spans.

use std::time::Duration;

/// What must move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Demand {
    /// Zero: nothing is demanded.
    pub(crate) span: Duration,
    /// Bytes in a second of it.
    pub(crate) rate: u32,
}

impl Demand {
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
pub(crate) struct Pace {
    moved: u64,
}

impl Pace {
    /// A span begins; `moved` bytes have moved before it.
    pub(crate) fn begin(moved: u64) -> Self {
        Self { moved }
    }

    /// The span is over: whether enough of the `moved` bytes moved in it.
    pub(crate) fn meets(self, demand: Demand, moved: u64) -> bool {
        moved.saturating_sub(self.moved) >= demand.least()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn demand(seconds: u64, rate: u32) -> Demand {
        Demand {
            span: Duration::from_secs(seconds),
            rate,
        }
    }

    #[test]
    fn the_average_over_the_span_counts() {
        let pace = Pace::begin(1000);
        assert!(pace.meets(demand(10, 100), 2000));
        assert!(!pace.meets(demand(10, 100), 1999));
    }

    #[test]
    fn one_byte_at_least_must_move() {
        let pace = Pace::begin(7);
        assert!(!pace.meets(demand(10, 0), 7));
        assert!(pace.meets(demand(10, 0), 8));
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
