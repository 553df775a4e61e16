//! How a call of the application waits for the gateway: the one difference between threads and greenlets.
//!
//! The link's end ([`WorkerLink`]) never waits. Where it has no room, or an event has not come, its user asks the
//! worker's [`Wait`] for a [`Waiter`] and looks again whenever that returns; a return too many does no harm.
//!
//! * [`Blocking`]: a thread sleeps in a futex, detached from the interpreter.
//! * `gevent::Greenlets`: a greenlet switches to its hub, which goes on with the others.
//!
//! An event loop's coroutines wait in futures (`asgi::waiting`); only for room in the ring do they block, because the
//! gateway empties it without waiting for any client: it is a matter of microseconds, or of a gateway that is just
//! being replaced.

use std::fmt::Debug;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use oxicorn_link::{DescriptorError, Descriptors, EventsWaiter, RoomWaiter, StreamId};
use pyo3::prelude::*;

use super::link::WorkerLink;

/// How long a wait lasts before signals are looked for, should no wake-up have come through.
pub(crate) const WAIT: Duration = Duration::from_secs(1);

/// See the head of this file.
pub(crate) trait Wait: Debug + Send + Sync {
    /// For events about `stream`.
    fn for_events<'a>(
        &'a self,
        py: Python<'_>,
        link: &WorkerLink,
        stream: StreamId,
    ) -> Box<dyn Waiter + 'a>;

    /// For room for a message of `len` bytes in the ring of responses.
    fn for_room<'a>(
        &'a self,
        py: Python<'_>,
        link: &WorkerLink,
        len: usize,
    ) -> Box<dyn Waiter + 'a>;

    /// Events have been taken out of the ring and put where those they are about look: these are woken.
    fn hand_out(&self, py: Python<'_>, link: &WorkerLink, news: &[News]) -> PyResult<()>;

    /// Sends a descriptor ahead of the message that speaks of it, waiting at most [`WAIT`] for room.
    fn send_descriptor(
        &self,
        py: Python<'_>,
        descriptors: &Descriptors,
        stream: StreamId,
        file: BorrowedFd<'_>,
    ) -> PyResult<Result<(), DescriptorError>>;

    /// Whether a call that goes on is told when its request takes too long: then its events are kept from the first
    /// moment on.
    fn tells_of_expiry(&self) -> bool {
        false
    }

    /// Whether `error` is what ends a call from outside.
    fn is_exit(&self, _py: Python<'_>, _error: &PyErr) -> bool {
        false
    }
}

/// Something has come for an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct News {
    pub(crate) stream: StreamId,
    /// The gateway has answered the request because it took too long.
    pub(crate) expired: bool,
}

/// One wait, of as many turns as it takes.
pub(crate) trait Waiter {
    /// Returns when it is worth looking again, or after [`WAIT`]. An error is what was raised in the one who waits.
    fn wait(&mut self, py: Python<'_>) -> PyResult<()>;
}

/// Threads wait detached, in the link's futexes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Blocking;

impl Wait for Blocking {
    fn for_events<'a>(
        &'a self,
        py: Python<'_>,
        link: &WorkerLink,
        _stream: StreamId,
    ) -> Box<dyn Waiter + 'a> {
        Box::new(link.events_waiter(py))
    }

    fn for_room<'a>(
        &'a self,
        py: Python<'_>,
        link: &WorkerLink,
        len: usize,
    ) -> Box<dyn Waiter + 'a> {
        Box::new(Room {
            waiter: link.room_waiter(py),
            len,
        })
    }

    fn hand_out(&self, py: Python<'_>, link: &WorkerLink, _news: &[News]) -> PyResult<()> {
        link.events_waiter(py).hand_out();
        Ok(())
    }

    fn send_descriptor(
        &self,
        py: Python<'_>,
        descriptors: &Descriptors,
        stream: StreamId,
        file: BorrowedFd<'_>,
    ) -> PyResult<Result<(), DescriptorError>> {
        Ok(py.detach(|| descriptors.send(stream, file, WAIT)))
    }
}

impl Waiter for EventsWaiter {
    fn wait(&mut self, py: Python<'_>) -> PyResult<()> {
        let waiter = &mut *self;
        py.detach(move || EventsWaiter::wait(waiter, WAIT));
        Ok(())
    }
}

struct Room {
    waiter: RoomWaiter,
    len: usize,
}

impl Waiter for Room {
    fn wait(&mut self, py: Python<'_>) -> PyResult<()> {
        let (waiter, len) = (&mut self.waiter, self.len);
        py.detach(move || waiter.wait(len, WAIT));
        Ok(())
    }
}
