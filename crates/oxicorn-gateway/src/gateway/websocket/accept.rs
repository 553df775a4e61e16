//! The handshake: from the head of a request to the 101.

use oxicorn_link::ResponseHeader;
use oxicorn_link::wire::ResponseView;
use oxicorn_proto::http1::{self, OwnLine};
use oxicorn_proto::websocket::{CloseCode, Compression, HandshakeFault, check};

use super::{State, WebSocket};
use crate::config::settings::WebSocketCompression;
use crate::connection::Connection;
use crate::exchange::{Happened, Stage};
use crate::gateway::Gateway;
use crate::gateway::exchanges::apply::{Mistake, Trouble};
use crate::gateway::workers::ring_reader::read_small;
use crate::telemetry::tracing::id_for_response;
use crate::workers::calls::{CallId, Place};

/// Headers of a 101 that are ours alone.
const OURS: [&str; 3] = [
    "sec-websocket-accept",
    "sec-websocket-extensions",
    "upgrade",
];

/// What accepts: with HTTP/1, and on a stream of HTTP/2 (RFC 8441 section 5).
const SWITCHING: (u16, &[u8]) = (101, b"Switching Protocols");
const STREAM: (u16, &[u8]) = (200, b"OK");

/// Looks whether a request asks for a WebSocket, where the workers speak it.
pub(crate) fn recognise(connection: &mut Connection) -> Result<(), HandshakeFault> {
    let Some(settings) = &connection.resolved.settings.websocket else {
        return Ok(());
    };
    let compression = match settings.compression {
        WebSocketCompression::Off => None,
        WebSocketCompression::Shared => Some(false),
        WebSocketCompression::Dedicated => Some(true),
    };
    let compression = compression.map(|keep_context| Compression { keep_context });
    let head = connection.session.head(connection.input.head());
    if let Some(handshake) = check(&head, compression)? {
        connection.websocket = Some(Box::new(WebSocket::new(handshake, settings)));
    }
    Ok(())
}

impl Gateway {
    /// The application accepts.
    pub(super) fn take_accept(
        &mut self,
        worker: usize,
        id: CallId,
        client: usize,
        header: ResponseHeader,
    ) -> Result<(), Trouble> {
        let Some(record) = self.pool.get_mut(worker) else {
            return Ok(());
        };
        let payload = read_small(&record.link, header, &mut self.scratch.message);
        let view = ResponseView::decode(payload)?;
        let Some(connection) = self.connections.get_mut(client) else {
            return Ok(());
        };
        let asked = connection
            .websocket
            .as_ref()
            .is_some_and(|websocket| websocket.state() == State::Asked);
        if !asked || connection.stage() != Some(Stage::Waiting) {
            return Err(Trouble::Mistake(Mistake::NotSpoken(header.kind)));
        }
        let now = self.clock.now();
        encode_accept(connection, &view, self.clock.date_line(), self.keep_head)?;
        let exchange = connection.exchange.as_mut();
        if let Some(trace) = exchange.and_then(|one| one.request.trace.as_mut()) {
            trace.note_answered(now);
        }
        if let Some(call) = self.calls.get_mut(id) {
            call.answered = true;
        }
        self.happened(client, Happened::Accepted);
        self.open(id, client);
        Ok(())
    }

    fn open(&mut self, id: CallId, client: usize) {
        let now = self.clock.now();
        let forwards = self.resolved.settings.log_forwarding.access;
        let logged = self.access_log.is_some() || self.json_log.is_some() || forwards;
        let Some(connection) = self.connections.get_mut(client) else {
            return;
        };
        let waiting = connection.input.take_unread();
        connection.input.keep_head(logged);
        if let Some(exchange) = &mut connection.exchange {
            let (status, _) = if connection.session.is_stream() {
                STREAM
            } else {
                SWITCHING
            };
            exchange.response.status = status;
        }
        let Connection {
            websocket: Some(websocket),
            resolved,
            ..
        } = connection
        else {
            return;
        };
        websocket.open(waiting, resolved.settings.websocket.as_ref(), now);
        connection.deadline = websocket.deadline();
        // A turn of its own, which reads what came behind the handshake, and from now on it waits.
        self.wake(client);
        if self.is_leaving(id) {
            self.close_websocket(client, CloseCode::SERVICE_RESTART, b"");
        }
    }

    /// Whether the server, or the worker of this call, takes no more requests.
    fn is_leaving(&mut self, id: CallId) -> bool {
        let Some(Place::Worker { worker, .. }) = self.calls.get(id).map(|one| one.place) else {
            return false;
        };
        self.drain.is_some() || self.pool.of_id(worker).is_some_and(|record| record.retired)
    }
}

/// The 101: the application's headers, and what answers the client's.
fn encode_accept(
    connection: &mut Connection,
    view: &ResponseView<'_>,
    date: &OwnLine,
    keep_head: bool,
) -> Result<(), Trouble> {
    let Connection {
        session,
        output,
        exchange: Some(exchange),
        resolved,
        websocket: Some(websocket),
        ..
    } = connection
    else {
        return Ok(());
    };
    let handshake = websocket.handshake();
    let is_stream = session.is_stream();
    let (status, reason) = if is_stream { STREAM } else { SWITCHING };
    let head = http1::ResponseHead {
        status,
        reason,
        server: Some(&resolved.server_line),
        date: Some(date),
        body_length: None,
    };
    let is_ours = |name: &[u8]| {
        OURS.iter()
            .any(|ours| name.eq_ignore_ascii_case(ours.as_bytes()))
    };
    let extensions = handshake.deflate.map(|deflate| deflate.response());
    let extensions = extensions
        .iter()
        .map(|value| (&b"Sec-WebSocket-Extensions"[..], value.as_bytes()));
    let ours = [
        (&b"Upgrade"[..], &b"websocket"[..]),
        (b"Sec-WebSocket-Accept", &handshake.accept_key),
    ];
    let theirs = view.headers.iter().filter(|(name, _)| !is_ours(name));
    let id = id_for_response(exchange.request.trace.as_deref(), &view.headers);
    let ours = ours.into_iter().filter(|_| !is_stream);
    let headers = ours.chain(extensions).chain(theirs).chain(id);
    let out = output.bytes();
    let start = out.len();
    let (mut writer, _) = session.writer(b"");
    writer.head(&head, headers, out)?;
    writer.switch(out);
    if keep_head {
        exchange.response.head.extend_from_slice(&out[start..]);
    }
    Ok(())
}
