//! The body of a request that a worker gets before it is complete.
//!
//! Decides when such a request is handed over, and what of its body goes on when. It is handed over as
//! soon as the client makes us wait. What has come by the time it is placed goes with it if that is all;
//! else nothing of the body does, and it follows in events once the worker asks for it by giving credit.
//! (Not before: until the worker has taken the request it may be given to another one.)
//!
//! ```text
//!   socket -> input -> proto -> request.body (at most about HELD) -> events, as credit allows
//! ```
//!
//! With enough held back the client's socket is not read, so a slow application slows its client down.
//! The first credit is also when a client that awaits `100 Continue` gets it.

use oxicorn_link::window::{REQUEST_WINDOW, SendWindow};
use oxicorn_link::wire::{CancelReason, EventKind, flags};

use crate::connection::{Connection, Phase};
use crate::exchange::{ExchangeId, Place};
use crate::gateway::Gateway;
use crate::pace::Pace;
use crate::refusal::Refusal;

/// Bytes of a body held for a worker that has not asked for them; the client waits then.
pub(crate) const HELD: usize = REQUEST_WINDOW as usize;

/// Bytes of a body in one event.
const PIECE: usize = 32 * 1024;

/// How much of a body nobody wants is read so that the connection can be kept.
const UNWANTED: u64 = 1024 * 1024;

/// A body on its way.
#[derive(Debug)]
pub(crate) struct Upload {
    /// What the worker wants.
    window: SendWindow,
    /// Nothing of the body is missing here.
    pub(crate) complete: bool,
    /// The request was placed without its body.
    pub(crate) streamed: bool,
}

impl Upload {
    pub(crate) fn new() -> Self {
        Self {
            window: SendWindow::new(0),
            complete: false,
            streamed: false,
        }
    }

    /// Whether the worker waits for bytes that have not come.
    pub(crate) fn is_awaited(&self) -> bool {
        self.window.available() > 0 && !self.complete
    }

    /// The credit a worker can give is bounded, whatever it says: so are the events that wait for it.
    fn credit(&mut self, bytes: u32) {
        let most = u64::from(REQUEST_WINDOW).saturating_sub(self.window.available());
        let bytes = u64::from(bytes).min(most);
        self.window.credit(u32::try_from(bytes).unwrap_or(u32::MAX));
    }
}

impl Connection {
    /// Whether the request was handed over and its body is still being read.
    pub(crate) fn is_uploading(&self) -> bool {
        let serving = matches!(self.phase, Phase::Serving);
        let upload = self.request.upload.as_ref();
        serving && upload.is_some_and(|upload| !upload.complete)
    }

    /// Bytes that have moved in either direction, as far as the request's body still comes.
    pub(crate) fn moved(&self) -> u64 {
        let received = if self.is_uploading() {
            self.received
        } else {
            0
        };
        self.taken() + received
    }

    /// Whether the client has finished sending, nothing is on its way to it, and the application can be
    /// told that it is most likely gone.
    pub(crate) fn has_left(&self) -> bool {
        self.at_end && self.resolved.settings.stream_requests && self.output.is_empty()
    }

    /// Whether more of the body may be taken in.
    pub(crate) fn has_room_for_body(&self) -> bool {
        self.request.body.bytes().len() < HELD
    }
}

impl Gateway {
    /// The client makes us wait for the rest of a body: the request goes ahead.
    fn submit_early(&mut self, key: usize) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        connection.request.upload = Some(Upload::new());
        self.submit(key);
    }

    /// Nothing more of a body has come for now: where the worker can take it as it comes, the request
    /// goes ahead.
    pub(crate) fn submit_if_streamed(&mut self, key: usize) {
        let connection = self.connections.get(key);
        if connection
            .is_some_and(|one| one.phase == Phase::Body && one.resolved.settings.stream_requests)
        {
            self.submit_early(key);
        }
    }

    /// All of the body is here.
    pub(crate) fn end_upload(&mut self, key: usize) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        if let Some(upload) = &mut connection.request.upload {
            upload.complete = true;
        }
        self.watch_reader(key);
        self.forward_body(key);
    }

    /// Only the client's reading is waited for from now on.
    fn watch_reader(&mut self, key: usize) {
        let now = self.clock.now();
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let demand = connection.resolved.settings.timeouts.demand_on_reader();
        connection.deadline = if connection.output.is_empty() {
            None
        } else {
            demand.deadline(now)
        };
        connection.pace = Pace::begin(connection.moved());
    }

    /// The worker wants more of the body.
    pub(crate) fn handle_body_credit(&mut self, key: usize, bytes: u32) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let awaits_continue = connection.request.body.len() == 0;
        let Some(upload) = &mut connection.request.upload else {
            return;
        };
        upload.credit(bytes);
        if awaits_continue && !upload.complete {
            self.continue_if_awaited(key);
        }
        if self.forward_body(key) {
            self.read_on(key);
        }
    }

    /// Sends what the worker wants of what is here; whether there is room for more.
    pub(crate) fn forward_body(&mut self, key: usize) -> bool {
        let Some(connection) = self.connections.get_mut(key) else {
            return false;
        };
        let Some(id) = connection.exchange else {
            return false;
        };
        let place = self.exchanges.get(id).map(|exchange| exchange.place);
        let Some(Place::Worker { worker, .. }) = place else {
            return false;
        };
        let request = &mut connection.request;
        let (Some(upload), Some(record)) = (&mut request.upload, self.pool.of_id(worker)) else {
            return false;
        };
        if !upload.streamed {
            return false;
        }
        let stream = id.stream(record.link.epoch());
        let held = request.body.bytes();
        let most = PIECE.min(record.link.max_event_payload());
        let (mut at, mut ended) = (0, false);
        while upload.window.available() > 0 && at < held.len() {
            let window = usize::try_from(upload.window.available()).unwrap_or(most);
            let count = (held.len() - at).min(most).min(window);
            let whole = at + count == held.len();
            ended = whole && upload.complete && request.trailers.is_empty();
            let bits = if ended { flags::END } else { 0 };
            record.tell(EventKind::BodyChunk, stream, bits, &held[at..at + count]);
            upload.window.spend(count);
            at += count;
        }
        let over = at == held.len() && upload.complete;
        if over && !ended {
            record.tell(EventKind::BodyEnd, stream, 0, &request.trailers);
        }
        request.body.discard(at);
        if over {
            request.upload = None;
        }
        !over && at > 0
    }

    /// A piece of the body came.
    pub(crate) fn take_upload(
        &mut self,
        key: usize,
        piece: std::ops::Range<usize>,
        consumed: usize,
    ) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        connection
            .request
            .body
            .keep(&connection.input.unread()[piece]);
        connection.input.consume(consumed);
        self.forward_body(key);
        let full = |one: &Connection| !one.has_room_for_body();
        if self.connections.get(key).is_some_and(full) {
            // It is the worker who makes the client wait.
            self.watch_reader(key);
        }
    }

    /// There is room again: looks at what was read, and has the socket read.
    fn read_on(&mut self, key: usize) {
        if let Some(connection) = self.connections.get_mut(key) {
            connection.reading_stopped = false;
            self.wake(key);
            self.advance(key);
        }
    }

    /// The rest of a body that was handed over early does not come, or is not well-formed.
    pub(crate) fn fail_upload(&mut self, key: usize, refusal: Refusal) {
        let exchange = self.connections.get(key).and_then(|one| one.exchange);
        let Some(id) = exchange else {
            return self.refuse(key, refusal);
        };
        let answered = self.detach(id);
        self.abandon(id, CancelReason::BodyFault);
        if let Some(connection) = self.connections.get_mut(key) {
            connection.request.upload = None;
        }
        if answered {
            self.cut(key, "the body of the request did not come whole");
        } else {
            self.refuse(key, refusal);
        }
    }

    /// The worker that was chosen takes complete requests only (a reload has changed the class of
    /// workers under way): the request waits for its body after all.
    pub(crate) fn wait_for_body(&mut self, key: usize, id: ExchangeId) {
        self.dispatcher.handle_lost(id.request());
        self.exchanges.remove(id);
        if let Some(connection) = self.connections.get_mut(key) {
            connection.exchange = None;
            connection.request.upload = None;
            connection.phase = Phase::Body;
            self.continue_if_awaited(key);
            self.wake(key);
        }
    }

    /// The response is out, and the client is still sending a body that nobody wants.
    pub(crate) fn begin_discarding(&mut self, key: usize) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        connection.phase = Phase::Discarding;
        connection.discarded = 0;
        self.wake(key);
        self.advance(key);
    }

    /// A piece of it.
    pub(crate) fn discard_body(&mut self, key: usize, count: usize) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        connection.input.consume(count);
        connection.discarded += count as u64;
        if connection.discarded > UNWANTED {
            connection.linger = true;
            self.end(key);
        }
    }
}
