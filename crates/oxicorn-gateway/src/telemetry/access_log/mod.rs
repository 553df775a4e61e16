//! The access log: Gunicorn's format, written without Python.
//!
//! Decides what a line looks like ([`format`], [`atoms`], [`escape`]) and gives it to a writer that
//! never holds the event loop up ([`crate::telemetry::log_writer`]).

mod atoms;
mod basic_auth;
mod escape;
mod format;
pub(crate) mod json;

use std::io;

pub(crate) use atoms::Record;
pub(crate) use escape::escape;
pub use format::{DEFAULT_FORMAT, FormatFault};

use crate::config::settings;
use crate::telemetry::log_files::LogFiles;
use crate::telemetry::log_writer::{Destination, LogWriter};
use format::Format;

/// Whether `format` can be used; for whoever wants to refuse it before a gateway is started.
pub fn check_format(format: &str) -> Result<(), FormatFault> {
    Format::parse(format).map(drop)
}

/// The environ keys that lines of `format` show and an application may change; `None` if lines show
/// what only the worker knows.
pub fn shown_variables(format: &str) -> Result<Option<Vec<&'static str>>, FormatFault> {
    Format::parse(format).map(|format| format.shown_variables())
}

/// An open access log.
#[derive(Debug)]
pub(crate) struct AccessLog {
    format: Format,
    /// What was wrong with the format asked for.
    fault: Option<FormatFault>,
    writer: LogWriter,
}

impl AccessLog {
    /// Opens the log; a format that cannot be used is replaced by the default.
    pub(crate) fn open(settings: &settings::AccessLog, files: &LogFiles) -> io::Result<Self> {
        let (format, fault) = match Format::parse(&settings.format) {
            Ok(format) => (format, None),
            Err(fault) => {
                let standard = Format::parse(DEFAULT_FORMAT);
                (standard.expect("the default is tested"), Some(fault))
            }
        };
        let destination = Destination::from_setting(&settings.path, Destination::Output);
        let writer = LogWriter::open(destination, "access-log", files)?;
        Ok(Self {
            format,
            fault,
            writer,
        })
    }

    /// What was wrong with the format, to be said once.
    pub(crate) fn take_fault(&mut self) -> Option<FormatFault> {
        self.fault.take()
    }

    /// Whether records must bring the response's head.
    pub(crate) fn shows_response_headers(&self) -> bool {
        self.format.shows_response_headers()
    }

    pub(crate) fn write(&mut self, record: &Record<'_>) {
        let Self { format, writer, .. } = self;
        writer.line(|out| atoms::write_line(format, record, out));
    }

    pub(crate) fn writer(&mut self) -> &mut LogWriter {
        &mut self.writer
    }
}
