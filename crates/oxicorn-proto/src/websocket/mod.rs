//! WebSocket, the server's side (RFC 6455), with permessage-deflate (RFC 7692).
//!
//! The walk through a connection:
//!
//! ```text
//!  check(head) -> Handshake      accept_key, extensions: what a 101 answers
//!  Decoder::poll -> Piece*       pieces of messages, unmasked and inflated
//!                -> Ping, Pong   control() has the payload
//!                -> Close        the peer's code; control() has the reason
//!  Encoder::message*             pieces of messages
//!  Encoder::control*             pings, pongs
//!  close                         the last frame
//! ```
//!
//! Receiving and sending are independent. What compresses and inflates lies in [`Codecs`], which
//! all connections share, so that a connection without a message under way holds none of it
//! (unless its context was agreed to be kept).
//!
//! # The rules, and where they stand
//!
//! | rule | where from | file | answer |
//! |---|---|---|---|
//! | GET, HTTP/1.1, Upgrade and Connection ask for it; else an ordinary request | 4.2.1 | `handshake` | - |
//! | version 13 | 4.2.2, 4.4 | `handshake` | 426 |
//! | one key, base64 of 16 bytes | 4.2.1 | `handshake` | 400 |
//! | no body | (stricter) | `handshake` | 400 |
//! | subprotocols are tokens | 4.1 | `handshake` | 400 |
//! | extensions by grammar; unknown ones and offers we cannot serve are passed over | 9.1, RFC 7692 5, 7.1 | `extensions` | 400 |
//! | reserved bits only where an extension gives them a meaning | 5.2, RFC 7692 6 | `frame`, `decoder` | 1002 |
//! | known opcodes | 5.2 | `frame` | 1002 |
//! | frames of a client are masked | 5.1 | `frame` | 1002 |
//! | lengths in their shortest form, 63 bits | 5.2 | `frame` | 1002 |
//! | control frames whole and at most 125 bytes | 5.5 | `frame` | 1002 |
//! | fragments in order, not interleaved | 5.4 | `decoder` | 1002 |
//! | text is UTF-8, noticed at the first wrong byte | 8.1 | `utf8` | 1007 |
//! | a close has no payload or a code that may be sent, and a reason in UTF-8 | 5.5.1, 7.4 | `close` | 1002, 1007 |
//! | deflated data is well-formed | RFC 7692 7.2.2 | `deflate` | 1007 |
//! | messages up to a size, inflated too | 7.4.1 | `decoder` | 1009 |

mod close;
mod decoder;
mod deflate;
mod encoder;
mod extensions;
mod fault;
mod frame;
mod handshake;
#[cfg(test)]
mod tests;
mod utf8;

pub use close::{CloseCode, REASON_MAX};
pub use decoder::{Decoder, Event, Polled};
pub use deflate::Codecs;
pub use encoder::{Encoder, encode_close, encode_control};
pub use extensions::{Compression, Deflate};
pub use fault::{Fault, HandshakeFault};
pub use frame::{CONTROL_MAX, Control};
pub use handshake::{AcceptKey, Handshake, VERSION, check, subprotocols};

/// What a message is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// UTF-8.
    Text,
    /// Bytes.
    Binary,
}
