//! Ends of WebSockets, and what happens because nothing happened.

use std::time::Duration;

use oxicorn_link::wire::{CancelReason, EventKind, WebSocketClose};
use oxicorn_proto::websocket::{CloseCode, Control, encode_close, encode_control};

use super::{CLOSE_TIMEOUT, State, speaking};
use crate::connection::{After, Phase};
use crate::gateway::Gateway;
use crate::resolved::Resolved;

impl Gateway {
    /// The client's last frame: answered where ours was not sent before, then the connection ends
    /// (RFC 6455 section 7.1.1: the server closes first).
    pub(super) fn handle_client_close(&mut self, key: usize, code: CloseCode) {
        let Some(websocket) = speaking(&mut self.connections, key) else {
            return;
        };
        if websocket.state == State::Open {
            let reason = websocket.decoder.control().to_vec();
            self.tell_closed(key, code, &reason);
            self.send_close(key, code, b"");
        }
        self.hang_up(key);
    }

    /// The client broke a rule, or does not answer: it is told why and listened to no more.
    pub(super) fn fail_websocket(&mut self, key: usize, code: CloseCode, reason: &[u8]) {
        self.close_websocket(key, code, reason);
        if let Some(connection) = self.connections.get_mut(key) {
            // What it is still sending must not turn the close into a reset.
            connection.linger = true;
        }
        self.hang_up(key);
    }

    /// Ends a conversation from our side: the application is told, the client is asked to close.
    pub(crate) fn close_websocket(&mut self, key: usize, code: CloseCode, reason: &[u8]) {
        let open = speaking(&mut self.connections, key).is_some_and(|one| one.state == State::Open);
        if open {
            self.tell_closed(key, code, reason);
            self.send_close(key, code, reason);
        }
    }

    /// Whether the connection speaks WebSocket and the server's end of it could be closed: the
    /// worker has failed.
    pub(crate) fn cut_websocket(&mut self, key: usize) -> bool {
        if speaking(&mut self.connections, key).is_none() {
            return false;
        }
        self.send_close(key, CloseCode::INTERNAL_ERROR, b"");
        self.flush_unsent();
        true
    }

    /// Our close, once. The client has a while to answer it.
    pub(super) fn send_close(&mut self, key: usize, code: CloseCode, reason: &[u8]) {
        let now = self.clock.now();
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let Some(websocket) = &mut connection.websocket else {
            return;
        };
        if connection.phase != Phase::WebSocket || websocket.state != State::Open {
            return;
        }
        encode_close(code, reason, connection.output.bytes());
        websocket.state = State::Closing;
        websocket.ping_due = None;
        websocket.close_due = Some(now + CLOSE_TIMEOUT);
        connection.deadline = websocket.deadline();
        self.send_soon(key);
        // What was not read for want of room is dropped from now on.
        self.resume_websocket(key);
    }

    /// The application hears that it is over.
    fn tell_closed(&mut self, key: usize, code: CloseCode, reason: &[u8]) {
        let Some(id) = self.connections.get(key).and_then(|one| one.exchange) else {
            return;
        };
        let worker = self.exchanges.get(id).and_then(|one| one.place.worker());
        if let Some(record) = worker.and_then(|worker| self.pool.of_id(worker)) {
            let stream = id.stream(record.link.epoch());
            let mut payload = Vec::new();
            let close = WebSocketClose {
                code: code.0,
                reason,
            };
            close.encode(&mut payload);
            record.tell(EventKind::WebSocketClose, stream, 0, &payload);
        }
    }

    /// Both closes are said: what is to be sent is sent, then the connection ends.
    fn hang_up(&mut self, key: usize) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        connection.phase = Phase::Flushing(After::Close);
        connection.deadline = None;
        if let Some(id) = connection.exchange.take() {
            self.abandon(id, CancelReason::ClientGone);
        }
        self.flush(key);
    }

    /// `deadline` of a WebSocket is due.
    pub(crate) fn handle_websocket_deadline(&mut self, key: usize) {
        let now = self.clock.now();
        let is_due = |due: Option<Duration>| due.is_some_and(|due| due <= now);
        let Some(websocket) = speaking(&mut self.connections, key) else {
            return;
        };
        let (write, close, ping) = (websocket.write_due, websocket.close_due, websocket.ping_due);
        let connection = self.connections.get_mut(key);
        if is_due(write) && connection.is_some_and(|one| !one.next_span_of_writing(now)) {
            self.log_slow_reader(key);
            return self.break_off(key);
        }
        if is_due(close) {
            return self.break_off(key);
        }
        if is_due(ping) {
            self.look_after(key, now);
            self.flush_unsent();
        }
        if let Some(connection) = self.connections.get_mut(key)
            && connection.phase == Phase::WebSocket
        {
            let websocket = connection.websocket.as_ref();
            connection.deadline = websocket.and_then(|websocket| websocket.deadline());
        }
    }

    /// Nothing has come for a while: asks whether the client is still there, or gives it up.
    /// Everything that comes is a sign of life; a client that is not listened to cannot give one.
    fn look_after(&mut self, key: usize, now: Duration) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let (Some(websocket), Some(settings)) = (
            &mut connection.websocket,
            &connection.resolved.settings.websocket,
        ) else {
            return;
        };
        let interval = settings.ping_interval;
        let silent = websocket.pinged.is_some_and(|at| websocket.seen <= at);
        if silent && !connection.reading_stopped {
            return self.fail_websocket(key, CloseCode::INTERNAL_ERROR, b"keepalive ping timeout");
        }
        let quiet = now.saturating_sub(websocket.seen);
        if connection.reading_stopped || quiet < interval {
            websocket.pinged = None;
            let since = if connection.reading_stopped {
                now
            } else {
                websocket.seen
            };
            websocket.ping_due = Resolved::deadline(since, interval);
            return;
        }
        encode_control(Control::Ping, b"", connection.output.bytes());
        let answer_due = Resolved::deadline(now, settings.ping_timeout);
        websocket.pinged = answer_due.map(|_| now);
        websocket.ping_due = answer_due.or(Resolved::deadline(now, interval));
        self.send_soon(key);
    }

    /// The worker takes no more requests: its conversations go on elsewhere.
    pub(crate) fn close_websockets_of(&mut self, worker: oxicorn_dispatch::WorkerId) {
        let at = |one: &crate::connection::Connection| {
            let exchange = one.exchange.and_then(|id| self.exchanges.get(id));
            one.phase == Phase::WebSocket
                && exchange.and_then(|exchange| exchange.place.worker()) == Some(worker)
        };
        let all = self.connections.iter();
        let keys: Vec<_> = all.filter(|(_, one)| at(one)).map(|(key, _)| key).collect();
        for key in keys {
            self.close_websocket(key, CloseCode::SERVICE_RESTART, b"");
        }
        self.flush_unsent();
    }
}
