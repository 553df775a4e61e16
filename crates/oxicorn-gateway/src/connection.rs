//! One accepted socket with its protocol machine.
//!
//! Decides what a connection waits for. Everything it does is done by `impl Gateway` in the files
//! named after the concern (`read`, `upload`, `dispatch`, `ring_reader`, `write`, `ending`, `refusal`),
//! because an exchange touches a connection, a worker and the dispatcher at once, and one owner of all
//! of them needs no borrow juggling. `phase` is assigned there, not here.
//!
//! ```text
//!            first byte        head            body complete
//!   Idle ---------------> Head -------> Body ----------------> Serving
//!    ^ ^                                                          | the response is complete
//!    | +--- keep-alive --------------- Flushing <-----------------+    (or cut short)
//!  Proxy                                   | close       | hijack
//!    ^                                     v             v
//!  accept                              Lingering       the worker's
//!                                          |
//!                                          v
//!                                         gone
//! ```
//!
//! `Serving` becomes `WebSocket` where the application accepts one; its ends are `Flushing`'s.

use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

use oxicorn_proto::http1;

use crate::active::ActiveConfig;
use crate::body::Body;
use crate::calls::CallId;
use crate::input::{BODY_READ_SIZE, Input, READ_SIZE};
use crate::min_rate::{MinRate, RateSpan};
use crate::output::Output;
use crate::peer::{End, Proxied};
use crate::per_client::ClientNet;
use crate::transport::Transport;
use crate::upload::Upload;
use crate::websocket::WebSocket;

/// Bytes of further requests read while one is being served; beyond it the client waits.
const READ_AHEAD: usize = READ_SIZE;

/// A connection.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, each learned at another time; no combination is a state"
)]
pub(crate) struct Connection {
    /// Tells it from others that had the same key.
    pub(crate) serial: u64,
    pub(crate) transport: Transport,
    pub(crate) http: http1::Connection,
    pub(crate) phase: Phase,
    pub(crate) input: Input,
    pub(crate) output: Output,
    pub(crate) request: Request,
    /// The exchange that waits for a worker or is answered by one.
    pub(crate) call: Option<CallId>,
    pub(crate) resolved: Rc<ActiveConfig>,
    pub(crate) peer: End,
    pub(crate) server: Rc<End>,
    pub(crate) proxied: Option<Proxied>,
    /// Forwarding headers are believed.
    pub(crate) trusted: bool,
    /// When `handle_deadline` is due.
    pub(crate) deadline: Option<Duration>,
    /// Where the span began whose end the deadline is, in the phases that have a least rate.
    pub(crate) span: RateSpan,
    /// Since when it waits for a request, or for the rest of a head.
    pub(crate) since: Duration,
    /// Since when the client has taken nothing of what waits for it.
    pub(crate) stalled_since: Option<Duration>,
    /// Bytes the client has sent.
    pub(crate) received: u64,
    /// Bytes given to the kernel for the client.
    pub(crate) sent: u64,
    /// What was last counted as held for it.
    pub(crate) accounted: usize,
    /// Whom it is counted for.
    pub(crate) counted: Option<ClientNet>,
    /// There is a task that is woken when the socket can do something; a connection has none until
    /// it has to wait for its socket.
    pub(crate) has_task: bool,
    /// Of the task.
    pub(crate) waker: Waker,
    /// What has come was not looked at to its end, because others had to have their turn.
    pub(crate) interrupted: bool,
    /// The peer has finished sending.
    pub(crate) at_end: bool,
    /// Reading was stopped because enough is read ahead.
    pub(crate) reading_stopped: bool,
    /// Requests so far.
    pub(crate) served: u64,
    /// The client may be sending more than we want to read.
    pub(crate) linger: bool,
    /// Bytes it sent after its last answer.
    pub(crate) discarded: u64,
    /// The request asks for a WebSocket, or one is spoken.
    pub(crate) websocket: Option<Box<WebSocket>>,
}

/// What a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The PROXY header, if there is one.
    Proxy,
    /// A request; nothing of it has come.
    Idle,
    /// The rest of a head.
    Head,
    /// The rest of a body.
    Body,
    /// A worker.
    Serving,
    /// Whoever says something next (see `websocket`).
    WebSocket,
    /// The client, to take the rest of the response.
    Flushing(After),
    /// The rest of a body that nobody wants.
    Discarding,
    /// The client, to stop sending before the socket is closed.
    Lingering,
}

/// What comes after a response is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// The next request.
    KeepAlive,
    /// The next request, once the rest of this one's body is read.
    Discard,
    /// An orderly end.
    Close,
    /// An end the client must notice: the response is not complete.
    Cut,
    /// The worker gets the socket.
    HandOver(CallId),
}

/// The facts of the current request, for dispatch and the access log.
#[derive(Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, each learned at another time; no combination is a state"
)]
pub(crate) struct Request {
    /// A head was read.
    pub(crate) readable: bool,
    pub(crate) started: Duration,
    pub(crate) https: bool,
    pub(crate) body: Body,
    /// The request was handed over before its body was complete.
    pub(crate) upload: Option<Upload>,
    /// A worker that does not stream was chosen: it is handed over with all of its body.
    pub(crate) whole: bool,
    /// Status of the response; 0 before there is one.
    pub(crate) status: u16,
    /// Bytes of the response's body.
    pub(crate) body_bytes: u64,
    /// The response's end is told by closing.
    pub(crate) until_close: bool,
    /// The process that serves it.
    pub(crate) pid: u32,
    /// How often a worker declined it.
    pub(crate) declines: u8,
    /// The trailers of its body, for the link.
    pub(crate) trailers: Vec<u8>,
    /// The response's head, if the access log wants it.
    pub(crate) response_head: Vec<u8>,
    /// The worker writes the line in the access log.
    pub(crate) logged: bool,
    /// Why the client did not get (all of) the application's answer.
    pub(crate) reason: Option<&'static str>,
}

impl Request {
    /// Forgets everything; the memory of the response's head stays for the next one.
    pub(crate) fn clear(&mut self) {
        self.body.clear();
        self.response_head.clear();
        *self = Self {
            body: std::mem::take(&mut self.body),
            response_head: std::mem::take(&mut self.response_head),
            ..Self::default()
        };
    }
}

impl Connection {
    /// How much may be read now, `is_short` of memory or not; `None`: nothing.
    pub(crate) fn read_room(&mut self, is_short: bool) -> Option<usize> {
        let serving = matches!(self.phase, Phase::Serving | Phase::Flushing(_));
        let serving = serving && !self.is_uploading();
        if self.at_end || (serving && !self.transport.is_watched()) {
            return None;
        }
        match self.phase {
            _ if self.interrupted => None,
            Phase::Body | Phase::Discarding if self.input.was_filled() => Some(BODY_READ_SIZE),
            Phase::Proxy
            | Phase::Idle
            | Phase::Head
            | Phase::Body
            | Phase::Discarding
            | Phase::Lingering => Some(READ_SIZE),
            Phase::Serving if self.is_uploading() => {
                let in_bulk = self.input.was_filled() && !is_short;
                let room = if in_bulk { BODY_READ_SIZE } else { READ_SIZE };
                self.may_read_body(is_short).then_some(room)
            }
            Phase::Serving | Phase::Flushing(_) if self.input.unread().len() < READ_AHEAD => {
                Some(READ_SIZE)
            }
            Phase::Serving | Phase::Flushing(_) => {
                self.reading_stopped = true;
                None
            }
            Phase::WebSocket => None,
        }
    }

    /// A span is over: `false` if less than is demanded has moved in it, else the next begins.
    pub(crate) fn next_span(&mut self, demand: MinRate, moved: u64, now: Duration) -> bool {
        let meets = self.span.meets(demand, moved);
        self.span = RateSpan::begin(moved);
        self.deadline = demand.deadline(now);
        meets
    }

    /// Bytes of memory it holds beside itself.
    pub(crate) fn footprint(&self) -> usize {
        self.input.capacity()
            + self.output.capacity()
            + self.request.body.memory()
            + self.request.trailers.capacity()
            + self.request.response_head.capacity()
            + self.websocket.as_ref().map_or(0, |one| one.memory())
            + self.transport.memory()
    }

    /// Bytes the client has taken: what the kernel still holds for it does not count.
    pub(crate) fn taken(&self) -> u64 {
        self.transport.taken(self.sent)
    }

    /// Whether `poll_event` is to be asked.
    pub(crate) fn awaits_request(&self) -> bool {
        match self.phase {
            Phase::Idle | Phase::Head | Phase::Body | Phase::Discarding => true,
            Phase::Serving => self.is_uploading() && self.has_room_for_body(),
            _ => false,
        }
    }

    /// Whether the peer may begin with a PROXY header.
    pub(crate) fn may_proxy(&self) -> bool {
        self.resolved.trust.trusts_proxy(self.peer.ip())
    }

    /// The client, by the PROXY header where one was believed.
    pub(crate) fn client(&self) -> &End {
        self.proxied
            .as_ref()
            .map_or(&self.peer, |proxied| &proxied.client)
    }
}
