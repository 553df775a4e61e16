//! The gateway's end of a link.
//!
//! Everything that comes from the memory is a claim of the worker: see the crate's head. What is
//! counted on is kept in here.

use std::cell::Cell;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;

use oxicorn_os::channel::Channel;
use oxicorn_os::eventfd::EventFd;

use crate::bell::Fenced;
use crate::descriptors::{self, Inbox};
use crate::layout::{LinkMemory, RingMemory};
use crate::ring::{Consumer, Memory as _, Message, Producer, Tag};
use crate::wire::{EventKind, ResponseKind};
use crate::{AttachError, DescriptorError, LinkFault, RingFull, StreamId};

/// Kind of every message in the ring of requests.
const REQUEST_KIND: u8 = 1;

/// A worker that waits for room is woken, while we go on reading, when this part of the ring is
/// free again: early enough that it writes while we read, late enough that it finds something to
/// do. (When we have read everything it is woken in any case.)
const WAKE_PART: u64 = 4;

/// Where a request was placed: what the gateway keeps to see whether it was taken, or to take it
/// back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    position: u64,
}

/// Header of a response message; checked to be of a known kind and to lie within the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseHeader {
    /// What it is.
    pub kind: ResponseKind,
    /// See [`flags`](crate::wire::flags). Not checked.
    pub flags: u8,
    /// Whose it claims to be. Not checked: the gateway looks it up among its own.
    pub stream: StreamId,
    /// Bytes of payload.
    pub len: usize,
}

/// The gateway's end of a link. `Send`, for use by one thread.
///
/// The driver's loop: [`next_response`](Self::next_response) until it says `None` (or a bounded
/// number of times, for fairness), for each: [`payload_into`](Self::payload_into), then
/// [`release`](Self::release). Before the thread sleeps: [`sleep_begin`](Self::sleep_begin) on
/// every link; if one says `false`, do not sleep. After sleeping: [`sleep_end`](Self::sleep_end). A nap
/// is the same with [`nap_begin`](Self::nap_begin), and is short.
#[derive(Debug)]
pub struct GatewayEnd {
    memory: LinkMemory,
    epoch: u32,
    requests: Producer<RingMemory>,
    events: Producer<RingMemory>,
    responses: Consumer<RingMemory>,
    /// Requests that were placed and nobody was woken for.
    unannounced: Cell<u32>,
    /// Bytes given back to the worker since we looked whether it waits for them.
    freed: Cell<u64>,
    /// The doorbell may have rung since it was silenced.
    rung: Cell<bool>,
    gateway_doorbell: EventFd,
    worker_doorbell: EventFd,
    channel: Channel,
    inbox: Inbox,
}

impl GatewayEnd {
    /// Maps the memory (checking size, seals, version), raises the epoch and continues where an
    /// earlier gateway stopped. Descriptors sent for the earlier gateway are closed.
    pub fn attach(
        memory: OwnedFd,
        gateway_doorbell: OwnedFd,
        worker_doorbell: OwnedFd,
        descriptors: OwnedFd,
    ) -> Result<Self, AttachError> {
        let memory = LinkMemory::map(memory)?;
        let requests = Producer::resume(memory.requests())?;
        let events = Producer::resume(memory.events())?;
        let responses = Consumer::resume(memory.responses())?;
        let channel = Channel::from(descriptors);
        descriptors::discard_all(&channel);
        let epoch = memory
            .epoch()
            .fetch_add(1, Ordering::AcqRel)
            .wrapping_add(1);
        let end = Self {
            memory,
            epoch,
            requests,
            events,
            responses,
            unannounced: Cell::new(0),
            freed: Cell::new(0),
            rung: Cell::new(true),
            gateway_doorbell: gateway_doorbell.into(),
            worker_doorbell: worker_doorbell.into(),
            channel,
            inbox: Inbox::default(),
        };
        end.introduce();
        Ok(end)
    }

    /// Takes back what an earlier gateway announced, and wakes everybody who waits for it: they
    /// shall see the new epoch.
    fn introduce(&self) {
        self.memory.gateway_sleeps().end();
        self.memory.gateway_wants_room().end();
        let fenced = Fenced::now();
        self.memory.requests_bell().ring_all(fenced);
        self.memory.events_bell().ring_all(fenced);
        self.memory.room_bell().ring_all(fenced);
        self.worker_doorbell.ring();
    }

    /// The epoch this gateway has on this link: part of every [`StreamId`] it chooses.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Longest payload a request may have.
    pub fn max_request_payload(&self) -> usize {
        self.requests.max_payload()
    }

    /// Longest payload an event may have.
    pub fn max_event_payload(&self) -> usize {
        self.events.max_payload()
    }

    /// Places a request, of which [`announce_requests`](Self::announce_requests) tells the worker. A
    /// descriptor that belongs to it must have been sent before.
    pub fn place_request(
        &mut self,
        stream: StreamId,
        flags: u8,
        payload: &[u8],
    ) -> Result<Placement, RingFull> {
        self.place_request_parts(stream, flags, payload, &[])
    }

    /// [`place_request`](Self::place_request) with a payload in two parts: head, inline body.
    pub fn place_request_parts(
        &mut self,
        stream: StreamId,
        flags: u8,
        head: &[u8],
        body: &[u8],
    ) -> Result<Placement, RingFull> {
        let tag = Tag {
            kind: REQUEST_KIND,
            flags,
            stream: stream.0,
        };
        let position = self.requests.push_claimable(tag, self.epoch, head, body)?;
        self.unannounced.set(self.unannounced.get() + 1);
        Ok(Placement { position })
    }

    /// Wakes as many waiting threads of the worker as requests were placed since the last time. To be called
    /// when there is no more to place: where there are few processors a thread that is woken takes this one's
    /// at once, and shall find all requests, not the first. [`sleep_begin`](Self::sleep_begin) does it, too.
    #[inline]
    pub fn announce_requests(&self) {
        if self.unannounced.get() > 0 {
            self.wake_for_requests(self.unannounced.take());
        }
    }

    #[inline(never)]
    fn wake_for_requests(&self, placed: u32) {
        let fenced = Fenced::now();
        if self.memory.requests_bell().ring_some(fenced, placed) < placed as usize {
            self.memory.watch_bell().ring(fenced);
        }
        self.ring_worker_doorbell(fenced);
    }

    fn ring_worker_doorbell(&self, fenced: Fenced) {
        if self.memory.worker_sleeps().take(fenced) {
            self.worker_doorbell.ring();
        }
    }

    /// Takes a request back. `true`: it is ours again and the worker will never see it.
    /// `false`: the worker has it. To be asked once per placement.
    pub fn revoke(&mut self, placement: Placement) -> bool {
        self.requests.revoke(placement.position, self.epoch)
    }

    /// Whether the worker has taken the request (of a placement that was not revoked).
    pub fn is_claimed(&self, placement: Placement) -> bool {
        self.requests.is_claimed(placement.position, self.epoch)
    }

    /// Sends something about a request that was taken. On [`RingFull::NoRoomYet`] the doorbell will
    /// ring once the worker has read on.
    pub fn send_event(
        &mut self,
        kind: EventKind,
        stream: StreamId,
        flags: u8,
        payload: &[u8],
    ) -> Result<(), RingFull> {
        let tag = Tag {
            kind: kind.as_u8(),
            flags,
            stream: stream.0,
        };
        let mut sent = self.events.push(tag, payload, &[]);
        if sent == Err(RingFull::NoRoomYet) {
            // Announce, then look once more: the worker may have read on in between.
            self.memory.gateway_wants_room().begin();
            sent = self.events.push(tag, payload, &[]);
        }
        sent?;
        let fenced = Fenced::now();
        self.memory.events_bell().ring(fenced);
        self.ring_worker_doorbell(fenced);
        Ok(())
    }

    /// Looks at the next message of the worker; the same one until [`release`](Self::release).
    /// After a fault every call gives that fault.
    pub fn next_response(&mut self) -> Result<Option<ResponseHeader>, LinkFault> {
        let Some(&Message { tag, len, .. }) = self.responses.peek()? else {
            self.offer_room();
            return Ok(None);
        };
        let Some(kind) = ResponseKind::from_u8(tag.kind) else {
            return Err(self.responses.condemn(LinkFault::Kind));
        };
        Ok(Some(ResponseHeader {
            kind,
            flags: tag.flags,
            stream: StreamId(tag.stream),
            len,
        }))
    }

    /// Whether [`next_response`](Self::next_response) has something to do: cheaper than to ask it in vain.
    #[inline]
    pub fn wants_reading(&self) -> bool {
        self.responses.has_pending() || self.freed.get() > 0
    }

    /// Appends a part of the current message's payload to `out`. What lies beyond the payload is
    /// left out. The bytes are the worker's: to be checked after, not before, they were copied.
    pub fn payload_into(&self, range: Range<usize>, out: &mut Vec<u8>) {
        self.responses.read(range, out);
    }

    /// Sends a part of the current message's payload to a socket, between `before` and `after`, straight
    /// out of the shared memory: as much as the socket takes. `None`: it takes nothing now. For bytes
    /// that nobody looks at: the worker may change them until they are gone.
    pub fn send_payload<S: AsFd>(
        &self,
        socket: S,
        before: &[u8],
        range: Range<usize>,
        after: &[u8],
    ) -> io::Result<Option<usize>> {
        let place = self.responses.locate(range);
        self.responses.memory().send(socket, before, place, after)
    }

    /// Frees the current message's room. A worker that waits for room is woken now and then, and
    /// certainly by the [`next_response`](Self::next_response) that gives nothing or by
    /// [`sleep_begin`](Self::sleep_begin).
    pub fn release(&mut self) {
        let freed = self.freed.get() + self.responses.advance();
        self.freed.set(freed);
        let part = self.responses.memory().capacity() / WAKE_PART;
        if freed >= part && self.memory.room_bell().bell().seems_awaited() {
            self.offer_room();
        }
    }

    /// Wakes the worker's threads that wait for room, if there is more of it than when we last
    /// looked. The fence is paid once for all messages read in a row.
    fn offer_room(&self) {
        if self.freed.replace(0) > 0 {
            let fenced = Fenced::now();
            if self.memory.room_bell().bell().seems_awaited() {
                self.memory.room_bell().ring_all(fenced);
            }
        }
    }

    /// Says that this thread is about to sleep: from now on the worker rings the doorbell. `false`:
    /// there is something to read, do not sleep. Cheap enough for a before-park hook.
    pub fn sleep_begin(&self) -> bool {
        self.announce_requests();
        self.memory.gateway_sleeps().begin();
        self.offer_room();
        let may_sleep = !self.responses.has_pending();
        if !may_sleep {
            self.memory.gateway_sleeps().end();
        }
        may_sleep
    }

    /// Says that this thread is about to nap: from now on the worker rings the doorbell when it has nothing
    /// more to do, not for each message. `false`: there is something to read, or the worker waits for
    /// something; do not nap.
    pub fn nap_begin(&self) -> bool {
        if self.rung.take() {
            self.silence_doorbell();
        }
        self.announce_requests();
        self.memory.gateway_sleeps().begin_nap();
        self.offer_room();
        let may_nap = !self.responses.has_pending() && !self.worker_waits();
        if !may_nap {
            self.memory.gateway_sleeps().end();
        }
        may_nap
    }

    fn worker_waits(&self) -> bool {
        self.memory.worker_sleeps().is_announced()
            || self.memory.requests_bell().bell().seems_awaited()
            || self.memory.events_bell().bell().seems_awaited()
            || self.memory.room_bell().bell().seems_awaited()
    }

    /// Says that this thread is awake: the doorbell stays silent.
    pub fn sleep_end(&self) {
        if !self.memory.gateway_sleeps().is_announced() {
            self.rung.set(true);
        }
        self.memory.gateway_sleeps().end();
    }

    /// Descriptor to wait on (readable when the doorbell rang).
    pub fn doorbell(&self) -> BorrowedFd<'_> {
        self.gateway_doorbell.as_fd()
    }

    /// Makes the doorbell unreadable until it rings again.
    pub fn silence_doorbell(&self) {
        self.gateway_doorbell.silence();
    }

    /// Sends a descriptor ahead of the message that speaks of it. Never blocks.
    pub fn send_descriptor<F: AsFd>(
        &mut self,
        stream: StreamId,
        descriptor: F,
    ) -> Result<(), DescriptorError> {
        descriptors::send(&self.channel, stream, descriptor.as_fd())
    }

    /// Takes the descriptor a message of `stream` spoke of; also to be called for a message that is
    /// not wanted any more, or its descriptor stays open for a while. Never blocks.
    pub fn take_descriptor(&mut self, stream: StreamId) -> Result<OwnedFd, DescriptorError> {
        let epoch = self.epoch;
        self.inbox
            .take(&self.channel, stream, |of| of.is_of_epoch(epoch))
    }

    /// Takes any descriptor that came, if there is one. Never blocks.
    pub fn recv_descriptor(&mut self) -> Result<Option<(StreamId, OwnedFd)>, DescriptorError> {
        self.inbox.next(&self.channel)
    }

    /// The socket for descriptors: readable also when the worker is gone.
    pub fn descriptor_socket(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}
