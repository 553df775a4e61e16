//! From bytes of a client to a complete request.
//!
//! Decides when a request is complete and what is refused before a worker hears of it. The grammar
//! is `oxicorn-proto`'s; the body is buffered here, so that slow clients cost no worker.

use std::task::{Context, Poll, Waker};
use std::time::Duration;

use oxicorn_link::scoreboard::{Counter, HistogramKind};
use oxicorn_link::wire::HeaderList;
use oxicorn_os::sockets::Address;
use oxicorn_proto::http1::{Event, Polled};
use oxicorn_proto::message::BodyFraming;
use oxicorn_proto::proxy_protocol::{self, Parsed, ProxyHeader};

use crate::active::ActiveConfig;
use crate::buffer::input::READ_SIZE;
use crate::connection::{Connection, Phase};
use crate::exchange::refusal::Refusal;
use crate::exchange::{Exchange, Happened, Stage};
use crate::gateway::Gateway;
use crate::gateway::http2::begin::wants_upgrade;
use crate::gateway::websocket;
use crate::limits::min_rate::MinRate;
use crate::transport::endpoint::{Endpoint, Proxied};
use crate::transport::http2::StreamEnd;
use crate::transport::socket::Received;

/// What certificate authorities ask for.
const ACME_CHALLENGES: &[u8] = b"/.well-known/acme-challenge/";

/// A client that means to read its answer finishes sending this soon after its request.
const HALF_CLOSE_WITHIN: Duration = Duration::from_millis(100);

/// Events of one connection before others have their turn: what little a client sends for each (a
/// chunk of one byte) must not become everybody's wait.
const EVENTS_PER_TURN: u32 = 1024;

/// How long an application that can be told of it is left to answer a client that was done so soon.
const HALF_CLOSE_PATIENCE: Duration = Duration::from_secs(1);

/// Reads of one connection before others have their turn.
const READS_PER_TURN: u32 = 4;

impl Gateway {
    /// Reads from a connection just accepted: nearly always the request is there already. Only if
    /// something has to be waited for the connection gets a task and a place in the runtime's
    /// epoll.
    pub(crate) fn read_first(&mut self, key: usize, serial: u64) {
        self.read(key, serial, &mut Context::from_waker(Waker::noop()));
        let Some(connection) = self.connection(key, serial) else {
            return;
        };
        let served = connection.stage().is_some_and(Stage::is_served);
        if !served || connection.is_uploading() {
            self.wake(key);
        }
    }

    /// Reads what has come, as far as the connection wants any.
    pub(crate) fn read(&mut self, key: usize, serial: u64, cx: &mut Context<'_>) {
        self.read_in_turn(key, serial, cx);
        // Once for all reads of the turn.
        self.account(key);
    }

    fn read_in_turn(&mut self, key: usize, serial: u64, cx: &mut Context<'_>) {
        let is_short = self.is_short_of_memory();
        for _ in 0..READS_PER_TURN {
            let Some(connection) = self.connections.get_mut(key) else {
                return;
            };
            if connection.serial != serial {
                return;
            }
            if connection.session.is_carrier() {
                return self.drive_http2(key, serial, cx);
            }
            if connection.is_talking() {
                return self.read_websocket(key, cx);
            }
            if std::mem::take(&mut connection.interrupted) {
                self.advance(key);
                continue;
            }
            let Some(room) = connection.read_room(is_short) else {
                return self.stop_reading(key);
            };
            connection.borrow(&mut self.scratch.lent);
            let buffer = connection.input.room(room);
            match connection.transport.poll_receive(cx, buffer) {
                Poll::Pending => return self.after_empty_read(key),
                Poll::Ready(Ok(Received::Bytes(count))) => {
                    connection.received += count as u64;
                    self.metrics
                        .add(Counter::BytesIn, connection.on_the_wire(count as u64));
                    self.handle_input(key);
                }
                Poll::Ready(Ok(Received::End)) => return self.handle_end(key),
                Poll::Ready(Ok(Received::BodyEnd)) => self.take_body_end(key),
                Poll::Ready(Ok(Received::Unencrypted(count))) => {
                    connection.received += count as u64;
                    self.metrics.add(Counter::BytesIn, count as u64);
                    self.metrics.count(Counter::TlsUnencrypted);
                    return self.refuse(key, Refusal::UNENCRYPTED);
                }
                Poll::Ready(Err(_)) => {
                    self.tell_of_failed_tls(key);
                    return self.handle_client_gone(key);
                }
            }
        }
        self.wake(key);
    }

    /// A connection that waits without a byte holds no buffer.
    fn after_empty_read(&mut self, key: usize) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        match connection.phase {
            // Nobody knows when the rest comes.
            Phase::Proxy | Phase::Head => connection.input.shrink(0),
            _ => connection.input.shrink(2 * READ_SIZE),
        }
        connection.give_back(&mut self.scratch.lent);
    }

    fn handle_input(&mut self, key: usize) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        match connection.phase {
            Phase::Proxy => self.read_proxy_header(key),
            Phase::Lingering => self.discard_input(key),
            // Where it is not asked for, the next request waits in the buffer.
            Phase::Idle | Phase::Head | Phase::Open => self.look_at_input(key),
        }
    }

    /// All of a request has come that is one of many on its connection.
    fn take_body_end(&mut self, key: usize) {
        if let Some(connection) = self.connections.get_mut(key) {
            if connection.websocket.is_some() {
                // A WebSocket needs both directions.
                return self.handle_client_gone(key);
            }
            let stream = connection.transport.stream();
            let trailers = stream.and_then(StreamEnd::take_trailers);
            connection.session.end_body(trailers.as_ref());
            self.advance(key);
        }
    }

    /// Lets the protocol machine see what came, up to a complete request.
    pub(crate) fn advance(&mut self, key: usize) {
        let mut events = 0;
        while let Some(connection) = self.connections.get_mut(key) {
            if !connection.awaits_request() {
                return;
            }
            events += 1;
            if events > EVENTS_PER_TURN {
                connection.interrupted = true;
                self.forward_body(key);
                return self.wake(key);
            }
            match connection.session.poll_event(connection.input.unread()) {
                Err(_) if connection.stage() == Some(Stage::Discarding) => return self.end(key),
                Err(fault) => return self.refuse(key, Refusal::of_fault(fault)),
                Ok(Polled {
                    consumed,
                    event: Event::NeedMore,
                }) => {
                    connection.input.consume(consumed);
                    self.send_replies(key);
                    if self.head_is_too_much(key) {
                        return self.refuse(key, Refusal::NO_MEMORY);
                    }
                    self.submit_if_streamed(key);
                    self.forward_body(key);
                    return self.await_more(key);
                }
                Ok(Polled {
                    consumed,
                    event: Event::Head,
                }) => {
                    connection.input.consume_head(consumed);
                    self.send_replies(key);
                    self.begin_request(key);
                }
                Ok(Polled {
                    consumed,
                    event: Event::Body(range),
                }) if connection.stage() == Some(Stage::Discarding) => {
                    let count = consumed.max(range.end);
                    self.discard_body(key, count);
                }
                Ok(Polled {
                    consumed,
                    event: Event::Body(range),
                }) if connection.is_uploading() => {
                    self.take_upload(key, range, consumed);
                }
                Ok(Polled {
                    consumed,
                    event: Event::Body(range),
                }) => {
                    if let Err(error) = self.put_aside(key, range, consumed) {
                        return self.refuse_for_disk(key, &error);
                    }
                }
                Ok(Polled {
                    consumed,
                    event: Event::BodyEnd,
                }) => {
                    // Without a byte there are none but those that HTTP/2 carries.
                    if consumed > 0 || connection.session.is_stream() {
                        keep_trailers(connection, consumed);
                        connection.input.consume(consumed);
                    }
                    match connection.stage() {
                        Some(Stage::Receiving) => self.happened(key, Happened::Ready),
                        Some(Stage::Discarding) => return self.await_next_request(key),
                        _ => self.end_upload(key),
                    }
                }
                Ok(Polled {
                    event: Event::Paused | Event::Switched,
                    ..
                }) => return,
            }
        }
    }

    /// Sends what the protocol itself answers.
    fn send_replies(&mut self, key: usize) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let replies = connection.session.take_replies();
        if !replies.is_empty() {
            connection.output.bytes().extend_from_slice(&replies);
            self.flush(key);
        }
    }

    /// The protocol machine wants more bytes: sets the deadline for them.
    pub(crate) fn await_more(&mut self, key: usize) {
        let now = self.clock.now();
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let timeouts = connection.resolved.settings.timeouts;
        match connection.phase {
            Phase::Open => await_more_of_body(connection, timeouts.demand_on_body(), now),
            Phase::Idle
                if !connection.session.is_idle() || !connection.input.unread().is_empty() =>
            {
                connection.phase = Phase::Head;
                connection.since = now;
                connection.deadline = ActiveConfig::deadline(now, timeouts.head);
            }
            _ => {}
        }
        if connection.at_end {
            self.handle_end(key);
        }
    }

    /// A head was read.
    fn begin_request(&mut self, key: usize) {
        let now = self.clock.now();
        let leaving = self.drain.is_some() || self.resolved.settings.out_of_rotation;
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let mut exchange = self.scratch.new_exchange();
        exchange.request.readable = true;
        exchange.request.started = now;
        if let Some(rules) = &connection.resolved.tracing {
            let head = connection.session.head(connection.input.head());
            let trace = self.tracer.begin(rules, &head, connection.trusted);
            if let Some(time) = trace.proxy_time {
                self.metrics.record(HistogramKind::ProxyTime, time);
            }
            exchange.request.trace = Some(trace);
        }
        connection.exchange = Some(exchange);
        connection.phase = Phase::Open;
        connection.deadline = None;
        connection.served += 1;
        if connection.served > 1 {
            self.precedence.note(now);
        }
        self.metrics.count(Counter::Requests);
        let most = connection.resolved.settings.requests_per_connection;
        let last = most > 0 && connection.served >= most;
        if leaving || last || connection.resolved.settings.timeouts.keep_alive.is_zero() {
            connection.session.http_mut().deny_keep_alive();
        }
        if connection.session.needs_leave() && !connection.may_relay() {
            return self.refuse(key, Refusal::FORBIDDEN_WEB_SERVER);
        }
        let Some(https) = scheme(connection) else {
            return self.refuse(key, Refusal::CONTRADICTORY_SCHEMES);
        };
        let client = connection
            .session
            .relayed()
            .and_then(|relayed| relayed.client);
        let client = client.map(|client| Endpoint::new(Address::Ip(client)));
        if let Some(exchange) = &mut connection.exchange {
            exchange.request.https = https;
            exchange.request.client = client;
        }
        if let Some(port) = redirect(connection, https) {
            return self.refuse(key, Refusal::to_https(port));
        }
        if let Err(fault) = websocket::recognise(connection) {
            return self.refuse(key, Refusal::of_handshake(fault));
        }
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        if wants_upgrade(connection)
            && let Some(exchange) = &mut connection.exchange
        {
            exchange.request.whole = true;
        }
        // A worker that streams asks for the body when it wants it.
        if !connection.resolved.settings.stream_requests && wants_continue(connection) {
            self.send_continue(key);
        }
    }

    /// Sends `100 Continue` to a client that waits for it.
    pub(crate) fn continue_if_awaited(&mut self, key: usize) {
        let connection = self.connections.get(key);
        if connection.is_some_and(wants_continue) {
            self.send_continue(key);
        }
    }

    /// The body is wanted: say so to a client that asked first.
    fn send_continue(&mut self, key: usize) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let (mut writer, _) = connection.session.writer(b"");
        let out = connection.output.bytes();
        if writer.informational(100, [], out).is_ok() {
            self.flush(key);
        }
    }

    /// The client has finished sending. It may still wait for answers to what it has sent.
    fn handle_end(&mut self, key: usize) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        connection.at_end = true;
        match (connection.phase, connection.stage()) {
            (Phase::Idle | Phase::Lingering, _) | (_, Some(Stage::Discarding)) => self.close(key),
            (_, Some(Stage::Talking | Stage::Flushing(_))) => {}
            (_, Some(Stage::Waiting | Stage::Answering)) => self.handle_end_of_served(key),
            (_, Some(Stage::Receiving) | None) => match connection.session.handle_eof() {
                Ok(()) => self.close(key),
                Err(fault) => self.refuse(key, Refusal::of_fault(fault)),
            },
        }
    }

    /// The same of one whose request is served.
    fn handle_end_of_served(&mut self, key: usize) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        if connection.websocket.is_some() {
            // A WebSocket needs both directions.
            self.handle_client_gone(key);
        } else if !connection.is_uploading() {
            self.handle_end_while_serving(key);
        } else if connection.has_room_for_body() {
            match connection.session.handle_eof() {
                Ok(()) => self.handle_end_while_serving(key),
                Err(fault) => self.refuse(key, Refusal::of_fault(fault)),
            }
        }
        // Else what was read before the end is looked at first.
    }

    /// A client that is done sending right after its request waits for the answer (half-close). One
    /// that ends later, while its request still waits for a worker, has given up: nobody would read
    /// the answer, so no worker's time is spent on it. An application that can be told is told even if
    /// it has begun; and it is not left waiting for long for somebody who may have gone at once.
    fn handle_end_while_serving(&mut self, key: usize) {
        let now = self.clock.now();
        let id = self
            .connections
            .get(key)
            .and_then(crate::connection::Connection::call);
        let waited = id
            .and_then(|id| self.calls.get(id))
            .map(|call| now.saturating_sub(call.submitted));
        let (Some(id), Some(waited)) = (id, waited) else {
            return;
        };
        let tells = self
            .connections
            .get(key)
            .is_some_and(|connection| connection.resolved.settings.stream_requests);
        let gone = if tells {
            waited > HALF_CLOSE_PATIENCE
        } else {
            waited > HALF_CLOSE_WITHIN && self.is_untaken(id)
        };
        if gone {
            self.handle_client_gone(key);
        } else if tells && let Some(exchange) = self.exchange(key) {
            exchange.deadline = Some(now + HALF_CLOSE_PATIENCE.saturating_sub(waited));
        }
    }

    fn read_proxy_header(&mut self, key: usize) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let Some(mode) = connection.resolved.proxy_mode else {
            return;
        };
        let allowed = connection.may_proxy();
        match proxy_protocol::parse(connection.input.unread(), mode) {
            Ok(Parsed::NeedMore) => return,
            Ok(Parsed::Absent) => {}
            _ if !allowed => return self.refuse(key, Refusal::FORBIDDEN_PROXY),
            Ok(Parsed::Header { consumed, header }) => {
                connection.input.consume(consumed);
                connection.input.forget_head();
                if let ProxyHeader::Proxied {
                    source,
                    destination,
                } = header
                {
                    connection.proxied = Some(Box::new(Proxied::new(source, destination)));
                }
            }
            Err(fault) => return self.refuse(key, Refusal::of_fault(fault)),
        }
        connection.phase = Phase::Idle;
        if self.start_tls(key) && (!allowed || self.admit(key)) {
            self.look_at_input(key);
        }
    }
}

/// The client makes us wait for the rest of a body.
fn await_more_of_body(connection: &mut Connection, demand: MinRate, now: Duration) {
    let under_way = |one: &Exchange| one.deadline.is_some();
    if connection.exchange.as_deref().is_none_or(under_way) {
        return;
    }
    let moved = match connection.stage() {
        Some(Stage::Receiving | Stage::Discarding) => connection.received,
        Some(_) if connection.owes_body() => connection.moved(),
        _ => return,
    };
    if let Some(exchange) = &mut connection.exchange {
        exchange.begin_span(demand, moved, now);
    }
}

/// The trailers at the end of a body, which has `len` bytes, are its request's.
fn keep_trailers(connection: &mut Connection, len: usize) {
    let Some(Exchange { request, .. }) = connection.exchange.as_deref_mut() else {
        return;
    };
    for trailer in connection
        .session
        .trailers(&connection.input.unread()[..len])
    {
        HeaderList::encode_entry(&mut request.trailers, trailer.name, trailer.value);
    }
}

/// https or not: by the server's own nature, or by what a trusted peer says. `None`: it says both.
fn scheme(connection: &Connection) -> Option<bool> {
    let relayed = connection
        .session
        .relayed()
        .is_some_and(|relayed| relayed.https);
    let said = connection.trusted && connection.session.says_https();
    let encrypted = connection.transport.is_secure();
    let own = connection.resolved.settings.https || relayed || said || encrypted;
    if !connection.trusted {
        return Some(own);
    }
    let head = connection.session.head(connection.input.head());
    let headers = head.headers().map(|header| (header.name, header.value));
    connection
        .resolved
        .trust
        .scheme(headers)
        .ok()
        .map(|said| said.unwrap_or(own))
}

/// The port of https that a request is sent to instead of being served (`https_redirect`). Who names no host cannot be
/// sent anywhere, and authorities prove by plain HTTP whose a name is (RFC 8555 section 8.3).
fn redirect(connection: &Connection, https: bool) -> Option<u16> {
    let port = connection.resolved.settings.https_redirect?;
    if https {
        return None;
    }
    let head = connection.session.head(connection.input.head());
    let is_for_authorities = head.path().starts_with(ACME_CHALLENGES);
    let has_host = head
        .headers()
        .any(|header| header.name.eq_ignore_ascii_case(b"host") && !header.value.is_empty());
    (has_host && !is_for_authorities).then_some(port)
}

/// Whether a 100 is due: asked for, and the client really waits (RFC 9110 section 10.1.1 lets it be
/// left out when the body has begun to come).
pub(crate) fn wants_continue(connection: &Connection) -> bool {
    let head = connection.session.head(connection.input.head());
    head.expect_continue()
        && head.framing() != BodyFraming::None
        && connection.input.unread().is_empty()
}
