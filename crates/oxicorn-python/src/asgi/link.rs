//! The worker's end of the link, as an event loop uses it.
//!
//! One thread, the event loop's, reads requests and events and writes responses; the locks are for the
//! type system and are never waited for. Sleeping is done by the loop in its own epoll, where the
//! doorbell lies beside the application's sockets. Only a full ring of responses is waited for here,
//! detached: the gateway empties it without waiting for any client, so it is a matter of microseconds,
//! or of a gateway that is just being replaced.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use oxicorn_link::wire::ResponseKind;
use oxicorn_link::{
    ClaimedRequest, Descriptors, Doorbell, EventHeader, Events, Requests, Responses, RingFull,
    StreamId, Waker, WorkerParts,
};
use pyo3::exceptions::{PyOSError, PyRuntimeError};
use pyo3::prelude::*;

use crate::forked::{dead_link, is_forked};
use crate::worker::Serving;
use crate::worker::lane::too_large;

/// How long a wait for room lasts before signals are looked for.
const WAIT: Duration = Duration::from_secs(1);

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Link {
    requests: Mutex<Requests>,
    events: Mutex<Events>,
    responses: Mutex<Responses>,
    descriptors: Descriptors,
    doorbell: Mutex<Doorbell>,
    waker: Waker,
    alive: AtomicBool,
    claimed: AtomicU64,
    /// The loop runs: it must show that it turns.
    running: AtomicBool,
    /// Set by every turn of the loop, taken back by the sentinel: a loop that stands still shows.
    turned: AtomicBool,
}

impl Link {
    /// Takes over the parts of an end that was attached for a doorbell.
    pub(crate) fn new(parts: WorkerParts) -> PyResult<Self> {
        let doorbell = parts
            .doorbell
            .ok_or_else(|| PyRuntimeError::new_err("the link has no doorbell"))?;
        Ok(Self {
            requests: Mutex::new(parts.requests),
            events: Mutex::new(parts.events),
            responses: Mutex::new(parts.responses),
            descriptors: parts.descriptors,
            doorbell: Mutex::new(doorbell),
            waker: parts.waker,
            alive: AtomicBool::new(true),
            claimed: AtomicU64::new(0),
            running: AtomicBool::new(false),
            turned: AtomicBool::new(true),
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
        lock(&self.doorbell).sleep_end();
    }

    /// The next event.
    pub(crate) fn next_event(&self, payload: &mut Vec<u8>) -> Option<EventHeader> {
        if is_forked() {
            return None;
        }
        lock(&self.events).try_next(payload)
    }

    /// The next request, which is ours from now on.
    pub(crate) fn claim(&self, payload: &mut Vec<u8>) -> Option<ClaimedRequest> {
        let claimed = lock(&self.requests).try_claim(payload)?;
        self.claimed.fetch_add(1, Ordering::Relaxed);
        Some(claimed)
    }

    /// Writes one message, waiting for room in the ring if there is none.
    pub(crate) fn send(
        &self,
        py: Python<'_>,
        kind: ResponseKind,
        stream: StreamId,
        flags: u8,
        head: &[u8],
        body: &[u8],
    ) -> PyResult<()> {
        if is_forked() {
            return Err(dead_link());
        }
        let first = lock(&self.responses).try_send(kind, stream, flags, head, body);
        match first {
            Ok(()) => Ok(()),
            Err(RingFull::MessageTooLong) => Err(PyOSError::new_err(too_large(
                "the response head is",
                head.len(),
            ))),
            Err(RingFull::NoRoomYet) => self.send_patiently(py, kind, stream, flags, head, body),
        }
    }

    #[cold]
    fn send_patiently(
        &self,
        py: Python<'_>,
        kind: ResponseKind,
        stream: StreamId,
        flags: u8,
        head: &[u8],
        body: &[u8],
    ) -> PyResult<()> {
        let mut waiter = lock(&self.responses).waiter();
        loop {
            let waiter = &mut waiter;
            let sent = py.detach(move || {
                waiter.wait(head.len() + body.len(), WAIT);
                lock(&self.responses).try_send(kind, stream, flags, head, body)
            });
            match sent {
                Ok(()) => return Ok(()),
                Err(RingFull::MessageTooLong) => {
                    return Err(PyOSError::new_err(too_large(
                        "the response head is",
                        head.len(),
                    )));
                }
                Err(RingFull::NoRoomYet) => {
                    py.check_signals()?;
                    if is_forked() {
                        return Err(dead_link());
                    }
                }
            }
        }
    }

    /// Whether the gateway that placed this request is still there.
    pub(crate) fn is_current(&self, stream: StreamId) -> bool {
        !is_forked() && lock(&self.responses).is_current(stream)
    }

    /// The descriptor that a message about `stream` spoke of.
    pub(crate) fn take_descriptor(&self, stream: StreamId) -> PyResult<OwnedFd> {
        if is_forked() {
            return Err(dead_link());
        }
        let taken = self.descriptors.take(stream);
        taken.map_err(|error| PyOSError::new_err(error.to_string()))
    }

    /// Sends a descriptor ahead of the message that speaks of it.
    pub(crate) fn send_descriptor(
        &self,
        py: Python<'_>,
        stream: StreamId,
        file: &OwnedFd,
    ) -> PyResult<()> {
        if is_forked() {
            return Err(dead_link());
        }
        let sent = py.detach(|| self.descriptors.send(stream, file.as_fd(), WAIT));
        sent.map_err(|error| PyOSError::new_err(error.to_string()))
    }

    /// The payload of a request that was too large for the ring.
    pub(crate) fn read_spilled(&self, stream: StreamId) -> PyResult<Vec<u8>> {
        let mut file = File::from(self.take_descriptor(stream)?);
        let mut payload = Vec::new();
        file.seek(SeekFrom::Start(0))?;
        file.read_to_end(&mut payload)?;
        Ok(payload)
    }

    /// Whether requests are still taken.
    pub(crate) fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Relaxed)
    }

    /// Requests claimed so far.
    pub(crate) fn claimed(&self) -> u64 {
        self.claimed.load(Ordering::Relaxed)
    }
}

impl Serving for Link {
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
        self.waker.interrupt();
        turned
    }
}

/// Nothing panics while one of them is held; a poisoned one would be as good as any.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
