//! Lines in the error log that clients cause: as many as help, not as many as they can cause.
//!
//! Decides which are left out. Every second has room for [`LINES`]; how many more there were is said
//! when the second is over. A state that lasts is said when it begins and once in [`STANDING`] after that,
//! however often clients run into it. The access log is not touched: it has one line for each request.

use std::fmt;
use std::time::Duration;

use crate::config::settings::Level;
use crate::gateway::Gateway;

/// Lines in a second. A day of them is some 100 MB.
const LINES: u32 = 10;

/// What the lines are counted over.
const SPAN: Duration = Duration::from_secs(1);

/// How often is said that a state lasts.
const STANDING: Duration = Duration::from_mins(1);

/// A state that clients bring about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// As many connections as may be: idle ones are closed for new ones.
    ConnectionsClosed,
    /// The same, and none is idle.
    ConnectionsWait,
    /// Clients do not read, and there is no room for what waits for them.
    ResponsesWait,
}

/// The count.
#[derive(Debug, Default)]
pub(crate) struct LogThrottle {
    /// When each [`Standing`] was said last.
    said: [Option<Duration>; 3],
    since: Duration,
    written: u32,
    left_out: u64,
}

impl LogThrottle {
    /// Whether one more line may be written.
    fn take(&mut self) -> bool {
        let room = self.written < LINES;
        if room {
            self.written += 1;
        } else {
            self.left_out += 1;
        }
        room
    }

    /// Whether this is to be said now.
    fn says(&mut self, what: Standing, now: Duration) -> bool {
        let said = &mut self.said[what as usize];
        let again = said.is_none_or(|before| before + STANDING <= now);
        if again {
            *said = Some(now);
        }
        again
    }

    /// Begins anew if the span is over; how many lines were left out in it.
    fn renew(&mut self, now: Duration) -> u64 {
        if now < self.since + SPAN {
            return 0;
        }
        self.since = now;
        self.written = 0;
        std::mem::take(&mut self.left_out)
    }
}

impl Gateway {
    /// A warning that a client caused.
    pub(crate) fn warn_of_client(&mut self, text: fmt::Arguments<'_>) {
        if self.error_log.shows(Level::Warning) && self.log_throttle.take() {
            self.error_log.warning(text);
        }
    }

    /// A warning of a state that clients bring about again and again as long as it lasts.
    pub(crate) fn warn_of_state(&mut self, what: Standing, text: fmt::Arguments<'_>) {
        if self.log_throttle.says(what, self.clock.now()) {
            self.error_log.warning(text);
        }
    }

    /// Says what was left out, once a second.
    pub(crate) fn renew_plaints(&mut self, now: Duration) {
        let left_out = self.log_throttle.renew(now);
        if left_out > 0 {
            self.error_log.warning(format_args!(
                "{left_out} more warnings about clients were left out"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_room_for_so_many_lines_and_tells_of_the_rest() {
        let mut log_throttle = LogThrottle::default();
        let start = Duration::from_secs(100);
        assert_eq!(log_throttle.renew(start), 0);
        let taken = (0..LINES + 5).filter(|_| log_throttle.take()).count();
        assert_eq!(taken, LINES as usize);
        assert_eq!(log_throttle.renew(start + SPAN / 2), 0, "not over yet");
        assert!(!log_throttle.take());
        assert_eq!(log_throttle.renew(start + SPAN), 6);
        assert!(log_throttle.take());
    }

    #[test]
    fn a_state_that_lasts_is_said_once_a_minute() {
        let mut log_throttle = LogThrottle::default();
        let start = Duration::from_secs(100);
        let said = |log_throttle: &mut LogThrottle, after: u32| {
            log_throttle.says(Standing::ConnectionsClosed, start + SPAN * after)
        };
        let times: Vec<u32> = (0..150)
            .filter(|after| said(&mut log_throttle, *after))
            .collect();
        assert_eq!(times, [0, 60, 120]);
        assert!(
            log_throttle.says(Standing::ConnectionsWait, start),
            "another state"
        );
    }
}
