//! One message of a worker, taken into the connection it answers.
//!
//! Decides what a message does to a response, trusting nothing in it: heads are checked by
//! `oxicorn-proto`, the amount of body by the window. Bytes go from the shared memory straight to the
//! client where they are many (see `zero_copy`), else into the connection's output; only heads are copied aside
//! first, because a worker could change them between check and use.

use std::fmt;
use std::time::Duration;

use oxicorn_link::window::{WindowExceeded, websocket_cost};
use oxicorn_link::wire::{FilePart, HeaderList, Malformed, ResponseKind, ResponseView, flags};
use oxicorn_link::{DescriptorError, GatewayEnd, ResponseHeader};
use oxicorn_proto::LocalMisuse;
use oxicorn_proto::http1::{self, OwnLine, ResponseFraming};
use rustix::fs::{FileType, fstat};

use crate::buffer::output::Output;
use crate::connection::Connection;
use crate::exchange::{After, Exchange, Happened};
use crate::session::Writer;
use crate::telemetry::tracing::{ServerTiming, id_for_response};
use crate::transport::zero_copy::{RingSend, Road, append_payload};
use crate::workers::calls::Call;

/// Output of one connection beyond which a worker has sent too much that no credit counts for
/// (heads, 1xx, framing).
const UNCOUNTED: usize = 256 * 1024;

/// Bytes of an answer in records beside those that the worker sends: a status line, the server's own fields, headers
/// of records.
const OWN_BYTES: usize = 160;

/// Bytes of a message that are looked at first: nearly every head is shorter.
const USUAL_HEAD: usize = 512;

/// Files in one connection's output at a time: each costs a descriptor.
const FILES: usize = 64;

/// What a worker got wrong in one response.
#[derive(Debug)]
pub(crate) enum Mistake {
    Misuse(LocalMisuse),
    TooMuch,
    Descriptor(DescriptorError),
    NotAFile,
    NotSpoken(ResponseKind),
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Misuse(misuse) => misuse.fmt(f),
            Self::TooMuch => f.write_str("worker sent more than it had credit for"),
            Self::Descriptor(error) => error.fmt(f),
            Self::NotAFile => f.write_str("what was to be sent as a file is none"),
            Self::NotSpoken(kind) => write!(f, "unexpected message {kind:?}"),
        }
    }
}

/// Why a message was not taken.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The link is broken.
    Malformed,
    /// This response is.
    Mistake(Mistake),
}

impl From<Malformed> for Trouble {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

impl From<LocalMisuse> for Trouble {
    fn from(misuse: LocalMisuse) -> Self {
        Self::Mistake(Mistake::Misuse(misuse))
    }
}

impl From<WindowExceeded> for Trouble {
    fn from(_: WindowExceeded) -> Self {
        Self::Mistake(Mistake::TooMuch)
    }
}

impl From<DescriptorError> for Trouble {
    fn from(error: DescriptorError) -> Self {
        Self::Mistake(Mistake::Descriptor(error))
    }
}

/// A message and everything it concerns.
pub(crate) struct WorkerMessage<'g> {
    header: ResponseHeader,
    link: &'g mut GatewayEnd,
    call: &'g mut Call,
    exchange: &'g mut Exchange,
    writer: Writer<'g>,
    /// The bytes of the request's head.
    head: &'g [u8],
    output: &'g mut Output,
    /// Where the output goes.
    road: Road<'g>,
    server: &'g OwnLine,
    /// The client is told where the time went.
    tells_timing: bool,
    common: Common<'g>,
}

/// What is the same for all messages.
pub(crate) struct Common<'g> {
    /// An empty buffer for what must be copied aside.
    pub(crate) aside: &'g mut Vec<u8>,
    pub(crate) date: &'g OwnLine,
    pub(crate) now: Duration,
    /// The access log wants to see the response's head.
    pub(crate) keep_head: bool,
}

/// Whether nothing follows this message in its response.
pub(crate) fn is_last(header: ResponseHeader) -> bool {
    match header.kind {
        ResponseKind::Head
        | ResponseKind::BodyChunk
        | ResponseKind::File
        | ResponseKind::WebSocketClose => header.flags & flags::END != 0,
        ResponseKind::Trailers | ResponseKind::Abort => true,
        _ => false,
    }
}

/// Whether the application's call is over with this message, so that the worker has room again.
pub(crate) fn ends_call(header: ResponseHeader) -> bool {
    header.kind == ResponseKind::CallEnd || (is_last(header) && header.flags & flags::GOES_ON == 0)
}

impl<'g> WorkerMessage<'g> {
    /// A message for the exchange of `connection`; `None`: it has none.
    pub(crate) fn new(
        header: ResponseHeader,
        link: &'g mut GatewayEnd,
        call: &'g mut Call,
        connection: &'g mut Connection,
        common: Common<'g>,
    ) -> Option<Self> {
        let (writer, head) = connection.session.writer(connection.input.head());
        let records = writer.records();
        Some(Self {
            header,
            link,
            call,
            exchange: connection.exchange.as_deref_mut()?,
            writer,
            head,
            output: &mut connection.output,
            road: Road {
                transport: &mut connection.transport,
                records,
                waker: &connection.waker,
                is_stalled: connection.stalled_since.is_some(),
                sent: &mut connection.sent,
            },
            server: &connection.resolved.server_line,
            tells_timing: connection.resolved.settings.tracing.server_timing,
            common,
        })
    }

    /// Takes the message; after the last one the exchange is `Flushing`.
    pub(crate) fn take(mut self) -> Result<(), Trouble> {
        let counted = self.call.uncredited;
        if self.output.held() > counted + UNCOUNTED {
            return Err(Trouble::Mistake(Mistake::TooMuch));
        }
        let lent = match self.header.kind {
            ResponseKind::Informational => return self.take_informational(),
            ResponseKind::Head => self.take_head()?,
            ResponseKind::BodyChunk => self.take_body(0)?,
            ResponseKind::File => {
                self.take_file()?;
                None
            }
            ResponseKind::Trailers => return self.take_trailers(),
            kind => return Err(Trouble::Mistake(Mistake::NotSpoken(kind))),
        };
        let finished = if is_last(self.header) {
            self.finish([])
        } else {
            Ok(())
        };
        // Of a response that fails here, too: the client has what there was of it.
        if let Some(lent) = lent {
            self.road.send(lent, self.output, self.link);
        }
        finished
    }

    fn take_informational(mut self) -> Result<(), Trouble> {
        self.link
            .payload_into(0..self.header.len, self.common.aside);
        let view = ResponseView::decode(self.common.aside)?;
        let (status, out) = (view.head.status, self.output.bytes());
        self.writer
            .informational(status, view.headers.iter(), out)?;
        Ok(())
    }

    fn take_head(&mut self) -> Result<Option<RingSend>, Trouble> {
        let whole = self.header.len;
        self.link.payload_into(0..USUAL_HEAD, self.common.aside);
        let head_len = ResponseView::head_len(self.common.aside, whole)?;
        // Of a short head the beginning of the body came along, of a long one a part is missing.
        self.common.aside.truncate(head_len);
        self.link
            .payload_into(self.common.aside.len()..head_len, self.common.aside);
        let view = ResponseView::decode(self.common.aside)?;
        if self.header.flags & flags::CLOSE != 0 {
            self.writer.deny_keep_alive();
        }
        // The end is here already: the length is known, unless the body is left out because it is
        // not asked for.
        let body_len = (whole - head_len) as u64;
        let is_head = body_len == 0 && self.writer.request(self.head).method() == b"HEAD";
        let known = is_last(self.header) && !is_head;
        let head = http1::ResponseHead {
            status: view.head.status,
            reason: view.head.reason,
            server: Some(self.server),
            date: Some(self.common.date),
            body_length: known.then_some(body_len),
        };
        let out = self.output.bytes();
        if self.writer.records().is_some() {
            // A stream has no memory from an earlier answer: it gets it for all of this one at once.
            out.reserve(whole + OWN_BYTES);
        }
        let start = out.len();
        let trace = self.exchange.request.trace.as_deref();
        let timing = self.tells_timing.then(|| {
            let given = self.call.submitted + self.call.queued;
            let proxy = trace.and_then(|trace| trace.proxy_time);
            let application = self.common.now.saturating_sub(given);
            ServerTiming::new(proxy, self.call.queued, application)
        });
        let id = id_for_response(trace, &view.headers);
        let timing = timing.iter().map(ServerTiming::header);
        let headers = view.headers.iter().chain(id).chain(timing);
        let framing = self.writer.head(&head, headers, out)?;
        if let Some(trace) = &mut self.exchange.request.trace {
            trace.note_answered(self.common.now);
        }
        let response = &mut self.exchange.response;
        response.status = view.head.status;
        response.logged = self.header.flags & flags::LOGGED != 0;
        response.until_close = framing == ResponseFraming::UntilClose;
        if self.common.keep_head {
            response
                .head
                .extend_from_slice(&self.output.bytes()[start..]);
        }
        self.call.answered = true;
        let _ = self.exchange.on(Happened::Head);
        self.take_body(head_len)
    }

    /// The payload from `start` on is body.
    fn take_body(&mut self, start: usize) -> Result<Option<RingSend>, Trouble> {
        let len = self.header.len - start;
        if len == 0 {
            return Ok(None);
        }
        let stage = self.exchange.stage();
        let last = is_last(self.header);
        let lends = stage.is_served() && self.road.is_worth_it(self.output, len, last);
        self.call.window.receive(len)?;
        self.call.uncredited += len;
        let out = self.output.bytes();
        let sent = self.writer.before_body(len as u64, out)?;
        let end = start + usize::try_from(sent).unwrap_or(len).min(len);
        let lent = RingSend::new(out.len(), start..end);
        if !lends {
            append_payload(self.link, start..end, self.road.records, out);
        }
        self.writer.after_body(out)?;
        self.exchange.response.body_bytes += sent;
        Ok(lends.then_some(lent))
    }

    fn take_file(&mut self) -> Result<(), Trouble> {
        self.link
            .payload_into(0..self.header.len, self.common.aside);
        let part = FilePart::decode(self.common.aside)?;
        let file = self.link.take_descriptor(self.header.stream)?;
        // A pipe could keep this thread waiting for ever.
        let stat = fstat(&file).map_err(|_| Trouble::Mistake(Mistake::NotAFile))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Trouble::Mistake(Mistake::NotAFile));
        }
        if part.len == 0 {
            return Ok(());
        }
        if self.output.files() >= FILES {
            return Err(Trouble::Mistake(Mistake::TooMuch));
        }
        let Self { writer, output, .. } = self;
        let sent = writer.before_body(part.len, output.bytes())?;
        output.push_file(file, part.offset, sent, writer.records());
        writer.after_body(output.bytes())?;
        self.exchange.response.body_bytes += sent;
        Ok(())
    }

    fn take_trailers(mut self) -> Result<(), Trouble> {
        let mut payload = std::mem::take(self.common.aside);
        self.link.payload_into(0..self.header.len, &mut payload);
        let wanted = self.writer.request(self.head).accepts_trailers();
        let taken = match HeaderList::decode(&payload) {
            // Who has not said that it takes them (TE) may never see them: RFC 9110 section 6.5.1.
            Ok(trailers) => self.finish(trailers.iter().filter(|_| wanted)),
            Err(malformed) => Err(malformed.into()),
        };
        *self.common.aside = payload;
        taken
    }

    fn finish<'h>(
        &mut self,
        trailers: impl IntoIterator<Item = (&'h [u8], &'h [u8])>,
    ) -> Result<(), Trouble> {
        if let Some(trace) = &mut self.exchange.request.trace {
            trace.note_completed(self.common.now);
        }
        let next = self.writer.finish(trailers, self.output.bytes())?;
        let _ = self.exchange.on(Happened::Complete(After::from(next)));
        Ok(())
    }
}

/// A message of a response that nobody waits for: its credit is returned at once, so that the
/// worker is not held up before it learns that it may stop.
pub(crate) fn discard(
    link: &mut GatewayEnd,
    call: &mut Call,
    header: ResponseHeader,
) -> Option<u32> {
    discard_descriptor(link, header);
    let bytes = match header.kind {
        ResponseKind::Head | ResponseKind::BodyChunk => header.len,
        ResponseKind::WebSocketMessage => websocket_cost(header.len),
        _ => 0,
    };
    // More than it had credit for is of no interest here: nothing is kept.
    let bytes = call.window.receive(bytes).map_or(0, |()| bytes);
    call.window.release(bytes)
}

/// Closes the descriptor that came with a message nobody wants.
pub(crate) fn discard_descriptor(link: &mut GatewayEnd, header: ResponseHeader) {
    if header.flags & flags::HAS_DESCRIPTOR != 0 {
        drop(link.take_descriptor(header.stream));
    }
}
