//! The link: shared memory through which the gateway gives requests to one worker and gets answers.
//!
//! # What it decides
//! Where a message lies in the memory, who may take it, who sleeps and who wakes whom, and how the
//! payloads of messages are laid out ([`wire`]). It does not decide which worker gets a request,
//! nor what an answer means: those are dispatch's and the gateway's.
//!
//! # Theory of operation
//! One link joins one gateway thread and one worker process. It is a sealed memory file with three
//! byte rings, each with one producer and one consumer:
//!
//! ```text
//!             requests   (each with a claim word: the worker takes it, or the gateway takes it back)
//!   gateway ------------------------------------------------------------------------> worker
//!             events     (body chunks, credit, cancellation of requests already taken)
//!           ------------------------------------------------------------------------>
//!             responses  (heads, body chunks, ends)
//!           <------------------------------------------------------------------------
//!             descriptors, over a SEQPACKET socketpair, each naming its stream
//!           <----------------------------------------------------------------------->
//! ```
//!
//! * **Indices** count bytes since the beginning and never wrap; they live in the shared memory, so
//!   that a new gateway continues where a dead one stopped. An index is published only after the
//!   message it covers is complete: an end that dies in mid-message leaves nothing half visible.
//! * **Sleeping** is a handshake in Dekker's manner. Who wants to sleep says so, then (after a
//!   fence) looks once more; who publishes something does that first, then (after a fence) looks
//!   whether somebody sleeps. At least one of the two sees the other, so no wake-up is lost, and no
//!   system call happens while both are busy. Module [`bell`] holds both forms: a counter with a
//!   futex for blocking workers, a flag with an eventfd for ends that wait in epoll.
//! * **Trust.** The gateway believes nothing it finds in the memory: it keeps its own indices,
//!   checks every number, copies payloads out before they are looked at, and stops reading at the
//!   first thing that cannot be ([`LinkFault`]). A worker that scribbles over the memory loses its
//!   own requests and nothing else.
//! * **Epoch.** Each gateway that attaches raises the epoch. Requests placed by an earlier gateway
//!   and not yet taken are skipped by the worker; answers to those it did take carry stream ids of
//!   the earlier epoch ([`StreamId`]) and are recognised by the gateway.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "tests"))]

#[cfg(not(loom))]
mod attach;
pub mod bell;
#[cfg(not(loom))]
mod create;
#[cfg(not(loom))]
mod descriptors;
#[cfg(not(loom))]
mod gateway;
#[cfg(not(loom))]
mod layout;
#[cfg(not(loom))]
pub mod log_tail;
#[cfg(not(loom))]
pub mod metric_store;
pub mod ring;
pub mod roles;
#[cfg(not(loom))]
pub mod scoreboard;
mod stream;
mod sync;
#[cfg(not(loom))]
mod waiting;
pub mod window;
pub mod wire;
mod wire_enum;
#[cfg(not(loom))]
mod worker;

#[cfg(not(loom))]
pub use attach::AttachError;
#[cfg(not(loom))]
pub use create::{LinkParts, Sizes};
#[cfg(not(loom))]
pub use descriptors::DescriptorError;
#[cfg(not(loom))]
pub use gateway::{GatewayEnd, Placement, ResponseHeader};
pub use ring::{LinkFault, RingFull};
pub use stream::StreamId;
#[cfg(not(loom))]
pub use waiting::{Doorbell, EventsWaiter, RequestsWaiter, RoomWaiter, WaitOutcome, Waker};
#[cfg(not(loom))]
pub use worker::{
    ClaimedRequest, Descriptors, EventHeader, Events, Requests, Responses, WaitMode, WorkerEnd,
    WorkerParts,
};
