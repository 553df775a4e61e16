//! The calls of the application that this worker has in hand, so that a new gateway can be told.
//!
//! A gateway knows what it has given to whom; its successor knows nothing, and what was in hand when the first
//! one died would be bounded by nobody. So each call is entered here with what the log calls it, and the
//! sentinel, which no application can hold up, names those of earlier gateways to the present one.

use std::sync::{Mutex, MutexGuard, PoisonError};

use oxicorn_link::StreamId;
use oxicorn_link::wire::{Address, CallInHand, RequestView};

/// Bytes kept of a request line: as much as helps to find the view.
const LINE_KEPT: usize = 256;

/// The book; its entries' memory is used again and again.
#[derive(Debug, Default)]
pub(crate) struct Calls(Mutex<Vec<Entry>>);

#[derive(Debug, Default)]
struct Entry {
    stream: Option<StreamId>,
    request_line: Vec<u8>,
    client: Vec<u8>,
}

/// A call that is in the book as long as this lives.
#[derive(Debug)]
pub(crate) struct Entered<'a> {
    calls: &'a Calls,
    stream: StreamId,
}

impl Calls {
    /// A call begins.
    pub(crate) fn enter(&self, stream: StreamId, view: &RequestView<'_>) -> Entered<'_> {
        let mut entries = self.lock();
        let free = entries.iter().position(|entry| entry.stream.is_none());
        let place = free.unwrap_or_else(|| {
            entries.push(Entry::default());
            entries.len() - 1
        });
        entries[place].describe(stream, view);
        drop(entries);
        Entered {
            calls: self,
            stream,
        }
    }

    /// It is over, or its client's socket is the application's, for as long as it likes.
    pub(crate) fn strike_out(&self, stream: StreamId) {
        let mut entries = self.lock();
        if let Some(entry) = entries
            .iter_mut()
            .find(|entry| entry.stream == Some(stream))
        {
            entry.stream = None;
        }
    }

    /// Appends the message that names those whose gateway is not `current`; whether there are any.
    pub(crate) fn encode(&self, out: &mut Vec<u8>, current: impl Fn(StreamId) -> bool) -> bool {
        for entry in self.lock().iter() {
            let Some(stream) = entry.stream.filter(|stream| !current(*stream)) else {
                continue;
            };
            let call = CallInHand {
                stream,
                request_line: &entry.request_line,
                client: &entry.client,
            };
            call.encode(out);
        }
        !out.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        // Held for moments, and whole whatever happens.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn describe(&mut self, stream: StreamId, view: &RequestView<'_>) {
        self.stream = Some(stream);
        self.request_line.clear();
        self.request_line.extend_from_slice(view.head.method);
        self.request_line.push(b' ');
        self.request_line
            .extend_from_slice(view.head.request_target);
        self.request_line.truncate(LINE_KEPT);
        self.client.clear();
        if let Address::Ip { host, .. } = view.head.client {
            self.client.extend_from_slice(host);
        }
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.calls.strike_out(self.stream);
    }
}
