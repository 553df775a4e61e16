//! From a worker's messages to frames.
//!
//! Trusts nothing: what a worker may send is bounded by its window, and what comes out of order is
//! its mistake. What comes for a client that listens no more is dropped and credited.

use oxicorn_link::ResponseHeader;
use oxicorn_link::window::websocket_cost;
use oxicorn_link::wire::{self, ResponseKind, flags};
use oxicorn_proto::websocket::Kind;

use super::{Shared, State};
use crate::connection::Connection;
use crate::gateway::Gateway;
use crate::gateway::exchanges::apply::{Mistake, Trouble, is_last};
use crate::workers::calls::CallId;

impl Gateway {
    /// A message of the WebSocket part.
    pub(crate) fn take_websocket_message(
        &mut self,
        worker: usize,
        id: CallId,
        client: usize,
        header: ResponseHeader,
    ) -> Result<(), Trouble> {
        if header.kind == ResponseKind::WebSocketAccept {
            return self.take_accept(worker, id, client, header);
        }
        let speaks = self
            .connections
            .get(client)
            .is_some_and(Connection::is_talking);
        if !speaks {
            return Err(Trouble::Mistake(Mistake::NotSpoken(header.kind)));
        }
        if header.kind == ResponseKind::WebSocketMessage {
            self.take_message(worker, id, client, header)
        } else {
            self.take_close(worker, client, header)
        }
    }

    fn take_message(
        &mut self,
        worker: usize,
        id: CallId,
        client: usize,
        header: ResponseHeader,
    ) -> Result<(), Trouble> {
        let (Some(record), Some(call), Some(connection)) = (
            self.pool.get_mut(worker),
            self.calls.get_mut(id),
            self.connections.get_mut(client),
        ) else {
            return Ok(());
        };
        let cost = websocket_cost(header.len);
        call.window.receive(cost)?;
        call.uncredited += cost;
        let Connection {
            websocket: Some(websocket),
            output,
            exchange: Some(exchange),
            ..
        } = connection
        else {
            return Ok(());
        };
        // After our close nothing may be sent; the credit is given with the next bytes that leave.
        if matches!(websocket.state, State::Open | State::Answering) {
            let last = header.flags & flags::END != 0;
            let kind = if header.flags & flags::BINARY == 0 {
                Kind::Text
            } else {
                Kind::Binary
            };
            let out = output.bytes();
            if websocket.encoder.begin_frame(kind, header.len, last, out) {
                record.link.payload_into(0..header.len, out);
            } else {
                let Shared { codecs, piece, .. } = &mut self.websockets;
                piece.clear();
                record.link.payload_into(0..header.len, piece);
                websocket.encoder.message(kind, piece, last, codecs, out);
            }
            exchange.response.body_bytes += header.len as u64;
        }
        Ok(())
    }

    fn take_close(
        &mut self,
        worker: usize,
        client: usize,
        header: ResponseHeader,
    ) -> Result<(), Trouble> {
        let payload = &mut self.scratch.message;
        payload.clear();
        if let Some(record) = self.pool.get_mut(worker) {
            record.link.payload_into(0..header.len, payload);
        }
        let payload = std::mem::take(payload);
        let close = wire::WebSocketClose::decode(&payload)?;
        self.handle_worker_close(client, close, is_last(header));
        self.scratch.message = payload;
        Ok(())
    }

    /// The worker has room for more of what the client sends.
    pub(crate) fn take_websocket_credit(&mut self, client: usize, bytes: u32) {
        let websocket = self.connections.get_mut(client);
        if let Some(websocket) = websocket.and_then(|one| one.websocket.as_mut()) {
            websocket.credit(bytes);
        }
        self.account(client);
        self.resume_websocket(client);
    }
}
