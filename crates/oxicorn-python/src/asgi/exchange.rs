//! One request and its response, between the link and the application: `receive` and `send`.
//!
//! Nothing of Python that may run foreign code is called while an exchange is borrowed, but for the
//! loop's own `create_future` and `call_soon`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use oxicorn_link::StreamId;
use oxicorn_link::wire::{self, AbortReason, CancelReason, EventKind, ResponseKind, flags};
use oxicorn_os::time;
use pyo3::exceptions::{PyConnectionResetError, PyRuntimeError, PyStopIteration};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::cancel_timer::CancelTimer;
use super::event::{HttpEvent, typed};
use super::exchange_table::Exchange;
use super::request_body::{Piece, RequestBody};
use super::response::{Response, Taken};
use super::shared::Shared;
use super::waiting::{Waiters, thrown};
use crate::request::Waits;

/// See the head of this file.
#[pyclass(module = "oxicorn._native")]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, each learned at another time; no combination is a state"
)]
pub(crate) struct HttpExchange {
    shared: Arc<Shared>,
    stream: StreamId,
    body: RequestBody,
    response: Response,
    /// Nobody waits for the response any more.
    gone: bool,
    /// It was the gateway that gave the request up, and wrote its access line.
    given_up: bool,
    /// It is in the list of those with something held back.
    listed: bool,
    receivers: Waiters,
    senders: Waiters,
    task: Option<Py<PyAny>>,
    cancel_timer: CancelTimer,
    /// The call of the application has ended.
    returned: bool,
    /// `http.response.start` as the application gave it, for the hooks.
    start: Option<Py<PyDict>>,
    /// The request's trailers, for the same, where they came after it.
    trailers: Vec<u8>,
    /// When the worker began with it.
    since: Duration,
    /// How long it had waited until then.
    waits: Waits,
    /// The worker writes the access line, and has not yet.
    logs: bool,
    socket: ClientSocket,
}

/// Who has the client's socket.
#[derive(Debug)]
enum ClientSocket {
    AtGateway,
    /// The gateway has parted with it; what it had read already.
    Arrived(Vec<u8>),
    /// The application has it: the gateway knows nothing of the connection any more.
    Taken,
}

/// How the call of the application ended, for its log.
pub(crate) enum Verdict {
    /// Nothing to tell.
    Fine,
    /// It broke the rules.
    Broke(&'static str),
}

impl HttpExchange {
    pub(crate) fn new(
        shared: Arc<Shared>,
        response: Response,
        logs: bool,
        waits: Waits,
        body: RequestBody,
    ) -> Self {
        Self {
            shared,
            stream: response.stream(),
            body,
            response,
            gone: false,
            given_up: false,
            listed: false,
            receivers: Waiters::default(),
            senders: Waiters::default(),
            task: None,
            cancel_timer: CancelTimer::default(),
            returned: false,
            start: None,
            trailers: Vec::new(),
            since: time::monotonic(),
            waits,
            logs,
            socket: ClientSocket::AtGateway,
        }
    }

    /// How long it had waited until the worker had it.
    pub(crate) fn waits(&self) -> Waits {
        self.waits
    }

    /// Since when the worker has it, if its access line is to be written here. A request that the
    /// gateway gave up was logged there; one whose client left was not.
    pub(crate) fn take_log(&mut self) -> Option<Duration> {
        let logs = std::mem::take(&mut self.logs);
        let wanted = logs && !self.given_up && (self.gone || self.response.is_logged());
        wanted.then_some(self.since)
    }

    pub(crate) fn set_task(&mut self, task: Py<PyAny>) {
        self.task = Some(task);
    }

    /// Since the worker began with it.
    pub(crate) fn age(&self) -> Duration {
        time::monotonic().saturating_sub(self.since)
    }

    pub(crate) fn task(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.task.as_ref().map(|task| task.clone_ref(py))
    }

    pub(crate) fn response(&self) -> &Response {
        &self.response
    }

    /// `http.response.start` as the application gave it, if hooks want it.
    pub(crate) fn start<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyDict>> {
        self.start.as_ref().map(|start| start.bind(py).clone())
    }

    /// Trailers that came after the request.
    pub(crate) fn trailers(&self) -> &[u8] {
        &self.trailers
    }

    /// Whether the client, and not the application, ended the exchange.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone
    }

    /// An event of the link for this exchange.
    pub(crate) fn handle(
        slf: &Bound<'_, Self>,
        kind: EventKind,
        bits: u8,
        payload: &[u8],
    ) -> PyResult<()> {
        let py = slf.py();
        let mut this = slf.try_borrow_mut()?;
        let shared = Arc::clone(&this.shared);
        let waiters = match kind {
            EventKind::BodyChunk => {
                this.body.push(payload, bits & flags::END != 0);
                this.receivers.take()
            }
            // ASGI has no place for a request's trailers; `post_request` has.
            EventKind::BodyEnd => {
                if shared.keeps_start {
                    this.trailers = payload.to_vec();
                }
                this.body.push(&[], true);
                this.receivers.take()
            }
            EventKind::Credit => {
                this.response
                    .credit(wire::decode_credit(payload).unwrap_or(0));
                this.response.flush(py, &shared.link)?;
                if this.response.is_blocked() {
                    return Ok(());
                }
                this.senders.take()
            }
            EventKind::Cancel => {
                drop(this);
                return Self::disconnect(slf, wire::decode_cancel(payload).ok());
            }
            EventKind::Hijacked => {
                this.socket = ClientSocket::Arrived(payload.to_vec());
                return Ok(());
            }
            // None of a request.
            EventKind::WebSocketMessage | EventKind::WebSocketClose => return Ok(()),
        };
        drop(this);
        waiters.wake(py)
    }

    /// Nobody waits for the response any more: the application learns it from `receive`, and is cancelled if
    /// it does not end by itself. What it sends has no effect.
    pub(crate) fn disconnect(slf: &Bound<'_, Self>, reason: Option<CancelReason>) -> PyResult<()> {
        let py = slf.py();
        let mut this = slf.try_borrow_mut()?;
        // What becomes of a socket that was taken over is the application's affair.
        if this.is_taken() || std::mem::replace(&mut this.gone, true) {
            return Ok(());
        }
        this.response.drop_held();
        if this.returned {
            // It was the client's turn to read what the application had left.
            let shared = Arc::clone(&this.shared);
            return this.response.abort(py, &shared.link, AbortReason::Silent);
        }
        let expired = reason == Some(CancelReason::Expired);
        this.given_up |= matches!(
            reason,
            Some(CancelReason::Expired | CancelReason::BodyFault)
        );
        let shared = Arc::clone(&this.shared);
        let (receivers, senders) = (this.receivers.take(), this.senders.take());
        drop(this);
        if expired {
            Self::tell_of_expiry(slf, &shared)?;
        }
        receivers.wake(py)?;
        senders.wake(py)?;
        if expired {
            return Self::cancel(slf);
        }
        if shared.grace <= 0.0 {
            return Self::_cancel(slf);
        }
        let cancel = slf.getattr(intern!(py, "_cancel"))?;
        slf.try_borrow_mut()?.cancel_timer.begin(&shared, &cancel)?;
        Ok(())
    }

    /// Where the call waits goes into the log, before it is cancelled.
    fn tell_of_expiry(slf: &Bound<'_, Self>, shared: &Shared) -> PyResult<()> {
        let py = slf.py();
        let task = slf
            .try_borrow()?
            .task
            .as_ref()
            .map(|task| task.clone_ref(py));
        if let Some(task) = task {
            let worker = shared.worker.bind(py);
            worker.call_method1(intern!(py, "request_expired"), (task,))?;
        }
        Ok(())
    }

    /// Cancels the task, if it runs.
    pub(crate) fn cancel(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let task = slf
            .try_borrow()?
            .task
            .as_ref()
            .map(|task| task.clone_ref(py));
        if let Some(task) = task {
            task.bind(py).call_method0(intern!(py, "cancel"))?;
        }
        Ok(())
    }

    /// Sends what was held back (the loop has turned).
    pub(crate) fn flush(&mut self, py: Python<'_>) -> PyResult<()> {
        self.listed = false;
        let shared = Arc::clone(&self.shared);
        self.response.flush(py, &shared.link).map(drop)
    }

    /// Nothing is held back of a response that is over: it need not be listed. Returns whether it is over.
    pub(crate) fn leave_list_if_over(&mut self) -> bool {
        let over = self.response.is_over();
        self.listed &= !over;
        over
    }

    /// The application's call has returned: the gateway hears of the end whatever way it came about.
    pub(crate) fn handle_returned(&mut self, py: Python<'_>) -> PyResult<(Verdict, Waiters)> {
        let shared = Arc::clone(&self.shared);
        self.task = None;
        self.cancel_timer.end(py)?;
        self.returned = true;
        let verdict = if self.is_taken() {
            self.response.end_without(py, &shared.link)?;
            Verdict::Fine
        } else if self.response.is_complete() {
            Verdict::Fine
        } else if self.gone {
            self.response.abort(py, &shared.link, AbortReason::Silent)?;
            Verdict::Fine
        } else if shared.is_stopping() {
            self.response.break_off(py, &shared.link)?;
            Verdict::Fine
        } else if self.response.is_started() {
            self.response.fail(py, &shared.link)?;
            Verdict::Broke("ASGI application returned without completing the response")
        } else {
            self.response.fail(py, &shared.link)?;
            Verdict::Broke("ASGI application returned without starting a response")
        };
        // What is still held back for a slow client goes on leaving; the end follows by itself.
        Ok((verdict, self.receivers.take()))
    }

    /// The application's call has raised.
    pub(crate) fn handle_raised(&mut self, py: Python<'_>) -> PyResult<Waiters> {
        let shared = Arc::clone(&self.shared);
        self.task = None;
        self.cancel_timer.end(py)?;
        self.returned = true;
        if self.is_taken() {
            self.response.end_without(py, &shared.link)?;
        } else if self.gone {
            self.response.abort(py, &shared.link, AbortReason::Silent)?;
        } else if !self.response.is_complete() && shared.is_stopping() {
            self.response.break_off(py, &shared.link)?;
        } else if !self.response.is_complete() {
            self.response.fail(py, &shared.link)?;
        }
        Ok(self.receivers.take())
    }

    pub(crate) fn stream(&self) -> StreamId {
        self.stream
    }

    /// Whether the call has returned and nothing of the response waits here any more.
    pub(crate) fn is_over(&self) -> bool {
        self.returned && self.response.is_over()
    }

    /// What `receive()` gives now; `None`: nothing yet.
    fn next_message<'py>(&mut self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        if self.gone || self.is_taken() || self.response.is_complete() {
            return self.shared.disconnect_message(py).map(Some);
        }
        let (piece, credit) = self.body.next(py)?;
        if let Some(credit) = credit {
            let credit = wire::encode_credit(credit);
            let link = &self.shared.link;
            link.send(py, ResponseKind::Credit, self.stream, 0, &credit, &[])?;
        }
        match piece {
            Piece::Body(bytes, more) => self.shared.request_message(py, &bytes, more).map(Some),
            Piece::Wait | Piece::Over => Ok(None),
        }
    }

    /// A message, or a future that is done when it is worth looking again.
    pub(crate) fn poll_receive<'py>(
        &mut self,
        py: Python<'py>,
    ) -> PyResult<Result<Bound<'py, PyDict>, Py<PyAny>>> {
        if let Some(message) = self.next_message(py)? {
            return Ok(Ok(message));
        }
        let shared = Arc::clone(&self.shared);
        self.receivers.enter(py, &shared.create_future).map(Err)
    }

    /// `None`, or a future that is done when it is worth looking again whether everything has left.
    pub(crate) fn poll_sent(&mut self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        if self.gone || !self.response.is_blocked() {
            return Ok(None);
        }
        let shared = Arc::clone(&self.shared);
        self.senders.enter(py, &shared.create_future).map(Some)
    }

    /// Whether the gateway that placed the request has died: nobody will ever answer.
    pub(crate) fn check_gateway(slf: &Bound<'_, Self>) -> PyResult<()> {
        let lost = {
            let this = slf.try_borrow()?;
            let is_current = this.shared.link.is_current(slf.py(), this.stream);
            !this.gone && !this.is_taken() && !is_current
        };
        if lost {
            Self::disconnect(slf, Some(CancelReason::ClientGone))?;
        }
        Ok(())
    }

    fn is_taken(&self) -> bool {
        matches!(self.socket, ClientSocket::Taken)
    }

    /// Asks the gateway for the client's socket.
    pub(crate) fn ask_for_socket(&mut self, py: Python<'_>) -> PyResult<()> {
        if self.is_taken() || self.response.is_started() || self.returned {
            let text = "the connection can only be taken over before the response begins, and once";
            return Err(PyRuntimeError::new_err(text));
        }
        let link = &self.shared.link;
        link.send(py, ResponseKind::Hijack, self.stream, 0, &[], &[])
    }

    /// The client's socket, and what was read of it already, if they have arrived.
    pub(crate) fn take_socket(
        &mut self,
        py: Python<'_>,
    ) -> PyResult<Option<(std::os::fd::OwnedFd, Vec<u8>, Waiters)>> {
        if self.gone || !self.shared.link.is_current(py, self.stream) {
            return Err(PyConnectionResetError::new_err("the client has left"));
        }
        let ClientSocket::Arrived(unread) = &mut self.socket else {
            return Ok(None);
        };
        let unread = std::mem::take(unread);
        let descriptor = self.shared.link.take_descriptor(self.stream)?;
        self.socket = ClientSocket::Taken;
        Ok(Some((descriptor, unread, self.receivers.take())))
    }

    /// Takes an event of the application's.
    fn take<'py>(
        slf: &Bound<'py, Self>,
        event: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, Sending>> {
        let py = slf.py();
        // As uvicorn and Gunicorn do it: what is sent for nobody has no effect, not even that of a mistake.
        // Who sends from a task or thread of its own would be lost with an exception.
        if slf.try_borrow()?.gone {
            return Bound::new(py, Sending(Sent::Dropped(AtomicBool::new(false))));
        }
        let (dict, kind) = typed(event)?;
        let Some(event) = HttpEvent::parse(&dict, &kind)? else {
            let text = format!("unexpected ASGI event {kind:?} for an HTTP request");
            return Err(PyRuntimeError::new_err(text));
        };
        let mut this = slf.try_borrow_mut()?;
        let shared = Arc::clone(&this.shared);
        if matches!(event, HttpEvent::File(_)) && !shared.offers_files {
            let text = format!("{kind} is not offered: see setting asgi_file_extensions");
            return Err(PyRuntimeError::new_err(text));
        }
        if (shared.keeps_start || this.logs) && matches!(event, HttpEvent::Start { .. }) {
            this.start = Some(dict.unbind());
        }
        let taken = this.response.take(py, &shared.link, event)?;
        if taken == Taken::Held && !std::mem::replace(&mut this.listed, true) {
            drop(this);
            shared.list(slf)?;
            return Ok(shared.done(py));
        }
        let over = this.response.is_complete().then(|| this.receivers.take());
        drop(this);
        if let Some(receivers) = over {
            receivers.wake(py)?;
        }
        if taken == Taken::Blocked {
            let exchange = Exchange::Http(slf.clone().unbind());
            return Bound::new(py, Sending(Sent::Waiting(exchange)));
        }
        Ok(shared.done(py))
    }
}

#[pymethods]
impl HttpExchange {
    /// ASGI's `receive`.
    fn receive(slf: Py<Self>) -> Receive {
        Receive {
            exchange: Exchange::Http(slf),
        }
    }

    /// ASGI's `send`. What can be done at once is done when it is called; what is refused is told when it
    /// is awaited.
    #[pyo3(signature = (event, /))]
    fn send<'py>(
        slf: &Bound<'py, Self>,
        event: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, Sending>> {
        Self::take(slf, event).or_else(|error| Bound::new(slf.py(), Sending(Sent::Refused(error))))
    }

    /// Whether nobody waits for the response any more.
    #[getter]
    fn _gone(&self) -> bool {
        self.gone
    }

    /// Whether the request has no body, and the client waits: `receive` does not tell of it then.
    fn _take_empty_body(&mut self, py: Python<'_>) -> bool {
        !self.gone && self.body.take_empty(py)
    }

    /// Ends the exchange without a word: the client's connection is cut.
    fn _abort(&mut self, py: Python<'_>) -> PyResult<()> {
        let shared = Arc::clone(&self.shared);
        self.response.drop_held();
        self.response.abort(py, &shared.link, AbortReason::Silent)?;
        let receivers = self.receivers.take();
        receivers.wake(py)
    }

    /// The time given after a disconnect is over.
    fn _cancel(slf: &Bound<'_, Self>) -> PyResult<()> {
        if slf.try_borrow_mut()?.cancel_timer.expire(slf.py())? {
            return Self::cancel(slf);
        }
        Ok(())
    }

    /// A thread will work for the call (`oxicorn.workers.executor_calls`).
    fn _begin_work(&mut self, work: Py<PyAny>) {
        self.cancel_timer.begin_work(work);
    }

    /// It is done.
    fn _end_work(slf: &Bound<'_, Self>, work: &Bound<'_, PyAny>) -> PyResult<()> {
        if slf.try_borrow_mut()?.cancel_timer.end_work(work)? {
            return Self::cancel(slf);
        }
        Ok(())
    }
}

/// What `receive()` returns. Nothing happens before it is awaited: a task that is cancelled before its
/// first step must not have taken a message with it.
#[pyclass(frozen, module = "oxicorn._native")]
pub(crate) struct Receive {
    pub(crate) exchange: Exchange,
}

#[pymethods]
impl Receive {
    fn __await__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match self.exchange.poll_receive(py)? {
            Ok(message) => Err(PyStopIteration::new_err(message.unbind())),
            Err(future) => Ok(future),
        }
    }

    fn send(&self, py: Python<'_>, _value: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.__next__(py)
    }

    #[pyo3(signature = (kind, value = None, _traceback = None))]
    #[expect(clippy::unused_self, reason = "a method of coroutines")]
    fn throw(
        &self,
        kind: &Bound<'_, PyAny>,
        value: Option<&Bound<'_, PyAny>>,
        _traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        Err(thrown(kind, value))
    }

    #[expect(clippy::unused_self, reason = "a method of coroutines")]
    fn close(&self) {}
}

/// What `send()` returns. A refusal comes out when it is awaited, as it does out of a coroutine, so that
/// `create_task(send(...))` and `gather` see it where they look for it.
#[pyclass(frozen, module = "oxicorn._native")]
pub(crate) struct Sending(pub(crate) Sent);

/// How far a `send()` has come when it is called.
pub(crate) enum Sent {
    Done,
    /// Done as soon as nothing waits for the client any more.
    Waiting(Exchange),
    /// Nobody is there to get it. The loop turns once, so that who sends without end does not keep it from that.
    Dropped(AtomicBool),
    Refused(PyErr),
}

#[pymethods]
impl Sending {
    fn __await__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        match &self.0 {
            Sent::Waiting(exchange) => exchange.poll_sent(py),
            // `None` yielded gives the loop a turn, as `asyncio.sleep(0)` does.
            Sent::Dropped(turned) if !turned.swap(true, Ordering::Relaxed) => Ok(Some(py.None())),
            Sent::Done | Sent::Dropped(_) => Ok(None),
            Sent::Refused(error) => Err(error.clone_ref(py)),
        }
    }

    fn send(&self, py: Python<'_>, _value: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.__next__(py)?
            .ok_or_else(|| PyStopIteration::new_err(py.None()))
    }

    #[pyo3(signature = (kind, value = None, _traceback = None))]
    #[expect(clippy::unused_self, reason = "a method of coroutines")]
    fn throw(
        &self,
        kind: &Bound<'_, PyAny>,
        value: Option<&Bound<'_, PyAny>>,
        _traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        Err(thrown(kind, value))
    }

    #[expect(clippy::unused_self, reason = "a method of coroutines")]
    fn close(&self) {}
}
