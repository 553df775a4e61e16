//! One server-side connection: the only file that moves it from state to state.

use std::ops::Range;
use std::sync::Arc;

use super::request::{Header, RequestHead};
use super::response::{BodyOutcome, Next, ResponseFraming, ResponseHead};
use super::rules::Rules;
use crate::fault::{LocalMisuse, PeerFault};

/// What `poll_event` found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Polled {
    /// How many bytes at the front of the input are used up, whatever the event: the next call must
    /// not show them again. May be more than zero with [`Event::NeedMore`].
    pub consumed: usize,
    /// What they meant.
    pub event: Event,
}

/// What the peer's bytes meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Nothing yet: read more.
    NeedMore,
    /// A request head; [`Connection::head`] reads it in `input[..consumed]`.
    Head,
    /// A piece of the body: these bytes of the input.
    Body(Range<usize>),
    /// The request is complete, after every head and also where there was no body. After a chunked
    /// body [`Connection::trailers`] reads the trailers in `input[..consumed]`.
    BodyEnd,
    /// The request is complete: nothing is read before `start_next_exchange`.
    Paused,
    /// The connection speaks another protocol now: all input is the caller's.
    Switched,
}

/// Server side of one connection.
#[derive(Debug)]
pub struct Connection {
    rules: Arc<Rules>,
}

impl Connection {
    /// A new connection that awaits its first request.
    pub fn new(rules: Arc<Rules>) -> Self {
        Self { rules }
    }

    /// Says whether the peer's forwarder headers (names with an underscore) are believed.
    pub fn set_forwarder_trusted(&mut self, trusted: bool) {
        let _ = (&self.rules, trusted);
        todo!()
    }

    /// What the next bytes mean. `input` is everything received and not yet consumed.
    pub fn poll_event(&mut self, input: &[u8]) -> Result<Polled, PeerFault> {
        let _ = input;
        todo!()
    }

    /// The peer closed its sending side: a fault if that was in the middle of a message.
    pub fn handle_eof(&mut self) -> Result<(), PeerFault> {
        todo!()
    }

    /// No byte of a request has been seen since the last exchange: closing now harms nobody.
    pub fn is_idle(&self) -> bool {
        todo!()
    }

    /// View of the head last reported; `bytes` is `input[..consumed]` of that [`Event::Head`].
    pub fn head<'a>(&'a self, bytes: &'a [u8]) -> RequestHead<'a> {
        let _ = bytes;
        todo!()
    }

    /// The trailers last reported; `bytes` is `input[..consumed]` of that [`Event::BodyEnd`].
    pub fn trailers<'a>(
        &'a self,
        bytes: &'a [u8],
    ) -> impl ExactSizeIterator<Item = Header<'a>> + Clone {
        let _ = bytes;
        std::iter::empty()
    }

    /// Encodes 100, 102, 103. Writes nothing and says `false` where the peer speaks HTTP/1.0 (RFC
    /// 9110 section 15.2).
    pub fn encode_informational<'h>(
        &mut self,
        status: u16,
        headers: impl IntoIterator<Item = (&'h [u8], &'h [u8])>,
        out: &mut Vec<u8>,
    ) -> Result<bool, LocalMisuse> {
        let _ = (status, headers, out);
        todo!()
    }

    /// Decides framing and persistence of the response and appends its head to `out`.
    ///
    /// May be called before any request is complete (timeouts, overload) and after a fault: the
    /// connection then closes after it. On an error `out` is as before.
    pub fn encode_response_head<'h>(
        &mut self,
        head: &ResponseHead<'_>,
        headers: impl IntoIterator<Item = (&'h [u8], &'h [u8])>,
        out: &mut Vec<u8>,
    ) -> Result<ResponseFraming, LocalMisuse> {
        let _ = (head, headers, out);
        todo!()
    }

    /// Frames a piece of body and appends it to `out`; drops what is not allowed, and says so.
    pub fn encode_body(
        &mut self,
        data: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<BodyOutcome, LocalMisuse> {
        let _ = (data, out);
        todo!()
    }

    /// For bytes that never pass through here (sendfile, write-through): appends what must stand
    /// before `len` raw bytes. `sent` of the answer is how many of them may be written; after them
    /// comes [`Connection::body_suffix`].
    pub fn body_prefix(&mut self, len: u64, out: &mut Vec<u8>) -> Result<BodyOutcome, LocalMisuse> {
        let _ = (len, out);
        todo!()
    }

    /// Appends what must stand after the raw bytes of [`Connection::body_prefix`].
    pub fn body_suffix(&mut self, out: &mut Vec<u8>) -> Result<(), LocalMisuse> {
        let _ = out;
        todo!()
    }

    /// Ends the response: last chunk and trailers (which only a chunked response has; elsewhere
    /// they are left out). [`LocalMisuse::Incomplete`]: the caller must cut the connection.
    pub fn finish_response<'h>(
        &mut self,
        trailers: impl IntoIterator<Item = (&'h [u8], &'h [u8])>,
        out: &mut Vec<u8>,
    ) -> Result<Next, LocalMisuse> {
        let _ = (trailers, out);
        todo!()
    }

    /// No exchange after the current one: draining, or enough requests. Announced if the response
    /// head has not been encoded yet, done in any case.
    pub fn deny_keep_alive(&mut self) {
        todo!()
    }

    /// After [`Next::KeepAlive`], or [`Next::Drain`] and the `BodyEnd` that followed: ready for the
    /// next request, which may be in the buffer already.
    pub fn start_next_exchange(&mut self) -> Result<(), LocalMisuse> {
        todo!()
    }
}
