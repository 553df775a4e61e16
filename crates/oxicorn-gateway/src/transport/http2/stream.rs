//! One stream of HTTP/2, as the transport of a connection: bytes of a body in, records of an answer out.

use std::cell::RefCell;
use std::io;
use std::ops::Range;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Response, StatusCode};
use oxicorn_link::GatewayEnd;

use super::fields::{KnownFields, split_line};
use super::wire::Wire;
use crate::buffer::records::{HEADER, Kind, Reader, Sink, is_end};
use crate::transport::socket::{Received, Sent};
use crate::transport::tls::About;

/// Bytes of answers that the streams of one connection may leave with h2 together: what a client does not read waits
/// with its stream, where it is counted.
pub(crate) const OUTSTANDING: usize = 256 * 1024;

/// Bytes of one answer that are given to h2 at once, so that all streams have their turn.
const PIECE: usize = 16 * 1024;

thread_local! {
    static KNOWN_FIELDS: RefCell<KnownFields> = const { RefCell::new(KnownFields::new()) };
}

/// A stream.
pub(crate) struct StreamEnd {
    receiving: Receiving,
    sending: Sending,
    /// Key and serial of the connection it is a stream of.
    carrier: (usize, u64),
    /// What TLS has settled there.
    about: Option<Rc<About>>,
}

/// What the client sends.
struct Receiving {
    stream: RecvStream,
    /// Received, of which so many bytes are taken.
    waiting: Vec<u8>,
    taken: usize,
    end: End,
    trailers: Option<HeaderMap>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// More may come.
    Awaited,
    /// All has come.
    Come,
    /// And it was said.
    Told,
}

/// What it is sent.
struct Sending {
    respond: SendResponse<Bytes>,
    stream: Option<SendStream<Bytes>>,
    reader: Reader,
    is_complete: bool,
    /// What the client is told of an answer that is not.
    reason: Reason,
    wire: Rc<Wire>,
    /// The stream's number.
    number: u32,
    /// Key and serial of the stream's own connection.
    own: (usize, u64),
}

impl StreamEnd {
    pub(crate) fn new(
        (stream, respond): (RecvStream, SendResponse<Bytes>),
        wire: Rc<Wire>,
        carrier: (usize, u64),
        about: Option<Rc<About>>,
    ) -> Self {
        let end = if stream.is_end_stream() {
            End::Told
        } else {
            End::Awaited
        };
        let number = stream.stream_id().as_u32();
        wire.note_stream(number);
        Self {
            receiving: Receiving {
                stream,
                waiting: Vec::new(),
                taken: 0,
                end,
                trailers: None,
            },
            sending: Sending {
                respond,
                stream: None,
                reader: Reader::default(),
                is_complete: false,
                reason: Reason::CANCEL,
                wire,
                number,
                own: (0, 0),
            },
            carrier,
            about,
        }
    }

    /// Says which connection it is the transport of.
    pub(crate) fn belongs_to(&mut self, key: usize, serial: u64) {
        self.sending.own = (key, serial);
    }

    /// Key and serial of the connection it is a stream of.
    pub(crate) fn carrier(&self) -> (usize, u64) {
        self.carrier
    }

    pub(crate) fn about(&self) -> Option<&Rc<About>> {
        self.about.as_ref()
    }

    /// Bytes of memory.
    pub(crate) fn memory(&self) -> usize {
        self.receiving.waiting.capacity() + self.sending.reader.memory()
    }

    /// The trailers of the body, once.
    pub(crate) fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.receiving.trailers.take()
    }

    /// Takes what has come out of h2. An error: the stream is gone.
    pub(crate) fn pump(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.receiving.pump(cx)?;
        self.sending.check(cx)
    }

    /// Whether more of the body may come.
    pub(crate) fn is_receiving(&self) -> bool {
        self.receiving.end == End::Awaited
    }

    /// Whether something has come that was not taken.
    pub(crate) fn has_news(&self) -> bool {
        !self.receiving.waiting.is_empty() || self.receiving.end == End::Come
    }

    /// Appends what has come to the free room of `buffer` (which must have some).
    pub(crate) fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut Vec<u8>,
    ) -> Poll<io::Result<Received>> {
        self.pump(cx)?;
        let count = self.receiving.deliver(buffer);
        if count > 0 {
            return Poll::Ready(Ok(Received::Bytes(count)));
        }
        if self.receiving.end == End::Come {
            self.receiving.end = End::Told;
            return Poll::Ready(Ok(Received::BodyEnd));
        }
        Poll::Pending
    }

    /// Makes frames of records.
    pub(crate) fn poll_send(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> io::Result<Sent> {
        let mut reader = std::mem::take(&mut self.sending.reader);
        let mut sink = Sender {
            sending: &mut self.sending,
            cx,
        };
        let used = reader.feed(bytes, &mut sink);
        self.sending.reader = reader;
        Ok(match used? {
            0 => Sent::Blocked,
            count => Sent::Bytes(count),
        })
    }

    /// Makes frames of records, and of a part of the message that is being read from a worker's ring, which stands between
    /// `before` and `after` without a record's header. Says how many bytes are gone, in that order.
    pub(crate) fn poll_send_payload(
        &mut self,
        cx: &mut Context<'_>,
        link: &GatewayEnd,
        before: &[u8],
        payload: Range<usize>,
        after: &[u8],
    ) -> io::Result<Sent> {
        let gone = match self.poll_send(cx, before)? {
            _ if before.is_empty() => 0,
            Sent::Bytes(count) => count,
            Sent::Blocked => return Ok(Sent::Blocked),
        };
        if gone < before.len() || !self.sending.reader.is_between_records() {
            return Ok(Sent::Bytes(gone));
        }
        let ends = is_end(after);
        let mut sender = Sender {
            sending: &mut self.sending,
            cx,
        };
        let (start, len) = (payload.start, payload.len());
        let taken = sender.send(len, ends, |piece| {
            let mut bytes = Vec::with_capacity(piece.len());
            link.payload_into(start + piece.start..start + piece.end, &mut bytes);
            bytes.into()
        })?;
        let end = if ends && taken == len { HEADER } else { 0 };
        Ok(Sent::Bytes(gone + taken + end))
    }

    /// The answer ends before its end, so that the client notices.
    pub(crate) fn reset_on_close(&mut self) {
        self.sending.reason = Reason::INTERNAL_ERROR;
    }

    /// The end of an answer that has no other.
    pub(crate) fn finish_sending(&mut self) {
        self.sending.finish();
    }

    /// What is not complete is reset.
    pub(crate) fn say_goodbye(&mut self) {
        self.sending.abandon();
    }
}

impl Receiving {
    fn pump(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while self.end == End::Awaited {
            match self.stream.poll_data(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Some(data)) => {
                    self.waiting.extend_from_slice(&data.map_err(gone)?);
                }
                Poll::Ready(None) => match self.stream.poll_trailers(cx) {
                    Poll::Pending => return Ok(()),
                    Poll::Ready(trailers) => {
                        self.trailers = trailers.map_err(gone)?;
                        self.end = End::Come;
                    }
                },
            }
        }
        Ok(())
    }

    fn deliver(&mut self, buffer: &mut Vec<u8>) -> usize {
        let waiting = &self.waiting[self.taken..];
        let count = waiting.len().min(buffer.capacity() - buffer.len());
        buffer.extend_from_slice(&waiting[..count]);
        self.taken += count;
        if self.taken == self.waiting.len() {
            self.waiting = Vec::new();
            self.taken = 0;
        }
        if count > 0 {
            // It cannot be more than has come.
            let _ = self.stream.flow_control().release_capacity(count);
        }
        count
    }
}

impl Sending {
    /// An error: the client has reset the stream, or is gone.
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.is_complete {
            return Ok(());
        }
        let polled = match &mut self.stream {
            Some(stream) => stream.poll_reset(cx),
            None => self.respond.poll_reset(cx),
        };
        match polled {
            Poll::Pending => Ok(()),
            Poll::Ready(_) => {
                self.is_complete = true;
                Err(io::ErrorKind::ConnectionReset.into())
            }
        }
    }

    fn finish(&mut self) {
        if !self.is_complete
            && let Some(stream) = &mut self.stream
        {
            self.is_complete = stream.send_data(Bytes::new(), true).is_ok();
        }
    }

    fn abandon(&mut self) {
        if std::mem::replace(&mut self.is_complete, true) {
            return;
        }
        match &mut self.stream {
            Some(stream) => stream.send_reset(self.reason),
            None => self.respond.send_reset(self.reason),
        }
    }

    fn begin(&mut self, head: &[u8], ends: bool) -> io::Result<()> {
        let response = response(head)?;
        let stream = self.respond.send_response(response, ends).map_err(gone)?;
        self.stream = Some(stream);
        self.is_complete = ends;
        Ok(())
    }
}

/// Makes frames.
struct Sender<'s, 'c, 'w> {
    sending: &'s mut Sending,
    cx: &'c mut Context<'w>,
}

impl Sink for Sender<'_, '_, '_> {
    fn whole(&mut self, kind: Kind, content: &[u8], ends: bool) -> io::Result<()> {
        let sending = &mut *self.sending;
        match (kind, &mut sending.stream) {
            (Kind::Informational, None) => {
                let response = response(content)?;
                sending.respond.send_informational(response).map_err(gone)
            }
            (Kind::Head, None) => sending.begin(content, ends),
            (Kind::Trailers, Some(stream)) => {
                let trailers = fields(content)?;
                stream.send_trailers(trailers).map_err(gone)?;
                sending.is_complete = true;
                Ok(())
            }
            (Kind::End, Some(stream)) => {
                stream.send_data(Bytes::new(), true).map_err(gone)?;
                sending.is_complete = true;
                Ok(())
            }
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    fn data(&mut self, piece: &[u8], ends: bool) -> io::Result<usize> {
        self.send(piece.len(), ends, |now| Bytes::copy_from_slice(&piece[now]))
    }
}

impl Sender<'_, '_, '_> {
    /// Sends as much of `len` bytes of body as may be sent, in pieces that `take` gives; says how much. `ends`: the answer is
    /// complete with all of it.
    fn send(
        &mut self,
        len: usize,
        ends: bool,
        take: impl Fn(Range<usize>) -> Bytes,
    ) -> io::Result<usize> {
        let sending = &mut *self.sending;
        let Some(stream) = &mut sending.stream else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let mut taken = 0;
        while taken < len {
            if !sending.wire.has_room(sending.own) {
                break;
            }
            let wanted = (len - taken).min(PIECE);
            let count = room(stream, wanted, self.cx)?;
            if count == 0 {
                break;
            }
            let bytes = take(taken..taken + count);
            taken += count;
            let is_last = ends && taken == len;
            stream.send_data(bytes, is_last).map_err(gone)?;
            sending.wire.give(sending.number, count);
            sending.is_complete |= is_last;
        }
        Ok(taken)
    }
}

/// How much of `wanted` bytes may be sent; 0: nothing, and the task is woken when something may.
fn room(stream: &mut SendStream<Bytes>, wanted: usize, cx: &mut Context<'_>) -> io::Result<usize> {
    stream.reserve_capacity(wanted);
    loop {
        let capacity = stream.capacity();
        if capacity > 0 {
            return Ok(capacity.min(wanted));
        }
        match stream.poll_capacity(cx) {
            Poll::Pending => return Ok(0),
            Poll::Ready(Some(Ok(_))) => {}
            Poll::Ready(_) => return Err(io::ErrorKind::ConnectionReset.into()),
        }
    }
}

fn gone(error: h2::Error) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, error)
}

/// A head that was written as text: `HTTP/1.1 200 OK` and fields.
fn response(head: &[u8]) -> io::Result<Response<()>> {
    let (line, rest) = split_line(head);
    let status = line
        .get(9..12)
        .and_then(|digits| StatusCode::from_bytes(digits).ok());
    let mut response = Response::new(());
    *response.status_mut() = status.ok_or(io::ErrorKind::InvalidData)?;
    *response.headers_mut() = fields(rest)?;
    Ok(response)
}

fn fields(text: &[u8]) -> io::Result<HeaderMap> {
    KNOWN_FIELDS.with_borrow_mut(|known| known.read(text))
}

impl std::fmt::Debug for StreamEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("StreamEnd");
        shown
            .field("carrier", &self.carrier)
            .finish_non_exhaustive()
    }
}
