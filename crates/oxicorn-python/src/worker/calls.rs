//! The calls of the application that this worker has in hand, so that a new gateway can be told, and whoever asks what
//! they are doing.
//!
//! A gateway knows what it has given to whom; its successor knows nothing, and what was in hand when the first
//! one died would be bounded by nobody. So each call is entered here with what the log calls it, and the
//! sentinel, which no application can hold up, names those of earlier gateways to the present one.

use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use oxicorn_link::StreamId;
use oxicorn_link::wire::{Address, CallInHand, RequestView};
use oxicorn_os::{process, time};
use pyo3::prelude::*;

/// Bytes kept of a request line: as much as helps to find the view.
const LINE_KEPT: usize = 256;

/// The table; its entries' memory is used again and again.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    table: Mutex<CallTable>,
    /// Gives the greenlet that runs, where several calls share a thread.
    current_greenlet: OnceLock<Py<PyAny>>,
}

/// When a call began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Beginning {
    /// When its request was claimed, by the monotonic clock.
    pub(crate) since: Duration,
    /// How long its thread had waited for the interpreter before that.
    pub(crate) waited: Duration,
}

/// A call for Python: stream, identity of its thread, seconds since it began, seconds it had waited for the interpreter,
/// greenlet.
pub(crate) type Described = (u64, u64, f64, f64, Option<Py<PyAny>>);

#[derive(Debug, Default)]
struct CallTable {
    entries: Vec<Entry>,
    /// Places of entries that are of no call: a hub may have a thousand calls, and looks for none of them.
    free: Vec<usize>,
}

#[derive(Debug, Default)]
struct Entry {
    stream: Option<StreamId>,
    /// As Python's `threading.get_ident()` has it.
    thread: u64,
    since: Duration,
    waited: Duration,
    greenlet: Option<Py<PyAny>>,
    request_line: Vec<u8>,
    client: Vec<u8>,
}

/// A call that is in the table as long as this lives.
#[derive(Debug)]
pub(crate) struct Entered<'a> {
    calls: &'a Calls,
    stream: StreamId,
    place: usize,
}

impl Calls {
    /// A call begins, on this thread.
    pub(crate) fn enter(
        &self,
        py: Python<'_>,
        stream: StreamId,
        beginning: Beginning,
        view: &RequestView<'_>,
    ) -> Entered<'_> {
        let greenlet = self.current_greenlet.get();
        let greenlet = greenlet.and_then(|current| current.call0(py).ok());
        let mut table = self.lock();
        let place = table.free_place();
        let entry = &mut table.entries[place];
        entry.describe(stream, view);
        entry.thread = process::thread_identity();
        entry.since = beginning.since;
        entry.waited = beginning.waited;
        let before = std::mem::replace(&mut entry.greenlet, greenlet);
        drop(table);
        // Its end may run code of Python's.
        drop(before);
        Entered {
            calls: self,
            stream,
            place,
        }
    }

    /// From now on several calls share a thread, each in a greenlet of its own: `current` gives the one that runs.
    pub(crate) fn name_greenlets(&self, current: Py<PyAny>) {
        let _ = self.current_greenlet.set(current);
    }

    /// Those in hand, for Python.
    pub(crate) fn describe(&self, py: Python<'_>) -> Vec<Described> {
        let now = time::monotonic();
        let table = self.lock();
        let described = table.entries.iter().filter_map(|entry| {
            let greenlet = entry.greenlet.as_ref().map(|one| one.clone_ref(py));
            let age = now.saturating_sub(entry.since).as_secs_f64();
            let waited = entry.waited.as_secs_f64();
            Some((entry.stream?.0, entry.thread, age, waited, greenlet))
        });
        described.collect()
    }

    /// Those in hand, for who does not wait for the interpreter: a list of `[stream, thread, age, waited]`.
    pub(crate) fn as_json(&self) -> String {
        let now = time::monotonic();
        let mut out = String::from("[");
        for entry in &self.lock().entries {
            let Some(stream) = entry.stream else { continue };
            let comma = if out.len() > 1 { "," } else { "" };
            let age = now.saturating_sub(entry.since).as_secs_f64();
            let (thread, waited) = (entry.thread, entry.waited.as_secs_f64());
            let _ = write!(out, "{comma}[{},{thread},{age:.3},{waited:.6}]", stream.0);
        }
        out.push(']');
        out
    }

    /// It is over, or its client's socket is the application's, for as long as it likes.
    pub(crate) fn strike_out(&self, stream: StreamId) {
        let table = self.lock();
        let is_its = |entry: &Entry| entry.stream == Some(stream);
        let place = table.entries.iter().position(is_its);
        drop(table);
        if let Some(place) = place {
            self.strike_out_at(place, stream);
        }
    }

    fn strike_out_at(&self, place: usize, stream: StreamId) {
        let mut table = self.lock();
        let entry = &mut table.entries[place];
        if entry.stream != Some(stream) {
            return;
        }
        entry.stream = None;
        let greenlet = entry.greenlet.take();
        table.free.push(place);
        drop(table);
        // Its end may run code of Python's.
        drop(greenlet);
    }

    /// Appends the message that names those whose gateway is not `current`; whether there are any.
    pub(crate) fn encode(&self, out: &mut Vec<u8>, current: impl Fn(StreamId) -> bool) -> bool {
        for entry in &self.lock().entries {
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

    fn lock(&self) -> MutexGuard<'_, CallTable> {
        // Held for moments, and whole whatever happens.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CallTable {
    fn free_place(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.entries.push(Entry::default());
            self.entries.len() - 1
        })
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
        self.calls.strike_out_at(self.place, self.stream);
    }
}
