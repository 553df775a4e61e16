//! Waiting for a word of shared memory to change.
//!
//! Not private: the word lies in memory that another process has mapped too, at another address.

use std::io;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use rustix::io::Errno;
use rustix::thread::futex;

use crate::timespec;

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Somebody called [`wake`].
    Woken,
    /// The word had not the expected value: no wait took place.
    Changed,
    /// The time is over.
    TimedOut,
    /// A signal handler ran in this thread.
    Interrupted,
}

/// Longest single wait. A wait without any timeout would be restarted by the kernel behind the
/// caller's back after a handler that was installed with `SA_RESTART`; one with a timeout is not.
const LONGEST: Duration = Duration::from_hours(24);

/// Sleeps as long as `word` is `expected` and nobody wakes us, at most for `timeout`.
pub fn wait(word: &AtomicU32, expected: u32, timeout: Duration) -> io::Result<Wait> {
    let timeout = timespec(timeout.min(LONGEST));
    match futex::wait(word, futex::Flags::empty(), expected, Some(&timeout)) {
        Ok(()) => Ok(Wait::Woken),
        Err(Errno::AGAIN) => Ok(Wait::Changed),
        Err(Errno::TIMEDOUT) => Ok(Wait::TimedOut),
        Err(Errno::INTR) => Ok(Wait::Interrupted),
        Err(error) => Err(error.into()),
    }
}

/// Wakes at most `count` of those who wait for `word`; returns how many. Async-signal-safe.
pub fn wake(word: &AtomicU32, count: u32) -> usize {
    // It can only fail for an address that is not mapped or not aligned, which a reference is.
    futex::wake(word, futex::Flags::empty(), count).unwrap_or(0)
}

/// As `count` of [`wake`]: everybody.
pub const EVERYBODY: u32 = i32::MAX as u32;

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::{mapping::Mapping, memfd};

    #[test]
    fn wait_for_a_changed_word_returns_at_once() {
        let word = AtomicU32::new(1);
        assert_eq!(
            wait(&word, 0, Duration::from_mins(1)).unwrap(),
            Wait::Changed
        );
    }

    #[test]
    fn wait_ends_in_time() {
        let word = AtomicU32::new(0);
        assert_eq!(
            wait(&word, 0, Duration::from_millis(1)).unwrap(),
            Wait::TimedOut
        );
    }

    #[test]
    fn wake_through_another_mapping_reaches_the_waiter() {
        let file = memfd::create_sealed("test", 4096).unwrap();
        let (here, there) = (Mapping::new(&file).unwrap(), Mapping::new(&file).unwrap());
        let waiter = std::thread::spawn(move || {
            while there.atomic_u32(0).load(Ordering::Acquire) == 0 {
                wait(there.atomic_u32(0), 0, Duration::from_mins(1)).unwrap();
            }
        });
        here.atomic_u32(0).store(1, Ordering::Release);
        wake(here.atomic_u32(0), EVERYBODY);
        waiter.join().unwrap();
    }

    extern "C" fn do_nothing(_: libc::c_int) {}

    // With SA_RESTART, as libraries like to install handlers.
    fn install_handler(signal: i32) {
        // SAFETY: zero is a value for a sigaction; the handler does nothing at all.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = do_nothing as extern "C" fn(libc::c_int) as libc::sighandler_t;
            action.sa_flags = libc::SA_RESTART;
            assert_eq!(
                libc::sigaction(signal, &raw const action, std::ptr::null_mut()),
                0
            );
        }
    }

    #[test]
    fn signal_interrupts_a_wait() {
        install_handler(libc::SIGURG);
        let (tell, told) = std::sync::mpsc::channel();
        let waiter = std::thread::spawn(move || {
            // SAFETY: no preconditions.
            tell.send(unsafe { libc::pthread_self() }).unwrap();
            wait(&AtomicU32::new(0), 0, Duration::from_mins(1)).unwrap()
        });
        let thread = told.recv().unwrap();
        // Until it hits the thread while that waits.
        while !waiter.is_finished() {
            // SAFETY: the thread was not joined yet, so its handle is valid.
            unsafe { libc::pthread_kill(thread, libc::SIGURG) };
            std::thread::yield_now();
        }
        assert_eq!(waiter.join().unwrap(), Wait::Interrupted);
    }
}
