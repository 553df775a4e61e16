//! What a connection still has to send: bytes, with files between them.
//!
//! Decides the order and what counts as sent; does not write (see `socket`) and does not know HTTP.
//!
//! ```text
//!   bytes:  [ sent | head of the response ....... | last chunk ]
//!                                                 ^
//!   files:                                        one File that goes out at this place
//! ```
//!
//! Nearly every response is bytes alone and leaves at once; then this is one vector that is filled,
//! written and cleared, and keeps its memory.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use crate::buffer::records::Records;

/// Sent bytes are moved out of the way when they are at least this many; below it, waiting for the
/// buffer to run empty is cheaper than moving.
const COMPACT_FROM: usize = 64 * 1024;

/// Bytes and files to send, in order.
#[derive(Debug, Default)]
pub(crate) struct Output {
    bytes: Vec<u8>,
    sent: usize,
    files: VecDeque<FilePiece>,
    file_bytes: u64,
}

/// A piece of a file that follows the bytes before `at`.
#[derive(Debug)]
pub(crate) struct FilePiece {
    at: usize,
    /// The file.
    pub(crate) source: Source,
    /// Next byte to send.
    pub(crate) offset: u64,
    /// Bytes to send.
    pub(crate) rest: u64,
    /// They go in such records.
    pub(crate) records: Option<Records>,
}

/// A file that bytes come from.
#[derive(Debug)]
pub(crate) enum Source {
    /// Somebody else's.
    Given(OwnedFd),
    /// Where this output has put what it does not hold in memory.
    Spooled(Rc<File>),
}

impl AsFd for Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Given(descriptor) => descriptor.as_fd(),
            Self::Spooled(file) => file.as_fd(),
        }
    }
}

/// What to send next.
#[derive(Debug)]
pub(crate) enum Next<'a> {
    Nothing,
    Bytes {
        bytes: &'a [u8],
        /// More follows at once: the kernel may wait for it.
        more: bool,
    },
    File(&'a FilePiece),
}

impl Output {
    /// The buffer to append to. Nothing but appending is allowed.
    pub(crate) fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// What waits to be sent before `at` and after it, where `at` is a length that the buffer had.
    pub(crate) fn around(&self, at: usize) -> (&[u8], &[u8]) {
        (&self.bytes[self.sent..at], &self.bytes[at..])
    }

    /// Inserts at `at`, a length that the buffer had since anything of it was last sent or a file was
    /// appended, what `append` appends.
    pub(crate) fn insert(&mut self, at: usize, append: impl FnOnce(&mut Vec<u8>)) {
        debug_assert!(self.files.is_empty(), "the places of files are not moved");
        let after = self.bytes.split_off(at);
        append(&mut self.bytes);
        self.bytes.extend_from_slice(&after);
    }

    /// Appends a piece of a file.
    pub(crate) fn push_file(
        &mut self,
        descriptor: OwnedFd,
        offset: u64,
        len: u64,
        records: Option<Records>,
    ) {
        if len > 0 {
            self.file_bytes += len;
            let at = self.bytes.len();
            self.files.push_back(FilePiece {
                at,
                source: Source::Given(descriptor),
                offset,
                rest: len,
                records,
            });
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sent == self.bytes.len() && self.files.is_empty()
    }

    /// Bytes held in memory.
    pub(crate) fn held(&self) -> usize {
        self.bytes.len() - self.sent
    }

    /// Bytes of memory.
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Moves what was appended since the buffer had this length out of memory: it lies at `offset` of `file` now.
    pub(crate) fn spooled(&mut self, from: usize, file: &Rc<File>, offset: u64) {
        let len = (self.bytes.len() - from) as u64;
        self.bytes.truncate(from);
        self.file_bytes += len;
        if let Some(last) = self.files.back_mut()
            && matches!(&last.source, Source::Spooled(same) if Rc::ptr_eq(same, file))
            && (last.at, last.offset + last.rest) == (from, offset)
        {
            last.rest += len;
            return;
        }
        self.files.push_back(FilePiece {
            at: from,
            source: Source::Spooled(Rc::clone(file)),
            offset,
            rest: len,
            records: None,
        });
    }

    /// Files not sent yet.
    pub(crate) fn files(&self) -> usize {
        self.files.len()
    }

    /// Everything not sent yet, files too.
    pub(crate) fn remaining(&self) -> u64 {
        self.held() as u64 + self.file_bytes
    }

    pub(crate) fn next(&self) -> Next<'_> {
        let end = self.files.front().map_or(self.bytes.len(), |file| file.at);
        if self.sent < end {
            let bytes = &self.bytes[self.sent..end];
            return Next::Bytes {
                bytes,
                more: !self.files.is_empty(),
            };
        }
        self.files.front().map_or(Next::Nothing, Next::File)
    }

    /// `count` bytes of what was last offered, bytes or a file, were sent.
    pub(crate) fn sent(&mut self, count: usize) {
        match self.next() {
            Next::File(_) => self.file_sent(count as u64),
            Next::Bytes { .. } | Next::Nothing => self.bytes_sent(count),
        }
    }

    /// `count` of the bytes last offered were sent.
    pub(crate) fn bytes_sent(&mut self, count: usize) {
        self.sent += count;
        debug_assert!(self.sent <= self.bytes.len(), "sent what was not there");
        if self.sent == self.bytes.len() && self.files.is_empty() {
            self.bytes.clear();
            self.sent = 0;
        } else if self.sent >= COMPACT_FROM && self.sent * 2 >= self.bytes.len() {
            self.compact();
        }
    }

    /// `count` bytes of the file last offered were sent.
    pub(crate) fn file_sent(&mut self, count: u64) {
        let Some(file) = self.files.front_mut() else {
            return;
        };
        let count = count.min(file.rest);
        file.offset += count;
        file.rest -= count;
        self.file_bytes -= count;
        if file.rest == 0 {
            self.files.pop_front();
            self.bytes_sent(0);
        }
    }

    /// Puts the beginning of the file that is next into its place among the bytes: `read` appends it and says how
    /// many bytes of the file that were.
    pub(crate) fn load_file(
        &mut self,
        read: impl FnOnce(&FilePiece, &mut Vec<u8>) -> io::Result<u64>,
    ) -> io::Result<u64> {
        let Some(file) = self.files.front() else {
            return Ok(0);
        };
        let (at, after) = (file.at, self.bytes.split_off(file.at));
        let loaded = read(file, &mut self.bytes);
        let grown = self.bytes.len() - at;
        self.bytes.extend_from_slice(&after);
        for file in &mut self.files {
            file.at += grown;
        }
        if let Ok(count) = loaded {
            self.file_sent(count);
        }
        loaded
    }

    /// Takes the memory of a connection that has nothing to send; more than `most` bytes are freed.
    pub(crate) fn release(&mut self, most: usize) -> Vec<u8> {
        if !self.is_empty() {
            return Vec::new();
        }
        let mut memory = std::mem::take(&mut self.bytes);
        memory.clear();
        self.sent = 0;
        if memory.capacity() > most {
            return Vec::new();
        }
        memory
    }

    /// Gives memory to a connection that has none.
    pub(crate) fn lend(&mut self, memory: Vec<u8>) {
        if self.bytes.capacity() == 0 {
            self.bytes = memory;
        }
    }

    fn compact(&mut self) {
        self.bytes.drain(..self.sent);
        for file in &mut self.files {
            file.at -= self.sent;
        }
        self.sent = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> OwnedFd {
        tempfile::tempfile().expect("temp file").into()
    }

    fn bytes(output: &Output) -> &[u8] {
        match output.next() {
            Next::Bytes { bytes, .. } => bytes,
            other => panic!("bytes expected, not {other:?}"),
        }
    }

    #[test]
    fn bytes_and_files_keep_their_order() {
        let mut output = Output::default();
        output.bytes().extend_from_slice(b"head");
        output.push_file(file(), 10, 5, None);
        output.bytes().extend_from_slice(b"tail");
        assert_eq!(output.remaining(), 13);
        output.bytes_sent(2);
        assert_eq!(bytes(&output), b"ad");
        output.bytes_sent(2);
        match output.next() {
            Next::File(piece) => assert_eq!((piece.offset, piece.rest), (10, 5)),
            other => panic!("{other:?}"),
        }
        output.file_sent(2);
        assert!(matches!(output.next(), Next::File(piece) if piece.offset == 12));
        output.file_sent(3);
        assert_eq!(bytes(&output), b"tail");
        output.bytes_sent(4);
        assert!(output.is_empty());
        assert!(matches!(output.next(), Next::Nothing));
    }

    #[test]
    fn a_file_at_the_very_end_leaves_nothing_behind() {
        let mut output = Output::default();
        output.bytes().extend_from_slice(b"x");
        output.push_file(file(), 0, 1, None);
        output.push_file(file(), 0, 0, None);
        output.bytes_sent(1);
        output.file_sent(1);
        assert!(output.is_empty());
        assert_eq!(output.remaining(), 0);
    }

    #[test]
    fn moving_bytes_moves_the_places_of_files() {
        let mut output = Output::default();
        output.bytes().resize(COMPACT_FROM + 10, b'a');
        output.push_file(file(), 0, 3, None);
        output.bytes().extend_from_slice(b"z");
        output.bytes_sent(COMPACT_FROM);
        assert_eq!(bytes(&output), [b'a'; 10]);
        output.bytes_sent(10);
        output.file_sent(3);
        assert_eq!(bytes(&output), b"z");
    }
}
