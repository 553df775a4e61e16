//! Collecting the Python stacks of a worker or template that stands still.
//!
//! The process's C-level signal handler (`faulthandler`) writes them into a memory file that the arbiter
//! made. There is no sign that it has finished; what has not grown for [`SETTLED`] is taken to be whole.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::time::Duration;

/// A dump that has not grown for so long is complete.
const SETTLED: Duration = Duration::from_millis(20);

/// How long is waited for a dump at most: a process that does not run writes none.
const PATIENCE: Duration = Duration::from_millis(500);

/// The longest dump that goes into the log, in bytes.
const LONGEST: u64 = 256 * 1024;

/// A dump that was asked for.
#[derive(Debug)]
pub(crate) struct PendingDump {
    /// What kind of process it is.
    pub(crate) who: &'static str,
    pub(crate) pid: i32,
    file: File,
    length: u64,
    unchanged_since: Duration,
    until: Duration,
}

impl PendingDump {
    /// The dump of `pid` was asked for just before `now`; `file` is where it appears.
    pub(crate) fn new(who: &'static str, pid: i32, file: OwnedFd, now: Duration) -> Self {
        let file = File::from(file);
        Self {
            who,
            pid,
            file,
            length: 0,
            unchanged_since: now,
            until: now + PATIENCE,
        }
    }

    /// When to look again.
    pub(crate) fn next_look(&self) -> Duration {
        (self.unchanged_since + SETTLED).min(self.until)
    }

    /// The text, once it is complete; `Some` of nothing if none came.
    pub(crate) fn poll(&mut self, now: Duration) -> Option<String> {
        let length = self.file.metadata().map_or(0, |found| found.len());
        if length != self.length {
            self.length = length;
            self.unchanged_since = now;
        }
        let settled = length > 0 && now >= self.unchanged_since + SETTLED;
        if settled || now >= self.until {
            return Some(self.read().unwrap_or_default());
        }
        // Looked at, nothing yet: the next look is due a while from now.
        self.unchanged_since = if length == 0 {
            now
        } else {
            self.unchanged_since
        };
        None
    }

    fn read(&mut self) -> io::Result<String> {
        let mut bytes = Vec::new();
        self.file.seek(SeekFrom::Start(0))?;
        (&self.file).take(LONGEST).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}
