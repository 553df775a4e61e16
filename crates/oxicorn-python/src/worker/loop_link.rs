//! The worker's end of the link, as an event loop uses it (asyncio's, gevent's hub).
//!
//! One thread, the loop's, reads requests and events and writes responses; the locks are for the type system and are
//! never waited for. Sleeping is done by the loop in its own epoll, where the doorbell lies beside the application's
//! sockets.

use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use oxicorn_link::wire::ResponseKind;
use oxicorn_link::{ClaimedRequest, Doorbell, EventHeader, Requests, StreamId, Waker, WorkerParts};
use oxicorn_os::poll::wait_readable;
use oxicorn_os::time;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use super::Serving;
use super::link::{Message, WorkerLink};
use super::wait::{Blocking, WAIT};
use crate::locks::lock;

/// How long between two looks where nobody rings.
const GLANCE: Duration = Duration::from_micros(100);

/// How far the worker's end has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Serving,
    /// It was told to stop, and serves what it is still given.
    Told,
    /// It takes no more requests.
    Released,
}

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct LoopLink {
    link: Arc<WorkerLink>,
    requests: Mutex<Requests>,
    doorbell: Mutex<Doorbell>,
    waker: Waker,
    alive: AtomicBool,
    claimed: AtomicU64,
    /// The loop runs: it must show that it turns.
    running: AtomicBool,
    /// Set by every turn of the loop, taken back by the sentinel: a loop that stands still shows.
    turned: AtomicBool,
    /// When the loop was called (monotonic nanoseconds), until it has turned; 0: it was not.
    called_ns: AtomicU64,
    /// How long it took to turn, and one more, until somebody wants to know; 0: nothing is new.
    lag_ns: AtomicU64,
    /// The stream claimed last: of the gateway that is there, as far as is known.
    newest: AtomicU64,
    /// Another gateway has placed requests since somebody last asked.
    succeeded: AtomicBool,
}

impl LoopLink {
    /// Takes over the parts of an end that was attached for a doorbell.
    pub(crate) fn new(parts: WorkerParts) -> PyResult<Self> {
        let doorbell = parts
            .doorbell
            .ok_or_else(|| PyRuntimeError::new_err("the link has no doorbell"))?;
        let link = WorkerLink::new(parts.events, parts.responses, parts.descriptors);
        Ok(Self {
            link: Arc::new(link),
            requests: Mutex::new(parts.requests),
            doorbell: Mutex::new(doorbell),
            waker: parts.waker,
            alive: AtomicBool::new(true),
            claimed: AtomicU64::new(0),
            running: AtomicBool::new(false),
            turned: AtomicBool::new(true),
            called_ns: AtomicU64::new(0),
            lag_ns: AtomicU64::new(0),
            newest: AtomicU64::new(0),
            succeeded: AtomicBool::new(false),
        })
    }

    /// From now on (or: no longer) the loop must show that it turns.
    pub(crate) fn set_running(&self, running: bool) {
        self.turned.store(true, Ordering::Relaxed);
        self.running.store(running, Ordering::Relaxed);
    }

    /// What the loop waits for.
    pub(crate) fn doorbell_number(&self) -> i32 {
        lock(&self.doorbell).fd().as_raw_fd()
    }

    /// The loop is about to sleep; `false`: something has come.
    pub(crate) fn sleep_begin(&self) -> bool {
        lock(&self.doorbell).sleep_begin()
    }

    /// The loop is awake.
    pub(crate) fn sleep_end(&self) {
        self.turned.store(true, Ordering::Relaxed);
        if self.called_ns.load(Ordering::Relaxed) != 0 {
            let called = self.called_ns.swap(0, Ordering::Relaxed);
            let lag = time::monotonic_ns().saturating_sub(called);
            self.lag_ns.store(lag.saturating_add(1), Ordering::Relaxed);
        }
        lock(&self.doorbell).sleep_end();
    }

    /// Waits for a moment until something may have come, on the loop's thread and in its place.
    pub(crate) fn wait(&self, py: Python<'_>) {
        py.detach(|| {
            let doorbell = lock(&self.doorbell);
            if doorbell.sleep_begin() {
                let _ = wait_readable(&[doorbell.fd()], Some(WAIT));
            } else {
                // Requests lie there, which the loop will take, so nobody rings.
                thread::sleep(GLANCE);
            }
            doorbell.sleep_end();
        });
    }

    /// The next request, which is ours from now on.
    pub(crate) fn claim(&self, payload: &mut Vec<u8>) -> Option<ClaimedRequest> {
        let claimed = lock(&self.requests).try_claim(payload)?;
        self.claimed.fetch_add(1, Ordering::Relaxed);
        self.note_gateway(claimed.stream);
        Some(claimed)
    }

    /// A request was claimed: from the gateway that is there now.
    fn note_gateway(&self, stream: StreamId) {
        let before = StreamId(self.newest.swap(stream.0, Ordering::Relaxed));
        if before.epoch() != stream.epoch() {
            self.succeeded.store(true, Ordering::Relaxed);
        }
    }

    /// Whether calls of a gateway that is gone may be in hand. One look tells, so that many that
    /// rest cost nothing when the loop turns.
    pub(crate) fn has_lost_gateway(&self, py: Python<'_>) -> bool {
        let newest = StreamId(self.newest.load(Ordering::Relaxed));
        let succeeded = self.succeeded.swap(false, Ordering::Relaxed);
        succeeded || !self.is_current(py, newest)
    }

    /// How far this end has come, where the worker was `told` to stop or was not.
    pub(crate) fn standing(&self, told: bool) -> Standing {
        match (self.is_alive(), told) {
            (false, _) => Standing::Released,
            (true, true) => Standing::Told,
            (true, false) => Standing::Serving,
        }
    }

    /// What threads and greenlets of one loop share.
    pub(crate) fn shared(&self) -> Arc<WorkerLink> {
        Arc::clone(&self.link)
    }

    /// Whether requests are still taken.
    pub(crate) fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Relaxed)
    }

    /// Requests claimed so far.
    pub(crate) fn claimed(&self) -> u64 {
        self.claimed.load(Ordering::Relaxed)
    }

    /// The next event.
    pub(crate) fn next_event(&self, payload: &mut Vec<u8>) -> Option<EventHeader> {
        self.link.next_event(payload)
    }

    /// Writes one message. For room in the ring it blocks, see [`wait`](super::wait).
    pub(crate) fn send(
        &self,
        py: Python<'_>,
        kind: ResponseKind,
        stream: StreamId,
        flags: u8,
        head: &[u8],
        body: &[u8],
    ) -> PyResult<()> {
        let message = Message {
            kind,
            stream,
            flags,
            head,
            body,
        };
        self.send_message(py, message)
    }

    /// The same of a message that is put together.
    pub(crate) fn send_message(&self, py: Python<'_>, message: Message<'_>) -> PyResult<()> {
        self.link.send(py, &Blocking, message)
    }

    /// Writes two messages of which the second follows at once.
    pub(crate) fn send_both(&self, py: Python<'_>, messages: [Message<'_>; 2]) -> PyResult<()> {
        self.link.send_both(py, &Blocking, messages)
    }

    /// Whether the gateway that placed this request is still there.
    pub(crate) fn is_current(&self, py: Python<'_>, stream: StreamId) -> bool {
        self.link.is_current(py, stream)
    }

    /// The descriptor that a message about `stream` spoke of.
    pub(crate) fn take_descriptor(&self, stream: StreamId) -> PyResult<OwnedFd> {
        self.link.take_descriptor(stream)
    }

    /// Sends a descriptor ahead of the message that speaks of it.
    pub(crate) fn send_descriptor(
        &self,
        py: Python<'_>,
        stream: StreamId,
        file: &OwnedFd,
    ) -> PyResult<()> {
        self.link
            .send_descriptor(py, &Blocking, stream, file.as_fd())
    }

    /// The payload of a request that was too large for the ring.
    pub(crate) fn read_spilled(&self, py: Python<'_>, stream: StreamId) -> PyResult<Vec<u8>> {
        self.link.read_spilled(py, stream)
    }
}

impl Serving for LoopLink {
    fn interrupt(&self) {
        self.waker.interrupt();
    }

    fn stop(&self) {
        self.alive.store(false, Ordering::Relaxed);
        self.waker.interrupt();
    }

    /// The loop is asked for a turn; the answer is about the one asked for before.
    fn is_responsive(&self) -> bool {
        if !self.running.load(Ordering::Relaxed) {
            return true;
        }
        let turned = self.turned.swap(false, Ordering::Relaxed);
        // One that has not turned since was called long ago.
        let now = time::monotonic_ns();
        let _ = (self.called_ns).compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
        self.waker.interrupt();
        turned
    }

    fn take_lag(&self) -> Option<Duration> {
        let lag = self.lag_ns.swap(0, Ordering::Relaxed);
        lag.checked_sub(1).map(Duration::from_nanos)
    }
}
