//! The gateway's own lines in the error log, in Gunicorn's format.
//!
//! `[time] [pid] [LEVEL] text`, one line each whatever the text holds: it may quote a client.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write as _};

use oxicorn_link::log_tail::LogTail;

use crate::config::settings::{self, Level};
use crate::telemetry::access_log::escape;
use crate::telemetry::log_files::LogFiles;
use crate::telemetry::log_writer::{Destination, Failure, LogWriter};
use crate::time::clock::write_log_time;

/// Lines that wait to be sent to the arbiter; more are dropped and counted.
const TO_FORWARD_MAX: usize = 256;

/// An open error log.
#[derive(Debug)]
pub(crate) struct ErrorLog {
    writer: LogWriter,
    level: Level,
    pid: u32,
    /// Lines for the arbiter to write; `None`: they are written here.
    to_forward: Option<ToForward>,
    /// Where warnings are shown, too.
    tail: Option<LogTail>,
}

#[derive(Debug, Default)]
struct ToForward {
    lines: VecDeque<(Level, String)>,
    dropped: u64,
}

impl ErrorLog {
    pub(crate) fn open(settings: &settings::ErrorLog, files: &LogFiles) -> io::Result<Self> {
        let destination = Destination::from_setting(&settings.path, Destination::Error);
        let writer = LogWriter::open(destination, "error-log", files)?;
        Ok(Self {
            writer,
            level: settings.level,
            pid: std::process::id(),
            to_forward: None,
            tail: None,
        })
    }

    /// Warnings and worse that are written here are also in `tail` from now on.
    pub(crate) fn set_tail(&mut self, tail: LogTail) {
        self.tail = Some(tail);
    }

    /// Another log takes its place, and shows what this one shows.
    pub(crate) fn replace(&mut self, other: Self) {
        let tail = self.tail.take();
        *self = Self { tail, ..other };
    }

    /// Whether lines go to the arbiter from now on. None that waits there is lost: they are written
    /// here then.
    pub(crate) fn set_forwarding(&mut self, forwards: bool) {
        if forwards {
            self.to_forward.get_or_insert_default();
            return;
        }
        while let Some((level, text)) = self.next_to_forward() {
            self.write(level, &text);
        }
        self.to_forward = None;
    }

    /// Whether there is a line for the arbiter.
    #[inline]
    pub(crate) fn has_to_forward(&self) -> bool {
        let waits = |to_forward: &ToForward| !to_forward.lines.is_empty() || to_forward.dropped > 0;
        self.to_forward.as_ref().is_some_and(waits)
    }

    /// The next line for the arbiter.
    pub(crate) fn next_to_forward(&mut self) -> Option<(Level, String)> {
        let to_forward = self.to_forward.as_mut()?;
        let line = to_forward.lines.pop_front();
        if line.is_none() && to_forward.dropped > 0 {
            let count = std::mem::take(&mut to_forward.dropped);
            let text = format!("{count} log lines dropped: the arbiter could not keep up");
            return Some((Level::Warning, text));
        }
        line
    }

    pub(crate) fn reopen(&mut self) {
        self.writer.reopen();
    }

    /// Says in the old file that there is no new one. (That it cannot be written nobody could say there.)
    pub(crate) fn tell_failure(&mut self) {
        if let Some(failure @ Failure::Reopening(_)) = self.writer.take_failure() {
            self.error(format_args!("Error log {failure}"));
        }
    }

    pub(crate) fn debug(&mut self, text: fmt::Arguments<'_>) {
        self.log(Level::Debug, text);
    }

    pub(crate) fn info(&mut self, text: fmt::Arguments<'_>) {
        self.log(Level::Info, text);
    }

    pub(crate) fn warning(&mut self, text: fmt::Arguments<'_>) {
        self.log(Level::Warning, text);
    }

    pub(crate) fn error(&mut self, text: fmt::Arguments<'_>) {
        self.log(Level::Error, text);
    }

    /// Whether lines of this level are written.
    pub(crate) fn shows(&self, level: Level) -> bool {
        level >= self.level
    }

    fn log(&mut self, level: Level, text: fmt::Arguments<'_>) {
        if !self.shows(level) {
            return;
        }
        let mut line = Vec::new();
        write_on_one_line(&text.to_string(), &mut line);
        let line = String::from_utf8_lossy(&line);
        match &mut self.to_forward {
            Some(to_forward) if to_forward.lines.len() < TO_FORWARD_MAX => {
                to_forward.lines.push_back((level, line.into_owned()));
            }
            Some(to_forward) => to_forward.dropped += 1,
            None => self.write(level, &line),
        }
    }

    /// Writes a text that is one line.
    fn write(&mut self, level: Level, text: &str) {
        let pid = self.pid;
        if let Some(tail) = &self.tail
            && level >= Level::Warning
        {
            tail.write(oxicorn_os::time::wall(), level.number(), pid, text);
        }
        self.writer.line(|out| write_line(pid, level, text, out));
        // Rare, and of interest at once.
        self.writer.hand_over();
    }
}

fn write_line(pid: u32, level: Level, text: &str, out: &mut Vec<u8>) {
    write_log_time(out);
    writeln!(out, " [{pid}] [{}] {text}", level.name()).expect("memory takes everything");
}

/// Control bytes are escaped, everything else is left as it is.
fn write_on_one_line(text: &str, out: &mut Vec<u8>) {
    let mut buffer = [0; 4];
    for letter in text.chars() {
        let bytes = letter.encode_utf8(&mut buffer).as_bytes();
        if letter.is_control() {
            escape(bytes, out);
        } else {
            out.extend_from_slice(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_look_like_gunicorns_and_stay_one() {
        let mut out = Vec::new();
        let mut text = Vec::new();
        write_on_one_line("from \"a\nb\u{9b}é\"", &mut text);
        let text = String::from_utf8(text).expect("text");
        write_line(7, Level::Warning, &text, &mut out);
        let line = String::from_utf8(out).expect("text");
        let (time, rest) = line.split_at("[2026-01-02 03:04:05 +0000]".len());
        assert!(time.starts_with("[2") && time.ends_with(']'));
        assert_eq!(rest, " [7] [WARNING] from \"a\\x0ab\\xc2\\x9bé\"\n");
    }

    #[test]
    fn lines_to_forward_wait_and_are_written_when_there_is_nobody_to_send_them_to() {
        let directory = tempfile::tempdir().expect("temp dir");
        let path = directory.path().join("error.log");
        let settings = settings::ErrorLog {
            path: path.display().to_string(),
            level: Level::Info,
        };
        let mut log = ErrorLog::open(&settings, &LogFiles::default()).expect("a fresh directory");
        log.set_forwarding(true);
        log.error(format_args!("first\n"));
        for _ in 0..TO_FORWARD_MAX {
            log.error(format_args!("more"));
        }
        let first = (Level::Error, "first\\x0a".to_owned());
        assert_eq!(log.next_to_forward(), Some(first));
        log.set_forwarding(false);
        log.error(format_args!("last"));
        drop(log);
        let text = std::fs::read_to_string(&path).expect("written");
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), TO_FORWARD_MAX + 1);
        assert!(
            lines[TO_FORWARD_MAX - 1]
                .ends_with("[WARNING] 1 log lines dropped: the arbiter could not keep up")
        );
        assert!(lines[TO_FORWARD_MAX].ends_with("[ERROR] last"));
    }

    #[test]
    fn lines_below_the_level_are_left_out() {
        let directory = tempfile::tempdir().expect("temp dir");
        let path = directory.path().join("error.log");
        let settings = settings::ErrorLog {
            path: path.display().to_string(),
            level: Level::Warning,
        };
        let mut log = ErrorLog::open(&settings, &LogFiles::default()).expect("a fresh directory");
        log.debug(format_args!("quiet"));
        log.error(format_args!("loud"));
        drop(log);
        let text = std::fs::read_to_string(&path).expect("written");
        assert!(
            text.ends_with("[ERROR] loud\n") && !text.contains("quiet"),
            "{text}"
        );
    }
}
