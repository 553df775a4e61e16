//! How long a worker may take until it is ready.
//!
//! `boot_timeout`; but whoever ran over it may only have a lot to load, and killing it again and again at the same age
//! would mean that it never serves. So each time all the time there was did not suffice the next ones get twice as much,
//! up to a bound. What hangs for good is found a little later each time, which is also its back-off.
//!
//! Workers are told their time when they are started. Of several that run over the same time only the first proves
//! anything. A boot that fits into `boot_timeout` again ends the patience.

use std::time::Duration;

use crate::plan::timing::BOOT_DOUBLINGS;

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct BootPatience {
    doublings: u32,
}

impl BootPatience {
    /// What who is started now may take; `None`: any time.
    pub(crate) fn limit(&self, timeout: Duration) -> Option<Duration> {
        (!timeout.is_zero()).then(|| timeout.saturating_mul(1 << self.doublings))
    }

    /// Somebody was not ready after `given`.
    pub(crate) fn handle_overdue(&mut self, given: Duration, timeout: Duration) {
        if self.limit(timeout) == Some(given) {
            self.doublings = (self.doublings + 1).min(BOOT_DOUBLINGS);
        }
    }

    /// Somebody was ready after `taken`.
    pub(crate) fn handle_ready(&mut self, taken: Duration, timeout: Duration) {
        if taken <= timeout {
            self.doublings = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(30);

    fn limit(patience: &BootPatience) -> u64 {
        patience.limit(TIMEOUT).expect("a limit").as_secs()
    }

    #[test]
    fn whoever_runs_over_it_gives_the_next_ones_twice_as_much_up_to_a_bound() {
        let mut patience = BootPatience::default();
        let mut limits = Vec::new();
        for _ in 0..6 {
            limits.push(limit(&patience));
            patience.handle_overdue(patience.limit(TIMEOUT).expect("a limit"), TIMEOUT);
        }
        assert_eq!(limits, [30, 60, 120, 240, 480, 480]);
    }

    #[test]
    fn those_who_were_given_as_much_prove_nothing_more() {
        let mut patience = BootPatience::default();
        for _ in 0..8 {
            patience.handle_overdue(TIMEOUT, TIMEOUT);
        }
        assert_eq!(limit(&patience), 60);
    }

    #[test]
    fn a_slow_boot_keeps_it_and_a_quick_one_ends_it() {
        let mut patience = BootPatience::default();
        patience.handle_overdue(TIMEOUT, TIMEOUT);
        patience.handle_ready(TIMEOUT * 3 / 2, TIMEOUT);
        assert_eq!(limit(&patience), 60);
        patience.handle_ready(TIMEOUT / 2, TIMEOUT);
        assert_eq!(limit(&patience), 30);
    }

    #[test]
    fn without_timeout_there_is_no_limit() {
        let mut patience = BootPatience::default();
        assert_eq!(patience.limit(Duration::ZERO), None);
        patience.handle_overdue(TIMEOUT, Duration::ZERO);
        patience.handle_ready(TIMEOUT, Duration::ZERO);
        assert_eq!(patience, BootPatience::default());
    }
}
