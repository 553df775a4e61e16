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
use crate::gateway::Gateway;
use crate::telemetry::log_throttle::Standing;

/// What all responses together may take of the disk, in `response_spool`s.
const SPOOLS: u64 = 4;

/// The part of `response_buffer` that waits in memory before anything goes to a file.
const IN_MEMORY: usize = 2;

/// Bytes in files, of all responses.
#[derive(Debug, Default, Clone)]
pub(crate) struct Spooled(Rc<Cell<u64>>);

/// The file of one response.
#[derive(Debug)]
pub(crate) struct ResponseSpool {
    writer: SpoolFile,
    reader: Rc<File>,
    len: u64,
    all: Spooled,
    /// It may not grow any more, or cannot.
    is_full: bool,
}

impl Drop for ResponseSpool {
    fn drop(&mut self) {
        self.all.0.set(self.all.0.get() - self.len);
    }
}

impl ResponseSpool {
    fn new(spool: &Spool, all: Spooled) -> io::Result<Self> {
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
    fn append(&mut self, bytes: &[u8], limit: u64) -> io::Result<u64> {
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

impl Gateway {
    /// A message of a thread's was taken; the output's buffer was `mark` bytes long before. What it brought goes to a
    /// file if too much waits in memory.
    pub(crate) fn spool_response(&mut self, client: usize, mark: usize) {
        let Some(connection) = self.connections.get_mut(client) else {
            return;
        };
        let settings = &connection.resolved.settings;
        let limit = settings.response_spool;
        let most = settings.response_buffer / IN_MEMORY;
        let output = &mut connection.output;
        if limit == 0 || output.held() <= most || output.bytes().len() <= mark {
            return;
        }
        let Some(exchange) = &mut connection.exchange else {
            return;
        };
        let place = &mut exchange.response.spool;
        if place.is_none() {
            match ResponseSpool::new(&connection.resolved.spool, self.spooled.clone()) {
                Ok(spool) => *place = Some(Box::new(spool)),
                Err(error) => return self.tell_of_full_spool(&error),
            }
        }
        let Some(spool) = place.as_mut().filter(|spool| !spool.is_full) else {
            return;
        };
        let count = output.bytes().len() - mark;
        match spool.append(&output.bytes()[mark..], limit) {
            Ok(at) => {
                output.spooled(mark, &spool.reader, at);
                self.credit(client, count);
            }
            Err(error) => {
                spool.is_full = true;
                self.tell_of_full_spool(&error);
            }
        }
    }

    fn tell_of_full_spool(&mut self, error: &io::Error) {
        self.warn_of_state(
            Standing::ResponsesWait,
            format_args!(
                "Slow clients make workers wait: a response cannot be put into a file any more ({error}; response_spool)"
            ),
        );
    }
}
