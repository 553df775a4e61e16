//! One WebSocket, between the link and the application: `receive` and `send`.
//!
//! Decides the order of events. Frames, pings and limits are the gateway's.
//!
//! ```text
//!              receive: connect     send: accept           send: close, or the application returns
//!   Connecting ------------> Asked ------------> Open ------------------------------> Closed
//!                              |                   |  receive: disconnect
//!                              |                   +--------------------> (`ended`)
//!                              +-- send: websocket.http.response.* --> Denying
//!                              +-- send: close, or it returns: 403 --> Closed
//! ```
//!
//! Nothing of Python that may run foreign code is called while an exchange is borrowed, but for the
//! loop's own `create_future` and `call_soon`.

mod ending;
mod event;
mod queues;

use std::sync::Arc;

use oxicorn_link::StreamId;
use oxicorn_link::wire::{self, CancelReason, EventKind, ResponseKind, WebSocketClose, flags};
use oxicorn_proto::websocket::CloseCode;
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::cancel_timer::CancelTimer;
use super::event::typed;
use super::exchange::{Receive, Sending, Sent};
use super::exchange_table::Exchange;
use super::response::{Response, Taken};
use super::shared::Shared;
use super::waiting::Waiters;
use crate::errors::ClientGone;
use event::WebSocketEvent;
use queues::{Incoming, Outgoing};

/// See the head of this file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Connecting,
    Asked,
    Denying,
    Open,
    Closed,
}

/// See the head of this file.
#[pyclass(module = "oxicorn._native")]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, each learned at another time; no combination is a state"
)]
pub(crate) struct WebSocketExchange {
    shared: Arc<Shared>,
    stream: StreamId,
    state: State,
    incoming: Incoming,
    outgoing: Outgoing,
    /// The answer of an application that does not accept.
    denial: Option<Box<Response>>,
    /// With which code and reason it ended, from either side.
    ended: Option<(u16, String)>,
    /// It was not the application that ended it, and nothing more can be sent.
    gone: bool,
    /// The client's close waits behind its messages: the gateway is told when it may answer.
    unanswered: bool,
    /// A message was received, and the application has not asked for the next one.
    busy: bool,
    /// The gateway has said the last word.
    leaving: bool,
    receivers: Waiters,
    senders: Waiters,
    task: Option<Py<PyAny>>,
    cancel_timer: CancelTimer,
    /// The call of the application has ended.
    returned: bool,
    /// The gateway knows that nothing more comes.
    over: bool,
}

impl WebSocketExchange {
    pub(crate) fn new(shared: Arc<Shared>, stream: StreamId) -> Self {
        Self {
            shared,
            stream,
            state: State::Connecting,
            incoming: Incoming::new(),
            outgoing: Outgoing::new(),
            denial: None,
            ended: None,
            gone: false,
            unanswered: false,
            busy: false,
            leaving: false,
            receivers: Waiters::default(),
            senders: Waiters::default(),
            task: None,
            cancel_timer: CancelTimer::default(),
            returned: false,
            over: false,
        }
    }

    pub(crate) fn set_task(&mut self, task: Py<PyAny>) {
        self.task = Some(task);
    }

    pub(crate) fn task(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.task.as_ref().map(|task| task.clone_ref(py))
    }

    pub(crate) fn stream(&self) -> StreamId {
        self.stream
    }

    /// Whether the client, and not the application, ended it.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone
    }

    /// Whether the call has returned and nothing waits here any more.
    pub(crate) fn is_over(&self) -> bool {
        self.returned && (self.over || self.denial.as_ref().is_some_and(|denial| denial.is_over()))
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
        let waiters = match kind {
            EventKind::WebSocketMessage => {
                let credit = this.incoming.push(py, bits, payload)?;
                this.give_credit(py, credit)?;
                if bits & flags::END == 0 {
                    return Ok(());
                }
                this.receivers.take()
            }
            EventKind::Credit => {
                this.credit(py, wire::decode_credit(payload).unwrap_or(0))?;
                if this.is_blocked() {
                    return Ok(());
                }
                this.senders.take()
            }
            EventKind::WebSocketClose => {
                let close = WebSocketClose::decode(payload).unwrap_or(WebSocketClose {
                    code: CloseCode::ABNORMAL.0,
                    reason: b"",
                });
                let reason = String::from_utf8_lossy(close.reason).into_owned();
                let ending = (close.code, reason);
                if bits & flags::AWAITED == 0 {
                    drop(this);
                    return Self::disconnect(slf, ending, false);
                }
                this.handle_client_close(py, ending)?;
                this.receivers.take()
            }
            EventKind::Cancel => {
                drop(this);
                let reason = wire::decode_cancel(payload).ok();
                let code = match reason {
                    Some(CancelReason::Stopping) => CloseCode::SERVICE_RESTART,
                    Some(CancelReason::WorkerFault) => CloseCode::INTERNAL_ERROR,
                    _ => CloseCode::ABNORMAL,
                };
                let at_once = reason == Some(CancelReason::Expired);
                return Self::disconnect(slf, (code.0, String::new()), at_once);
            }
            // None of a WebSocket.
            EventKind::BodyChunk | EventKind::BodyEnd | EventKind::Hijacked => return Ok(()),
        };
        drop(this);
        waiters.wake(py)
    }

    fn give_credit(&self, py: Python<'_>, credit: Option<u32>) -> PyResult<()> {
        let Some(credit) = credit else {
            return Ok(());
        };
        let credit = wire::encode_credit(credit);
        let link = &self.shared.link;
        link.send(py, ResponseKind::Credit, self.stream, 0, &credit, &[])
    }

    /// The client has read.
    fn credit(&mut self, py: Python<'_>, bytes: u32) -> PyResult<()> {
        let shared = Arc::clone(&self.shared);
        if let Some(denial) = &mut self.denial {
            denial.credit(bytes);
            return denial.flush(py, &shared.link).map(drop);
        }
        self.outgoing.credit(bytes);
        self.over |= self.outgoing.flush(py, &shared.link, self.stream)?;
        Ok(())
    }

    fn is_blocked(&self) -> bool {
        let denial = self.denial.as_ref();
        self.outgoing.is_blocked() || denial.is_some_and(|denial| denial.is_blocked())
    }

    /// What `receive()` gives now; `None`: nothing yet.
    fn next_message<'py>(&mut self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        if self.state == State::Connecting {
            self.state = State::Asked;
            return event(py, "websocket.connect").map(Some);
        }
        self.busy = false;
        if self.state == State::Open
            && let Some(next) = self.incoming.pop(py)
        {
            self.busy = true;
            self.give_credit(py, next.credit.filter(|_| !self.gone))?;
            let message = PyDict::new(py);
            message.set_item(intern!(py, "type"), intern!(py, "websocket.receive"))?;
            let key = if next.binary {
                intern!(py, "bytes")
            } else {
                intern!(py, "text")
            };
            message.set_item(key, next.data)?;
            return Ok(Some(message));
        }
        self.answer_close(py)?;
        let Some((code, reason)) = &self.ended else {
            return Ok(None);
        };
        let message = event(py, "websocket.disconnect")?;
        message.set_item(intern!(py, "code"), *code)?;
        message.set_item(intern!(py, "reason"), reason)?;
        Ok(Some(message))
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
        if self.gone {
            return Err(client_gone());
        }
        if !self.is_blocked() {
            return Ok(None);
        }
        let shared = Arc::clone(&self.shared);
        self.senders.enter(py, &shared.create_future).map(Some)
    }

    /// Does what the application wants.
    fn take(&mut self, py: Python<'_>, event: WebSocketEvent<'_>) -> PyResult<()> {
        let shared = Arc::clone(&self.shared);
        let link = &shared.link;
        match (event, self.state) {
            (WebSocketEvent::Send(data), State::Open) => {
                self.outgoing.message(py, link, self.stream, data)
            }
            (WebSocketEvent::Accept(head), State::Connecting | State::Asked) => {
                self.state = State::Open;
                let kind = ResponseKind::WebSocketAccept;
                link.send(py, kind, self.stream, 0, &head, &[])
            }
            (WebSocketEvent::Close { code, reason }, State::Open) => {
                self.state = State::Closed;
                self.incoming.clear();
                // The client's close may be on its way to the application; this is its answer then.
                self.unanswered = false;
                self.ended.get_or_insert((code, reason.clone()));
                self.outgoing
                    .close(py, link, self.stream, (code, reason), false)
                    .map(drop)
            }
            (WebSocketEvent::Close { .. }, State::Connecting | State::Asked) => {
                self.state = State::Closed;
                self.ended = Some((CloseCode::ABNORMAL.0, String::new()));
                self.deny(py)
            }
            (WebSocketEvent::Denial(event), State::Connecting | State::Asked | State::Denying) => {
                let stream = self.stream;
                let fresh = || Box::new(Response::new(stream, false, false, false));
                let denial = self.denial.get_or_insert_with(fresh);
                // What is wrong with the first event leaves everything as it was.
                let taken = denial.take(py, link, event)?;
                self.state = State::Denying;
                if taken == Taken::Held {
                    denial.flush(py, link)?;
                }
                if denial.is_complete() {
                    self.ended = Some((CloseCode::ABNORMAL.0, String::new()));
                }
                Ok(())
            }
            (event, state) => Err(out_of_order(&event, state)),
        }
    }
}

#[pymethods]
impl WebSocketExchange {
    /// ASGI's `receive`.
    fn receive(slf: Py<Self>) -> Receive {
        Receive {
            exchange: Exchange::WebSocket(slf),
        }
    }

    /// ASGI's `send`. What can be done at once is done when it is called; what is refused is told when it
    /// is awaited.
    #[pyo3(signature = (event, /))]
    fn send<'py>(
        slf: &Bound<'py, Self>,
        event: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, Sending>> {
        Self::dispatch(slf, event)
            .or_else(|error| Bound::new(slf.py(), Sending(Sent::Refused(error))))
    }

    /// The time given after a disconnect is over.
    pub(super) fn _cancel(slf: &Bound<'_, Self>) -> PyResult<()> {
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

impl WebSocketExchange {
    fn dispatch<'py>(
        slf: &Bound<'py, Self>,
        event: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, Sending>> {
        let py = slf.py();
        let (dict, kind) = typed(event)?;
        let Some(event) = WebSocketEvent::parse(&dict, &kind)? else {
            let text = format!("unexpected ASGI event {kind:?} for a WebSocket");
            return Err(PyRuntimeError::new_err(text));
        };
        let mut this = slf.try_borrow_mut()?;
        let shared = Arc::clone(&this.shared);
        if this.gone {
            // A message is lost, and its sender told. To close what is closed is no mistake.
            return match event {
                WebSocketEvent::Send(_) | WebSocketEvent::Accept(_) => Err(client_gone()),
                WebSocketEvent::Close { .. } | WebSocketEvent::Denial(_) => Ok(shared.done(py)),
            };
        }
        this.take(py, event)?;
        let blocked = this.is_blocked();
        // Somebody may wait for a disconnect, which the application's own close is.
        let waiters = this.ended.is_some().then(|| this.receivers.take());
        drop(this);
        if let Some(waiters) = waiters {
            waiters.wake(py)?;
        }
        if blocked {
            let exchange = Exchange::WebSocket(slf.clone().unbind());
            return Bound::new(py, Sending(Sent::Waiting(exchange)));
        }
        Ok(shared.done(py))
    }
}

fn client_gone() -> PyErr {
    ClientGone::new_err("the client has disconnected")
}

fn event<'py>(py: Python<'py>, kind: &str) -> PyResult<Bound<'py, PyDict>> {
    let event = PyDict::new(py);
    event.set_item(intern!(py, "type"), kind)?;
    Ok(event)
}

fn out_of_order(event: &WebSocketEvent<'_>, state: State) -> PyErr {
    let what = match event {
        WebSocketEvent::Accept(_) => "websocket.accept",
        WebSocketEvent::Send(_) => "websocket.send",
        WebSocketEvent::Close { .. } => "websocket.close",
        WebSocketEvent::Denial(_) => "websocket.http.response",
    };
    let when = match state {
        State::Connecting | State::Asked => "before the WebSocket was accepted",
        State::Denying => "while the WebSocket is being denied",
        State::Open => "after the WebSocket was accepted",
        State::Closed => "after the WebSocket was closed",
    };
    PyRuntimeError::new_err(format!("unexpected ASGI event {what} {when}"))
}
