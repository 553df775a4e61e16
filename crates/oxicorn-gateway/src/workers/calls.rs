//! The table of calls: which request is where, and whose answer a message of a worker is.
//!
//! A call is what a worker does for an exchange. Decides the names. A call outlives its exchange where
//! a worker still works on it (the client left, the time was over, the socket was handed over): it
//! counts there until the worker is through. So calls have a table of their own, and either may end
//! first.
//!
//! A call's number is `generation << 24 | key`: the key finds it without a search, the
//! generation tells it from everything that had the same key before. Together with the link's epoch
//! the number is the stream id workers see, so an answer that comes too late finds nobody.

use std::time::Duration;

use oxicorn_dispatch::{RequestId, WorkerId};
use oxicorn_link::window::{RESPONSE_WINDOW, ReceiveWindow};
use oxicorn_link::{Placement, StreamId};

use crate::workers::unattended::Label;

const KEY_BITS: u32 = 24;
const KEY_MASK: u32 = StreamId::PARTS - 1;

/// Calls at once; more cannot be named in a stream id.
pub(crate) const CALL_LIMIT: usize = StreamId::PARTS as usize;

/// Names a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CallId {
    key: u32,
    generation: u32,
}

impl CallId {
    pub(crate) const fn request(self) -> RequestId {
        RequestId((self.generation as u64) << KEY_BITS | self.key as u64)
    }

    #[expect(clippy::cast_possible_truncation, reason = "both parts have 24 bits")]
    pub(crate) const fn of_request(request: RequestId) -> Self {
        Self {
            key: request.0 as u32 & KEY_MASK,
            generation: (request.0 >> KEY_BITS) as u32 & KEY_MASK,
        }
    }

    pub(crate) const fn stream(self, epoch: u32) -> StreamId {
        StreamId::new(epoch, self.generation, self.key)
    }

    pub(crate) const fn of_stream(stream: StreamId) -> Self {
        Self {
            key: stream.key(),
            generation: stream.generation(),
        }
    }
}

/// As people call it, and as a worker that knows the stream can: key and generation.
impl std::fmt::Display for CallId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.key, self.generation)
    }
}

/// A worker's part of one request and its response, from the queue to the end of the application's call.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one thing that has happened to it"
)]
pub(crate) struct Call {
    /// The client's connection, as long as it waits for the answer.
    pub(crate) client: Option<usize>,
    /// When the request was complete.
    pub(crate) submitted: Duration,
    /// How long it waited before a worker was given it.
    pub(crate) queued: Duration,
    pub(crate) place: Place,
    /// What the worker may send of the response's body.
    pub(crate) window: ReceiveWindow,
    /// Bytes of the response's body in the connection's buffer, for which credit is due later.
    pub(crate) uncredited: usize,
    /// The response's head came.
    pub(crate) answered: bool,
    /// The client's socket went to the worker.
    pub(crate) hijacked: bool,
    /// What the log calls it, if its connection is gone or has another request.
    pub(crate) label: Option<Box<Label>>,
    /// The arbiter knows that it is slow.
    pub(crate) told_slow: bool,
    /// The arbiter knows that it takes too long.
    pub(crate) expired: bool,
}

impl Call {
    /// A request of this connection that waits for a worker since `submitted`.
    pub(crate) fn new(connection: usize, submitted: Duration) -> Self {
        Self {
            client: Some(connection),
            submitted,
            queued: Duration::ZERO,
            place: Place::Queued,
            window: ReceiveWindow::new(RESPONSE_WINDOW),
            uncredited: 0,
            answered: false,
            hijacked: false,
            label: None,
            told_slow: false,
            expired: false,
        }
    }
}

/// Where a request is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place {
    /// In the dispatcher's queue.
    Queued,
    /// In a worker's ring, or taken by the worker.
    Worker {
        worker: WorkerId,
        placement: Placement,
        /// When we learned that the worker took it; renewed by every sign of progress.
        taken: Option<Duration>,
    },
}

impl Place {
    /// The worker that has it.
    pub(crate) const fn worker(self) -> Option<WorkerId> {
        match self {
            Self::Queued => None,
            Self::Worker { worker, .. } => Some(worker),
        }
    }
}

/// All calls.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    entries: Vec<Entry>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Entry {
    generation: u32,
    call: Option<Call>,
}

impl Calls {
    /// Enters a call; `None` when there are [`CALL_LIMIT`].
    pub(crate) fn insert(&mut self, call: Call) -> Option<CallId> {
        let key = match self.free.pop() {
            Some(key) => key,
            None if self.entries.len() < CALL_LIMIT => {
                self.entries.push(Entry {
                    generation: 0,
                    call: None,
                });
                u32::try_from(self.entries.len() - 1).ok()?
            }
            None => return None,
        };
        let entry = &mut self.entries[key as usize];
        entry.call = Some(call);
        Some(CallId {
            key,
            generation: entry.generation,
        })
    }

    pub(crate) fn get(&self, id: CallId) -> Option<&Call> {
        let entry = self.entries.get(id.key as usize)?;
        if entry.generation == id.generation {
            entry.call.as_ref()
        } else {
            None
        }
    }

    pub(crate) fn get_mut(&mut self, id: CallId) -> Option<&mut Call> {
        let entry = self.entries.get_mut(id.key as usize)?;
        if entry.generation == id.generation {
            entry.call.as_mut()
        } else {
            None
        }
    }

    pub(crate) fn remove(&mut self, id: CallId) -> Option<Call> {
        let entry = self.entries.get_mut(id.key as usize)?;
        if entry.generation != id.generation {
            return None;
        }
        let call = entry.call.take()?;
        entry.generation = (entry.generation + 1) & KEY_MASK;
        self.free.push(id.key);
        Some(call)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (CallId, &mut Call)> {
        self.entries
            .iter_mut()
            .enumerate()
            .filter_map(|(key, entry)| {
                let key = u32::try_from(key).ok()?;
                let id = CallId {
                    key,
                    generation: entry.generation,
                };
                Some((id, entry.call.as_mut()?))
            })
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call() -> Call {
        Call::new(1, Duration::ZERO)
    }

    #[test]
    fn a_name_finds_its_call_and_never_its_successor() {
        let mut table = Calls::default();
        let first = table.insert(call()).expect("room");
        assert!(table.get(first).is_some());
        assert!(table.remove(first).is_some());
        let second = table.insert(call()).expect("room");
        assert_eq!(second.key, first.key);
        assert!(table.get(first).is_none() && table.remove(first).is_none());
        assert!(table.get_mut(second).is_some());
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn names_survive_the_way_through_dispatch_and_link() {
        let id = CallId {
            key: 0x00ab_cdef,
            generation: 0x0012_3456,
        };
        assert_eq!(CallId::of_request(id.request()), id);
        assert_eq!(CallId::of_stream(id.stream(0xffff_0007)), id);
        assert!(id.stream(0xffff_0007).is_of_epoch(7));
    }
}
