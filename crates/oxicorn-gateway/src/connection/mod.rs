//! One accepted socket with its protocol machine.
//!
//! Decides what a connection waits for while no exchange is under way; what an exchange waits for is its
//! stage ([`crate::exchange`]). Everything a connection does is done by `impl Gateway` in the files named
//! after the concern, because an exchange touches a connection, a worker and the dispatcher at once, and
//! one owner of all of them needs no borrow juggling.
//!
//! ```text
//!  accept --> Proxy --> Idle --first byte--> Head --head, or a fault--> Open
//!                        ^                                               |
//!                        +--------- its exchange is over ----------------+
//!                                                                        | the connection ends
//!                                                              Lingering or gone
//! ```

pub(crate) mod lent;
mod upload;

use std::rc::Rc;
use std::task::Waker;
use std::time::Duration;

use crate::active::ActiveConfig;
use crate::buffer::input::{BODY_READ_SIZE, Input, READ_SIZE};
use crate::buffer::output::Output;
use crate::exchange::{Exchange, Stage};
use crate::limits::per_client::ClientNet;
use crate::session::Session;
use crate::session::websocket::WebSocket;
use crate::telemetry::tracing::RequestTrace;
use crate::transport::Transport;
use crate::transport::endpoint::{Endpoint, Proxied};
use crate::workers::calls::CallId;

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
    pub(crate) session: Session,
    pub(crate) phase: Phase,
    pub(crate) input: Input,
    pub(crate) output: Output,
    /// What is under way in [`Phase::Open`].
    pub(crate) exchange: Option<Box<Exchange>>,
    pub(crate) resolved: Rc<ActiveConfig>,
    pub(crate) peer: Endpoint,
    pub(crate) server: Rc<Endpoint>,
    pub(crate) proxied: Option<Box<Proxied>>,
    /// Forwarding headers are believed.
    pub(crate) trusted: bool,
    /// When a request must have begun, its head have come, or a WebSocket be looked after.
    pub(crate) deadline: Option<Duration>,
    /// Since when it waits for a request, or for the rest of a head.
    pub(crate) since: Duration,
    /// Since when the client has taken nothing of what waits for it.
    pub(crate) stalled_since: Option<Duration>,
    /// Bytes the client has sent.
    pub(crate) received: u64,
    /// Bytes given to the kernel for the client.
    pub(crate) sent: u64,
    /// Something was added to what it has to send that is not written yet.
    pub(crate) is_unsent: bool,
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
    /// TLS is to begin: at once, or behind the PROXY header.
    pub(crate) awaits_tls: bool,
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
    /// What its exchange waits for.
    Open,
    /// The client, to stop sending before the socket is closed.
    Lingering,
}

impl Connection {
    /// What its exchange waits for, if there is one.
    pub(crate) fn stage(&self) -> Option<Stage> {
        self.exchange.as_ref().map(|exchange| exchange.stage())
    }

    /// Whether a WebSocket is spoken.
    pub(crate) fn is_talking(&self) -> bool {
        self.stage() == Some(Stage::Talking)
    }

    /// What is known of the way of its request, where that is wanted.
    pub(crate) fn trace(&self) -> Option<&RequestTrace> {
        self.exchange.as_ref()?.request.trace.as_deref()
    }

    /// The worker's half of its exchange.
    pub(crate) fn call(&self) -> Option<CallId> {
        self.exchange.as_ref()?.call
    }

    /// When something is due, and has not happened.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        let exchange = self.exchange.as_ref().and_then(|one| one.deadline);
        match (self.deadline, exchange) {
            (Some(own), Some(exchange)) => Some(own.min(exchange)),
            (own, exchange) => own.or(exchange),
        }
    }

    /// How much may be read now, `is_short` of memory or not; `None`: nothing.
    pub(crate) fn read_room(&mut self, is_short: bool) -> Option<usize> {
        if self.at_end || self.interrupted {
            return None;
        }
        let Some(stage) = self.stage() else {
            return Some(READ_SIZE);
        };
        match stage {
            Stage::Receiving | Stage::Discarding if self.input.was_filled() => Some(self.bulk()),
            Stage::Receiving | Stage::Discarding => Some(READ_SIZE),
            Stage::Waiting | Stage::Answering if self.is_uploading() => {
                let in_bulk = self.input.was_filled() && !is_short;
                let room = if in_bulk { self.bulk() } else { READ_SIZE };
                self.may_read_body(is_short).then_some(room)
            }
            Stage::Waiting | Stage::Answering | Stage::Flushing(_) => self.read_ahead(),
            Stage::Talking => None,
        }
    }

    /// Room for one read of a body of which much comes: no more than is missing, so that the buffer
    /// of one that has come nearly whole stays one of the usual size.
    fn bulk(&self) -> usize {
        let missing = self.session.missing().map(usize::try_from);
        match missing {
            Some(Ok(missing)) => missing.clamp(READ_SIZE, BODY_READ_SIZE),
            _ => BODY_READ_SIZE,
        }
    }

    /// What comes while a request is served is the next one's.
    fn read_ahead(&mut self) -> Option<usize> {
        if !self.transport.is_watched() {
            return None;
        }
        if self.input.unread().len() < READ_AHEAD {
            return Some(READ_SIZE);
        }
        self.reading_stopped = true;
        None
    }

    /// Bytes of memory it holds beside itself.
    pub(crate) fn footprint(&self) -> usize {
        self.input.capacity()
            + self.output.capacity()
            + self.exchange.as_ref().map_or(0, |one| one.memory())
            + self.websocket.as_ref().map_or(0, |one| one.memory())
            + self.transport.memory()
    }

    /// What of `count` bytes that it has received or sent adds to those of the whole server: a stream's are counted
    /// with its frames, where these pass.
    pub(crate) fn on_the_wire(&self, count: u64) -> u64 {
        match self.transport.carrier() {
            Some(_) => 0,
            None => count,
        }
    }

    /// Bytes the client has taken: what the kernel still holds for it does not count.
    pub(crate) fn taken(&self) -> u64 {
        self.transport.taken(self.sent)
    }

    /// Whether `poll_event` is to be asked.
    pub(crate) fn awaits_request(&self) -> bool {
        match self.stage() {
            None => matches!(self.phase, Phase::Idle | Phase::Head),
            Some(Stage::Receiving | Stage::Discarding) => true,
            Some(Stage::Waiting | Stage::Answering) => {
                self.is_uploading() && self.has_room_for_body()
            }
            Some(Stage::Talking | Stage::Flushing(_)) => false,
        }
    }

    /// Whether the peer may begin with a PROXY header.
    pub(crate) fn may_proxy(&self) -> bool {
        self.resolved.trust.trusts_proxy(self.peer.ip())
    }

    /// Whether the peer may speak for clients of its own; on a Unix socket whoever can connect may.
    pub(crate) fn may_relay(&self) -> bool {
        self.peer
            .ip()
            .is_none_or(|ip| self.resolved.web_servers.contains(ip))
    }

    /// The client: by a web server that speaks for it, by the PROXY header, or the peer itself.
    pub(crate) fn client(&self) -> &Endpoint {
        let told = self
            .exchange
            .as_ref()
            .and_then(|one| one.request.client.as_ref());
        if let Some(client) = told {
            return client;
        }
        self.proxied
            .as_deref()
            .map_or(&self.peer, |proxied| &proxied.client)
    }
}
