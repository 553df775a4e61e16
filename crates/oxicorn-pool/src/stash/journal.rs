//! The book of changes: what a broker that starts after another has died begins with.
//!
//! It lies in two memory files of the arbiter's, one of which counts: the one whose first word has the higher number. A
//! change counts if it is there as a whole; one that a broker died over is the last, and is cut off by the next broker. When
//! the book is much longer than what it tells, all that is there is written into the other file, and its first word last.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use oxicorn_os::memfd;

use super::{Change, Stash};

/// Bytes of the head: the number of the book.
const HEAD: u64 = 8;
/// A book of this length is not worth to be written anew.
const SMALL: u64 = 1 << 20;
/// How often longer than what it tells a book may be.
const WASTE: u64 = 2;

#[derive(Debug)]
pub(crate) struct Journal {
    files: [OwnedFd; 2],
    active: usize,
    number: u64,
    length: u64,
    /// It could not be written; what is there is not lost, but the next broker will not have it.
    failed: bool,
}

impl Journal {
    /// Takes over the files, and what they tell.
    pub(crate) fn open(files: [OwnedFd; 2], stash: &mut Stash) -> io::Result<Self> {
        let numbers = [number_of(&files[0])?, number_of(&files[1])?];
        let active = usize::from(numbers[1] > numbers[0]);
        let mut journal = Self {
            files,
            active,
            number: numbers[active],
            length: 0,
            failed: false,
        };
        journal.replay(stash)?;
        Ok(journal)
    }

    fn replay(&mut self, stash: &mut Stash) -> io::Result<()> {
        let file = &self.files[self.active];
        let size = memfd::len(file)?.saturating_sub(HEAD);
        let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
        memfd::read_exact_at(file, &mut bytes, HEAD)?;
        let mut rest = bytes.as_slice();
        let mut whole = 0;
        while let Some(change) = read(&mut rest) {
            whole = bytes.len() - rest.len();
            stash.replay(change);
        }
        self.length = whole as u64;
        memfd::cut(file, HEAD + self.length)
    }

    /// Writes what has changed, as `stash` is now. `false`: it cannot be written any more, said once.
    pub(crate) fn write(&mut self, changes: &[Change], stash: &Stash) -> bool {
        if changes.is_empty() || self.failed {
            return true;
        }
        let written = self.try_write(changes, stash);
        self.failed = written.is_err();
        !self.failed
    }

    fn try_write(&mut self, changes: &[Change], stash: &Stash) -> io::Result<()> {
        let mut bytes = Vec::new();
        for change in changes {
            append(change, &mut bytes);
        }
        let needed = self.length + bytes.len() as u64;
        if needed > SMALL && needed > WASTE * stash.bytes() as u64 {
            return self.rewrite(stash);
        }
        memfd::write_at(&self.files[self.active], &bytes, HEAD + self.length)?;
        self.length = needed;
        Ok(())
    }

    /// Into the other file, which counts from then on.
    fn rewrite(&mut self, stash: &Stash) -> io::Result<()> {
        let other = 1 - self.active;
        let file = &self.files[other];
        let mut offset = HEAD;
        let mut bytes = Vec::new();
        for change in stash.snapshot() {
            append(&change, &mut bytes);
            if bytes.len() > 1 << 20 {
                memfd::write_at(file, &bytes, offset)?;
                offset += bytes.len() as u64;
                bytes.clear();
            }
        }
        memfd::write_at(file, &bytes, offset)?;
        offset += bytes.len() as u64;
        self.number += 1;
        self.length = offset - HEAD;
        memfd::write_at(file, &self.number.to_ne_bytes(), 0)?;
        // What does not count any more needs no memory.
        memfd::empty(&self.files[self.active])?;
        self.active = other;
        Ok(())
    }
}

/// 0: nothing was ever written there.
fn number_of(file: &OwnedFd) -> io::Result<u64> {
    if memfd::len(file)? < HEAD {
        return Ok(0);
    }
    let mut number = [0; 8];
    memfd::read_exact_at(file, &mut number, 0)?;
    Ok(u64::from_ne_bytes(number))
}

/// A change as bytes: a letter, then its parts, each with its length before it.
fn append(change: &Change, bytes: &mut Vec<u8>) {
    let mut parts = |letter: u8, parts: &[&[u8]]| {
        bytes.push(letter);
        for part in parts {
            bytes.extend((part.len() as u64).to_ne_bytes());
            bytes.extend_from_slice(part);
        }
    };
    match change {
        Change::Table(table) => parts(b'T', &[table.as_bytes()]),
        Change::NoTable { table, .. } => parts(b'D', &[table.as_bytes()]),
        Change::Cleared { table, .. } => parts(b'C', &[table.as_bytes()]),
        Change::NoEntry { table, key } => parts(b'N', &[table.as_bytes(), key]),
        Change::Entry {
            table,
            key,
            value,
            expires,
        } => {
            // The clock goes on as long as the machine does.
            let end = expires.map_or(0, |end| u64::try_from(end.as_nanos()).unwrap_or(0));
            parts(b'E', &[table.as_bytes(), key, value, &end.to_ne_bytes()]);
        }
    }
}

fn read(rest: &mut &[u8]) -> Option<Change> {
    let (letter, after) = rest.split_first()?;
    *rest = after;
    let mut part = || {
        let (length, after) = rest.split_first_chunk()?;
        let length = usize::try_from(u64::from_ne_bytes(*length)).ok()?;
        let (part, after) = after.split_at_checked(length)?;
        *rest = after;
        Some(part.to_vec())
    };
    let table = String::from_utf8(part()?).ok()?;
    Some(match letter {
        b'T' => Change::Table(table),
        b'D' => Change::NoTable {
            table,
            keys: Vec::new(),
        },
        b'C' => Change::Cleared {
            table,
            keys: Vec::new(),
        },
        b'N' => Change::NoEntry {
            table,
            key: part()?,
        },
        b'E' => {
            let (key, value) = (part()?, part()?);
            let end = u64::from_ne_bytes(part()?.try_into().ok()?);
            Change::Entry {
                table,
                key,
                value,
                expires: (end > 0).then(|| Duration::from_nanos(end)),
            }
        }
        _ => return None,
    })
}
