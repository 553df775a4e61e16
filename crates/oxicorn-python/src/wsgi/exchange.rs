//! One request and its response, from the worker's side: `start_response`, `write`, and the rules of
//! PEP 3333 about when the head may leave.
//!
//! ```text
//!            start_response          first non-empty piece        end
//!   Fresh ------------------> Armed ----------------------> Streaming ------> Done
//!     |        (again only with exc_info)    |                  | promised      ^
//!     |                                      |                  v length sent   | end
//!     |                                      |              Complete -----------+
//!     |                                      +---- end: head and body at once --+
//!     +-- socket taken over --> Hijacked
//! ```
//!
//! The head leaves together with the first non-empty piece of the body, so that `start_response` can
//! still be called again with `exc_info` until then, and so that a small response is one message.
//! Framing is the gateway's business; here a response is a head, pieces and an end. The end leaves with the
//! piece that completes the promised length; what the application's call does behind it (more pieces,
//! `close()`, hooks) keeps the worker busy, not the client, and its end is told by a message of its own.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use oxicorn_link::StreamId;
use oxicorn_link::wire::{AbortReason, FilePart, flags};
use oxicorn_os::small_file;
use pyo3::exceptions::{PyAssertionError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple, PyType};

use super::head::{self, Head};
use crate::request::error_page::error_page;
use crate::request::{AccessLogging, Watched};
use crate::worker::responder::{LAST, Responder, Stream};

/// What became of an exchange, for the log and the hooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// `start_response` has not been called.
    Fresh,
    /// The head is known and has not left.
    Armed,
    /// The head has left.
    Streaming,
    /// All of the body that was promised has left; the application may not know yet.
    Complete,
    /// Everything has left.
    Done,
    /// The application has the client's socket.
    Hijacked,
}

/// The exchange as Python sees it: its bound method `start_response` is what the application gets,
/// and calling the object itself is PEP 3333's `write`.
#[pyclass(module = "oxicorn._native")]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, each learned at another time; no combination is a state"
)]
pub(crate) struct Exchange {
    responder: Arc<Responder>,
    stream: Stream,
    phase: Phase,
    head: Head,
    /// HEAD requests have no body in the response, whatever the application yields.
    is_head_request: bool,
    /// Body bytes that were sent, for the hooks and the access line.
    sent: u64,
    /// What ends the response instead of its last piece.
    trailers: Option<Vec<u8>>,
    /// Kept for the hooks: what `start_response` was called with.
    called_with: Option<(Py<PyString>, Py<PyList>)>,
    keep_call: bool,
    /// The server's own page was sent instead of the application's answer.
    failed: Option<u16>,
    access: Arc<AccessLogging>,
    /// What of the environ the access line shows, as long as it is open who writes it.
    watched: Option<Watched>,
    /// The gateway was told that this worker writes the line.
    logged: bool,
    /// The gateway was told that the call goes on after the response.
    goes_on: bool,
}

impl Exchange {
    /// Of no request yet. `keep_call`: hooks want what `start_response` was called with.
    pub(crate) fn new(
        responder: Arc<Responder>,
        access: Arc<AccessLogging>,
        keep_call: bool,
    ) -> Self {
        Self {
            responder,
            stream: Stream::new(StreamId::new(0, 0, 0)),
            phase: Phase::Done,
            head: Head::default(),
            is_head_request: false,
            sent: 0,
            trailers: None,
            called_with: None,
            keep_call,
            failed: None,
            access,
            watched: None,
            logged: false,
            goes_on: false,
        }
    }

    /// From now on it is about this request; of an earlier one nothing is left.
    pub(crate) fn begin(&mut self, stream: StreamId, is_head_request: bool) {
        self.stream = Stream::new(stream);
        // So that word of the request's expiry is not missed.
        self.responder
            .begin(&mut self.stream, self.access.by_worker());
        self.phase = Phase::Fresh;
        self.head.clear();
        self.is_head_request = is_head_request;
        self.sent = 0;
        self.trailers = None;
        self.called_with = None;
        self.failed = None;
        self.watched = None;
        self.logged = false;
        self.goes_on = false;
    }

    /// The application gets `environ` now.
    pub(crate) fn watch(&mut self, environ: &Bound<'_, PyDict>) -> PyResult<()> {
        self.watched = self.access.watch(environ)?;
        Ok(())
    }

    /// Status of the server's own page, if that was sent.
    pub(crate) fn failed(&self) -> Option<u16> {
        self.failed
    }

    /// Whether the access line is to be written now: true once.
    pub(crate) fn take_logged(&mut self) -> bool {
        std::mem::take(&mut self.logged)
    }

    /// Decides with the head who writes the access line; the bits that tell the gateway.
    fn head_bits(&mut self, py: Python<'_>) -> PyResult<u8> {
        // What is watched holds the environ, which holds this exchange.
        let watched = self.watched.take();
        let changed = match &watched {
            Some(watched) => watched.is_changed(py)?,
            None => false,
        };
        if changed {
            self.access.take_over();
        }
        // An expired request has been answered, and logged, by the gateway.
        self.logged = (changed || (watched.is_none() && self.access.by_worker()))
            && !self.responder.is_expired(py, &self.stream)?;
        Ok(if self.logged { flags::LOGGED } else { 0 })
    }

    /// Whether `error` is how the call was ended from outside.
    pub(crate) fn was_ended(&self, py: Python<'_>, error: &PyErr) -> PyResult<bool> {
        self.responder.was_ended(py, &self.stream, error)
    }

    /// Nobody waits for the response any more.
    pub(crate) fn interrupt(&mut self, py: Python<'_>) -> PyResult<()> {
        if self.responder.is_expired(py, &self.stream)? {
            self.logged = false;
        }
        self.abort(py, AbortReason::Interrupted)
    }

    /// Whether the response ends with trailers.
    pub(crate) fn has_trailers(&self) -> bool {
        self.trailers.is_some()
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    /// `Content-Length`, if the application gave it.
    pub(crate) fn announced_length(&self) -> Option<u64> {
        self.head.length()
    }

    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    pub(crate) fn called_with(&self) -> Option<&(Py<PyString>, Py<PyList>)> {
        self.called_with.as_ref()
    }

    /// Sends a piece of the body, with the head before the first one.
    pub(crate) fn send(&mut self, py: Python<'_>, data: &[u8]) -> PyResult<()> {
        match self.phase {
            Phase::Fresh => Err(not_started()),
            Phase::Done | Phase::Hijacked => {
                Err(PyRuntimeError::new_err("the response has already ended"))
            }
            // As Gunicorn: what is written beyond the promised length is nobody's.
            Phase::Complete => Ok(()),
            Phase::Armed | Phase::Streaming if data.is_empty() => Ok(()),
            Phase::Armed => {
                let data = self.promised_part(data);
                let last = self.send_head(py, data, Self::last_if_complete)?;
                self.note_sent(last);
                Ok(())
            }
            Phase::Streaming => {
                let body = self.allowed_body(self.promised_part(data));
                self.count(body);
                let last = self.last_if_complete();
                self.responder.send_body(py, &mut self.stream, body, last)?;
                self.note_sent(last);
                Ok(())
            }
        }
    }

    /// What of `data` belongs to the response: not more than the length it was announced with.
    fn promised_part<'a>(&self, data: &'a [u8]) -> &'a [u8] {
        let Some(length) = self.head.length().filter(|_| self.has_body()) else {
            return data;
        };
        let rest = usize::try_from(length.saturating_sub(self.sent)).unwrap_or(usize::MAX);
        &data[..data.len().min(rest)]
    }

    /// What ends the response, if this piece completes what was promised. The client then need not wait
    /// for what the application does behind its last piece.
    fn last_if_complete(&self) -> u8 {
        let enough = match self.head.length() {
            _ if !self.has_body() => true,
            Some(length) => self.sent >= length,
            None => false,
        };
        if enough && self.trailers.is_none() {
            LAST
        } else {
            0
        }
    }

    fn note_sent(&mut self, last: u8) {
        if last != 0 {
            self.phase = Phase::Complete;
            self.goes_on = true;
        }
    }

    /// The head leaves, with what of `data` may go with it; `last`, asked then, gives the bits that end the
    /// response, or none. Who writes the access line is decided with every head, whatever follows it.
    fn send_head(
        &mut self,
        py: Python<'_>,
        data: &[u8],
        last: impl FnOnce(&Self) -> u8,
    ) -> PyResult<u8> {
        let bits = self.head_bits(py)?;
        let body = self.allowed_body(data);
        self.count(body);
        self.phase = Phase::Streaming;
        let last = last(self);
        let head = self.head.bytes();
        self.responder
            .send_head(py, &mut self.stream, head, body, bits | last)?;
        Ok(last)
    }

    /// Sends a body that is known to be whole: the length can be announced, and one message does. It is
    /// `followed` if `close()` or a hook may run after it.
    pub(crate) fn send_whole(
        &mut self,
        py: Python<'_>,
        data: &[u8],
        followed: bool,
    ) -> PyResult<()> {
        if self.phase != Phase::Armed {
            self.send(py, data)?;
            return self.finish(py);
        }
        if let Some(trailers) = self.trailers.take() {
            return self.send_whole_with(py, data, &trailers);
        }
        if self.head.allows_body() && !self.is_head_request {
            self.head.announce_length(data.len() as u64);
        }
        let data = self.promised_part(data);
        let last = self.send_head(py, data, |this| {
            // Where the line is written here, that may take its time.
            if followed || this.logged {
                LAST
            } else {
                flags::END
            }
        })?;
        self.phase = Phase::Done;
        self.goes_on = last == LAST;
        Ok(())
    }

    /// The same with trailers, which need a body in chunks: no length is announced.
    fn send_whole_with(&mut self, py: Python<'_>, data: &[u8], trailers: &[u8]) -> PyResult<()> {
        self.send_head(py, data, |_| 0)?;
        self.phase = Phase::Done;
        self.goes_on = true;
        self.responder.send_trailers(py, &mut self.stream, trailers)
    }

    /// Sends a piece of a file, and ends the response: a small one as any other body, where it need not be waited for;
    /// else the gateway gets the descriptor and sends it without the worker.
    pub(crate) fn send_file(
        &mut self,
        py: Python<'_>,
        file: BorrowedFd<'_>,
        part: FilePart,
    ) -> PyResult<()> {
        if self.phase == Phase::Fresh {
            return Err(not_started());
        }
        if !self.has_body() || part.len == 0 || self.phase == Phase::Complete {
            return self.finish(py);
        }
        let sent = small_file::with_content(file, part.offset, part.len, |content| {
            self.send_whole(py, content, true)
        });
        match sent {
            Some(sent) => sent,
            None => self.leave_file(py, file, part),
        }
    }

    fn leave_file(&mut self, py: Python<'_>, file: BorrowedFd<'_>, part: FilePart) -> PyResult<()> {
        let begins = self.phase == Phase::Armed;
        if begins {
            self.head.announce_length(part.len);
        }
        let head = self.head.bytes();
        self.responder
            .hand_over_file(py, &mut self.stream, head, file)?;
        let bits = if begins {
            Some(self.head_bits(py)?)
        } else {
            None
        };
        self.sent += part.len;
        self.phase = Phase::Streaming;
        let head = bits.map(|bits| (self.head.bytes(), bits));
        self.responder.send_file(py, &mut self.stream, head, part)?;
        self.phase = Phase::Done;
        self.goes_on = true;
        Ok(())
    }

    /// The application's iterable is exhausted.
    pub(crate) fn finish(&mut self, py: Python<'_>) -> PyResult<()> {
        match self.phase {
            Phase::Fresh => Err(not_started()),
            Phase::Armed => self.send_whole(py, &[], true),
            Phase::Streaming => {
                match self.trailers.take() {
                    Some(trailers) => {
                        self.responder
                            .send_trailers(py, &mut self.stream, &trailers)?;
                    }
                    None => self.responder.send_body(py, &mut self.stream, &[], LAST)?,
                }
                self.phase = Phase::Done;
                self.goes_on = true;
                Ok(())
            }
            Phase::Complete => {
                self.phase = Phase::Done;
                Ok(())
            }
            Phase::Done | Phase::Hijacked => Ok(()),
        }
    }

    /// The application is through with the request. Whatever way that came about, the gateway must
    /// hear of an end, because until then the request takes up capacity of this worker: of a response
    /// that was cut short, and of a connection that was taken over.
    pub(crate) fn conclude(&mut self, py: Python<'_>) -> PyResult<()> {
        // What is the application's does not stay until the next request.
        self.watched = None;
        self.called_with = None;
        if std::mem::take(&mut self.goes_on) {
            self.responder.send_call_end(py, &self.stream)
        } else if self.phase == Phase::Done {
            Ok(())
        } else {
            self.phase = Phase::Done;
            let reason = AbortReason::Silent;
            self.responder.send_abort(py, &mut self.stream, reason, 0)
        }
    }

    /// Answers with a page of the server's own, if nothing has left yet; else ends the response
    /// visibly incomplete.
    pub(crate) fn fail(&mut self, py: Python<'_>, status: u16) -> PyResult<()> {
        match self.phase {
            Phase::Fresh | Phase::Armed => {
                self.trailers = None;
                let page = error_page(status);
                self.head = Head::for_error(status, page.len());
                self.phase = Phase::Armed;
                self.failed = Some(status);
                self.sent = 0;
                self.send_whole(py, page.as_bytes(), true)
            }
            Phase::Streaming => self.abort(py, AbortReason::ApplicationFailed),
            Phase::Complete | Phase::Done | Phase::Hijacked => Ok(()),
        }
    }

    /// Ends the response so that the client sees that it is incomplete.
    pub(crate) fn abort(&mut self, py: Python<'_>, reason: AbortReason) -> PyResult<()> {
        if matches!(self.phase, Phase::Complete | Phase::Done) {
            return Ok(());
        }
        self.phase = Phase::Done;
        self.goes_on = true;
        self.responder
            .send_abort(py, &mut self.stream, reason, flags::GOES_ON)
    }

    /// Takes the client's socket from the gateway; what it had already read comes with it.
    pub(crate) fn hijack(&mut self, py: Python<'_>) -> PyResult<(std::os::fd::OwnedFd, Vec<u8>)> {
        if self.phase != Phase::Fresh {
            return Err(PyRuntimeError::new_err(
                "the connection cannot be taken over after start_response was called",
            ));
        }
        let taken = self.responder.hijack(py, &mut self.stream)?;
        self.phase = Phase::Hijacked;
        Ok(taken)
    }

    /// Sends an informational response (103) if the head has not left.
    pub(crate) fn send_informational(&mut self, py: Python<'_>, head: &[u8]) -> PyResult<()> {
        match self.phase {
            Phase::Fresh | Phase::Armed => {
                self.responder.send_informational(py, &self.stream, head)
            }
            _ => Ok(()),
        }
    }

    fn count(&mut self, data: &[u8]) {
        self.sent += data.len() as u64;
    }

    /// Whether a body follows the head, be it empty.
    fn has_body(&self) -> bool {
        !self.is_head_request && self.head.allows_body()
    }

    fn allowed_body<'a>(&self, data: &'a [u8]) -> &'a [u8] {
        if self.has_body() { data } else { &[] }
    }
}

#[pymethods]
impl Exchange {
    /// PEP 3333 `start_response(status, response_headers, exc_info=None)`; returns `write`.
    #[pyo3(signature = (status, headers, exc_info = None))]
    fn start_response<'py>(
        slf: &Bound<'py, Self>,
        status: &Bound<'py, PyAny>,
        headers: &Bound<'py, PyAny>,
        exc_info: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, Self>> {
        let mut this = slf.try_borrow_mut()?;
        match (exc_info.filter(|info| !info.is_none()), this.phase) {
            (Some(info), Phase::Streaming | Phase::Complete | Phase::Done) => {
                return Err(reraised(info));
            }
            (None, Phase::Armed | Phase::Streaming | Phase::Complete | Phase::Done) => {
                return Err(PyAssertionError::new_err("Response headers already set!"));
            }
            (_, Phase::Hijacked) => {
                return Err(PyRuntimeError::new_err("the connection was taken over"));
            }
            _ => {}
        }
        let status = status
            .cast::<PyString>()
            .map_err(|_| PyTypeError::new_err(format!("status is not a string: {status:?}")))?;
        this.head.set(status, headers)?;
        this.phase = Phase::Armed;
        if this.keep_call || this.access.is_possible() {
            let headers = match headers.cast_exact::<PyList>() {
                // Only looked at if the worker comes to write the access line.
                Ok(list) if !this.keep_call => list.clone(),
                _ => PyList::new(slf.py(), headers.try_iter()?.collect::<PyResult<Vec<_>>>()?)?,
            };
            this.called_with = Some((status.clone().unbind(), headers.unbind()));
        }
        drop(this);
        Ok(slf.clone())
    }

    /// PEP 3333 `write(body_data)`, for applications of old.
    fn __call__(&mut self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let data = body_piece(data)?;
        self.send(py, data.as_bytes())
    }

    /// `oxicorn.send_trailers(trailers)`: sent when the body has ended; the last call counts.
    fn send_trailers(&mut self, trailers: &Bound<'_, PyAny>) -> PyResult<()> {
        if matches!(self.phase, Phase::Complete | Phase::Done | Phase::Hijacked) {
            return Err(PyRuntimeError::new_err("the response has already ended"));
        }
        self.trailers = Some(head::encode_trailers(trailers)?);
        Ok(())
    }

    /// `wsgi.early_hints(headers)`: a 103 response with `Link` headers, before the final one.
    fn early_hints(&mut self, py: Python<'_>, headers: &Bound<'_, PyAny>) -> PyResult<()> {
        let bytes = head::encode_informational(103, headers)?;
        self.send_informational(py, &bytes)
    }
}

/// A piece of the body must be `bytes`.
pub(crate) fn body_piece<'a, 'py>(
    data: &'a Bound<'py, PyAny>,
) -> PyResult<&'a Bound<'py, PyBytes>> {
    data.cast::<PyBytes>()
        .map_err(|_| PyTypeError::new_err(format!("{data:?} is not a byte")))
}

fn not_started() -> PyErr {
    PyAssertionError::new_err("start_response was not called before the response was sent")
}

/// PEP 3333: with the head gone, the exception in `exc_info` is raised again.
fn reraised(exc_info: &Bound<'_, PyAny>) -> PyErr {
    let parts = exc_info
        .cast::<PyTuple>()
        .ok()
        .filter(|tuple| tuple.len() == 3);
    let value = parts.and_then(|tuple| tuple.get_item(1).ok());
    match value {
        Some(value) if !value.is_none() && value.cast::<PyType>().is_err() => {
            PyErr::from_value(value)
        }
        _ => PyValueError::new_err("exc_info is not a tuple (type, value, traceback)"),
    }
}
