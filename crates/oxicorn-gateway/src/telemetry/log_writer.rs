//! A log file that may be slow without the event loop noticing.
//!
//! Decides what happens when lines come faster than the disk (or the pipe) takes them: they wait
//! in memory up to [`BACKLOG`], beyond it they are dropped and counted, and the count is written
//! when there is room again. Knows nothing of what the lines say.
//!
//! Theory of operation: the event loop collects lines in a buffer of its own, without a lock, and
//! hands the buffer over now and then (the coarse tick, a full buffer, at once for errors). One
//! thread per file writes. It holds the lock only to swap two vectors, never while it writes, so
//! the event loop never waits for a disk.

use std::borrow::Cow;
use std::fmt;
use std::fs::File;
use std::io::{self, Write as _};
use std::mem;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::telemetry::log_files::LogFiles;

/// Bytes that may wait for the writer thread.
const BACKLOG: usize = 4 * 1024 * 1024;

/// Bytes collected before they are handed over without waiting for the tick.
const BATCH: usize = 32 * 1024;

/// The writer thread needs no more.
const STACK: usize = 128 * 1024;

/// How long the end of the process waits for the last lines.
const FLUSH_LIMIT: Duration = Duration::from_secs(1);

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Destination {
    /// Standard output.
    Output,
    /// Standard error.
    Error,
    /// A file, appended to.
    File(PathBuf),
}

impl Destination {
    /// `-` is the standard stream, everything else a path.
    pub(crate) fn from_setting(path: &str, standard: Self) -> Self {
        if path == "-" {
            standard
        } else {
            Self::File(path.into())
        }
    }

    /// How messages name it.
    fn name(&self) -> Cow<'_, str> {
        match self {
            Self::Output => "standard output".into(),
            Self::Error => "standard error".into(),
            Self::File(path) => path.to_string_lossy(),
        }
    }

    fn open(&self, files: &LogFiles) -> io::Result<File> {
        let stream: OwnedFd = match self {
            Self::Output => io::stdout().as_fd().try_clone_to_owned()?,
            Self::Error => io::stderr().as_fd().try_clone_to_owned()?,
            Self::File(path) => return files.open(path),
        };
        Ok(stream.into())
    }
}

/// The event loop's end.
#[derive(Debug)]
pub(crate) struct LogWriter {
    shared: Arc<Shared>,
    batch: Vec<u8>,
    lines: u64,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// The writer thread waits here for work.
    work: Condvar,
    /// Whoever closes waits here for the writer to be done.
    idle: Condvar,
    destination: Destination,
    files: LogFiles,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    dropped: u64,
    reopen: bool,
    closing: bool,
    writing: bool,
    /// What went wrong, for the error log.
    failure: Option<Failure>,
}

/// What went wrong, to be said behind the name of the log.
#[derive(Debug)]
pub(crate) enum Failure {
    Writing(String),
    Reopening(io::Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Writing(error) => write!(f, "could not be written: {error}"),
            Self::Reopening(error) => write!(
                f,
                "cannot be opened again, the old file is written on: {error}"
            ),
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic with the lock held leaves plain data behind; there is nothing to distrust.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LogWriter {
    /// Opens the destination and starts its thread.
    pub(crate) fn open(destination: Destination, name: &str, files: &LogFiles) -> io::Result<Self> {
        let file = destination.open(files)?;
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            work: Condvar::new(),
            idle: Condvar::new(),
            destination,
            files: files.clone(),
        });
        let theirs = Arc::clone(&shared);
        thread::Builder::new()
            .name(name.to_owned())
            .stack_size(STACK)
            .spawn(move || write_for_ever(&theirs, file))?;
        Ok(Self {
            shared,
            batch: Vec::with_capacity(BATCH),
            lines: 0,
        })
    }

    /// Adds one line; `write` must end it with a line feed.
    pub(crate) fn line(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.batch);
        self.lines += 1;
        if self.batch.len() >= BATCH {
            self.hand_over();
        }
    }

    /// Gives what was collected to the writer thread.
    pub(crate) fn hand_over(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let mut state = self.shared.lock();
        if state.waiting.is_empty() {
            mem::swap(&mut state.waiting, &mut self.batch);
        } else if state.waiting.len() + self.batch.len() <= BACKLOG {
            state.waiting.extend_from_slice(&self.batch);
        } else {
            state.dropped += self.lines;
        }
        drop(state);
        self.batch.clear();
        self.lines = 0;
        self.shared.work.notify_one();
    }

    /// Opens the destination again (the file was rotated); lines given before go to the old one.
    pub(crate) fn reopen(&mut self) {
        self.hand_over();
        self.shared.lock().reopen = true;
        self.shared.work.notify_one();
    }

    /// What went wrong in the writer thread since the last time of asking.
    pub(crate) fn take_failure(&self) -> Option<Failure> {
        self.shared.lock().failure.take()
    }
}

impl Drop for LogWriter {
    /// Writes what is left, for as long as [`FLUSH_LIMIT`] allows.
    fn drop(&mut self) {
        self.hand_over();
        let mut state = self.shared.lock();
        state.closing = true;
        self.shared.work.notify_one();
        let unfinished = |state: &mut State| state.writing || !state.waiting.is_empty();
        drop(
            self.shared
                .idle
                .wait_timeout_while(state, FLUSH_LIMIT, unfinished),
        );
    }
}

/// The writer thread.
fn write_for_ever(shared: &Shared, mut file: File) {
    let mut lines = Vec::new();
    loop {
        let mut state = shared.lock();
        state.writing = false;
        shared.idle.notify_all();
        while state.waiting.is_empty() && !state.reopen && !state.closing {
            state = shared
                .work
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        if state.closing && state.waiting.is_empty() {
            return;
        }
        mem::swap(&mut state.waiting, &mut lines);
        let dropped = mem::take(&mut state.dropped);
        let reopen = mem::take(&mut state.reopen);
        state.writing = true;
        drop(state);

        let written = write_all(&mut file, &lines, dropped);
        lines.clear();
        let written = written
            .map_err(|error| Failure::Writing(format!("{}: {error}", shared.destination.name())));
        let reopened = if reopen {
            let opened = shared.destination.open(&shared.files);
            opened.map(|fresh| file = fresh).map_err(Failure::Reopening)
        } else {
            Ok(())
        };
        if let Err(failure) = written.and(reopened) {
            shared.lock().failure = Some(failure);
        }
    }
}

fn write_all(file: &mut File, lines: &[u8], dropped: u64) -> io::Result<()> {
    file.write_all(lines)?;
    if dropped > 0 {
        writeln!(
            file,
            "{dropped} log lines dropped: the log could not be written fast enough"
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn writer(path: &std::path::Path) -> LogWriter {
        let files = LogFiles::default();
        LogWriter::open(Destination::File(path.into()), "log-test", &files)
            .expect("a fresh directory")
    }

    #[test]
    fn writes_everything_before_it_goes() {
        let directory = tempfile::tempdir().expect("temp dir");
        let path = directory.path().join("log");
        let mut log = writer(&path);
        for number in 0..10_000 {
            log.line(|out| writeln!(out, "line {number}").expect("memory"));
        }
        drop(log);
        let text = std::fs::read_to_string(&path).expect("written");
        assert_eq!(text.lines().count(), 10_000);
        assert!(text.ends_with("line 9999\n"));
    }

    #[test]
    fn follows_a_rotated_file() {
        let directory = tempfile::tempdir().expect("temp dir");
        let (path, rotated) = (directory.path().join("log"), directory.path().join("log.1"));
        let mut log = writer(&path);
        log.line(|out| out.extend_from_slice(b"old\n"));
        std::fs::rename(&path, &rotated).expect("same directory");
        log.reopen();
        // The reopening happens in the other thread: wait until the file is there again.
        for _ in 0..1000 {
            if path.exists() {
                break;
            }
            thread::sleep(Duration::from_millis(5));
        }
        log.line(|out| out.extend_from_slice(b"new\n"));
        drop(log);
        assert_eq!(std::fs::read_to_string(&rotated).expect("rotated"), "old\n");
        assert_eq!(
            std::fs::read_to_string(&path).expect("opened again"),
            "new\n"
        );
    }

    #[test]
    fn writes_the_old_file_on_where_there_is_no_new_one() {
        let directory = tempfile::tempdir().expect("temp dir");
        let logs = directory.path().join("logs");
        let kept = directory.path().join("kept");
        std::fs::create_dir(&logs).expect("made");
        let mut log = writer(&logs.join("log"));
        std::fs::rename(&logs, &kept).expect("same directory");
        log.reopen();
        let failure = (0..1000).find_map(|_| {
            thread::sleep(Duration::from_millis(5));
            log.take_failure()
        });
        let failure = failure.expect("told").to_string();
        assert!(failure.contains("logs/log: No such file"), "{failure}");
        log.line(|out| out.extend_from_slice(b"line\n"));
        drop(log);
        let text = std::fs::read_to_string(kept.join("log")).expect("text");
        assert_eq!(text, "line\n");
    }

    #[test]
    fn drops_and_counts_when_nobody_reads() {
        let (reader, pipe) = io::pipe().expect("pipe");
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            work: Condvar::new(),
            idle: Condvar::new(),
            destination: Destination::Error,
            files: LogFiles::default(),
        });
        let theirs = Arc::clone(&shared);
        let file = File::from(OwnedFd::from(pipe));
        let thread = thread::spawn(move || write_for_ever(&theirs, file));
        let mut log = LogWriter {
            shared: Arc::clone(&shared),
            batch: Vec::new(),
            lines: 0,
        };
        let line = [b'x'; 1023];
        // One backlog may be in the thread's hands already, and another one wait.
        for _ in 0..3 * BACKLOG / 1024 {
            log.line(|out| {
                out.extend_from_slice(&line);
                out.push(b'\n');
            });
        }
        assert!(shared.lock().waiting.len() <= BACKLOG);
        let drain = thread::spawn(move || io::read_to_string(reader).expect("text"));
        drop(log);
        thread.join().expect("ends by itself");
        assert!(drain.join().expect("reads").contains("log lines dropped"));
    }
}
