//! The last warnings of all processes, for who looks at the server now.
//!
//! A ring of lines in a memory file: who writes takes the next number, and with it a place that he alone writes until
//! the ring has gone round. A line counts when its place bears its number, before and after it was read; so what is
//! being written and what somebody died over is left out. Who is stopped amid a line until the ring has gone round
//! writes the rest of it over another's, which then bears a number as if it were whole: that is told by its sum, and
//! left out as well. Nobody waits for anybody.

use std::hash::{DefaultHasher, Hasher};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU64, fence};
use std::time::Duration;

use oxicorn_os::mapping::Mapping;
use oxicorn_os::memfd;

use crate::AttachError;

/// Lines that are kept.
pub const LINES: usize = 128;

/// Bytes of a line's place.
const PLACE: usize = 1024;
const WORD: usize = 8;

/// Within a place: its line's number, the sum of all that follows, when it was written, by whom and how long it is, and
/// the text.
const NUMBER: usize = 0;
const SUM: usize = 8;
const TIME: usize = 16;
const ABOUT: usize = 24;
const TEXT: usize = 32;
/// The longest text in bytes.
const LONGEST: usize = PLACE - TEXT;

/// How many lines there ever were stands before the places.
const HEAD: usize = 64;
const LEN: usize = HEAD + LINES * PLACE;

/// The mapped ring. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LogTail {
    mapping: Arc<Mapping>,
}

/// A line of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TailLine {
    /// Counted from 1.
    pub number: u64,
    /// Since 1970.
    pub time: Duration,
    /// As Python counts: 30 is a warning.
    pub level: u8,
    /// Who wrote it.
    pub pid: u32,
    /// The text, cut where it is long.
    pub text: String,
}

impl LogTail {
    /// Makes one and its file.
    pub fn create() -> io::Result<(Self, OwnedFd)> {
        let file = memfd::create_sealed("oxicorn-log-tail", LEN)?;
        let mapping = Arc::new(Mapping::new(&file)?);
        Ok((Self { mapping }, file))
    }

    /// Maps one, after checking that it can be one.
    pub fn attach<F: AsFd>(file: F) -> Result<Self, AttachError> {
        if !memfd::is_sealed(&file)? {
            return Err(AttachError::NotSealed);
        }
        let mapping = Arc::new(Mapping::new(file)?);
        if mapping.len() != LEN {
            return Err(AttachError::NotALink);
        }
        Ok(Self { mapping })
    }

    /// Adds a line.
    pub fn write(&self, time: Duration, level: u8, pid: u32, text: &str) {
        let text = &text[..text.floor_char_boundary(LONGEST)];
        let number = self.written().fetch_add(1, Relaxed).wrapping_add(1);
        let word = |at| self.word(number, at);
        word(NUMBER).store(0, Relaxed);
        fence(Release);
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        word(TIME).store(micros, Relaxed);
        let about = u64::from(pid) << 32 | u64::from(level) << 16 | text.len() as u64;
        word(ABOUT).store(about, Relaxed);
        for (place, bytes) in text.as_bytes().chunks(WORD).enumerate() {
            let mut whole = [0; WORD];
            whole[..bytes.len()].copy_from_slice(bytes);
            word(TEXT + place * WORD).store(u64::from_le_bytes(whole), Relaxed);
        }
        word(SUM).store(sum(number, micros, about, text.as_bytes()), Relaxed);
        word(NUMBER).store(number, Release);
    }

    /// The lines behind the one with this number, as far as they are still there.
    pub fn since(&self, number: u64) -> Vec<TailLine> {
        let last = self.written().load(Acquire);
        let first = number
            .max(last.saturating_sub(LINES as u64))
            .saturating_add(1);
        (first..=last)
            .take(LINES)
            .filter_map(|number| self.line(number))
            .collect()
    }

    fn line(&self, number: u64) -> Option<TailLine> {
        let word = |at| self.word(number, at);
        if word(NUMBER).load(Acquire) != number {
            return None;
        }
        let time = word(TIME).load(Relaxed);
        let about = word(ABOUT).load(Relaxed);
        let len = usize::try_from(about & 0xffff).ok()?.min(LONGEST);
        let mut text = Vec::with_capacity(LONGEST);
        for place in 0..len.div_ceil(WORD) {
            text.extend(word(TEXT + place * WORD).load(Relaxed).to_le_bytes());
        }
        text.truncate(len);
        let expected = word(SUM).load(Relaxed);
        fence(Acquire);
        if word(NUMBER).load(Relaxed) != number || sum(number, time, about, &text) != expected {
            return None;
        }
        Some(TailLine {
            number,
            time: Duration::from_micros(time),
            level: u8::try_from(about >> 16 & 0xff).unwrap_or(0),
            pid: u32::try_from(about >> 32).unwrap_or(0),
            text: String::from_utf8_lossy(&text).into_owned(),
        })
    }

    fn written(&self) -> &AtomicU64 {
        self.mapping.atomic_u64(0)
    }

    fn word(&self, number: u64, at: usize) -> &AtomicU64 {
        let place = usize::try_from(number.wrapping_sub(1) % LINES as u64).unwrap_or(0);
        self.mapping.atomic_u64(HEAD + place * PLACE + at)
    }
}

/// The same in every process of a server, since all run the same build.
fn sum(number: u64, time: u64, about: u64, text: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for word in [number, time, about] {
        hasher.write_u64(word);
    }
    hasher.write(text);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::thread;

    use super::*;

    #[test]
    fn the_last_lines_are_there_each_whole() {
        let (tail, file) = LogTail::create().unwrap();
        let other = LogTail::attach(file).unwrap();
        assert!(other.since(0).is_empty());
        tail.write(Duration::from_secs(7), 30, 42, "slow: /ä");
        let lines = other.since(0);
        assert_eq!(
            lines,
            [TailLine {
                number: 1,
                time: Duration::from_secs(7),
                level: 30,
                pid: 42,
                text: "slow: /ä".into()
            }]
        );
        assert!(other.since(1).is_empty());
        for number in 0..3 * LINES {
            other.write(Duration::ZERO, 40, 1, &number.to_string());
        }
        let lines = tail.since(0);
        assert_eq!(lines.len(), LINES);
        assert_eq!(lines.last().unwrap().text, (3 * LINES - 1).to_string());
        tail.write(Duration::ZERO, 40, 1, &"ä".repeat(PLACE));
        let long = tail.since(3 * LINES as u64 + 1);
        assert_eq!(long[0].text, "ä".repeat(LONGEST / 2));
    }

    #[test]
    fn who_reads_while_others_write_never_sees_a_mixture() {
        let (tail, _file) = LogTail::create().unwrap();
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let writers: Vec<_> = (1..=3_u8)
                .map(|writer| {
                    let tail = &tail;
                    scope.spawn(move || {
                        let text = char::from(b'a' + writer).to_string().repeat(100);
                        for _ in 0..2000 {
                            tail.write(Duration::ZERO, writer, writer.into(), &text);
                        }
                    })
                })
                .collect();
            scope.spawn(|| {
                while !done.load(Relaxed) {
                    for line in tail.since(0) {
                        let letter = char::from(b'a' + line.level);
                        assert_eq!(line.text, letter.to_string().repeat(100));
                        assert_eq!(line.pid, line.level.into());
                    }
                }
            });
            for writer in writers {
                writer.join().unwrap();
            }
            done.store(true, Relaxed);
        });
    }

    #[test]
    fn a_line_written_over_by_who_was_overtaken_is_left_out() {
        let (tail, _file) = LogTail::create().unwrap();
        for number in 0..=LINES {
            tail.write(Duration::ZERO, 30, 1, &number.to_string().repeat(10));
        }
        let whole = tail.since(0);
        assert_eq!(whole.len(), LINES);
        // Whoever wrote the first line was stopped amid it, and goes on now that its place has another line.
        let overtaken = tail.word(1, TEXT + WORD);
        let others = overtaken.swap(u64::from_le_bytes([b'x'; WORD]), Relaxed);
        assert_eq!(tail.since(0), whole[..LINES - 1]);
        overtaken.store(others, Relaxed);
        assert_eq!(tail.since(0), whole);
        tail.word(1, NUMBER).store(1, Relaxed);
        assert_eq!(tail.since(0), whole[..LINES - 1]);
    }

    #[test]
    fn nonsense_is_readable() {
        let (tail, file) = LogTail::create().unwrap();
        let scribbler = Mapping::new(&file).unwrap();
        for at in (0..LEN).step_by(WORD) {
            scribbler.atomic_u64(at).store(u64::MAX, Relaxed);
        }
        tail.since(0);
        tail.write(Duration::ZERO, 30, 1, "x");
        scribbler.atomic_u64(0).store(5, Relaxed);
        tail.since(u64::MAX);
        assert!(tail.since(0).is_empty());
    }
}
