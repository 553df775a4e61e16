//! How a worker that accepts connections itself is told to go while others go on listening.
//!
//! Servers that stop close connections that have not sent a request yet, also those just accepted, whose requests are on
//! their way. So first the kernel gives it no more connections: its listeners are taken out of whatever it waits at. What
//! comes from then on is the others'. When the requests of those it has accepted have come, it has its TERM, as Gunicorn's
//! workers have it at once.
//!
//! A class that waits otherwise (`select`, a blocking `accept`) goes on accepting until its TERM.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{io, thread};

use oxicorn_os::{epoll, process, signals};

use super::Serving;

/// How long a request may be on its way to a connection that is accepted.
const REQUEST_GRACE: Duration = Duration::from_secs(1);
/// How often the listeners are taken out: a server that had stopped accepting for a moment puts them in again.
const LOOK: Duration = Duration::from_millis(250);

/// See the head of this file.
pub(crate) struct Leaving {
    /// Their inodes: whatever duplicates of them the class has made.
    listeners: Vec<u64>,
    serving: Arc<dyn Serving>,
    grace: Duration,
}

impl Leaving {
    /// `graceful_timeout` is how long the worker has for all of its end.
    pub(crate) fn new<F: AsFd>(
        listeners: impl Iterator<Item = F>,
        serving: Arc<dyn Serving>,
        graceful_timeout: Duration,
    ) -> io::Result<Self> {
        let inode = |listener: F| -> io::Result<u64> {
            let file = File::from(listener.as_fd().try_clone_to_owned()?);
            Ok(file.metadata()?.ino())
        };
        Ok(Self {
            listeners: listeners.map(inode).collect::<io::Result<_>>()?,
            serving,
            grace: REQUEST_GRACE.min(graceful_timeout / 2),
        })
    }

    /// On a thread of its own, or at once where there can be none.
    pub(crate) fn begin(self) {
        let Self {
            listeners,
            serving,
            grace,
        } = self;
        let stopped = Arc::clone(&serving);
        let leave = move || {
            let until = Instant::now() + grace;
            loop {
                // Where they cannot be found, connections come until TERM.
                let _ = epoll::silence_everywhere(&listeners);
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                thread::sleep(left.min(LOOK));
            }
            end(&*serving);
        };
        if signals::spawn_without_signals("oxicorn-leaving", leave).is_err() {
            end(&*stopped);
        }
    }
}

/// As the arbiter tells it otherwise: by the signal, then by the release.
fn end(serving: &dyn Serving) {
    let _ = process::kill(process::id(), libc::SIGTERM);
    serving.stop();
}
