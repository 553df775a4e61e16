//! HTTP/2 between a connection and its streams (RFC 9113).
//!
//! The protocol is the h2 crate's. What it reads and writes goes over a [`Wire`], which owns the connection's transport
//! and sees every frame pass; each of its streams is the transport of a connection of its own
//! ([`StreamEnd`]), so that a request by HTTP/2 is a request as any other.
//!
//! ```text
//!   socket, TLS <- Wire <- h2's connection (Engine) <- h2's streams <- StreamEnd <- output of the stream's connection
//!                 push     frames, windows, HPACK      windows         records to frames
//! ```
//!
//! * **What a stream holds.** What comes is taken out of h2 in the turn in which it came, whoever wants it, because
//!   each frame costs memory there that no window counts; it lies here in one piece, and the peer gets its room back
//!   when the connection of the stream takes it. So it is never more than a stream's window.
//! * **What all hold.** What goes is bounded by the windows and, of all streams of a connection, by
//!   [`OUTSTANDING`](stream::OUTSTANDING).
//! * **Turns.** A connection reads so many bytes, then others have their turn.

mod engine;
mod fields;
mod outstanding;
mod stream;
mod wire;

pub(crate) use engine::{Engine, Incoming};
pub(crate) use stream::StreamEnd;
pub(crate) use wire::{Passed, Wire, give_spare_back};
