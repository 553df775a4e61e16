//! The worker's end of the link but for the requests: events, responses, descriptors. It never waits by itself.
//!
//! Threads share it ([`Responder`](super::responder::Responder)), a loop has it for itself ([`LoopLink`](super::loop_link::LoopLink)).
//! A lock of it is only waited for detached, so that no thread holds the interpreter while it waits for another that
//! wants it.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use oxicorn_link::window::RESPONSE_HEAD;
use oxicorn_link::wire::ResponseKind;
use oxicorn_link::{
    Descriptors, EventHeader, Events, EventsWaiter, Responses, RingFull, RoomWaiter, StreamId,
};
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;

use super::wait::Wait;
use crate::forked::{dead_link, is_forked};
use crate::locks::{lock, lock_detached};

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct WorkerLink {
    events: Mutex<Events>,
    responses: Mutex<Responses>,
    descriptors: Descriptors,
}

/// One message to the gateway.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Message<'a> {
    pub(crate) kind: ResponseKind,
    pub(crate) stream: StreamId,
    /// See [`flags`](oxicorn_link::wire::flags).
    pub(crate) flags: u8,
    pub(crate) head: &'a [u8],
    pub(crate) body: &'a [u8],
}

impl WorkerLink {
    pub(crate) fn new(events: Events, responses: Responses, descriptors: Descriptors) -> Self {
        Self {
            events: Mutex::new(events),
            responses: Mutex::new(responses),
            descriptors,
        }
    }

    /// Writes one message, waiting for room in the ring if there is none.
    pub(crate) fn send(
        &self,
        py: Python<'_>,
        wait: &dyn Wait,
        message: Message<'_>,
    ) -> PyResult<()> {
        refuse_if_forked()?;
        match self.try_send(py, message) {
            Ok(()) => Ok(()),
            Err(RingFull::NoRoomYet) => self.send_patiently(py, wait, message),
            Err(RingFull::MessageTooLong) => Err(head_too_large(message)),
        }
    }

    /// Writes two messages of which the second follows at once: the gateway is woken when both are there.
    pub(crate) fn send_both(
        &self,
        py: Python<'_>,
        wait: &dyn Wait,
        [first, second]: [Message<'_>; 2],
    ) -> PyResult<()> {
        refuse_if_forked()?;
        if self
            .with_responses(py, |responses| first.place_in(responses))
            .is_err()
        {
            self.send(py, wait, first)?;
        }
        self.send(py, wait, second)
    }

    #[cold]
    fn send_patiently(
        &self,
        py: Python<'_>,
        wait: &dyn Wait,
        message: Message<'_>,
    ) -> PyResult<()> {
        // What was placed without waking the gateway may be what the room is taken by.
        self.with_responses(py, |responses| responses.announce());
        let mut waiter = wait.for_room(py, self, message.head.len() + message.body.len());
        loop {
            waiter.wait(py)?;
            py.check_signals()?;
            refuse_if_forked()?;
            match self.try_send(py, message) {
                Ok(()) => return Ok(()),
                Err(RingFull::NoRoomYet) => {}
                Err(RingFull::MessageTooLong) => return Err(head_too_large(message)),
            }
        }
    }

    fn try_send(&self, py: Python<'_>, message: Message<'_>) -> Result<(), RingFull> {
        self.with_responses(py, |responses| message.push_to(responses))
    }

    fn with_responses<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut Responses) -> T + Send,
    ) -> T {
        match self.responses.try_lock() {
            Ok(mut responses) => work(&mut responses),
            // Another thread is sending.
            Err(_) => py.detach(|| work(&mut lock(&self.responses))),
        }
    }

    /// The ring of responses, for a native thread: nothing if another one is sending.
    pub(crate) fn try_responses(&self) -> Option<MutexGuard<'_, Responses>> {
        self.responses.try_lock().ok()
    }

    /// Whether the gateway that placed this request is still there.
    pub(crate) fn is_current(&self, py: Python<'_>, stream: StreamId) -> bool {
        !is_forked() && lock_detached(py, &self.responses).is_current(stream)
    }

    /// The next event; its payload replaces what is in `payload`. Its lock is held for no longer than this takes.
    pub(crate) fn next_event(&self, payload: &mut Vec<u8>) -> Option<EventHeader> {
        if is_forked() {
            return None;
        }
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        events.try_next(payload)
    }

    /// Whether there is an event, unless another thread is just looking.
    pub(crate) fn has_events(&self) -> bool {
        let events = self.events.try_lock();
        events.is_ok_and(|events| events.has_pending())
    }

    /// The descriptor that a message about `stream` spoke of.
    pub(crate) fn take_descriptor(&self, stream: StreamId) -> PyResult<OwnedFd> {
        refuse_if_forked()?;
        let taken = self.descriptors.take(stream);
        taken.map_err(|error| PyOSError::new_err(error.to_string()))
    }

    /// Sends a descriptor ahead of the message that speaks of it.
    pub(crate) fn send_descriptor(
        &self,
        py: Python<'_>,
        wait: &dyn Wait,
        stream: StreamId,
        file: BorrowedFd<'_>,
    ) -> PyResult<()> {
        refuse_if_forked()?;
        wait.send_descriptor(py, &self.descriptors, stream, file)?
            .map_err(|error| PyOSError::new_err(error.to_string()))
    }

    /// The payload of a request that was too large for the ring.
    pub(crate) fn read_spilled(&self, py: Python<'_>, stream: StreamId) -> PyResult<Vec<u8>> {
        let mut file = File::from(self.take_descriptor(stream)?);
        let mut payload = Vec::new();
        py.detach(|| {
            file.seek(SeekFrom::Start(0))?;
            file.read_to_end(&mut payload)
        })?;
        Ok(payload)
    }

    pub(super) fn events_waiter(&self, py: Python<'_>) -> EventsWaiter {
        lock_detached(py, &self.events).waiter()
    }

    pub(super) fn room_waiter(&self, py: Python<'_>) -> RoomWaiter {
        lock_detached(py, &self.responses).waiter()
    }
}

impl Message<'_> {
    fn place_in(&self, responses: &mut Responses) -> Result<(), RingFull> {
        responses.try_place(self.kind, self.stream, self.flags, self.head, self.body)
    }

    fn push_to(&self, responses: &mut Responses) -> Result<(), RingFull> {
        responses.try_send(self.kind, self.stream, self.flags, self.head, self.body)
    }
}

/// In a process that the application forked other threads may hold the locks for ever, and the link is
/// its parent's.
pub(crate) fn refuse_if_forked() -> PyResult<()> {
    if is_forked() {
        Err(dead_link())
    } else {
        Ok(())
    }
}

fn head_too_large(message: Message<'_>) -> PyErr {
    PyOSError::new_err(too_large("the response head is", message.head.len()))
}

/// `what`, of so many bytes, is beyond what a response may have of it.
pub(crate) fn too_large(what: &str, len: usize) -> String {
    format!("{what} too large: {len} bytes, and {RESPONSE_HEAD} are allowed")
}
