//! The gateway's clock, and the times it writes.
//!
//! Decides how often the kernel is asked: the monotonic clock for every event (it is cheap and
//! everything is measured with it), the wall clock and the time zone once a second. Texts are made
//! once for the second they are valid in.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use oxicorn_os::time::{self, LocalTime};
use oxicorn_proto::http1::OwnLine;

/// Whose time everything is measured by.
#[derive(Debug, Clone, Default)]
pub enum TimeSource {
    /// The kernel's monotonic clock.
    #[default]
    Kernel,
    /// What somebody else says, in nanoseconds: it must not go backwards.
    Held(Arc<AtomicU64>),
}

impl TimeSource {
    fn now(&self) -> Duration {
        match self {
            Self::Kernel => time::monotonic(),
            Self::Held(nanoseconds) => Duration::from_nanos(nanoseconds.load(Ordering::Acquire)),
        }
    }
}

/// The time of a turn, and the texts for one second.
#[derive(Debug)]
pub(crate) struct Clock {
    source: TimeSource,
    now: Duration,
    /// When the texts below stop being true.
    valid_until: Duration,
    date_line: OwnLine,
    access_time: Vec<u8>,
    /// `yyyy-mm-ddTHH:MM:SS`, in UTC.
    utc_time: Vec<u8>,
}

impl Clock {
    pub(crate) fn new(source: TimeSource) -> Self {
        let mut clock = Self {
            source,
            now: Duration::ZERO,
            valid_until: Duration::ZERO,
            date_line: OwnLine::default(),
            access_time: Vec::new(),
            utc_time: Vec::new(),
        };
        clock.tick();
        clock
    }

    /// Reads the clock.
    pub(crate) fn tick(&mut self) -> Duration {
        self.now = self.source.now();
        if self.now >= self.valid_until {
            self.renew();
        }
        self.now
    }

    /// Whether it goes on only when somebody sets it.
    pub(crate) fn is_held(&self) -> bool {
        matches!(self.source, TimeSource::Held(_))
    }

    /// What [`tick`](Self::tick) read last.
    pub(crate) fn now(&self) -> Duration {
        self.now
    }

    /// What is [`now`](Self::now), since 1970.
    pub(crate) fn wall(&self) -> Duration {
        time::wall().saturating_sub(self.source.now().saturating_sub(self.now))
    }

    /// The Date line of responses.
    pub(crate) fn date_line(&self) -> &OwnLine {
        &self.date_line
    }

    /// Gunicorn's `t` atom.
    pub(crate) fn access_time(&self) -> &[u8] {
        &self.access_time
    }

    /// Appends the time as RFC 3339 has it: in UTC, with milliseconds.
    pub(crate) fn write_utc_time(&self, out: &mut Vec<u8>) {
        let left = self.valid_until.saturating_sub(self.now).as_millis();
        out.extend_from_slice(&self.utc_time);
        let millis = 999_u128.saturating_sub(left);
        write!(out, ".{millis:03}Z").expect("memory takes everything");
    }

    fn renew(&mut self) {
        let wall = time::wall();
        let left = 1_000_000_000 - wall.subsec_nanos();
        self.valid_until = self.now + Duration::from_nanos(left.into());
        let date = time::http_date(wall.as_secs());
        self.date_line = OwnLine::new(b"Date", &date).unwrap_or_default();
        self.access_time.clear();
        write_access_time(&LocalTime::from_unix(wall.as_secs()), &mut self.access_time);
        self.utc_time.clear();
        write_utc_second(&LocalTime::from_utc(wall.as_secs()), &mut self.utc_time);
    }
}

/// `[dd/Mon/yyyy:HH:MM:SS +zzzz]`
fn write_access_time(time: &LocalTime, out: &mut Vec<u8>) {
    let LocalTime {
        year,
        day,
        hour,
        minute,
        second,
        ..
    } = time;
    let month = time.month_name();
    let (sign, hours, minutes) = time.utc_offset();
    let written = write!(
        out,
        "[{day:02}/{month}/{year}:{hour:02}:{minute:02}:{second:02} {sign}{hours:02}{minutes:02}]"
    );
    written.expect("memory takes everything");
}

fn write_utc_second(time: &LocalTime, out: &mut Vec<u8>) {
    let LocalTime {
        year,
        month,
        day,
        hour,
        minute,
        second,
        ..
    } = time;
    let written = write!(
        out,
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"
    );
    written.expect("memory takes everything");
}

/// `[yyyy-mm-dd HH:MM:SS +zzzz]`, as in Gunicorn's error log.
pub(crate) fn write_log_time(out: &mut Vec<u8>) {
    let time = LocalTime::from_unix(time::wall().as_secs());
    let LocalTime {
        year,
        month,
        day,
        hour,
        minute,
        second,
        ..
    } = time;
    let (sign, hours, minutes) = time.utc_offset();
    let written = write!(
        out,
        "[{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} \
         {sign}{hours:02}{minutes:02}]"
    );
    written.expect("memory takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_gunicorn_does() {
        let time = LocalTime {
            utc_offset_seconds: -5400,
            ..LocalTime::from_utc(784_111_777)
        };
        let mut out = Vec::new();
        write_access_time(&time, &mut out);
        assert_eq!(out, b"[06/Nov/1994:08:49:37 -0130]");
        out.clear();
        write_log_time(&mut out);
        assert_eq!(out.len(), "[2026-01-02 03:04:05 +0000]".len());
    }

    #[test]
    fn utc_times_are_rfc_3339s() {
        let mut clock = Clock::new(TimeSource::Kernel);
        clock.utc_time.clear();
        write_utc_second(&LocalTime::from_utc(784_111_777), &mut clock.utc_time);
        clock.valid_until = clock.now + Duration::from_micros(250_500);
        let mut out = Vec::new();
        clock.write_utc_time(&mut out);
        assert_eq!(out, b"1994-11-06T08:49:37.749Z");
    }

    #[test]
    fn texts_are_renewed_with_the_second() {
        let mut clock = Clock::new(TimeSource::Kernel);
        clock.date_line = OwnLine::default();
        clock.valid_until = clock.now;
        clock.tick();
        assert_ne!(clock.date_line(), &OwnLine::default());
        assert!(clock.valid_until > clock.now());
        assert!(clock.valid_until <= clock.now() + Duration::from_secs(1));
    }
}
