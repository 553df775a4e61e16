//! From a client's bytes to the worker: reads as long as there is room for what comes of it.

use std::mem;
use std::task::{Context, Poll};

use oxicorn_link::scoreboard::Counter;
use oxicorn_link::wire::{EventKind, flags};
use oxicorn_proto::websocket::{CloseCode, Control, Event, Fault, Kind, Polled};

use super::{PIECE, READ_SIZE, SHORT_READ, State, UNCOUNTED, speaking};
use crate::connection::Connection;
use crate::gateway::Gateway;
use crate::transport::socket::Received;

/// Reads of one connection before others have their turn.
const READS_PER_TURN: u32 = 16;

impl Gateway {
    /// Reads what has come, as far as there is room for it.
    pub(crate) fn read_websocket(&mut self, key: usize, cx: &mut Context<'_>) {
        if self.is_short_of_memory() {
            self.read_frames(key, cx, &mut Vec::with_capacity(SHORT_READ));
        } else {
            let mut buffer = mem::take(&mut self.websockets.received);
            buffer.reserve(READ_SIZE);
            self.read_frames(key, cx, &mut buffer);
            buffer.clear();
            self.websockets.received = buffer;
        }
        self.account(key);
        self.flush_unsent();
    }

    fn read_frames(&mut self, key: usize, cx: &mut Context<'_>, buffer: &mut Vec<u8>) {
        for _ in 0..READS_PER_TURN {
            if !self.take_waiting(key) {
                return;
            }
            let Some(connection) = self.connections.get_mut(key) else {
                return;
            };
            if !connection.is_talking() || !connection.transport.is_watched() {
                return;
            }
            if connection.at_end {
                return;
            }
            buffer.clear();
            match connection.transport.poll_receive(cx, buffer) {
                Poll::Pending => return,
                Poll::Ready(Ok(Received::Bytes(count))) => {
                    self.metrics
                        .add(Counter::BytesIn, connection.on_the_wire(count as u64));
                    self.take_frames(key, buffer);
                }
                Poll::Ready(Ok(Received::End | Received::BodyEnd)) => {
                    return self.handle_end_of_frames(key);
                }
                Poll::Ready(Ok(Received::Unencrypted(_)) | Err(_)) => {
                    return self.handle_client_gone(key);
                }
            }
        }
        self.wake(key);
    }

    /// The client sends nothing more: without a close it is gone, else it may wait for the answer.
    fn handle_end_of_frames(&mut self, key: usize) {
        let state = speaking(&mut self.connections, key).map(|websocket| websocket.state());
        match self.connections.get_mut(key) {
            Some(connection) if state == Some(State::Answering) => connection.at_end = true,
            _ => self.handle_client_gone(key),
        }
    }

    /// Takes what had to wait for room. `false`: there is none, or nothing is listened to any more.
    fn take_waiting(&mut self, key: usize) -> bool {
        let Some(websocket) = speaking(&mut self.connections, key) else {
            return false;
        };
        let waiting = websocket.take_waiting();
        self.take_frames(key, &waiting);
        self.has_room(key)
    }

    /// Whether this client is listened to now; where it is not, `reading_stopped` says so.
    fn has_room(&mut self, key: usize) -> bool {
        let is_short = self.is_short_of_memory();
        let Some(connection) = self.connections.get_mut(key) else {
            return false;
        };
        let Some(websocket) = &connection.websocket else {
            return false;
        };
        let call = connection.call().and_then(|id| self.calls.get(id));
        let counted = call.map_or(0, |call| call.uncredited);
        let has_room =
            websocket.room(is_short).is_some() && connection.output.held() <= counted + UNCOUNTED;
        connection.reading_stopped = !has_room;
        has_room && connection.is_talking()
    }

    /// There may be room again.
    pub(crate) fn resume_websocket(&mut self, key: usize) {
        let stopped = self
            .connections
            .get(key)
            .is_some_and(|connection| connection.is_talking() && connection.reading_stopped);
        if stopped && self.has_room(key) {
            self.wake(key);
        }
    }

    /// Takes the frames in `bytes`; what there is no room for waits.
    fn take_frames(&mut self, key: usize, bytes: &[u8]) {
        let now = self.clock.now();
        let most = self.largest_piece(key);
        let is_short = self.is_short_of_memory();
        let mut taken = 0;
        // To the end: the decoder may have more to say when all bytes are taken.
        while self.has_room(key) {
            let Some(websocket) = speaking(&mut self.connections, key) else {
                return;
            };
            if websocket.state() == State::Answering {
                return self.drop_late(key, &bytes[taken..]);
            }
            let room = websocket.room(is_short).unwrap_or(most).min(most);
            match websocket.poll(&bytes[taken..], room, &mut self.websockets, now) {
                Ok(Polled {
                    event: Event::NeedMore,
                    ..
                }) => return,
                Ok(Polled { consumed, event }) => {
                    taken += consumed;
                    self.handle_frame(key, event);
                }
                Err(fault) => return self.handle_fault(key, fault),
            }
        }
        if let Some(websocket) = speaking(&mut self.connections, key)
            && taken < bytes.len()
        {
            websocket.keep_waiting(&bytes[taken..]);
        }
    }

    /// What comes after the client's last frame is not looked at; but a socket that is closed with
    /// more to read would be reset, and the client might lose the answer.
    fn drop_late(&mut self, key: usize, late: &[u8]) {
        if let Some(connection) = self.connections.get_mut(key) {
            connection.linger |= !late.is_empty();
        }
    }

    /// Bytes of a piece that fit into one message of the link.
    fn largest_piece(&mut self, key: usize) -> usize {
        let connection = self.connections.get(key);
        let call = connection
            .and_then(Connection::call)
            .and_then(|id| self.calls.get(id));
        let record = call
            .and_then(|call| call.place.worker())
            .and_then(|worker| self.pool.of_id(worker));
        record.map_or(PIECE, |record| record.link.max_event_payload().min(PIECE))
    }

    fn handle_frame(&mut self, key: usize, event: Event) {
        match event {
            Event::NeedMore | Event::Control(Control::Pong) => {}
            Event::Piece { kind, last } => self.pass_on(key, kind, last),
            Event::Control(Control::Ping) => self.answer_ping(key),
            Event::Close(code) => self.handle_client_close(key, code.unwrap_or(CloseCode::NONE)),
        }
    }

    fn handle_fault(&mut self, key: usize, fault: Fault) {
        if let Some(connection) = self.connections.get(key) {
            let address = connection.client().shown();
            self.warn_of_client(format_args!(
                "Invalid WebSocket data from ip={address}: {fault}"
            ));
        }
        self.metrics.count(Counter::PeerFaults);
        if let Some(connection) = self.connections.get_mut(key) {
            // What it is still sending must not turn the close into a reset.
            connection.linger = true;
        }
        let reason = fault.to_string();
        self.handle_broken_rule(key, fault.code(), reason.as_bytes());
    }

    /// A piece of a message, for the worker.
    fn pass_on(&mut self, key: usize, kind: Kind, last: bool) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let id = connection.call();
        let (Some(websocket), Some(id)) = (&mut connection.websocket, id) else {
            return;
        };
        let piece = &self.websockets.piece;
        if !websocket.pass(piece.len(), last) {
            return;
        }
        let mut bits = if last { flags::END } else { 0 };
        if kind == Kind::Binary {
            bits |= flags::BINARY;
        }
        let worker = self.calls.get(id).and_then(|one| one.place.worker());
        if let Some(record) = worker.and_then(|worker| self.pool.of_id(worker)) {
            let stream = id.stream(record.link.epoch());
            record.tell(EventKind::WebSocketMessage, stream, bits, piece);
        }
    }

    fn answer_ping(&mut self, key: usize) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        if let Some(websocket) = &connection.websocket
            && websocket.write_pong(connection.output.bytes())
        {
            self.send_soon(key);
        }
    }
}
