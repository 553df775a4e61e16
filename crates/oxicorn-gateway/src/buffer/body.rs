//! A request body on its way to the worker: in memory as long as it is short, then in a file.
//!
//! A worker gets a request when its body is complete, so a slow upload costs no worker. What is
//! short goes with the request through the link; what is long waits in an unlinked temporary file,
//! whose descriptor the worker is given. The bound between the two is a setting.

use std::fs::File;
use std::io;

use crate::buffer::spool::{Spool, SpoolFile};

/// Small pieces are written together: a client that sends byte by byte must not cost a system call
/// for each.
const BLOCK: usize = 8 * 1024;

/// A body.
#[derive(Debug, Default)]
pub(crate) struct Body {
    /// All of it; where there is a file, what is still to be written to it.
    memory: Vec<u8>,
    file: Option<SpoolFile>,
    len: u64,
}

impl Body {
    /// Bytes so far.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// What is in memory, once it is complete: all of it, or nothing if there is a file.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.memory
    }

    /// Bytes of memory.
    pub(crate) fn memory(&self) -> usize {
        self.memory.capacity()
    }

    /// The file with all of it, once it is complete.
    pub(crate) fn file(&self) -> Option<&File> {
        self.file.as_ref().map(SpoolFile::file)
    }

    /// Appends a piece. An error of the disk is the server's fault, not the client's.
    ///
    /// `memory`: bytes it may keep there at most.
    pub(crate) fn push(&mut self, piece: &[u8], memory: usize, spool: &Spool) -> io::Result<()> {
        self.len += piece.len() as u64;
        if self.file.is_none() && self.memory.len() + piece.len() > memory {
            self.spill(spool)?;
        }
        let Some(file) = &mut self.file else {
            self.memory.extend_from_slice(piece);
            return Ok(());
        };
        if self.memory.len() + piece.len() > BLOCK {
            file.write_all(&self.memory)?;
            self.memory.clear();
        }
        if piece.len() > BLOCK {
            return file.write_all(piece);
        }
        self.memory.extend_from_slice(piece);
        Ok(())
    }

    /// Appends a piece that stays in memory, whatever the rules say: its reader bounds it.
    pub(crate) fn keep(&mut self, piece: &[u8]) {
        self.len += piece.len() as u64;
        self.memory.extend_from_slice(piece);
    }

    /// The first `count` bytes in memory are not needed any more.
    pub(crate) fn discard(&mut self, count: usize) {
        if count == self.memory.len() {
            self.memory.clear();
        } else {
            self.memory.drain(..count);
        }
    }

    /// Nothing more comes. Whoever is given the file finds it at its beginning: the position
    /// belongs to the open file, not to the descriptor.
    pub(crate) fn complete(&mut self) -> io::Result<()> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        file.write_all(&self.memory)?;
        self.memory = Vec::new();
        file.rewind()
    }

    /// Moves what is in memory into a file.
    fn spill(&mut self, spool: &Spool) -> io::Result<()> {
        let mut file = spool.file()?;
        file.write_all(&self.memory)?;
        self.memory = Vec::new();
        self.file = Some(file);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Seek as _};

    use super::*;

    const MEMORY: usize = 10;

    fn spool() -> Spool {
        Spool::new(
            &crate::config::settings::Settings::default(),
            std::rc::Rc::default(),
        )
    }

    #[test]
    fn short_bodies_stay_in_memory() {
        let mut body = Body::default();
        body.push(b"01234", MEMORY, &spool()).expect("memory");
        body.push(b"56789", MEMORY, &spool()).expect("memory");
        assert_eq!((body.bytes(), body.len()), (&b"0123456789"[..], 10));
        assert!(body.file().is_none());
    }

    #[test]
    fn long_bodies_are_a_file_from_the_first_byte_on() {
        let mut body = Body::default();
        for piece in [&b"01234"[..], b"56789", b"x", b"yz"] {
            body.push(piece, MEMORY, &spool()).expect("a temp dir");
        }
        body.complete().expect("a temp dir");
        assert_eq!((body.bytes(), body.len()), (&b""[..], 13));
        let mut file = body.file().expect("long").try_clone().expect("descriptors");
        file.rewind().expect("a file");
        let mut text = String::new();
        file.read_to_string(&mut text).expect("text");
        assert_eq!(text, "0123456789xyz");
    }

    #[test]
    fn without_memory_to_spare_short_bodies_are_files_too() {
        let mut body = Body::default();
        body.push(b"01", MEMORY, &spool()).expect("memory");
        body.push(b"2", 0, &spool()).expect("a temp dir");
        body.complete().expect("a temp dir");
        assert!(body.file().is_some() && body.bytes().is_empty());
    }

    #[test]
    fn pieces_of_every_size_keep_their_order() {
        let mut body = Body::default();
        let mut expected = Vec::new();
        for (number, size) in [1, BLOCK, 5, BLOCK + 1, 3, 3, BLOCK - 6, 1]
            .iter()
            .enumerate()
        {
            let piece = vec![b'a' + u8::try_from(number).expect("few"); *size];
            body.push(&piece, MEMORY, &spool()).expect("a temp dir");
            expected.extend(piece);
        }
        body.complete().expect("a temp dir");
        let mut found = Vec::new();
        let mut file = body.file().expect("long").try_clone().expect("descriptors");
        file.read_to_end(&mut found).expect("a file");
        assert!(found == expected);
    }
}
