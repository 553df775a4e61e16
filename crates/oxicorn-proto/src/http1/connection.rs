//! One server-side connection: the only file that moves it from state to state.
//!
//! Decides which event or call is possible when, and whether the connection lives on. Refuses to
//! know bytes: those are read by [`head`](super::head) and [`chunked`](super::chunked) and written
//! by [`response`](super::response).
//!
//! Theory of operation: the two directions have a state each, and meet in three places only: a
//! response depends on what was asked, a fault makes it the last one, and the next exchange starts
//! when both are through.
//!
//! ```text
//! receive:  Head --head--> Length | Chunked --last byte--> Ending --BodyEnd--> Done
//!             |                |                             ^                  |
//!             |                +------- a body of nothing ---+                  |
//!             +--- any fault ---> Failed          Ending, Done --101--> Switched
//!
//! send:     Idle --head--> Body <--prefix/suffix--> Raw
//!                           +--finish--> Finished
//!
//! Ending or Done, with Finished(KeepAlive | Drain) --start_next_exchange--> Head, Idle
//! ```

use std::ops::Range;
use std::sync::Arc;

use super::chunked::{ChunkDecoder, Decoded};
use super::head::{HeadEnd, HeadParser};
use super::response::{
    Asked, BodyOutcome, CloseReason, Next, Outgoing, ResponseFraming, decide_framing,
    write_cgi_status, write_chunk_size, write_framing, write_headers, write_informational,
    write_last_chunk, write_status_line,
};
use super::rules::Rules;
use crate::fault::{LocalMisuse, PeerFault};
use crate::message::{
    BodyFraming, Facts, FieldTable, Fields, HeadParts, RequestHead, ResponseHead, Trailers, Version,
};

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
///
/// Kinds of method: [`poll_event`](Self::poll_event) and [`handle_eof`](Self::handle_eof) take what
/// the peer did; [`head`](Self::head) and [`trailers`](Self::trailers) read what an event reported;
/// `encode_*`, `body_*` and [`finish_response`](Self::finish_response) append what is to be
/// written, in this order; [`start_next_exchange`](Self::start_next_exchange) turns the page.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "what has happened beside the two states"
)]
pub struct Connection {
    rules: Arc<Rules>,
    receive: Receive,
    send: Send,
    parts: HeadParts,
    trailers: Trailers,
    /// The peer is a web server that speaks for its clients, and reads responses by rules of its own.
    behind: Option<Behind>,
    /// The peer's forwarder headers are believed.
    trusted: bool,
    /// Keep-alive is denied from outside.
    denied: bool,
    /// The last poll of a head saw nothing of one.
    idle: bool,
    /// A head was reported in this exchange.
    head_known: bool,
    /// The body has begun to come, or the peer was told to send it.
    body_invited: bool,
}

/// How a web server in front reads a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behind {
    /// With HTTP's status line; the connection's end is the response's (uwsgi).
    Http,
    /// With a line `Status` (RFC 3875 section 6.3.3); the connection may be kept.
    Cgi {
        /// It is.
        keep: bool,
    },
    /// With HTTP's status line, in frames that tell the end of everything (HTTP/2).
    Frames,
}

/// What is expected from the peer.
#[derive(Debug)]
enum Receive {
    Head(HeadParser),
    Length {
        remaining: u64,
    },
    Chunked(ChunkDecoder),
    /// No byte of the request is missing; it has not been said yet.
    Ending,
    Done,
    Switched,
    /// The caller says what comes of the body, and when it has ended.
    Told,
    Failed(PeerFault),
}

/// What the peer is owed.
#[derive(Debug)]
enum Send {
    Idle,
    Body(Outgoing),
    /// Between `body_prefix` and `body_suffix`; `chunk`: the raw bytes are in a chunk.
    Raw {
        body: Outgoing,
        chunk: bool,
    },
    Finished(Next),
}

impl Connection {
    /// A new connection that awaits its first request.
    pub fn new(rules: Arc<Rules>) -> Self {
        Self {
            rules,
            receive: Receive::Head(HeadParser::new()),
            send: Send::Idle,
            parts: HeadParts::default(),
            trailers: None,
            behind: None,
            trusted: false,
            denied: false,
            idle: true,
            head_known: false,
            body_invited: false,
        }
    }

    /// A connection of a web server that brings requests in variables and expects responses as its
    /// protocol has them: no chunks, nothing about the connection (some pass that on to their clients),
    /// nothing before the final response (some take it for that), and an end after each.
    pub fn behind_web_server(rules: Arc<Rules>, behind: Behind) -> Self {
        Self {
            behind: Some(behind),
            ..Self::new(rules)
        }
    }

    /// Says whether the peer's forwarder headers (names with an underscore) are believed.
    pub fn set_forwarder_trusted(&mut self, trusted: bool) {
        self.trusted = trusted;
    }

    // --- what the peer did ---

    /// What the next bytes mean. `input` is everything received and not yet consumed.
    ///
    /// A fault is final: every further call reports it again. A response may still be sent.
    #[inline]
    pub fn poll_event(&mut self, input: &[u8]) -> Result<Polled, PeerFault> {
        match self.receive {
            Receive::Ending => {
                self.receive = Receive::Done;
                Ok(Polled {
                    consumed: 0,
                    event: Event::BodyEnd,
                })
            }
            Receive::Head(_) => self.poll_head(input),
            _ => self.poll_body(input).map_err(|fault| self.fail(fault)),
        }
    }

    #[inline(never)]
    fn poll_head(&mut self, input: &[u8]) -> Result<Polled, PeerFault> {
        let Receive::Head(parser) = &mut self.receive else {
            // Asked only where a head is awaited.
            return self.poll_body(input);
        };
        match parser.poll(input, &self.rules, self.trusted, &mut self.parts) {
            Ok(Some(head)) => Ok(self.begin_body(head)),
            Ok(None) => Ok(self.await_head(input)),
            Err(fault) => Err(self.fail(fault)),
        }
    }

    #[inline(never)]
    fn poll_body(&mut self, input: &[u8]) -> Result<Polled, PeerFault> {
        match &mut self.receive {
            Receive::Length { remaining } => {
                let taken = take_length(remaining, input.len());
                Ok(self.take_body(taken))
            }
            Receive::Chunked(decoder) => {
                self.body_invited |= !input.is_empty();
                let found = decoder.poll(input, &self.rules, &mut self.trailers)?;
                Ok(self.take_decoded(found))
            }
            Receive::Head(_) | Receive::Ending | Receive::Done | Receive::Told => Ok(Polled {
                consumed: 0,
                event: Event::Paused,
            }),
            Receive::Switched => Ok(Polled {
                consumed: 0,
                event: Event::Switched,
            }),
            Receive::Failed(fault) => Err(*fault),
        }
    }

    /// An empty line alone is nothing of a head: old clients end a body with one.
    fn await_head(&mut self, input: &[u8]) -> Polled {
        self.idle = input.is_empty() || input == b"\r\n";
        Polled {
            consumed: 0,
            event: Event::NeedMore,
        }
    }

    #[inline]
    fn begin_body(&mut self, head: HeadEnd) -> Polled {
        match self.parts.facts.framing {
            BodyFraming::None | BodyFraming::Length(0) => self.receive = Receive::Ending,
            BodyFraming::Length(remaining) => self.receive = Receive::Length { remaining },
            BodyFraming::Chunked => {
                self.receive = Receive::Chunked(ChunkDecoder::new(head.field_count));
            }
        }
        self.head_known = true;
        self.idle = false;
        Polled {
            consumed: head.at,
            event: Event::Head,
        }
    }

    fn take_body(&mut self, taken: usize) -> Polled {
        if taken == 0 {
            return Polled {
                consumed: 0,
                event: Event::NeedMore,
            };
        }
        if matches!(self.receive, Receive::Length { remaining: 0 }) {
            self.receive = Receive::Ending;
        }
        self.body_invited = true;
        Polled {
            consumed: taken,
            event: Event::Body(0..taken),
        }
    }

    fn take_decoded(&mut self, decoded: Decoded) -> Polled {
        match decoded {
            Decoded::NeedMore { consumed } => Polled {
                consumed,
                event: Event::NeedMore,
            },
            Decoded::Data(range) => Polled {
                consumed: range.end,
                event: Event::Body(range),
            },
            Decoded::End { consumed } => {
                self.receive = Receive::Done;
                Polled {
                    consumed,
                    event: Event::BodyEnd,
                }
            }
        }
    }

    #[cold]
    fn fail(&mut self, fault: PeerFault) -> PeerFault {
        self.receive = Receive::Failed(fault);
        self.idle = false;
        fault
    }

    /// The peer closed its sending side: a fault if that was in the middle of a message.
    pub fn handle_eof(&mut self) -> Result<(), PeerFault> {
        match &self.receive {
            Receive::Head(_) if self.idle => Ok(()),
            Receive::Head(_) => Err(self.fail(PeerFault::TruncatedHead)),
            Receive::Length { .. } | Receive::Chunked(_) | Receive::Told => {
                Err(self.fail(PeerFault::TruncatedBody))
            }
            Receive::Ending | Receive::Done | Receive::Switched => Ok(()),
            Receive::Failed(fault) => Err(*fault),
        }
    }

    // --- memory ---

    /// Takes the memory of the last head, which is forgotten: for connections that wait for their next
    /// request, and for those that end.
    pub fn take_fields(&mut self) -> FieldTable {
        self.parts.fields.clear();
        std::mem::take(&mut self.parts.fields)
    }

    /// Memory for the next head; without it the head gets memory of its own.
    pub fn lend_fields(&mut self, fields: FieldTable) {
        if self.parts.fields.spans.capacity() == 0 {
            self.parts.fields = fields;
        }
    }

    /// No byte of a request has been seen since the last exchange: closing now harms nobody.
    pub fn is_idle(&self) -> bool {
        self.idle
    }

    /// How many bytes of the body are still to come, where its length was said.
    pub fn missing(&self) -> Option<u64> {
        match self.receive {
            Receive::Length { remaining } => Some(remaining),
            _ => None,
        }
    }

    // --- what an event reported ---

    /// View of the head last reported; `bytes` is `input[..consumed]` of that [`Event::Head`].
    #[inline]
    pub fn head<'a>(&'a self, bytes: &'a [u8]) -> RequestHead<'a> {
        RequestHead::new(&self.parts, bytes)
    }

    /// The trailers last reported; `bytes` is `input[..consumed]` of that [`Event::BodyEnd`].
    pub fn trailers<'a>(&'a self, bytes: &'a [u8]) -> Fields<'a> {
        let trailers = self.trailers.as_deref();
        trailers.map_or_else(Fields::default, |trailers| trailers.iter(bytes))
    }

    // --- what the peer is told ---

    /// Encodes 100, 102, 103. Writes nothing and says `false` where the peer speaks HTTP/1.0 (RFC
    /// 9110 section 15.2), and to a web server that speaks uwsgi or FastCGI: it expects one response of
    /// a CGI program (RFC 3875 section 6), and takes the first head for that of the answer.
    pub fn encode_informational<'h>(
        &mut self,
        status: u16,
        headers: impl IntoIterator<Item = (&'h [u8], &'h [u8])>,
        out: &mut Vec<u8>,
    ) -> Result<bool, LocalMisuse> {
        if !self.head_known || !matches!(self.send, Send::Idle) {
            return Err(LocalMisuse::OutOfOrder);
        }
        if !(100..200).contains(&status) || status == 101 {
            return Err(LocalMisuse::InvalidStatus);
        }
        let is_alone = matches!(self.behind, None | Some(Behind::Frames));
        if !is_alone || self.parts.facts.version == Version::Http10 {
            return Ok(false);
        }
        append(out, |out| write_informational(out, status, headers))?;
        self.body_invited |= status == 100;
        Ok(true)
    }

    /// Decides framing and persistence of the response and appends its head to `out`.
    ///
    /// May be called before any request is complete (timeouts, overload) and after a fault: the
    /// connection then closes after it. On an error `out` is as before.
    #[inline]
    pub fn encode_response_head<'h>(
        &mut self,
        head: &ResponseHead<'_>,
        headers: impl IntoIterator<Item = (&'h [u8], &'h [u8])>,
        out: &mut Vec<u8>,
    ) -> Result<ResponseFraming, LocalMisuse> {
        let complete = matches!(self.receive, Receive::Ending | Receive::Done);
        if !matches!(self.send, Send::Idle) || head.status == 101 && !complete {
            return Err(LocalMisuse::OutOfOrder);
        }
        let asked = self.asked();
        let (framing, close) = append(out, |out| {
            match self.behind {
                Some(Behind::Cgi { .. }) => write_cgi_status(out, head.status, head.reason)?,
                _ => write_status_line(out, asked.version, head.status, head.reason)?,
            }
            for line in [head.server, head.date].into_iter().flatten() {
                out.extend_from_slice(line.bytes());
            }
            let aside = write_headers(out, head.status, headers)?;
            let (framing, content_length) = decide_framing(head, aside, asked)?;
            let wish = aside.close.then_some(CloseReason::ApplicationWish);
            let close = self.close_reason(framing).or(wish);
            let about_connection = self
                .behind
                .is_none()
                .then_some((aside.upgrade, close.is_some()));
            write_framing(out, framing, content_length, about_connection);
            Ok((framing, close))
        })?;
        self.begin_response(framing, close);
        Ok(framing)
    }

    fn begin_response(&mut self, framing: ResponseFraming, close: Option<CloseReason>) {
        self.send = Send::Body(Outgoing::new(framing, close));
        if framing == ResponseFraming::Switched {
            self.receive = Receive::Switched;
        }
    }

    /// Whether the peer wants the connection closed.
    fn closes(&self, keep_alive: bool) -> bool {
        match self.behind {
            None => !keep_alive,
            Some(Behind::Http) => true,
            Some(Behind::Cgi { keep }) => !keep,
            Some(Behind::Frames) => false,
        }
    }

    /// The body of the head last reported comes by other means; its end is [`end_body`](Self::end_body).
    pub fn body_is_told(&mut self) {
        self.receive = Receive::Told;
    }

    /// The head last reported came in frames of HTTP/2 (see [`http2`](crate::http2)). `ends`: nothing follows it;
    /// else its body comes by other means, with or without a length, as that of [`body_is_told`](Self::body_is_told).
    /// Trailers need no leave: whoever speaks HTTP/2 reads them. `websocket`: it is an extended CONNECT for one, whose
    /// frames are no body.
    pub fn came_in_frames(&mut self, bytes: &[u8], ends: bool, websocket: bool) {
        let awaits = self.head(bytes).headers().any(|header| {
            header.name == b"expect" && header.value.eq_ignore_ascii_case(b"100-continue")
        });
        let facts = &mut self.parts.facts;
        facts.version = Version::Http2;
        facts.accepts_trailers = true;
        facts.extended_connect = websocket;
        if ends || websocket {
            self.receive = Receive::Ending;
            return;
        }
        if facts.framing == BodyFraming::None {
            facts.framing = BodyFraming::Chunked;
        }
        facts.expect_continue = awaits;
        self.receive = Receive::Told;
    }

    /// The body that was told is complete.
    pub fn end_body(&mut self) {
        if matches!(self.receive, Receive::Told) {
            self.receive = Receive::Done;
        }
    }

    /// Whether the web server wants its connection kept; to be said before the response.
    pub fn keep_behind(&mut self, keep: bool) {
        if let Some(Behind::Cgi { keep: kept }) = &mut self.behind {
            *kept = keep;
        }
    }

    #[inline]
    fn asked(&self) -> Asked {
        let facts = &self.parts.facts;
        if !self.head_known {
            // Nobody knows the peer's version: the answer is ours, and closes.
            let version = Version::Http11;
            return Asked {
                version,
                chunks: false,
                is_head: false,
                is_connect: false,
                upgrade: false,
            };
        }
        Asked {
            version: facts.version,
            chunks: self.behind.is_none() && facts.version == Version::Http11,
            is_head: facts.is_head,
            is_connect: facts.is_connect,
            upgrade: facts.upgrade.is_some(),
        }
    }

    /// Why the connection will not outlive a response that is framed so, as far as is known when
    /// its head is written (RFC 9112 section 9.3).
    fn close_reason(&self, framing: ResponseFraming) -> Option<CloseReason> {
        let facts = &self.parts.facts;
        let expects = facts.expect_continue && !self.body_invited;
        match (framing, &self.receive) {
            (ResponseFraming::Switched, _) => Some(CloseReason::Switched),
            (_, Receive::Failed(_)) => Some(CloseReason::Faulty),
            _ if !self.head_known => Some(CloseReason::Unsolicited),
            _ if facts.is_connect => Some(CloseReason::Connect),
            _ if self.closes(facts.keep_alive) => Some(CloseReason::PeerWish),
            _ if self.denied => Some(CloseReason::Denied),
            (ResponseFraming::UntilClose, _) => Some(CloseReason::Undelimited),
            // RFC 9110 section 10.1.1: whether the body still comes is the peer's choice.
            (_, Receive::Length { .. } | Receive::Chunked(_)) if expects => {
                Some(CloseReason::ExpectationOpen)
            }
            _ => None,
        }
    }

    /// Frames a piece of body and appends it to `out`; drops what is not allowed, and says so.
    #[inline]
    pub fn encode_body(
        &mut self,
        data: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<BodyOutcome, LocalMisuse> {
        let Send::Body(body) = &mut self.send else {
            return Err(LocalMisuse::OutOfOrder);
        };
        let outcome = body.take(data.len() as u64);
        // `sent` is at most the length of `data`.
        let data = usize::try_from(outcome.sent)
            .ok()
            .and_then(|sent| data.get(..sent))
            .unwrap_or(data);
        if body.framing == ResponseFraming::Chunked && !data.is_empty() {
            write_chunk_size(out, outcome.sent);
            out.extend_from_slice(data);
            out.extend_from_slice(b"\r\n");
        } else {
            out.extend_from_slice(data);
        }
        Ok(outcome)
    }

    /// For bytes that never pass through here (sendfile, write-through): appends what must stand
    /// before `len` raw bytes. `sent` of the answer is how many of them may be written; after them
    /// comes [`Connection::body_suffix`].
    pub fn body_prefix(&mut self, len: u64, out: &mut Vec<u8>) -> Result<BodyOutcome, LocalMisuse> {
        let Send::Body(body) = &mut self.send else {
            return Err(LocalMisuse::OutOfOrder);
        };
        let outcome = body.take(len);
        let chunk = body.framing == ResponseFraming::Chunked && outcome.sent > 0;
        if chunk {
            write_chunk_size(out, outcome.sent);
        }
        self.send = Send::Raw { body: *body, chunk };
        Ok(outcome)
    }

    /// Appends what must stand after the raw bytes of [`Connection::body_prefix`].
    pub fn body_suffix(&mut self, out: &mut Vec<u8>) -> Result<(), LocalMisuse> {
        let Send::Raw { body, chunk } = self.send else {
            return Err(LocalMisuse::OutOfOrder);
        };
        if chunk {
            out.extend_from_slice(b"\r\n");
        }
        self.send = Send::Body(body);
        Ok(())
    }

    /// Ends the response: last chunk and trailers (which only a chunked response has; elsewhere
    /// they are left out). [`LocalMisuse::Incomplete`]: the caller must cut the connection.
    #[inline]
    pub fn finish_response<'h>(
        &mut self,
        trailers: impl IntoIterator<Item = (&'h [u8], &'h [u8])>,
        out: &mut Vec<u8>,
    ) -> Result<Next, LocalMisuse> {
        let Send::Body(body) = self.send else {
            return Err(LocalMisuse::OutOfOrder);
        };
        if body.remaining > 0 {
            return Err(LocalMisuse::Incomplete {
                missing: body.remaining,
            });
        }
        if body.framing == ResponseFraming::Chunked {
            append(out, |out| write_last_chunk(out, trailers))?;
        }
        let next = self.next_step(body.close);
        self.send = Send::Finished(next);
        Ok(next)
    }

    /// The head's word may be made stricter since, never milder.
    fn next_step(&self, announced: Option<CloseReason>) -> Next {
        match (announced, &self.receive) {
            (Some(reason), _) => Next::Close(reason),
            (None, Receive::Failed(_)) => Next::Close(CloseReason::Faulty),
            _ if self.denied => Next::Close(CloseReason::Denied),
            (None, Receive::Ending | Receive::Done) => Next::KeepAlive,
            _ => Next::Drain,
        }
    }

    /// No exchange after the current one: draining, or enough requests. Announced if the response
    /// head has not been encoded yet, done in any case.
    pub fn deny_keep_alive(&mut self) {
        self.denied = true;
    }

    /// After [`Next::KeepAlive`], or [`Next::Drain`] and the `BodyEnd` that followed: ready for the
    /// next request, which may be in the buffer already.
    #[inline]
    pub fn start_next_exchange(&mut self) -> Result<(), LocalMisuse> {
        let received = matches!(self.receive, Receive::Ending | Receive::Done);
        let answered = matches!(self.send, Send::Finished(Next::KeepAlive | Next::Drain));
        if !received || !answered {
            return Err(LocalMisuse::OutOfOrder);
        }
        self.receive = Receive::Head(HeadParser::new());
        self.send = Send::Idle;
        self.parts.fields.clear();
        self.parts.facts = Facts::default();
        self.trailers = None;
        self.idle = true;
        self.head_known = false;
        self.body_invited = false;
        Ok(())
    }
}

/// Counts what of `there` bytes belongs to a body that still misses `remaining`.
fn take_length(remaining: &mut u64, there: usize) -> usize {
    let taken = usize::try_from(*remaining).map_or(there, |remaining| remaining.min(there));
    *remaining -= taken as u64;
    taken
}

/// Runs `write` on `out`, and takes back what it wrote if it fails.
#[inline]
fn append<T>(
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<T, LocalMisuse>,
) -> Result<T, LocalMisuse> {
    let before = out.len();
    let written = write(out);
    if written.is_err() {
        out.truncate(before);
    }
    written
}
