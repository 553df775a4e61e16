//! The gateway's own lines in the error log, in Gunicorn's format.
//!
//! `[time] [pid] [LEVEL] text`, one line each whatever the text holds: it may quote a client.

use std::fmt;
use std::io::{self, Write as _};

use crate::access_log::escape;
use crate::clock::write_log_time;
use crate::log_writer::{Destination, LogWriter};
use crate::settings::{self, Level};

/// An open error log.
#[derive(Debug)]
pub(crate) struct ErrorLog {
    writer: LogWriter,
    level: Level,
    pid: u32,
}

impl ErrorLog {
    pub(crate) fn open(settings: &settings::ErrorLog) -> io::Result<Self> {
        let destination = Destination::from_setting(&settings.path, Destination::Error);
        let writer = LogWriter::open(destination, "error-log")?;
        Ok(Self {
            writer,
            level: settings.level,
            pid: std::process::id(),
        })
    }

    pub(crate) fn reopen(&mut self) {
        self.writer.reopen();
    }

    pub(crate) fn debug(&mut self, text: fmt::Arguments<'_>) {
        self.log(Level::Debug, text);
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
        let pid = self.pid;
        self.writer.line(|out| write_line(pid, level, text, out));
        // Rare, and of interest at once.
        self.writer.hand_over();
    }
}

fn write_line(pid: u32, level: Level, text: fmt::Arguments<'_>, out: &mut Vec<u8>) {
    write_log_time(out);
    let head = write!(out, " [{pid}] [{}] ", level.name());
    head.expect("memory takes everything");
    write_on_one_line(&text.to_string(), out);
    out.push(b'\n');
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
        write_line(
            7,
            Level::Warning,
            format_args!("from \"{}\"", "a\nb\u{9b}é"),
            &mut out,
        );
        let line = String::from_utf8(out).expect("text");
        let (time, rest) = line.split_at("[2026-01-02 03:04:05 +0000]".len());
        assert!(time.starts_with("[2") && time.ends_with(']'));
        assert_eq!(rest, " [7] [WARNING] from \"a\\x0ab\\xc2\\x9bé\"\n");
    }

    #[test]
    fn lines_below_the_level_are_left_out() {
        let directory = tempfile::tempdir().expect("temp dir");
        let path = directory.path().join("error.log");
        let settings = settings::ErrorLog {
            path: path.display().to_string(),
            level: Level::Warning,
        };
        let mut log = ErrorLog::open(&settings).expect("a fresh directory");
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
