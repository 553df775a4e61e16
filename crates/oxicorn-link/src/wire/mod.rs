//! Payload layouts of the link's messages: encoding, and decoding that believes nothing.
//!
//! Kinds and flags stand in the message header, everything else in the payload. Decoders borrow
//! from the payload, allocate nothing, check every length and never panic; what they return is
//! structurally sound, not more: whether a header name is a token, or a status a status, is for the
//! gateway's protocol crate to judge. Numbers are in the machine's own byte order, since both ends
//! run on one machine and from one build (the layout version in the memory's header says so).
//!
//! | ring | kind | payload | flags |
//! |---|---|---|---|
//! | requests | (one kind) | [`RequestHead`] + headers + inline body | `HAS_DESCRIPTOR`, `SPILLED` |
//! | events | `BodyChunk` | bytes | `END` |
//! | | `BodyEnd` | trailers ([`HeaderList`]) | |
//! | | `Credit` | [`encode_credit`] | |
//! | | `Cancel` | [`CancelReason`] | |
//! | | `Hijacked` | bytes read ahead; descriptor sent before | `HAS_DESCRIPTOR` |
//! | | `WebSocketMessage` | bytes | `BINARY`, `END` (last piece of its message) |
//! | | `WebSocketClose` | [`WebSocketClose`]; no more messages come | `AWAITED` |
//! | responses | `Informational` | [`ResponseHead`] | |
//! | | `Head` | [`ResponseHead`] + first piece of the body | `END`, `GOES_ON`, `CLOSE`, `LOGGED` |
//! | | `BodyChunk` | bytes | `END`, `GOES_ON` |
//! | | `Trailers` | [`HeaderList`]; always the end | `GOES_ON` |
//! | | `File` | [`FilePart`]; descriptor sent before | `END`, `GOES_ON`, `HAS_DESCRIPTOR` |
//! | | `Abort` | [`AbortReason`] | `GOES_ON` |
//! | | `Hijack` | nothing: give me the client's socket | |
//! | | `Credit` | [`encode_credit`]: room for more of the request's body | |
//! | | `WebSocketAccept` | [`ResponseHead`] (status 101) | |
//! | | `WebSocketMessage` | as the event | |
//! | | `WebSocketClose` | [`WebSocketClose`]; with `END` the application is through | `END` |
//! | | `CallEnd` | nothing: the call after a response with `GOES_ON` is over | |
//! | | `InHand` | [`CallInHand`]s, all there are; of no stream | |

mod headers;
mod in_hand;
mod kinds;
mod request;
mod response;
mod small;

pub use headers::{HeaderList, Headers};
pub use in_hand::{CallInHand, CallsInHand};
pub use kinds::{AbortReason, CancelReason, EventKind, ResponseKind, flags};
pub use request::{
    Address, BodyPlace, PROXY_TIME, ProxyInfo, RequestEncoder, RequestHead, RequestView, Scheme,
    TLS, TRAILERS, Version, is_for_the_worker,
};
pub use response::{ResponseEncoder, ResponseHead, ResponseView, append_header};
pub use small::{
    FilePart, WebSocketClose, decode_abort, decode_cancel, decode_credit, encode_abort,
    encode_cancel, encode_credit,
};

/// The payload is not what its kind promises. Of a worker: its fault; of the gateway: a bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("malformed payload")
    }
}

impl std::error::Error for Malformed {}

/// A slice that is eaten from the front; every step is checked.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_ne_bytes)
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_ne_bytes)
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_ne_bytes)
    }

    fn end(&self) -> Result<(), Malformed> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Malformed)
        }
    }
}

/// Length of a field as it is written. Longer ones cannot occur: a message is at most half a ring,
/// and a ring at most 1 GiB.
fn len32(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("a field is shorter than a ring")
}
