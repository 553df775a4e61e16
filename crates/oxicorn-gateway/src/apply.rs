//! One message of a worker, taken into the connection it answers.
//!
//! Decides what a message does to a response, trusting nothing in it: heads are checked by
//! `oxicorn-proto`, the amount of body by the window. Bytes go from the shared memory straight to the
//! client where they are many (see `zero_copy`), else into the connection's output; only heads are copied aside
//! first, because a worker could change them between check and use.

use std::fmt;

use oxicorn_link::window::{WindowExceeded, websocket_cost};
use oxicorn_link::wire::{
    self, FilePart, HeaderList, Malformed, ResponseKind, ResponseView, flags,
};
use oxicorn_link::{DescriptorError, GatewayEnd, ResponseHeader};
use oxicorn_proto::LocalMisuse;
use oxicorn_proto::http1::{self, Next, ResponseFraming};
use rustix::fs::{FileType, fstat};

use crate::calls::Call;
use crate::connection::{After, Connection, Phase};
use crate::zero_copy::RingSend;

/// Output of one connection beyond which a worker has sent too much that no credit counts for
/// (heads, 1xx, framing).
const UNCOUNTED: usize = 256 * 1024;

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
    pub(crate) header: ResponseHeader,
    pub(crate) link: &'g mut GatewayEnd,
    pub(crate) call: &'g mut Call,
    pub(crate) connection: &'g mut Connection,
    /// An empty buffer for what must be copied aside.
    pub(crate) aside: &'g mut Vec<u8>,
    /// Value of the Date header.
    pub(crate) date: &'g [u8],
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

impl WorkerMessage<'_> {
    /// Takes the message; after the last one the connection is `Flushing`.
    pub(crate) fn take(mut self) -> Result<(), Trouble> {
        let counted = self.call.uncredited;
        if self.connection.output.held() > counted + UNCOUNTED {
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
            lent.send(self.connection, self.link);
        }
        finished
    }

    fn take_informational(self) -> Result<(), Trouble> {
        self.link.payload_into(0..self.header.len, self.aside);
        let view = ResponseView::decode(self.aside)?;
        let Connection { http, output, .. } = self.connection;
        http.encode_informational(view.head.status, view.headers.iter(), output.bytes())?;
        Ok(())
    }

    fn take_head(&mut self) -> Result<Option<RingSend>, Trouble> {
        let whole = self.header.len;
        self.link.payload_into(0..ResponseView::PREFIX, self.aside);
        let head_len = ResponseView::head_len(self.aside, whole)?;
        self.link
            .payload_into(ResponseView::PREFIX..head_len, self.aside);
        let view = ResponseView::decode(self.aside)?;
        let Connection {
            http,
            input,
            output,
            request,
            resolved,
            ..
        } = &mut *self.connection;
        if self.header.flags & flags::CLOSE != 0 {
            http.deny_keep_alive();
        }
        // The end is here already: the length is known, unless the body is left out because it is
        // not asked for.
        let body_len = (whole - head_len) as u64;
        let is_head = body_len == 0 && http.head(input.head()).method() == b"HEAD";
        let known = is_last(self.header) && !is_head;
        let head = http1::ResponseHead {
            status: view.head.status,
            reason: view.head.reason,
            server: resolved.settings.server_header.as_bytes(),
            date: self.date,
            body_length: known.then_some(body_len),
        };
        let out = output.bytes();
        let start = out.len();
        let framing = http.encode_response_head(&head, view.headers.iter(), out)?;
        request.status = view.head.status;
        request.logged = self.header.flags & flags::LOGGED != 0;
        request.until_close = framing == ResponseFraming::UntilClose;
        self.call.answered = true;
        if self.keep_head {
            request
                .response_head
                .extend_from_slice(&output.bytes()[start..]);
        }
        self.take_body(head_len)
    }

    /// The payload from `start` on is body.
    fn take_body(&mut self, start: usize) -> Result<Option<RingSend>, Trouble> {
        let len = self.header.len - start;
        if len == 0 {
            return Ok(None);
        }
        let lends = RingSend::is_worth_it(self.connection, len);
        self.call.window.receive(len)?;
        self.call.uncredited += len;
        let Connection {
            http,
            output,
            request,
            ..
        } = &mut *self.connection;
        let out = output.bytes();
        let sent = http.body_prefix(len as u64, out)?.sent;
        let end = start + usize::try_from(sent).unwrap_or(len).min(len);
        let lent = RingSend::new(out.len(), start..end);
        if !lends {
            self.link.payload_into(start..end, out);
        }
        http.body_suffix(out)?;
        request.body_bytes += sent;
        Ok(lends.then_some(lent))
    }

    fn take_file(&mut self) -> Result<(), Trouble> {
        self.link.payload_into(0..self.header.len, self.aside);
        let part = FilePart::decode(self.aside)?;
        let file = self.link.take_descriptor(self.header.stream)?;
        // A pipe could keep this thread waiting for ever.
        let stat = fstat(&file).map_err(|_| Trouble::Mistake(Mistake::NotAFile))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Trouble::Mistake(Mistake::NotAFile));
        }
        if part.len == 0 {
            return Ok(());
        }
        if self.connection.output.files() >= FILES {
            return Err(Trouble::Mistake(Mistake::TooMuch));
        }
        let Connection {
            http,
            output,
            request,
            ..
        } = &mut *self.connection;
        let sent = http.body_prefix(part.len, output.bytes())?.sent;
        output.push_file(file, part.offset, sent);
        http.body_suffix(output.bytes())?;
        request.body_bytes += sent;
        Ok(())
    }

    fn take_trailers(mut self) -> Result<(), Trouble> {
        let mut payload = std::mem::take(self.aside);
        self.link.payload_into(0..self.header.len, &mut payload);
        let Connection { http, input, .. } = &*self.connection;
        let wanted = http.head(input.head()).accepts_trailers();
        let taken = match HeaderList::decode(&payload) {
            // Who has not said that it takes them (TE) may never see them: RFC 9110 section 6.5.1.
            Ok(trailers) => self.finish(trailers.iter().filter(|_| wanted)),
            Err(malformed) => Err(malformed.into()),
        };
        *self.aside = payload;
        taken
    }

    fn finish<'h>(
        &mut self,
        trailers: impl IntoIterator<Item = (&'h [u8], &'h [u8])>,
    ) -> Result<(), Trouble> {
        let Connection {
            http,
            output,
            phase,
            ..
        } = &mut *self.connection;
        let after = match http.finish_response(trailers, output.bytes())? {
            Next::KeepAlive => After::KeepAlive,
            Next::Drain => After::Discard,
            Next::Close(_) => After::Close,
        };
        *phase = Phase::Flushing(after);
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

/// Why a worker gave a response up, for the log.
pub(crate) fn describe(reason: wire::AbortReason) -> &'static str {
    match reason {
        wire::AbortReason::ApplicationFailed => "the application failed",
        wire::AbortReason::LengthMismatch => "the body is not as long as was promised",
        wire::AbortReason::Declined => "the worker did not take it",
        wire::AbortReason::TooLarge => "the response head is too large",
        wire::AbortReason::Silent => "the application wants no answer sent",
        wire::AbortReason::Interrupted => "the worker was stopped",
        wire::AbortReason::Stopping => "its worker ended before it did",
    }
}
