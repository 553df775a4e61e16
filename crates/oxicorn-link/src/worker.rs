//! The worker's end of a link.
//!
//! It comes apart into pieces that different threads may hold. Pieces that read or write a ring are
//! for one thread at a time (the worker process puts a lock around them if it has several); waiting
//! is done by separate handles, so that nobody sleeps with a lock in hand.
//!
//! The gateway is trusted here more than the worker is there, but what it placed is checked by the
//! same code: a fault ends the reading, it does not crash.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use oxicorn_os::channel::Channel;
use oxicorn_os::eventfd::EventFd;
use oxicorn_os::forked;
use oxicorn_os::poll::{self, Polled};

use crate::bell::Fenced;
use crate::descriptors::{self, Inbox};
use crate::layout::{LinkMemory, RingMemory};
use crate::ring::{Consumer, Memory as _, Message, Producer, Tag, max_payload};
use crate::waiting::{Doorbell, EventsWaiter, RequestsWaiter, RoomWaiter, Waiting, Waker};
use crate::wire::{EventKind, ResponseKind, flags};
use crate::{AttachError, DescriptorError, LinkFault, RingFull, StreamId, WaitOutcome};

/// How this worker sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitMode {
    /// Threads block in [`RequestsWaiter::wait`].
    Futex,
    /// An event loop waits for the worker's doorbell, see [`Doorbell`].
    Doorbell,
}

/// The worker's end before it is taken apart.
#[derive(Debug)]
pub struct WorkerEnd {
    parts: WorkerParts,
}

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
    /// Sleeping in an event loop, if that was asked for.
    pub doorbell: Option<Doorbell>,
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
        let memory = LinkMemory::map(memory)?;
        let gateway_doorbell = Arc::new(EventFd::from(gateway_doorbell));
        let waiting = Arc::new(Waiting::new(
            memory.clone(),
            worker_doorbell.into(),
            Arc::clone(&gateway_doorbell),
        ));
        let descriptors = Descriptors::new(descriptors.into());
        let requests = Requests {
            ring: Consumer::resume(memory.requests())?,
            memory: memory.clone(),
            descriptors: descriptors.clone(),
            waiter: RequestsWaiter::new(&waiting),
        };
        let events = Events {
            ring: Consumer::resume(memory.events())?,
            memory: memory.clone(),
            gateway_doorbell: Arc::clone(&gateway_doorbell),
            waiter: EventsWaiter::new(&waiting),
        };
        let responses = Responses {
            ring: Producer::resume(memory.responses())?,
            memory,
            gateway_doorbell,
            waiter: RoomWaiter::new(&waiting),
        };
        let doorbell = (mode == WaitMode::Doorbell).then(|| Doorbell::new(&waiting));
        let waker = Waker::new(&waiting);
        let parts = WorkerParts {
            requests,
            events,
            responses,
            descriptors,
            doorbell,
            waker,
        };
        Ok(Self { parts })
    }

    /// What this process forks from now on has no part of the link: neither the memory (to touch it
    /// there ends that process) nor the socket, once it has let go of it (`oxicorn_os::forked`).
    pub fn keep_from_children(&self) -> std::io::Result<()> {
        forked::keep_from_children(&*self.parts.descriptors.channel);
        self.parts.responses.memory.keep_from_children()
    }

    /// Takes it apart.
    pub fn split(self) -> WorkerParts {
        self.parts
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
pub struct Requests {
    ring: Consumer<RingMemory>,
    memory: LinkMemory,
    descriptors: Descriptors,
    waiter: RequestsWaiter,
}

impl Requests {
    /// Takes the next request that is not revoked and not of an earlier gateway; its payload
    /// replaces what is in `payload`. `None`: there is none (or the memory is beyond belief, see
    /// [`fault`](Self::fault)).
    pub fn try_claim(&mut self, payload: &mut Vec<u8>) -> Option<ClaimedRequest> {
        payload.clear();
        loop {
            let message = *self.ring.peek().ok()??;
            let epoch = self.memory.epoch().load(Ordering::Acquire);
            let is_ours = self.ring.claim(&message, epoch);
            if is_ours {
                self.ring.read(0..message.len, payload);
            } else {
                self.discard_descriptors(&message);
            }
            self.ring.advance();
            if is_ours {
                let (stream, flags) = (StreamId(message.tag.stream), message.tag.flags);
                return Some(ClaimedRequest {
                    stream,
                    flags,
                    epoch,
                });
            }
        }
    }

    /// Closes what was sent for a request that was taken back.
    fn discard_descriptors(&self, message: &Message) {
        for flag in [flags::SPILLED, flags::HAS_DESCRIPTOR] {
            if message.tag.flags & flag != 0 {
                drop(self.descriptors.take(StreamId(message.tag.stream)));
            }
        }
    }

    /// Whether there may be something to claim.
    pub fn has_pending(&self) -> bool {
        self.ring.has_pending()
    }

    /// Waits, see [`RequestsWaiter::wait`].
    pub fn wait(&self, timeout: Duration) -> WaitOutcome {
        self.waiter.wait(timeout)
    }

    /// A handle to wait with, one for each thread.
    pub fn waiter(&self) -> RequestsWaiter {
        self.waiter.clone()
    }

    /// What was wrong with the memory, if something was. The worker should exit: waits return
    /// [`WaitOutcome::Ready`] without end then.
    pub fn fault(&self) -> Option<LinkFault> {
        self.ring.fault()
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
pub struct Events {
    ring: Consumer<RingMemory>,
    memory: LinkMemory,
    gateway_doorbell: Arc<EventFd>,
    waiter: EventsWaiter,
}

impl Events {
    /// The next event; its payload replaces what is in `payload`.
    pub fn try_next(&mut self, payload: &mut Vec<u8>) -> Option<EventHeader> {
        payload.clear();
        let message = *self.ring.peek().ok()??;
        let Some(kind) = EventKind::from_u8(message.tag.kind) else {
            self.ring.condemn(LinkFault::Kind);
            return None;
        };
        self.ring.read(0..message.len, payload);
        self.ring.advance();
        if self.memory.gateway_wants_room().take(Fenced::now()) {
            self.gateway_doorbell.ring();
        }
        Some(EventHeader {
            kind,
            flags: message.tag.flags,
            stream: StreamId(message.tag.stream),
        })
    }

    /// Whether there is an event.
    pub fn has_pending(&self) -> bool {
        self.ring.has_pending()
    }

    /// Waits, see [`EventsWaiter::wait`].
    pub fn wait(&self, timeout: Duration) -> WaitOutcome {
        self.waiter.wait(timeout)
    }

    /// A handle to wait with, one for each thread.
    pub fn waiter(&self) -> EventsWaiter {
        self.waiter.clone()
    }

    /// What was wrong with the memory, if something was. The worker should exit: waits return
    /// [`WaitOutcome::Ready`] without end then.
    pub fn fault(&self) -> Option<LinkFault> {
        self.ring.fault()
    }
}

/// Writes responses.
#[derive(Debug)]
pub struct Responses {
    ring: Producer<RingMemory>,
    memory: LinkMemory,
    gateway_doorbell: Arc<EventFd>,
    waiter: RoomWaiter,
}

impl Responses {
    /// Longest `head` and `body` together that one message can have.
    pub fn max_payload(&self) -> usize {
        max_payload(self.ring.memory().capacity())
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
        self.try_place(kind, stream, flags, head, body)?;
        self.announce();
        Ok(())
    }

    /// The same without waking the gateway: for what another message follows at once, or [`announce`](Self::announce).
    pub fn try_place(
        &mut self,
        kind: ResponseKind,
        stream: StreamId,
        flags: u8,
        head: &[u8],
        body: &[u8],
    ) -> Result<(), RingFull> {
        let tag = Tag {
            kind: kind.as_u8(),
            flags,
            stream: stream.0,
        };
        self.ring.push(tag, head, body).map(drop)
    }

    /// Wakes the gateway for what was placed, if it sleeps.
    pub fn announce(&self) {
        if self.memory.gateway_sleeps().take(Fenced::now()) {
            self.gateway_doorbell.ring();
        }
    }

    /// Whether the gateway that placed this stream's request is still the present one. If it is
    /// not, nobody waits for the response.
    pub fn is_current(&self, stream: StreamId) -> bool {
        stream.is_of_epoch(self.memory.epoch().load(Ordering::Acquire))
    }

    /// Waits, see [`RoomWaiter::wait`].
    pub fn wait_room(&self, len: usize, timeout: Duration) -> WaitOutcome {
        self.waiter.wait(len, timeout)
    }

    /// A handle to wait for room with, one for each thread.
    pub fn waiter(&self) -> RoomWaiter {
        self.waiter.clone()
    }
}

/// Sends and receives descriptors; for all threads.
#[derive(Clone, Debug)]
pub struct Descriptors {
    channel: Arc<Channel>,
    inbox: Arc<Mutex<Inbox>>,
}

impl Descriptors {
    fn new(channel: Channel) -> Self {
        Self {
            channel: Arc::new(channel),
            inbox: Arc::default(),
        }
    }

    /// Sends a descriptor ahead of the message that speaks of it; waits at most `timeout` for room.
    pub fn send<F: AsFd>(
        &self,
        stream: StreamId,
        descriptor: F,
        timeout: Duration,
    ) -> Result<(), DescriptorError> {
        let began = Instant::now();
        loop {
            match descriptors::send(&self.channel, stream, descriptor.as_fd()) {
                Err(DescriptorError::Full) => {}
                other => return other,
            }
            let left = timeout.saturating_sub(began.elapsed()).min(RETRY);
            if left.is_zero() {
                return Err(DescriptorError::Full);
            }
            self.wait_writable(left)?;
        }
    }

    fn wait_writable(&self, timeout: Duration) -> Result<(), DescriptorError> {
        match poll::wait_writable(self.channel.as_fd(), Some(timeout))? {
            // Writable and yet full: too many descriptors under way, which poll does not know.
            Polled::Ready(_) => std::thread::sleep(timeout.min(PAUSE)),
            Polled::TimedOut | Polled::Interrupted => {}
        }
        Ok(())
    }

    /// Takes the descriptor a message of `stream` spoke of. Does not block: it was sent before.
    pub fn take(&self, stream: StreamId) -> Result<OwnedFd, DescriptorError> {
        self.with_inbox(|inbox| inbox.take(&self.channel, stream, descriptors::any))
    }

    /// Takes any descriptor, waiting at most `timeout` for one to come.
    pub fn recv(&self, timeout: Duration) -> Result<Option<(StreamId, OwnedFd)>, DescriptorError> {
        let began = Instant::now();
        loop {
            let next = self.with_inbox(|inbox| inbox.next(&self.channel))?;
            let left = timeout.saturating_sub(began.elapsed());
            if next.is_some() || left.is_zero() {
                return Ok(next);
            }
            poll::wait_readable(&[self.channel.as_fd()], Some(left))?;
        }
    }

    fn with_inbox<T>(&self, action: impl FnOnce(&mut Inbox) -> T) -> T {
        // A panic in between leaves an inbox that is whole.
        action(&mut self.inbox.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Longest wait for a full descriptor socket before it is tried again.
const RETRY: Duration = Duration::from_millis(10);
/// Pause before a socket that says it is writable is tried again.
const PAUSE: Duration = Duration::from_millis(1);
