//! A clock that can be waited for in epoll: a timerfd.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags};

use crate::timespec;

/// Makes one that is not set. Non-blocking, close-on-exec.
pub fn create() -> io::Result<OwnedFd> {
    let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
    Ok(rustix::time::timerfd_create(
        TimerfdClockId::Monotonic,
        flags,
    )?)
}

/// Makes it readable at `time` of [`monotonic`](crate::time::monotonic); at once, if that has passed. What it
/// was set to before, and that it has rung, is forgotten.
pub fn set<Fd: AsFd>(clock: Fd, time: Duration) -> io::Result<()> {
    let setting = Itimerspec {
        it_interval: timespec(Duration::ZERO),
        // Zero would be never.
        it_value: timespec(time.max(Duration::from_nanos(1))),
    };
    rustix::time::timerfd_settime(clock, TimerfdTimerFlags::ABSTIME, &setting)?;
    Ok(())
}

/// Makes it unreadable; returns whether it had rung.
pub fn silence<Fd: AsFd>(clock: Fd) -> bool {
    let mut count = [0; 8];
    loop {
        match rustix::io::read(&clock, &mut count) {
            Ok(_) => return true,
            Err(Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::poll::{Polled, wait_readable};
    use crate::time::monotonic;

    /// Beyond any test.
    const LONG: Duration = Duration::from_mins(1);

    fn rings(clock: &OwnedFd, within: Duration) -> bool {
        let polled = wait_readable(&[clock.as_fd()], Some(within));
        !matches!(polled.unwrap(), Polled::TimedOut)
    }

    #[test]
    fn rings_when_its_time_has_come_and_not_before() {
        let clock = create().unwrap();
        assert!(!rings(&clock, Duration::ZERO) && !silence(&clock));
        let time = monotonic() + Duration::from_millis(2);
        set(&clock, time).unwrap();
        assert!(rings(&clock, LONG) && monotonic() >= time);
        assert!(silence(&clock) && !silence(&clock));
        set(&clock, Duration::ZERO).unwrap();
        assert!(rings(&clock, LONG));
    }

    #[test]
    fn forgets_what_it_was_set_to_before() {
        let clock = create().unwrap();
        set(&clock, monotonic()).unwrap();
        assert!(rings(&clock, LONG));
        set(&clock, monotonic() + 60 * LONG).unwrap();
        assert!(!rings(&clock, Duration::ZERO) && !silence(&clock));
    }
}
