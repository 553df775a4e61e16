//! The gateway's end of a link.

use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::wire::{EventKind, ResponseKind};
use crate::{AttachError, DescriptorError, LinkFault, RingFull, StreamId};

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
/// every link; if one says `false`, do not sleep. After sleeping: [`sleep_end`](Self::sleep_end).
#[derive(Debug)]
pub struct GatewayEnd {}

impl GatewayEnd {
    /// Maps the memory (checking size, seals, version), raises the epoch and continues where an
    /// earlier gateway stopped. Descriptors sent for the earlier gateway are closed.
    pub fn attach(
        memory: OwnedFd,
        gateway_doorbell: OwnedFd,
        worker_doorbell: OwnedFd,
        descriptors: OwnedFd,
    ) -> Result<Self, AttachError> {
        let _ = (memory, gateway_doorbell, worker_doorbell, descriptors);
        todo!()
    }

    /// The epoch this gateway has on this link: part of every [`StreamId`] it chooses.
    pub fn epoch(&self) -> u32 {
        todo!()
    }

    /// Longest payload a request may have.
    pub fn max_request_payload(&self) -> usize {
        todo!()
    }

    /// Longest payload an event may have.
    pub fn max_event_payload(&self) -> usize {
        todo!()
    }

    /// Places a request and wakes one waiting thread of the worker. A descriptor that belongs to it
    /// must have been sent before.
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
        let _ = (stream, flags, head, body);
        todo!()
    }

    /// Takes a request back. `true`: it is ours again and the worker will never see it.
    /// `false`: the worker has it. To be asked once per placement.
    pub fn revoke(&mut self, placement: Placement) -> bool {
        let _ = placement;
        todo!()
    }

    /// Whether the worker has taken the request (of a placement that was not revoked).
    pub fn is_claimed(&self, placement: Placement) -> bool {
        let _ = placement;
        todo!()
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
        let _ = (kind, stream, flags, payload);
        todo!()
    }

    /// Looks at the next message of the worker; the same one until [`release`](Self::release).
    /// After a fault every call gives that fault.
    pub fn next_response(&mut self) -> Result<Option<ResponseHeader>, LinkFault> {
        todo!()
    }

    /// Appends a part of the current message's payload to `out`. What lies beyond the payload is
    /// left out. The bytes are the worker's: to be checked after, not before, they were copied.
    pub fn payload_into(&self, range: Range<usize>, out: &mut Vec<u8>) {
        let _ = (range, out);
        todo!()
    }

    /// Frees the current message's room, waking a worker that waits for it.
    pub fn release(&mut self) {
        todo!()
    }

    /// Says that this thread is about to sleep: from now on the worker rings the doorbell. `false`:
    /// there is something to read, do not sleep. Cheap enough for a before-park hook.
    pub fn sleep_begin(&self) -> bool {
        todo!()
    }

    /// Says that this thread is awake: the doorbell stays silent.
    pub fn sleep_end(&self) {
        todo!()
    }

    /// Descriptor to wait on (readable when the doorbell rang).
    pub fn doorbell(&self) -> BorrowedFd<'_> {
        todo!()
    }

    /// Makes the doorbell unreadable until it rings again.
    pub fn silence_doorbell(&self) {
        todo!()
    }

    /// Sends a descriptor ahead of the message that speaks of it. Never blocks.
    pub fn send_descriptor<F: AsFd>(
        &mut self,
        stream: StreamId,
        descriptor: F,
    ) -> Result<(), DescriptorError> {
        let _ = (stream, descriptor);
        todo!()
    }

    /// Takes the descriptor a message of `stream` spoke of. Never blocks.
    pub fn take_descriptor(&mut self, stream: StreamId) -> Result<OwnedFd, DescriptorError> {
        let _ = stream;
        todo!()
    }

    /// Takes any descriptor that came, if there is one. Never blocks.
    pub fn recv_descriptor(&mut self) -> Result<Option<(StreamId, OwnedFd)>, DescriptorError> {
        todo!()
    }

    /// The socket for descriptors: readable also when the worker is gone.
    pub fn descriptor_socket(&self) -> BorrowedFd<'_> {
        todo!()
    }
}
