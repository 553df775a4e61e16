//! Responses that their clients do not read as fast as they come.
//!
//! Decides when the rest of a response goes into a file without a name: where half of `response_buffer` waits
//! for the client in memory, the response is a thread's (whose worker would have to wait), and there is room.
//! The worker has its credit at once then and is through long before the client is; the client is sent the
//! file as any other. An event loop goes on with others while it waits, and its applications mean
//! back-pressure, so there it stays. It is also what is left where a file cannot be written or may not grow.
//!
//! Bounds: `response_spool` bytes of one response, [`SPOOLS`] times as much of all.

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::rc::Rc;

use crate::buffer::spool::{Spool, SpoolFile};

/// What all responses together may take of the disk, in `response_spool`s.
pub(crate) const SPOOLS: u64 = 4;

/// The part of `response_buffer` that waits in memory before anything goes to a file.
pub(crate) const IN_MEMORY: usize = 2;

/// Bytes in files, of all responses.
#[derive(Debug, Default, Clone)]
pub(crate) struct Spooled(Rc<Cell<u64>>);

/// The file of one response.
#[derive(Debug)]
pub(crate) struct ResponseSpool {
    pub(crate) writer: SpoolFile,
    pub(crate) reader: Rc<File>,
    pub(crate) len: u64,
    pub(crate) all: Spooled,
    /// It may not grow any more, or cannot.
    pub(crate) is_full: bool,
}

impl Drop for ResponseSpool {
    fn drop(&mut self) {
        self.all.0.set(self.all.0.get() - self.len);
    }
}

impl ResponseSpool {
    pub(crate) fn new(spool: &Spool, all: Spooled) -> io::Result<Self> {
        let writer = spool.file()?;
        let reader = Rc::new(writer.file().try_clone()?);
        Ok(Self {
            writer,
            reader,
            len: 0,
            all,
            is_full: false,
        })
    }

    /// Appends; says where it lies. An error changes nothing that was there.
    pub(crate) fn append(&mut self, bytes: &[u8], limit: u64) -> io::Result<u64> {
        let count = bytes.len() as u64;
        let all = self.all.0.get() + count;
        if self.len + count > limit || all > limit.saturating_mul(SPOOLS) {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        self.writer.write_all(bytes)?;
        self.all.0.set(all);
        let at = self.len;
        self.len += count;
        Ok(at)
    }
}
