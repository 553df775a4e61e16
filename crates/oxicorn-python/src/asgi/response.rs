//! The response of one exchange: the order of the application's events, what is held back, what leaves.
//!
//! ```text
//!   what the application said:  Nothing --start--> Body --last piece--> Complete
//!                                                    +--> Trailers --last--^
//! ```
//!
//! The head leaves with the first piece of the body that leaves, or alone. Head and pieces are held back
//! until the loop turns (`AsgiServer::flush`), there is enough of them, or the response ends. What exceeds the window
//! stays here, and `send` waits for it. Framing is the gateway's business.

use std::os::fd::{AsFd as _, OwnedFd};

use oxicorn_link::StreamId;
use oxicorn_link::window::{RESPONSE_HEAD, RESPONSE_PIECE, RESPONSE_WINDOW, SendWindow};
use oxicorn_link::wire::{AbortReason, FilePart, ResponseKind, encode_abort, flags};
use oxicorn_os::small_file;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use super::event::{FilePiece, HttpEvent};
use super::head::Head;
use crate::request::error_page::error_response;
use crate::worker::LoopLink;
use crate::worker::link::{Message, too_large};

/// Bytes held back at most: enough that a message costs little beside them.
const HOLD: usize = 32 * 1024;

/// What the application has said so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Nothing,
    /// The head, and perhaps some of the body.
    Body,
    /// The body; trailers follow.
    Trailers,
    Complete,
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// Nothing is left to do about it.
    Done,
    /// It is held back until the loop turns.
    Held,
    /// The client must read before all of it can leave.
    Blocked,
}

/// See the head of this file.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, each learned at another time; the states are in `Said`"
)]
pub(crate) struct Response {
    stream: StreamId,
    said: Said,
    head: Head,
    head_left: bool,
    /// Pieces of the body that have not left.
    held: Vec<u8>,
    /// A piece that is a file; it leaves after them.
    file: Option<(OwnedFd, FilePart)>,
    window: SendWindow,
    /// Bytes of body the application gave.
    given: u64,
    /// Trailers were announced; those that came.
    announced: bool,
    trailers: Vec<u8>,
    /// The gateway was told the end, or has told us that nobody waits.
    over: bool,
    /// A response to HEAD has no body, whatever the application sends.
    to_head: bool,
    /// The client said that it takes trailers; the application need not know.
    wants_trailers: bool,
    /// The worker writes the access line.
    logs: bool,
    /// The server's own page was sent.
    failed: bool,
}

impl Response {
    pub(crate) fn new(stream: StreamId, to_head: bool, wants_trailers: bool, logs: bool) -> Self {
        Self {
            stream,
            said: Said::Nothing,
            head: Head::default(),
            head_left: false,
            held: Vec::new(),
            file: None,
            window: SendWindow::new(RESPONSE_WINDOW),
            given: 0,
            announced: false,
            trailers: Vec::new(),
            over: false,
            to_head,
            wants_trailers,
            logs,
            failed: false,
        }
    }

    pub(crate) fn stream(&self) -> StreamId {
        self.stream
    }

    /// Whether the gateway was told that the worker writes the access line.
    pub(crate) fn is_logged(&self) -> bool {
        self.logs && (self.head_left || self.failed)
    }

    /// Whether the server's own page was sent.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed
    }

    const fn logged_bit(&self) -> u8 {
        if self.logs { flags::LOGGED } else { 0 }
    }

    /// 0 before `http.response.start`.
    pub(crate) fn status(&self) -> u16 {
        self.head.status
    }

    /// Bytes of the body for the client: none to HEAD, of a 204 or 304, whatever the application gave.
    pub(crate) fn sent(&self) -> u64 {
        if self.has_body() { self.given } else { 0 }
    }

    pub(crate) fn is_started(&self) -> bool {
        self.said != Said::Nothing
    }

    /// Whether the application has said all there is to say.
    pub(crate) fn is_complete(&self) -> bool {
        self.said == Said::Complete
    }

    /// Whether the gateway knows the end.
    pub(crate) fn is_over(&self) -> bool {
        self.over
    }

    /// Whether something waits for the client to read.
    pub(crate) fn is_blocked(&self) -> bool {
        !self.held.is_empty() && self.window.available() == 0
    }

    /// Takes an event of the application. An error is the application's fault and has changed nothing.
    pub(crate) fn take(
        &mut self,
        py: Python<'_>,
        link: &LoopLink,
        event: HttpEvent<'_>,
    ) -> PyResult<Taken> {
        match event {
            HttpEvent::Start {
                head,
                trailers,
                whole,
            } => {
                self.expect(Said::Nothing, "http.response.start")?;
                self.head = head;
                self.announced = trailers;
                self.said = Said::Body;
                if let Some(body) = whole {
                    return self.take_body(py, link, body.as_bytes(), false);
                }
                // Where no body follows in this turn the head leaves alone: a client that waits for
                // events is to know that it is connected.
                Ok(Taken::Held)
            }
            HttpEvent::Body { body, more } => {
                self.expect(Said::Body, "http.response.body")?;
                let body = body.as_ref().map_or(&[][..], |body| body.as_bytes());
                self.take_body(py, link, body, more)
            }
            HttpEvent::File(piece) => {
                self.expect(Said::Body, "a file as response body")?;
                self.take_file(py, link, piece)
            }
            HttpEvent::Trailers { encoded, more } => {
                self.expect(Said::Trailers, "http.response.trailers")?;
                if self.wants_trailers {
                    self.trailers.extend_from_slice(&encoded);
                }
                if more {
                    return Ok(Taken::Done);
                }
                self.said = Said::Complete;
                self.flush(py, link)
            }
            HttpEvent::Informational(head) => {
                // Before the start, or behind it while nothing of the response has left: later the client
                // could not tell it from the body. ASGI lets it be ignored then.
                if self.said != Said::Nothing {
                    self.expect(Said::Body, "an informational response")?;
                }
                if !self.head_left {
                    link.send(py, ResponseKind::Informational, self.stream, 0, &head, &[])?;
                }
                Ok(Taken::Done)
            }
        }
    }

    fn expect(&self, wanted: Said, what: &str) -> PyResult<()> {
        if self.said == wanted {
            return Ok(());
        }
        let state = match self.said {
            Said::Nothing => "http.response.start must come first",
            Said::Body => "the response has been started",
            Said::Trailers => "only http.response.trailers may follow the body",
            Said::Complete => "the response is already complete",
        };
        Err(PyRuntimeError::new_err(format!(
            "unexpected ASGI event, {what}: {state}"
        )))
    }

    fn take_body(
        &mut self,
        py: Python<'_>,
        link: &LoopLink,
        body: &[u8],
        more: bool,
    ) -> PyResult<Taken> {
        self.count(body.len() as u64, more)?;
        self.take_counted(py, link, body, more)
    }

    fn take_counted(
        &mut self,
        py: Python<'_>,
        link: &LoopLink,
        body: &[u8],
        more: bool,
    ) -> PyResult<Taken> {
        let body = if self.has_body() { body } else { &[] };
        if !more {
            self.end_body();
        } else if self.held.len() + body.len() < HOLD {
            self.held.extend_from_slice(body);
            return Ok(Taken::Held);
        }
        // What comes in one piece goes straight into the ring.
        let left = if self.held.is_empty() && self.file.is_none() {
            self.leave(py, link, body)?
        } else {
            0
        };
        self.held.extend_from_slice(&body[left..]);
        self.flush(py, link)
    }

    fn take_file(&mut self, py: Python<'_>, link: &LoopLink, piece: FilePiece) -> PyResult<Taken> {
        if self.file.is_some() {
            let text = "the file sent before has not left: await each send";
            return Err(PyRuntimeError::new_err(text));
        }
        self.count(piece.len, piece.more)?;
        let part = FilePart {
            offset: piece.offset,
            len: piece.len,
        };
        if self.has_body() && piece.len > 0 {
            let sent =
                small_file::with_content(piece.file.as_fd(), part.offset, part.len, |content| {
                    self.take_counted(py, link, content, piece.more)
                });
            if let Some(taken) = sent {
                return taken;
            }
            self.file = Some((piece.file, part));
        }
        if !piece.more {
            self.end_body();
        }
        self.flush(py, link)
    }

    fn end_body(&mut self) {
        self.said = if self.announced {
            Said::Trailers
        } else {
            Said::Complete
        };
    }

    fn has_body(&self) -> bool {
        !self.to_head && self.head.allows_body()
    }

    /// RFC 9110 section 8.6: a `Content-Length` is a promise.
    fn count(&mut self, len: u64, more: bool) -> PyResult<()> {
        let given = self.given + len;
        if let Some(promised) = self.head.length.filter(|_| self.has_body()) {
            if given > promised {
                return Err(PyRuntimeError::new_err(format!(
                    "response body is longer than its Content-Length: {given} bytes, {promised} promised"
                )));
            }
            if !more && given < promised {
                return Err(PyRuntimeError::new_err(format!(
                    "response body is shorter than its Content-Length: {given} bytes, {promised} promised"
                )));
            }
        }
        self.given = given;
        Ok(())
    }

    /// Sends what is held back, as far as the window allows.
    pub(crate) fn flush(&mut self, py: Python<'_>, link: &LoopLink) -> PyResult<Taken> {
        if self.over || self.said == Said::Nothing {
            return Ok(Taken::Done);
        }
        // A head that a file follows leaves with it.
        if self.file.is_none() || !self.held.is_empty() {
            let mut held = std::mem::take(&mut self.held);
            let left = self.leave(py, link, &held)?;
            held.drain(..left);
            self.held = held;
        }
        if !self.held.is_empty() {
            return Ok(Taken::Blocked);
        }
        if let Some((file, part)) = self.file.take() {
            self.leave_file(py, link, &file, part)?;
        }
        if self.said == Said::Complete && !self.over {
            self.over = true;
            let (kind, flags) = if self.announced {
                (ResponseKind::Trailers, 0)
            } else {
                (ResponseKind::BodyChunk, flags::END)
            };
            link.send(py, kind, self.stream, flags, &self.trailers, &[])?;
        }
        Ok(Taken::Done)
    }

    /// Sends the head, if it has not left, and what may leave of `data`; with the last of it the end, if
    /// nothing else is to come. Returns how much of `data` has left.
    fn leave(&mut self, py: Python<'_>, link: &LoopLink, data: &[u8]) -> PyResult<usize> {
        let plain_end = self.said == Said::Complete && !self.announced && self.file.is_none();
        let mut at = 0;
        while !self.over {
            let rest = data.len() - at;
            let window = usize::try_from(self.window.available()).unwrap_or(usize::MAX);
            let count = rest.min(RESPONSE_PIECE).min(window);
            let last = plain_end && count == rest;
            if count == 0 && !last && self.head_left {
                break;
            }
            let piece = &data[at..at + count];
            let flags = if last { flags::END } else { 0 };
            if self.head_left {
                link.send(py, ResponseKind::BodyChunk, self.stream, flags, &[], piece)?;
            } else {
                self.send_head(py, link, flags, piece)?;
            }
            self.window.spend(count);
            self.over = last;
            at += count;
        }
        Ok(at)
    }

    fn send_head(
        &mut self,
        py: Python<'_>,
        link: &LoopLink,
        flags: u8,
        piece: &[u8],
    ) -> PyResult<()> {
        self.check_head(py, link)?;
        self.head_left = true;
        let head = &self.head.bytes;
        let bits = flags | self.logged_bit();
        link.send(py, ResponseKind::Head, self.stream, bits, head, piece)
    }

    /// Gives the response up if its head is longer than one may be.
    fn check_head(&mut self, py: Python<'_>, link: &LoopLink) -> PyResult<()> {
        if self.head.bytes.len() <= RESPONSE_HEAD {
            return Ok(());
        }
        self.abort(py, link, AbortReason::TooLarge)?;
        let text = too_large("the response head is", self.head.bytes.len());
        Err(PyRuntimeError::new_err(text))
    }

    /// The gateway sends it without us, and without credit: the descriptor is all that it holds.
    fn leave_file(
        &mut self,
        py: Python<'_>,
        link: &LoopLink,
        file: &OwnedFd,
        part: FilePart,
    ) -> PyResult<()> {
        if !self.head_left {
            self.check_head(py, link)?;
        }
        link.send_descriptor(py, self.stream, file)?;
        let last = self.said == Said::Complete && !self.announced;
        let end = if last { flags::END } else { 0 };
        self.over = last;
        let part = part.encode();
        let file = Message {
            kind: ResponseKind::File,
            stream: self.stream,
            flags: flags::HAS_DESCRIPTOR | end,
            head: &part,
            body: &[],
        };
        if std::mem::replace(&mut self.head_left, true) {
            return link.send_message(py, file);
        }
        let head = Message {
            kind: ResponseKind::Head,
            flags: self.logged_bit(),
            head: &self.head.bytes,
            ..file
        };
        link.send_both(py, [head, file])
    }

    /// The client has read: so much more may leave.
    pub(crate) fn credit(&mut self, bytes: u32) {
        self.window.credit(bytes);
    }

    /// The client's socket was taken over: the gateway hears that the call is over, nothing else.
    pub(crate) fn end_without(&mut self, py: Python<'_>, link: &LoopLink) -> PyResult<()> {
        self.said = Said::Complete;
        if std::mem::replace(&mut self.over, true) {
            return Ok(());
        }
        let (kind, end) = (ResponseKind::BodyChunk, flags::END);
        link.send(py, kind, self.stream, end, &[], &[])
    }

    /// Nobody waits any more: what is held back is dropped. The gateway still has to hear of the end.
    pub(crate) fn drop_held(&mut self) {
        self.held = Vec::new();
        self.file = None;
    }

    /// The application failed: an error page if the client has seen nothing and was to see nothing yet;
    /// else the response ends visibly incomplete.
    pub(crate) fn fail(&mut self, py: Python<'_>, link: &LoopLink) -> PyResult<()> {
        self.give_up(py, link, 500, AbortReason::ApplicationFailed)
    }

    /// The worker ends before the call did: the same, without a word of failure.
    pub(crate) fn break_off(&mut self, py: Python<'_>, link: &LoopLink) -> PyResult<()> {
        self.give_up(py, link, 503, AbortReason::Stopping)
    }

    fn give_up(
        &mut self,
        py: Python<'_>,
        link: &LoopLink,
        status: u16,
        reason: AbortReason,
    ) -> PyResult<()> {
        if self.over {
            return Ok(());
        }
        if self.head_left || self.given > 0 {
            self.said = Said::Body;
            self.flush(py, link)?;
            return self.abort(py, link, reason);
        }
        let (head, page) = error_response(status);
        self.said = Said::Complete;
        self.head.status = status;
        self.failed = true;
        self.over = true;
        let (kind, end) = (ResponseKind::Head, flags::END | self.logged_bit());
        link.send(py, kind, self.stream, end, &head, page.as_bytes())
    }

    /// Ends the response for the gateway, if it has not ended.
    pub(crate) fn abort(
        &mut self,
        py: Python<'_>,
        link: &LoopLink,
        reason: AbortReason,
    ) -> PyResult<()> {
        self.said = Said::Complete;
        if std::mem::replace(&mut self.over, true) {
            return Ok(());
        }
        let (kind, reason) = (ResponseKind::Abort, encode_abort(reason));
        link.send(py, kind, self.stream, 0, &reason, &[])
    }
}
