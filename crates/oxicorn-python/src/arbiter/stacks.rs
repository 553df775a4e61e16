//! Collecting the Python stacks of a worker or template that stands still.
//!
//! The process's C-level signal handler (`faulthandler`) writes them into a memory file that the arbiter
//! made, and a handler behind it that they are whole ([`oxicorn_os::signals::DUMP_END`]). Where that mark does not come,
//! what has not grown for [`SETTLED`] is taken to be whole.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use oxicorn_os::signals::DUMP_END;

/// A dump that has not grown for so long is complete.
const SETTLED: Duration = Duration::from_secs(1);

/// Between two looks whether it is there.
const LOOK: Duration = Duration::from_millis(4);

/// How long is waited for a dump at most: a process that does not run writes none, and one on a busy machine, which is
/// where workers stand still, may have to wait for its turn.
const PATIENCE: Duration = Duration::from_secs(2);

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
    looked: Duration,
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
            looked: now,
            until: now + PATIENCE,
        }
    }

    /// When to look again.
    pub(crate) fn next_look(&self) -> Duration {
        (self.looked + LOOK).min(self.until)
    }

    /// The text, once it is complete; `Some` of nothing if none came.
    pub(crate) fn poll(&mut self, now: Duration) -> Option<String> {
        self.looked = now;
        let length = self.file.metadata().map_or(0, |found| found.len());
        if length != self.length {
            self.length = length;
            self.unchanged_since = now;
        }
        let text = self.read().unwrap_or_default();
        if let Some(whole) = text.strip_suffix(DUMP_END) {
            return Some(whole.to_owned());
        }
        let settled = length > 0 && now >= self.unchanged_since + SETTLED;
        (settled || now >= self.until).then_some(text)
    }

    /// Through a position of its own: that of the descriptor is the writer's.
    fn read(&self) -> io::Result<String> {
        let mut bytes = Vec::new();
        let length = usize::try_from(self.length.min(LONGEST)).unwrap_or(0);
        bytes.resize(length, 0);
        let read = self.file.read_at(&mut bytes, 0)?;
        bytes.truncate(read);
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}
