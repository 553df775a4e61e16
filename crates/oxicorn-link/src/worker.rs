//! The worker's end of a link.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use crate::wire::{EventKind, ResponseKind};
use crate::{AttachError, DescriptorError, LinkFault, RingFull, StreamId};

/// How this worker sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitMode {
    /// Threads block in [`RequestsWaiter::wait`].
    Futex,
    /// An event loop waits for the worker's doorbell, see [`Doorbell`].
    Doorbell,
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitOutcome {
    /// There is something, or was a moment ago (another thread may have been faster).
    Ready,
    /// The time is over.
    TimedOut,
    /// A signal came to this thread, or [`Waker::interrupt`] was called.
    Interrupted,
    /// [`Waker::end`] was called; it will not be different next time.
    Ended,
}

/// The worker's end before it is taken apart.
#[derive(Debug)]
pub struct WorkerEnd {}

/// The worker's end, in parts that may go to different threads.
#[derive(Debug)]
pub struct WorkerParts {
    /// Requests; one thread at a time reads them.
    pub requests: Requests,
    /// Events; one thread at a time reads them.
    pub events: Events,
    /// Responses; one thread at a time writes them.
    pub responses: Responses,
    /// Descriptors, for all threads.
    pub descriptors: Descriptors,
    /// Sleeping in an event loop.
    pub doorbell: Doorbell,
    /// Ends or interrupts the waits.
    pub waker: Waker,
}

impl WorkerEnd {
    /// Maps the memory, checking size, seals and version.
    pub fn attach(
        memory: OwnedFd,
        gateway_doorbell: OwnedFd,
        worker_doorbell: OwnedFd,
        descriptors: OwnedFd,
        mode: WaitMode,
    ) -> Result<Self, AttachError> {
        let _ = (memory, gateway_doorbell, worker_doorbell, descriptors, mode);
        todo!()
    }

    /// Takes it apart.
    pub fn split(self) -> WorkerParts {
        todo!()
    }
}

/// A request that now belongs to this worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimedRequest {
    /// To be echoed in every message about it.
    pub stream: StreamId,
    /// See [`flags`](crate::wire::flags).
    pub flags: u8,
    /// Epoch of the gateway that placed it.
    pub epoch: u32,
}

/// Reads requests. Several threads share it behind a lock, and wait without the lock by means of
/// [`waiter`](Self::waiter).
#[derive(Debug)]
pub struct Requests {}

impl Requests {
    /// Takes the next request that is not revoked and not of an earlier gateway; its payload
    /// replaces what is in `payload`. `None`: there is none (or the memory is beyond belief, see
    /// [`fault`](Self::fault)).
    pub fn try_claim(&mut self, payload: &mut Vec<u8>) -> Option<ClaimedRequest> {
        let _ = payload;
        todo!()
    }

    /// Whether there may be something to claim.
    pub fn has_pending(&self) -> bool {
        todo!()
    }

    /// Waits, see [`RequestsWaiter::wait`].
    pub fn wait(&self, timeout: Duration) -> WaitOutcome {
        let _ = timeout;
        todo!()
    }

    /// A handle to wait with, one for each thread.
    pub fn waiter(&self) -> RequestsWaiter {
        todo!()
    }

    /// What was wrong with the memory, if something was. The worker should exit.
    pub fn fault(&self) -> Option<LinkFault> {
        todo!()
    }
}

/// Waits for requests; one for each thread (`Clone`).
#[derive(Clone, Debug)]
pub struct RequestsWaiter {}

impl RequestsWaiter {
    /// Blocks until there may be something to claim, at most for `timeout`. Each request placed
    /// wakes one waiting thread. To be called detached from the interpreter and without any lock.
    pub fn wait(&self, timeout: Duration) -> WaitOutcome {
        let _ = timeout;
        todo!()
    }

    /// Whether there may be something to claim.
    pub fn has_pending(&self) -> bool {
        todo!()
    }

    /// Wakes another waiting thread: for a thread that was woken and leaves without having claimed.
    pub fn pass_on(&self) {
        todo!()
    }
}

/// Header of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventHeader {
    /// What it is.
    pub kind: EventKind,
    /// See [`flags`](crate::wire::flags).
    pub flags: u8,
    /// Which request it is about; of an earlier gateway or an ended request: ignore it.
    pub stream: StreamId,
}

/// Reads events.
#[derive(Debug)]
pub struct Events {}

impl Events {
    /// The next event; its payload replaces what is in `payload`.
    pub fn try_next(&mut self, payload: &mut Vec<u8>) -> Option<EventHeader> {
        let _ = payload;
        todo!()
    }

    /// Whether there is an event.
    pub fn has_pending(&self) -> bool {
        todo!()
    }

    /// Waits, see [`EventsWaiter::wait`].
    pub fn wait(&self, timeout: Duration) -> WaitOutcome {
        let _ = timeout;
        todo!()
    }

    /// A handle to wait with, one for each thread.
    pub fn waiter(&self) -> EventsWaiter {
        todo!()
    }

    /// What was wrong with the memory, if something was. The worker should exit.
    pub fn fault(&self) -> Option<LinkFault> {
        todo!()
    }
}

/// Waits for events; one for each thread (`Clone`).
#[derive(Clone, Debug)]
pub struct EventsWaiter {}

impl EventsWaiter {
    /// Blocks until there may be an event, at most for `timeout`. Each event wakes one waiting
    /// thread, which must hand on what is not its own.
    pub fn wait(&self, timeout: Duration) -> WaitOutcome {
        let _ = timeout;
        todo!()
    }

    /// Whether there is an event.
    pub fn has_pending(&self) -> bool {
        todo!()
    }

    /// Wakes another waiting thread.
    pub fn pass_on(&self) {
        todo!()
    }
}

/// Writes responses.
#[derive(Debug)]
pub struct Responses {}

impl Responses {
    /// Longest `head` and `body` together that one message can have.
    pub fn max_payload(&self) -> usize {
        todo!()
    }

    /// Sends one message whose payload is `head` and then `body`, waking the gateway if it sleeps.
    pub fn try_send(
        &mut self,
        kind: ResponseKind,
        stream: StreamId,
        flags: u8,
        head: &[u8],
        body: &[u8],
    ) -> Result<(), RingFull> {
        let _ = (kind, stream, flags, head, body);
        todo!()
    }

    /// Blocks until a payload of `len` bytes may find room, at most for `timeout`.
    pub fn wait_room(&self, len: usize, timeout: Duration) -> WaitOutcome {
        let _ = (len, timeout);
        todo!()
    }
}

/// Sends and receives descriptors; for all threads.
#[derive(Clone, Debug)]
pub struct Descriptors {}

impl Descriptors {
    /// Sends a descriptor ahead of the message that speaks of it; waits at most `timeout` for room.
    pub fn send<F: AsFd>(
        &self,
        stream: StreamId,
        descriptor: F,
        timeout: Duration,
    ) -> Result<(), DescriptorError> {
        let _ = (stream, descriptor, timeout);
        todo!()
    }

    /// Takes the descriptor a message of `stream` spoke of. Does not block: it was sent before.
    pub fn take(&self, stream: StreamId) -> Result<OwnedFd, DescriptorError> {
        let _ = stream;
        todo!()
    }

    /// Takes any descriptor, waiting at most `timeout` for one to come.
    pub fn recv(&self, timeout: Duration) -> Result<Option<(StreamId, OwnedFd)>, DescriptorError> {
        let _ = timeout;
        todo!()
    }
}

/// Sleeping in an event loop ([`WaitMode::Doorbell`]): wait for [`fd`](Self::fd) to be readable.
#[derive(Clone, Debug)]
pub struct Doorbell {}

impl Doorbell {
    /// Descriptor to wait on.
    pub fn fd(&self) -> BorrowedFd<'_> {
        todo!()
    }

    /// Says that the loop is about to sleep: from now on the gateway rings. `false`: there is
    /// something to read, do not sleep.
    pub fn sleep_begin(&self) -> bool {
        todo!()
    }

    /// Says that the loop is awake, and makes the descriptor unreadable.
    pub fn sleep_end(&self) {
        todo!()
    }
}

/// Ends the waits of this process, from any of its threads or from a signal handler.
#[derive(Clone, Debug)]
pub struct Waker {}

impl Waker {
    /// Every wait from now on ends at once with [`WaitOutcome::Ended`]. Async-signal-safe.
    pub fn end(&self) {
        todo!()
    }

    /// The current or else the next wait of every waiter ends with [`WaitOutcome::Interrupted`].
    /// Async-signal-safe.
    pub fn interrupt(&self) {
        todo!()
    }

    /// Whether [`end`](Self::end) was called.
    pub fn has_ended(&self) -> bool {
        todo!()
    }
}
