//! From a worker's messages to frames.
//!
//! Trusts nothing: what a worker may send is bounded by its window, and what comes out of order is
//! its mistake. What comes for a client that listens no more is dropped and credited.

use oxicorn_link::ResponseHeader;
use oxicorn_link::window::websocket_cost;
use oxicorn_link::wire::{self, ResponseKind, flags};
use oxicorn_proto::websocket::Kind;

use crate::connection::Connection;
use crate::gateway::Gateway;
use crate::gateway::exchanges::apply::{Mistake, Trouble, is_last};
use crate::gateway::workers::ring_reader::read_small;
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
        let last = header.flags & flags::END != 0;
        let kind = if header.flags & flags::BINARY == 0 {
            Kind::Text
        } else {
            Kind::Binary
        };
        let payload = |out: &mut Vec<u8>| record.link.payload_into(0..header.len, out);
        let (shared, out) = (&mut self.websockets, output.bytes());
        // Of what is not written the credit is given with the next bytes that leave.
        if websocket.write_message((kind, last), header.len, shared, out, payload) {
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
        let mut payload = std::mem::take(&mut self.scratch.message);
        let Some(record) = self.pool.get_mut(worker) else {
            return Ok(());
        };
        read_small(&record.link, header, &mut payload);
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
