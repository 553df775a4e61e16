//! Time inside this crate: nanoseconds since the driver's origin in one word, because every decision
//! compares times and `Duration` takes two. Five hundred years fit; beyond them it saturates.

use std::time::Duration;

pub(crate) type Nanos = u64;

/// Later than everything.
pub(crate) const NEVER: Nanos = Nanos::MAX;

const PER_SECOND: u64 = 1_000_000_000;

pub(crate) fn nanos(duration: Duration) -> Nanos {
    duration
        .as_secs()
        .saturating_mul(PER_SECOND)
        .saturating_add(u64::from(duration.subsec_nanos()))
}
