//! Which connections speak HTTP/2: by ALPN, by its preface, or by an upgrade.

use std::mem;
use std::rc::Rc;

use oxicorn_proto::http2::{PREFACE, first_frames, upgrade_request};
use oxicorn_proto::message::BodyFraming;

use crate::active::ActiveConfig;
use crate::config::settings::Http2;
use crate::connection::{Connection, Phase};
use crate::exchange::refusal::Refusal;
use crate::gateway::Gateway;
use crate::session::Session;
use crate::session::http2::Carrier;
use crate::transport::Transport;
use crate::transport::http2::{Engine, Wire};

/// What the first bytes of a connection say.
enum Beginning {
    /// It speaks HTTP/2.
    Http2,
    /// Perhaps it will.
    Unclear,
    /// It does not, and must.
    Stranger,
    /// It speaks something else.
    Other,
}

impl Gateway {
    /// Looks at what has come, and lets the protocol machine see it.
    pub(crate) fn look_at_input(&mut self, key: usize) {
        let Some(connection) = self.connections.get(key) else {
            return;
        };
        match beginning(connection) {
            Beginning::Http2 => self.become_carrier(key, None),
            Beginning::Unclear => self.await_more(key),
            Beginning::Stranger => self.refuse(key, Refusal::NOT_HTTP2),
            Beginning::Other => self.advance(key),
        }
    }

    /// From now on its requests are streams. `request`: frames of one that has come before, and asked for it.
    fn become_carrier(&mut self, key: usize, request: Option<Vec<u8>>) {
        let now = self.clock.now();
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let Some(settings) = connection.resolved.settings.http2.clone() else {
            return;
        };
        let early = connection.input.take_unread();
        connection.input.forget_all();
        connection.give_back(&mut self.scratch.lent);
        let transport = mem::replace(&mut connection.transport, Transport::Gone);
        let about = transport.about().cloned();
        let list_size = Some(settings.max_header_list_size).filter(|size| *size > 0);
        let wire = Rc::new(Wire::new(transport, early, list_size));
        if let Some(frames) = request {
            wire.put_request(SWITCHING, frames);
        }
        let websockets = connection.resolved.settings.websocket.is_some();
        let engine = Engine::new(&settings, websockets, &wire);
        let rules = connection.resolved.rules.clone();
        let before = Session::new(crate::Protocol::Http, rules, connection.trusted);
        if let Session::Http1(http) = mem::replace(&mut connection.session, before) {
            connection.session = Session::Carrier(Box::new(Carrier {
                http,
                engine,
                wire: Rc::clone(&wire),
                about,
                streams: Vec::new(),
                leaves: false,
                is_flood: false,
            }));
        }
        connection.transport = Transport::Wire(wire);
        connection.phase = Phase::Head;
        let head = ActiveConfig::deadline(now, connection.resolved.settings.timeouts.head);
        connection.deadline = connection.deadline.or(head);
        self.account(key);
        self.wake(key);
    }
}

/// What an upgrade is granted by (RFC 7540 section 3.2).
const SWITCHING: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";

/// Bytes of a body that an upgrade waits for (Gunicorn's bound).
const UPGRADE_BODY: u64 = 64 * 1024;

impl Gateway {
    /// A complete request that asks for HTTP/2, in a way that it may, becomes the first stream. `false`: it does not.
    pub(crate) fn upgrade_to_http2(&mut self, key: usize) -> bool {
        let Some(connection) = self.connections.get_mut(key) else {
            return false;
        };
        // Who asks for it is handed over with all of its body: most requests need not be looked at again.
        let whole = (connection.exchange.as_ref()).filter(|one| one.request.whole);
        let Some(exchange) = whole.filter(|_| wants_upgrade(connection)) else {
            return false;
        };
        if exchange.request.body.file().is_some() {
            return false;
        }
        let head = connection.session.head(connection.input.head());
        let frames = first_frames(&head, exchange.request.body.bytes(), false);
        let exchange = connection.exchange.take();
        connection.served = 0;
        self.scratch.keep_exchange(exchange);
        self.become_carrier(key, Some(frames));
        true
    }
}

/// Whether a request asks for HTTP/2 that may have it. It is handed over with all of its body, so that it can be.
pub(crate) fn wants_upgrade(connection: &Connection) -> bool {
    if !matches!(connection.session, Session::Http1(_))
        || cleartext(connection).is_none_or(|settings| !settings.upgrade)
    {
        return false;
    }
    let head = connection.session.head(connection.input.head());
    let is_short = match head.framing() {
        BodyFraming::None => true,
        BodyFraming::Length(length) => length <= UPGRADE_BODY,
        BodyFraming::Chunked => false,
    };
    is_short && upgrade_request(&head).is_some()
}

/// Whether a client that speaks no TLS may speak HTTP/2, and how.
fn cleartext(connection: &Connection) -> Option<&Http2> {
    let settings = connection.resolved.settings.http2.as_ref()?;
    (connection.trusted && !connection.transport.is_secure()).then_some(settings)
}

fn beginning(connection: &Connection) -> Beginning {
    let is_first = connection.served == 0 && connection.exchange.is_none();
    let awaits = matches!(connection.phase, Phase::Idle | Phase::Head);
    let came = connection.input.unread();
    let Some(settings) = &connection.resolved.settings.http2 else {
        return Beginning::Other;
    };
    if !matches!(connection.session, Session::Http1(_)) || !is_first || !awaits || came.is_empty() {
        return Beginning::Other;
    }
    if let Some(about) = connection.transport.about() {
        return match (about.http2, settings.http1) {
            (true, _) => Beginning::Http2,
            (false, true) => Beginning::Other,
            (false, false) => Beginning::Stranger,
        };
    }
    if cleartext(connection).is_none_or(|one| !one.prior_knowledge) {
        return Beginning::Other;
    }
    let compared = came.len().min(PREFACE.len());
    match came[..compared] == PREFACE[..compared] {
        true if compared == PREFACE.len() => Beginning::Http2,
        true => Beginning::Unclear,
        false if settings.http1 || settings.upgrade => Beginning::Other,
        false => Beginning::Stranger,
    }
}
