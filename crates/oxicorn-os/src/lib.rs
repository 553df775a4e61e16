//! System calls, one concern a file, all behind interfaces that a caller cannot misuse into
//! undefined behaviour (the two copies of [`mapping`] excepted: they say what they ask for).
//!
//! What it decides: nothing. It knows how the kernel is asked, how its answers are spelled, and
//! which of them are ordinary (a full buffer, an interrupted wait) and therefore values, not
//! errors. It does not know what oxicorn is.
//!
//! Linux is what it is written for. What other systems spell differently (memory files, futexes,
//! eventfds, timerfds, parent-death signals) is confined to the files named after it.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

pub mod cgroup;
pub mod channel;
pub mod epoll;
pub mod eventfd;
pub mod file;
pub mod forked;
pub mod futex;
pub mod heap;
pub mod inotify;
pub mod libraries;
pub mod listening;
pub mod mapping;
pub mod memfd;
pub mod poll;
pub mod privileges;
pub mod process;
pub mod random;
pub mod ranges;
pub mod rlimit;
pub mod send_batch;
pub mod sendfile;
pub mod signals;
pub mod small_file;
pub mod sockets;
pub mod stream;
pub mod tempfile;
pub mod time;
pub mod timerfd;
pub mod title;

use std::time::Duration;

use rustix::time::Timespec;

/// The kernel's form of a duration; what is too long for it waits as long as it can.
fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}
