//! Ends of WebSockets, and what happens because nothing happened.

use std::time::Duration;

use oxicorn_link::wire::{EventKind, WebSocketClose, flags};
use oxicorn_proto::websocket::CloseCode;

use super::{FAULT_TIMEOUT, Look, State, speaking};
use crate::exchange::Happened;
use crate::gateway::Gateway;

impl Gateway {
    /// Whether the connection speaks WebSocket, and nobody has closed it yet.
    fn is_open(&mut self, key: usize) -> bool {
        let websocket = speaking(&mut self.connections, key);
        websocket.is_some_and(|websocket| websocket.state() == State::Open)
    }

    /// The client's last frame. Where ours was sent before, that is the end (RFC 6455 section
    /// 7.1.1: the server closes first); else it is answered with its code.
    pub(super) fn handle_client_close(&mut self, key: usize, code: CloseCode) {
        let Some(websocket) = speaking(&mut self.connections, key) else {
            return;
        };
        if websocket.state() == State::Closing {
            return self.hang_up(key);
        }
        let (reason, limit) = (websocket.control().to_vec(), websocket.answer_timeout());
        self.tell_closed(key, code, &reason, flags::AWAITED);
        self.await_worker(key, code, b"", limit);
    }

    /// The client broke a rule: nothing more is taken from it.
    pub(super) fn handle_broken_rule(&mut self, key: usize, code: CloseCode, reason: &[u8]) {
        if !self.is_open(key) {
            return self.hang_up(key);
        }
        self.tell_closed(key, code, reason, flags::AWAITED);
        self.await_worker(key, code, reason, FAULT_TIMEOUT);
    }

    /// Our close, which goes as soon as the worker is through with what came before, or after `limit`.
    fn await_worker(&mut self, key: usize, code: CloseCode, reason: &[u8], limit: Duration) {
        let now = self.clock.now();
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let Some(websocket) = &mut connection.websocket else {
            return;
        };
        websocket.await_worker(code, reason, now + limit);
        connection.deadline = websocket.deadline();
    }

    /// The worker is through, or its time is over: the client gets its answer.
    fn answer_close(&mut self, key: usize) {
        if let Some(connection) = self.connections.get_mut(key)
            && let Some(websocket) = &mut connection.websocket
        {
            websocket.write_answer(connection.output.bytes());
        }
        self.hang_up(key);
    }

    /// The worker's close: the application's own, or the word that the client may have its answer.
    pub(super) fn handle_worker_close(
        &mut self,
        key: usize,
        close: WebSocketClose<'_>,
        last: bool,
    ) {
        let Some(websocket) = speaking(&mut self.connections, key) else {
            return;
        };
        if websocket.state() != State::Answering {
            return self.send_close(key, CloseCode(close.code), close.reason);
        }
        if last && let Some(exchange) = self.exchange(key) {
            // The call has ended: nobody is left to be told.
            exchange.call = None;
        }
        self.answer_close(key);
    }

    /// The client does not answer, or there is no room for it: it is told so and listened to no more.
    pub(super) fn fail_websocket(&mut self, key: usize, code: CloseCode, reason: &[u8]) {
        self.close_websocket(key, code, reason);
        if let Some(connection) = self.connections.get_mut(key) {
            // What it is still sending must not turn the close into a reset.
            connection.linger = true;
        }
        self.hang_up(key);
    }

    /// Ends a WebSocket from our side: the application is told, the client is asked to close.
    pub(crate) fn close_websocket(&mut self, key: usize, code: CloseCode, reason: &[u8]) {
        if self.is_open(key) {
            self.tell_closed(key, code, reason, 0);
            self.send_close(key, code, reason);
        }
    }

    /// Whether the connection speaks WebSocket and the server's end of it could be closed: the
    /// worker has failed.
    pub(crate) fn cut_websocket(&mut self, key: usize) -> bool {
        let Some(websocket) = speaking(&mut self.connections, key) else {
            return false;
        };
        if websocket.state() == State::Answering {
            websocket.replace_answer(CloseCode::INTERNAL_ERROR);
            self.answer_close(key);
        } else {
            self.send_close(key, CloseCode::INTERNAL_ERROR, b"");
            self.flush_unsent();
        }
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
        if !websocket.write_close(code, reason, now, connection.output.bytes()) {
            return;
        }
        connection.deadline = websocket.deadline();
        self.send_soon(key);
        // What was not read for want of room is dropped from now on.
        self.resume_websocket(key);
    }

    /// The application hears that it is over.
    fn tell_closed(&mut self, key: usize, code: CloseCode, reason: &[u8], bits: u8) {
        let Some(id) = self
            .connections
            .get(key)
            .and_then(crate::connection::Connection::call)
        else {
            return;
        };
        let worker = self.calls.get(id).and_then(|one| one.place.worker());
        if let Some(record) = worker.and_then(|worker| self.pool.of_id(worker)) {
            let stream = id.stream(record.link.epoch());
            let mut payload = Vec::new();
            let close = WebSocketClose {
                code: code.0,
                reason,
            };
            close.encode(&mut payload);
            record.tell(EventKind::WebSocketClose, stream, bits, &payload);
        }
    }

    /// Both closes are said: what is to be sent is sent, then the connection ends.
    fn hang_up(&mut self, key: usize) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        connection.deadline = None;
        connection.websocket = None;
        self.happened(key, Happened::HungUp);
        self.flush(key);
    }

    /// `deadline` of a WebSocket is due.
    pub(crate) fn handle_websocket_deadline(&mut self, key: usize) {
        let now = self.clock.now();
        let Some(websocket) = speaking(&mut self.connections, key) else {
            return;
        };
        let due = websocket.due(now);
        let connection = self.connections.get_mut(key);
        if due.write && connection.is_some_and(|one| !one.next_span_of_writing(now)) {
            self.log_slow_reader(key);
            return self.handle_client_gone(key);
        }
        if due.close {
            return self.handle_close_due(key, now);
        }
        if due.ping {
            self.look_after(key, now);
            self.flush_unsent();
        }
        if let Some(connection) = self.connections.get_mut(key)
            && connection.is_talking()
        {
            let websocket = connection.websocket.as_ref();
            connection.deadline = websocket.and_then(|websocket| websocket.deadline());
        }
    }

    /// The worker is not through in time, or our close was not answered.
    fn handle_close_due(&mut self, key: usize, now: Duration) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        match &mut connection.websocket {
            Some(websocket) if websocket.state() == State::Answering => self.answer_close(key),
            // Who has not come to read it cannot answer it; that is the other deadline's.
            Some(websocket) if websocket.is_writing() => {
                websocket.await_close(now);
                connection.deadline = websocket.deadline();
            }
            _ => self.handle_client_gone(key),
        }
    }

    /// Nothing has come for a while: asks whether the client is still there, or gives it up.
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
        let is_deaf = connection.reading_stopped;
        match websocket.look_after(settings, is_deaf, now, &mut connection.output) {
            Look::Heard => {}
            Look::Asked => self.send_soon(key),
            Look::Silent => {
                self.fail_websocket(key, CloseCode::INTERNAL_ERROR, b"keepalive ping timeout");
            }
        }
    }

    /// The worker takes no more requests: its WebSockets go on elsewhere.
    pub(crate) fn close_websockets_of(&mut self, worker: oxicorn_dispatch::WorkerId) {
        let at = |one: &crate::connection::Connection| {
            let call = one.call().and_then(|id| self.calls.get(id));
            one.is_talking() && call.and_then(|call| call.place.worker()) == Some(worker)
        };
        let all = self.connections.iter();
        let keys: Vec<_> = all.filter(|(_, one)| at(one)).map(|(key, _)| key).collect();
        for key in keys {
            self.close_websocket(key, CloseCode::SERVICE_RESTART, b"");
        }
        self.flush_unsent();
    }
}
