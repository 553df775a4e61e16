//! Takes the body of a request that goes ahead of it on to its worker, see [`crate::exchange::upload`].

use std::io;

use oxicorn_link::wire::{EventKind, flags};

use crate::connection::Connection;
use crate::exchange::upload::{PIECE, UNWANTED, Upload};
use crate::exchange::{Exchange, Happened, Stage};
use crate::gateway::Gateway;
use crate::gateway::clients::read::wants_continue;
use crate::workers::calls::{CallId, Place};

impl Gateway {
    /// The client makes us wait for the rest of a body: the request goes ahead.
    fn submit_early(&mut self, key: usize) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let upload = Upload::new(wants_continue(connection));
        if let Some(exchange) = &mut connection.exchange {
            exchange.request.upload = Some(upload);
        }
        self.happened(key, Happened::Ready);
    }

    /// Nothing more of a body has come for now: where the worker can take it as it comes, the request
    /// goes ahead.
    pub(crate) fn submit_if_streamed(&mut self, key: usize) {
        let connection = self.connections.get(key);
        let receives = |one: &Connection| one.stage() == Some(Stage::Receiving);
        if connection.is_some_and(|one| receives(one) && one.streams_body()) {
            self.submit_early(key);
        }
    }

    /// A piece of the body of a request that nobody has yet.
    pub(crate) fn put_aside(
        &mut self,
        key: usize,
        piece: std::ops::Range<usize>,
        consumed: usize,
    ) -> io::Result<()> {
        let pressed = self.is_under_pressure();
        let Some(connection) = self.connections.get_mut(key) else {
            return Ok(());
        };
        let streams = connection.streams_body();
        let Some(Exchange { request, .. }) = connection.exchange.as_deref_mut() else {
            return Ok(());
        };
        let piece = &connection.input.unread()[piece];
        let kept = if streams {
            // A file could not be followed by events. What comes before the request goes ahead was
            // read at once.
            request.body.keep(piece);
            Ok(())
        } else {
            let resolved = &connection.resolved;
            let memory = if pressed { 0 } else { resolved.body_memory };
            request.body.push(piece, memory, &resolved.spool)
        };
        connection.input.consume(consumed);
        kept
    }

    /// All of the body is here.
    pub(crate) fn end_upload(&mut self, key: usize) {
        if let Some(Exchange { request, .. }) = self.exchange(key)
            && let Some(upload) = &mut request.upload
        {
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
        if connection.output.is_empty() {
            if let Some(exchange) = &mut connection.exchange {
                exchange.deadline = None;
            }
            return;
        }
        let demand = connection.resolved.settings.timeouts.demand_on_reader();
        let moved = connection.moved();
        if let Some(exchange) = &mut connection.exchange {
            exchange.begin_span(demand, moved, now);
        }
    }

    /// The worker wants more of the body.
    pub(crate) fn handle_body_credit(&mut self, key: usize, bytes: u32) {
        let Some(Exchange { request, .. }) = self.exchange(key) else {
            return;
        };
        let has_none = request.body.len() == 0;
        let Some(upload) = &mut request.upload else {
            return;
        };
        upload.credit(bytes);
        upload.awaits_continue = false;
        if has_none && !upload.complete {
            self.continue_if_awaited(key);
        }
        self.forward_body(key);
        self.read_on(key);
    }

    /// A worker has room in its ring again: those who wait for it go on.
    pub(crate) fn forward_waiting(&mut self, worker: usize) {
        let Some(record) = self.pool.get_mut(worker) else {
            return;
        };
        for id in record.take_waiting() {
            let key = self.calls.get(id).and_then(|one| one.client);
            if let Some(key) = key {
                self.forward_body(key);
                self.read_on(key);
            }
        }
    }

    /// Sends what the worker wants of what is here, as far as its ring has room.
    pub(crate) fn forward_body(&mut self, key: usize) {
        let exchange = (self.connections.get_mut(key)).and_then(|one| one.exchange.as_deref_mut());
        let Some(Exchange {
            call: Some(id),
            request,
            ..
        }) = exchange
        else {
            return;
        };
        let id = *id;
        let place = self.calls.get(id).map(|call| call.place);
        let Some(Place::Worker { worker, .. }) = place else {
            return;
        };
        let (Some(upload), Some(record)) = (&mut request.upload, self.pool.of_id(worker)) else {
            return;
        };
        let Some(window) = upload.window.as_mut().filter(|_| upload.streamed) else {
            return;
        };
        let stream = id.stream(record.link.epoch());
        let held = request.body.bytes();
        let most = PIECE.min(record.link.max_event_payload());
        let (mut at, mut ended) = (0, false);
        while window.available() > 0 && at < held.len() {
            let wanted = usize::try_from(window.available()).unwrap_or(most);
            let count = (held.len() - at).min(most).min(wanted);
            let whole = at + count == held.len();
            ended = whole && upload.complete && request.trailers.is_empty();
            let bits = if ended { flags::END } else { 0 };
            let piece = &held[at..at + count];
            if !record.offer(EventKind::BodyChunk, stream, bits, piece) {
                // The rest stays here, where it makes the client wait.
                record.wait_for_room(id);
                break;
            }
            window.spend(count);
            at += count;
        }
        let over = at == held.len() && upload.complete;
        if over && !ended {
            // Trailers longer than one event are nobody's: ASGI has no place for them.
            let fits = request.trailers.len() <= record.link.max_event_payload();
            let trailers = if fits { &request.trailers[..] } else { &[] };
            record.tell(EventKind::BodyEnd, stream, 0, trailers);
        }
        request.body.discard(at);
        if over {
            request.upload = None;
        }
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
        if let Some(Exchange { request, .. }) = connection.exchange.as_deref_mut() {
            request.body.keep(&connection.input.unread()[piece]);
        }
        connection.input.consume(consumed);
        if connection.has_room_for_body() {
            return;
        }
        self.forward_body(key);
        let full = |one: &Connection| !one.has_room_for_body();
        if self.connections.get(key).is_some_and(full) {
            self.stop_reading(key);
        }
    }

    /// It is not the client who makes the others wait.
    pub(crate) fn stop_reading(&mut self, key: usize) {
        if let Some(connection) = self.connections.get_mut(key)
            && connection.is_uploading()
            && !connection.reading_stopped
            && !connection.interrupted
        {
            connection.reading_stopped = true;
            self.watch_reader(key);
        }
    }

    /// There may be room again: looks at what was read, and has the socket read.
    fn read_on(&mut self, key: usize) {
        if let Some(connection) = self.connections.get_mut(key)
            && connection.is_uploading()
            && connection.has_room_for_body()
        {
            if std::mem::take(&mut connection.reading_stopped) {
                self.wake(key);
            }
            self.advance(key);
        }
    }

    /// The worker that was chosen takes complete requests only (a reload has changed the class of
    /// workers under way): the request waits for its body after all.
    pub(crate) fn wait_for_body(&mut self, key: usize, id: CallId) {
        self.dispatcher.handle_lost(id.request());
        self.calls.remove(id);
        self.happened(key, Happened::NeedsBody);
    }

    /// The response is out, and the client is still sending a body that nobody wants.
    pub(crate) fn begin_discarding(&mut self, key: usize) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        if connection.session.is_stream() {
            // Nothing more of it is wanted, and the client is told so.
            return self.close(key);
        }
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
