//! How fast a worker completes requests, learned from completions alone.
//!
//! Measured is the time between two completions while the worker has something to do. For one that works
//! on one request at a time that is the service time; for one with threads it is what a slot becoming free
//! takes, whether the threads sleep (service time over threads) or compete for the interpreter (service
//! time). That is the figure prefetch needs: a request placed n-th ahead waits n times it. While a worker
//! is not full it comes out too long, never too short, which errs towards strict dispatch.
//!
//! The driver reads responses in batches with one `now`: a batch shows as one long sample and many of
//! zero. An exponential mean takes that well, because the sum is right.

use crate::time::Nanos;

/// A sample weighs one sixteenth: a batch of sixteen is forgotten by two thirds after the next, so that
/// batches do not make the figure swing, and a change of pace shows within some dozen requests.
const WEIGHT: u64 = 16;

/// Not measured yet.
const UNKNOWN: u64 = u64::MAX;

/// An exponential mean, held multiplied by `WEIGHT` so that short times do not round away.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mean(u64);

impl Mean {
    const fn new() -> Self {
        Self(UNKNOWN)
    }

    fn add(&mut self, sample: Nanos) {
        self.0 = match self.0 {
            UNKNOWN => sample.saturating_mul(WEIGHT),
            scaled => (scaled - scaled / WEIGHT).saturating_add(sample),
        }
        .min(UNKNOWN - 1);
    }

    pub(crate) fn value(self) -> Option<Nanos> {
        (self.0 != UNKNOWN).then_some(self.0 / WEIGHT)
    }
}

#[derive(Debug)]
pub(crate) struct ServiceTime {
    /// With every sample cut to a cap, so that a single slow request among a thousand fast ones does not
    /// end prefetch for the next hundred. Where most are slow it reaches the cap, which is too long for
    /// any prefetch.
    typical: Mean,
    /// The plain mean: for estimates of how long a queue takes.
    mean: Mean,
}

impl ServiceTime {
    pub(crate) const fn new() -> Self {
        Self {
            typical: Mean::new(),
            mean: Mean::new(),
        }
    }

    pub(crate) fn add(&mut self, sample: Nanos, cap: Nanos) {
        self.typical.add(sample.min(cap));
        self.mean.add(sample);
    }

    pub(crate) fn typical(&self) -> Option<Nanos> {
        self.typical.value()
    }

    pub(crate) fn mean(&self) -> Option<Nanos> {
        self.mean.value()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAP: Nanos = 1_000_000;

    #[test]
    fn the_first_sample_is_taken_at_its_word() {
        let mut service_time = ServiceTime::new();
        assert_eq!(service_time.typical(), None);
        service_time.add(10_000, CAP);
        assert_eq!(service_time.typical(), Some(10_000));
    }

    #[test]
    fn batches_do_not_make_the_figure_swing_by_more_than_a_factor() {
        let mut service_time = ServiceTime::new();
        for request in 0..10_000_u32 {
            let sample = if request % 16 == 0 { 160_000 } else { 0 };
            service_time.add(sample, CAP);
            let typical = service_time.typical().unwrap_or(0);
            assert!(
                request < 500 || (5_000..20_000).contains(&typical),
                "{typical}"
            );
        }
    }

    #[test]
    fn one_slow_request_does_not_hide_a_thousand_fast_ones() {
        let mut service_time = ServiceTime::new();
        (0..100).for_each(|_| service_time.add(10_000, CAP));
        service_time.add(4_000_000_000, CAP);
        assert!(
            service_time
                .typical()
                .is_some_and(|typical| typical < 100_000)
        );
        assert!(service_time.mean().is_some_and(|mean| mean > 200_000_000));
    }

    #[test]
    fn endless_samples_do_not_overflow() {
        let mut service_time = ServiceTime::new();
        (0..100).for_each(|_| service_time.add(Nanos::MAX, Nanos::MAX));
        assert!(service_time.mean().is_some());
    }
}
