//! The workers the gateway has links to.
//!
//! Decides nothing about requests (that is dispatch); knows each worker's link, tells it things
//! about requests it has taken, and keeps what does not fit into its ring until it does.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use oxicorn_dispatch::WorkerId;
use oxicorn_link::wire::{self, CancelReason, EventKind};
use oxicorn_link::{AttachError, GatewayEnd, RingFull, StreamId};
use oxicorn_os::poll::{self, MAX_POLLED, Polled};
use slab::Slab;

use crate::control::AttachWorker;
use crate::transport::readiness::{Watched, watch};
use crate::workers::calls::CallId;
use crate::workers::unattended::Inherited;

/// All workers; the key is what dispatch knows a worker by.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    workers: Slab<WorkerRecord>,
}

/// One worker.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, each learned from another message"
)]
pub(crate) struct WorkerRecord {
    /// The arbiter's number for it.
    pub(crate) number: u32,
    pub(crate) pid: u32,
    /// It writes the access log's lines of all its requests.
    pub(crate) logs: bool,
    /// It takes requests before their bodies are complete.
    pub(crate) streams: bool,
    /// It goes on with others when one of its requests is given up.
    pub(crate) goes_on: bool,
    pub(crate) link: GatewayEnd,
    /// Never polled: that it is registered is enough to end the runtime's sleep, after which all
    /// rings are read.
    _doorbell: Watched,
    /// Events that await room in the ring.
    backlog: VecDeque<Event>,
    /// Calls with pieces of a body that await room in the ring. They stay with their connections.
    waiting: Vec<CallId>,
    /// Calls it still has in hand of gateways before this one.
    pub(crate) inherited: Vec<Inherited>,
    /// It takes no more requests.
    pub(crate) retired: bool,
    /// Tells the task that watches its socket that it is not needed any more.
    pub(crate) watcher: Option<tokio::task::AbortHandle>,
}

#[derive(Debug)]
struct Event {
    kind: EventKind,
    stream: StreamId,
    flags: u8,
    payload: Box<[u8]>,
}

/// Why a worker could not be attached.
#[derive(Debug)]
pub(crate) enum AttachFault {
    Link(AttachError),
    Doorbell(io::Error),
}

impl std::fmt::Display for AttachFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Link(error) => error.fmt(f),
            Self::Doorbell(error) => write!(f, "doorbell: {error}"),
        }
    }
}

pub(crate) fn worker_id(key: usize) -> WorkerId {
    WorkerId(u32::try_from(key).expect("far fewer workers than that"))
}

impl Pool {
    /// Attaches a worker's link and returns its key.
    pub(crate) fn attach(
        &mut self,
        about: AttachWorker,
        [memory, gateway_doorbell, worker_doorbell, descriptors]: [OwnedFd; 4],
    ) -> Result<usize, AttachFault> {
        let doorbell = gateway_doorbell
            .try_clone()
            .map_err(AttachFault::Doorbell)?;
        let doorbell = watch(doorbell).map_err(AttachFault::Doorbell)?;
        let link = GatewayEnd::attach(memory, gateway_doorbell, worker_doorbell, descriptors);
        Ok(self.workers.insert(WorkerRecord {
            number: about.worker,
            pid: about.pid,
            logs: false,
            streams: about.streams,
            goes_on: about.goes_on,
            link: link.map_err(AttachFault::Link)?,
            _doorbell: doorbell,
            backlog: VecDeque::new(),
            waiting: Vec::new(),
            inherited: Vec::new(),
            retired: false,
            watcher: None,
        }))
    }

    /// The key of the worker the arbiter calls `number`.
    pub(crate) fn find(&self, number: u32) -> Option<usize> {
        self.workers
            .iter()
            .find(|(_, worker)| worker.number == number)
            .map(|(key, _)| key)
    }

    pub(crate) fn get_mut(&mut self, key: usize) -> Option<&mut WorkerRecord> {
        self.workers.get_mut(key)
    }

    pub(crate) fn of_id(&mut self, id: WorkerId) -> Option<&mut WorkerRecord> {
        self.get_mut(usize::try_from(id.0).ok()?)
    }

    pub(crate) fn remove(&mut self, key: usize) -> Option<WorkerRecord> {
        let worker = self.workers.try_remove(key)?;
        if let Some(watcher) = &worker.watcher {
            watcher.abort();
        }
        Some(worker)
    }

    /// Whether there is no worker at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.workers.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.workers.len()
    }

    /// Whether a worker has calls in hand of gateways before this one.
    pub(crate) fn has_inherited(&self) -> bool {
        self.workers
            .iter()
            .any(|(_, worker)| !worker.inherited.is_empty())
    }

    /// Whether a worker's ring is to be read.
    #[inline]
    pub(crate) fn wants_reading(&self) -> bool {
        self.workers
            .iter()
            .any(|(_, worker)| worker.wants_reading())
    }

    /// One more than the largest key.
    pub(crate) fn key_bound(&self) -> usize {
        self.workers
            .iter()
            .next_back()
            .map_or(0, |(key, _)| key + 1)
    }

    /// Wakes workers for what was placed. After several requests, so that one which runs at once, on the processor
    /// that this thread gives up to it, finds them all.
    pub(crate) fn announce_requests(&mut self) {
        for (_, worker) in &mut self.workers {
            worker.link.announce_requests();
        }
    }

    /// Says that this thread is about to sleep. `false`: somebody has written in the meantime, and
    /// nobody was told anything.
    pub(crate) fn sleep_begin(&self) -> bool {
        let asleep = self
            .workers
            .iter()
            .all(|(_, worker)| worker.link.sleep_begin());
        if !asleep {
            self.sleep_end();
        }
        asleep
    }

    pub(crate) fn sleep_end(&self) {
        for (_, worker) in &self.workers {
            worker.link.sleep_end();
        }
    }

    /// Sleeps for `length`, or until a worker has nothing more to do. `false`: at once, because there is
    /// something to read, or a worker waits for something.
    pub(crate) fn nap(&self, length: Duration) -> bool {
        let napping = self.workers.len() <= MAX_POLLED
            && (self.workers.iter()).all(|(_, worker)| worker.link.nap_begin());
        if napping {
            self.wait_for_doorbells(length);
        }
        self.sleep_end();
        napping
    }

    fn wait_for_doorbells(&self, length: Duration) {
        let links = || self.workers.iter().map(|(_, worker)| &worker.link);
        let doorbells: Vec<_> = links().map(GatewayEnd::doorbell).collect();
        // What cannot be waited for is looked at in a moment all the same.
        let Ok(Polled::Ready(ready)) = poll::wait_readable(&doorbells, Some(length)) else {
            return;
        };
        for (place, link) in links().enumerate() {
            if ready.contains(place) {
                link.silence_doorbell();
            }
        }
    }
}

impl WorkerRecord {
    /// Whether its ring is to be read, or what waits for room in ours to be tried again.
    #[inline]
    pub(crate) fn wants_reading(&self) -> bool {
        self.link.wants_reading() || !self.backlog.is_empty() || !self.waiting.is_empty()
    }

    /// Tells the worker something about a request it has taken.
    pub(crate) fn tell(&mut self, kind: EventKind, stream: StreamId, flags: u8, payload: &[u8]) {
        if self.backlog.is_empty() {
            match self.link.send_event(kind, stream, flags, payload) {
                // Too long cannot be: our payloads are credits, reasons and at most one read ahead.
                Ok(()) | Err(RingFull::MessageTooLong) => return,
                Err(RingFull::NoRoomYet) => {}
            }
        }
        self.backlog.push_back(Event {
            kind,
            stream,
            flags,
            payload: payload.into(),
        });
    }

    /// Tells it, if there is room in the ring.
    pub(crate) fn offer(
        &mut self,
        kind: EventKind,
        stream: StreamId,
        flags: u8,
        payload: &[u8],
    ) -> bool {
        self.backlog.is_empty() && self.link.send_event(kind, stream, flags, payload).is_ok()
    }

    /// What was offered for this exchange will be offered again.
    pub(crate) fn wait_for_room(&mut self, id: CallId) {
        if !self.waiting.contains(&id) {
            self.waiting.push(id);
        }
    }

    /// Whose pieces may be offered again, if there is room.
    pub(crate) fn take_waiting(&mut self) -> Vec<CallId> {
        if self.backlog.is_empty() {
            std::mem::take(&mut self.waiting)
        } else {
            Vec::new()
        }
    }

    pub(crate) fn give_credit(&mut self, stream: StreamId, bytes: u32) {
        self.tell(EventKind::Credit, stream, 0, &wire::encode_credit(bytes));
    }

    pub(crate) fn cancel(&mut self, stream: StreamId, reason: CancelReason) {
        self.tell(EventKind::Cancel, stream, 0, &wire::encode_cancel(reason));
    }

    /// Tries again what did not fit. The worker rings when it has made room.
    pub(crate) fn tell_backlog(&mut self) {
        while let Some(event) = self.backlog.front() {
            let Event {
                kind,
                stream,
                flags,
                payload,
            } = event;
            if self.link.send_event(*kind, *stream, *flags, payload) == Err(RingFull::NoRoomYet) {
                return;
            }
            self.backlog.pop_front();
        }
    }

    /// A descriptor that is readable, and hung up when the worker is gone.
    pub(crate) fn watched_socket(&self) -> io::Result<Watched> {
        watch(self.link.descriptor_socket().as_fd().try_clone_to_owned()?)
    }
}
