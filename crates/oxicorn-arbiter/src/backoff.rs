//! How long to wait before starting what died again.
//!
//! The first young death is made good at once (somebody's `kill -9`, one bad request). Each further one doubles the
//! wait, so that a process that cannot live costs a fork every ten seconds and not a hundred a second.
//!
//! Deaths are counted in rounds, not one by one: when eight workers are killed in one blow, eight are started again at
//! once. A process knows the round it was started in; only the first young death of a round ends it and makes the wait
//! longer. Whoever dies later of the same round was started with the same hope and proves nothing more.

use std::time::Duration;

use crate::plan::timing::{BACKOFF_FIRST, BACKOFF_MAX, HEALTHY_AGE};

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Backoff {
    round: u32,
    failures: u32,
    not_before: Duration,
}

impl Backoff {
    /// To be kept with everything that is started now.
    pub(crate) const fn round(&self) -> u32 {
        self.round
    }

    pub(crate) const fn not_before(&self) -> Duration {
        self.not_before
    }

    pub(crate) fn allows(&self, now: Duration) -> bool {
        now >= self.not_before
    }

    /// How many rounds in a row have ended too soon.
    pub(crate) const fn failures(&self) -> u32 {
        self.failures
    }

    /// Something started in `round` at `started` is dead now. Gives the wait where that has become longer.
    pub(crate) fn handle_death(
        &mut self,
        round: u32,
        started: Duration,
        now: Duration,
    ) -> Option<Duration> {
        let young = now.saturating_sub(started) < HEALTHY_AGE;
        if !young || round != self.round {
            return None;
        }
        self.lengthen(now);
        let wait = self.not_before.saturating_sub(now);
        (!wait.is_zero()).then_some(wait)
    }

    /// The user has done something about it (a reload): hope anew.
    pub(crate) fn forgive(&mut self) {
        *self = Self {
            round: self.round.wrapping_add(1),
            ..Self::default()
        };
    }

    fn lengthen(&mut self, now: Duration) {
        if now >= self.not_before.saturating_add(HEALTHY_AGE) {
            self.failures = 0;
        }
        self.round = self.round.wrapping_add(1);
        self.failures = self.failures.saturating_add(1);
        self.not_before = now.saturating_add(wait_after(self.failures));
    }
}

/// How long to wait after so many failures in a row.
pub(crate) fn wait_after(failures: u32) -> Duration {
    match failures {
        0 | 1 => Duration::ZERO,
        // Seven doublings reach the maximum; more would only risk the shift.
        n => (BACKOFF_FIRST * (1 << (n - 2).min(7))).min(BACKOFF_MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dies_at_once(backoff: &mut Backoff, now: Duration) -> Duration {
        backoff.handle_death(backoff.round(), now, now);
        backoff.not_before().saturating_sub(now)
    }

    #[test]
    fn the_first_wait_is_none_then_doubles_to_ten_seconds() {
        let mut backoff = Backoff::default();
        let mut now = Duration::from_secs(100);
        let mut waits = Vec::new();
        for _ in 0..10 {
            let wait = dies_at_once(&mut backoff, now);
            waits.push(u64::try_from(wait.as_millis()).expect("short"));
            now += wait;
        }
        assert_eq!(
            waits,
            [0, 100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]
        );
    }

    #[test]
    fn deaths_of_one_round_count_once() {
        let mut backoff = Backoff::default();
        let round = backoff.round();
        let now = Duration::from_secs(5);
        for _ in 0..8 {
            backoff.handle_death(round, now, now);
        }
        assert!(backoff.allows(now));
    }

    #[test]
    fn an_old_one_does_not_count() {
        let mut backoff = Backoff::default();
        backoff.handle_death(0, Duration::ZERO, HEALTHY_AGE);
        assert_eq!(backoff, Backoff::default());
    }

    #[test]
    fn starts_over_after_a_healthy_period_and_after_a_reload() {
        let mut backoff = Backoff::default();
        let now = Duration::from_secs(5);
        dies_at_once(&mut backoff, now);
        let wait = dies_at_once(&mut backoff, now);
        assert_eq!(wait, BACKOFF_FIRST);
        let later = now + wait + HEALTHY_AGE;
        assert_eq!(dies_at_once(&mut backoff, later), Duration::ZERO);
        dies_at_once(&mut backoff, later);
        backoff.forgive();
        assert!(backoff.allows(later));
        assert_eq!(dies_at_once(&mut backoff, later), Duration::ZERO);
    }
}
