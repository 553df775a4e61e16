//! A turn of a connection that carries streams: what came is taken, requests begin, what is to be sent is sent.

use std::mem;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use h2::Reason;
use oxicorn_link::scoreboard::Counter;
use oxicorn_proto::http2::Flood;

use crate::active::ActiveConfig;
use crate::buffer::input::Input;
use crate::buffer::output::Output;
use crate::connection::{Connection, Phase};
use crate::gateway::Gateway;
use crate::session::Session;
use crate::session::http2::{Carrier, Stream};
use crate::transport::Transport;
use crate::transport::http2::{Engine, Incoming, Passed, StreamEnd, Wire};

/// Requests of one connection before others have their turn.
const REQUESTS_PER_TURN: u32 = 32;

/// How a turn ended.
enum Turn {
    /// Nothing more can be done now.
    Pending,
    /// There may be more.
    Enough,
    /// The connection is over.
    Over,
    /// It broke the protocol.
    Broken(h2::Error),
}

/// What can be done about a bound that was passed.
fn advice(flood: Flood) -> &'static str {
    match flood {
        Flood::Malformed => "if it is a proxy of yours, look at what it passes on",
        Flood::Continuations => "raise http2_max_header_list_size if it needs longer headers",
        Flood::Resets | Flood::Control | Flood::WindowUpdates => {
            "block the address if it does not stop"
        }
    }
}

/// What it counts as.
fn counter(flood: Flood) -> Counter {
    match flood {
        Flood::Resets => Counter::Http2Resets,
        Flood::Malformed => Counter::Http2Malformed,
        Flood::Continuations => Counter::Http2Continuations,
        Flood::Control => Counter::Http2Control,
        Flood::WindowUpdates => Counter::Http2WindowUpdates,
    }
}

impl Gateway {
    /// A turn of a carrier.
    pub(crate) fn drive_http2(&mut self, key: usize, serial: u64, cx: &mut Context<'_>) {
        let Some(carrier) = self.carrier(key) else {
            return;
        };
        let wire = Rc::clone(&carrier.wire);
        let mut engine = mem::replace(&mut carrier.engine, Engine::Over);
        let was_opening = engine.is_opening();
        wire.begin_turn();
        let turn = self.take_requests(key, serial, &mut engine, cx);
        if was_opening && !engine.is_opening() {
            self.note_http2_begun(key);
        }
        if let Some(carrier) = self.carrier(key) {
            carrier.engine = engine;
        }
        self.pump_streams(key);
        self.look_at_passed(key, &wire);
        let pushed = wire.push(cx);
        self.count_passed(&wire);
        self.wake_waiting(&wire);
        self.account(key);
        if let Poll::Ready(Err(_)) = pushed {
            return self.close(key);
        }
        match turn {
            Turn::Pending => {}
            Turn::Enough => self.wake(key),
            Turn::Over => self.end_http2(key),
            Turn::Broken(error) => self.break_http2(key, &error),
        }
    }

    pub(super) fn carrier(&mut self, key: usize) -> Option<&mut Carrier> {
        self.connections.get_mut(key)?.session.carrier()
    }

    fn take_requests(
        &mut self,
        key: usize,
        serial: u64,
        engine: &mut Engine,
        cx: &mut Context<'_>,
    ) -> Turn {
        for _ in 0..REQUESTS_PER_TURN {
            match engine.poll(cx) {
                Poll::Pending => return Turn::Pending,
                Poll::Ready(Ok(None)) => return Turn::Over,
                Poll::Ready(Err(error)) => return Turn::Broken(error),
                Poll::Ready(Ok(Some(incoming))) => {
                    if self.open_stream(key, serial, incoming) {
                        engine.leave();
                    }
                }
            }
        }
        Turn::Enough
    }

    /// The preface has come, and the client's settings.
    fn note_http2_begun(&mut self, key: usize) {
        let now = self.clock.now();
        let drain = self.drain;
        if let Some(connection) = self.connections.get_mut(key)
            && connection.phase == Phase::Head
        {
            connection.phase = Phase::Idle;
            connection.since = now;
            let keep_alive = connection.resolved.settings.timeouts.keep_alive;
            let deadline = ActiveConfig::deadline(now, keep_alive);
            let waits = drain.map(|drain| drain.wait_for_request(deadline));
            connection.deadline = waits.or(deadline);
        }
    }

    /// A request: `true`: no more of this connection's are wanted.
    fn open_stream(&mut self, key: usize, serial: u64, incoming: Incoming) -> bool {
        let leaving = self.drain.is_some() || self.resolved.settings.out_of_rotation;
        let Some(connection) = self.connection(key, serial) else {
            return false;
        };
        connection.served += 1;
        connection.phase = Phase::Open;
        connection.deadline = None;
        let most = connection.resolved.settings.requests_per_connection;
        let last = leaving || (most > 0 && connection.served >= most);
        let own = connection.http2_stream(incoming, (key, serial));
        self.next_serial += 1;
        let serial = self.next_serial;
        let Some(mut stream) = own else {
            return false;
        };
        stream.serial = serial;
        let place = self.connections.insert(stream);
        self.streams += 1;
        if let Some(stream) = self.connections[place].transport.stream() {
            stream.belongs_to(place, serial);
        }
        let Some(carrier) = self.carrier(key) else {
            return false;
        };
        carrier.streams.push(place);
        let leaves = last && !mem::replace(&mut carrier.leaves, last);
        self.read_first(place, serial);
        leaves
    }

    /// What has come for streams is taken out of h2 in the turn in which it came.
    fn pump_streams(&mut self, key: usize) {
        let mut keys = mem::take(&mut self.scratch.keys);
        if let Some(carrier) = self.carrier(key) {
            keys.extend_from_slice(&carrier.streams);
        }
        for place in keys.drain(..) {
            let Some(connection) = self.connections.get_mut(place) else {
                continue;
            };
            let Connection {
                transport, waker, ..
            } = connection;
            let Some(stream) = transport.stream() else {
                continue;
            };
            if !stream.is_receiving() {
                continue;
            }
            if stream.pump(&mut Context::from_waker(waker)).is_err() {
                self.handle_client_gone(place);
                continue;
            }
            if stream.has_news() {
                self.wake(place);
            }
            self.account(place);
        }
        self.scratch.keys = keys;
    }

    /// Bounds that were passed, and what h2 has refused by itself.
    fn look_at_passed(&mut self, key: usize, wire: &Rc<Wire>) {
        let now = self.clock.now();
        let passed = wire.take_passed();
        self.metrics.add(Counter::BytesIn, passed.received);
        self.metrics.add(Counter::BytesOut, passed.sent);
        if let Some(connection) = self.connections.get_mut(key) {
            connection.received += passed.received;
            connection.sent += passed.sent;
        }
        self.tell_of_refused(key, &passed);
        if passed.is_bomb
            && let Some(carrier) = self.carrier(key)
        {
            // h2 has said goodbye.
            carrier.is_flood = true;
            self.metrics.count(Counter::Http2HeaderLists);
            self.warn_of_http2(
                key,
                format_args!(
                    "headers that are far longer than http2_max_header_list_size: closing the connection \
                     (block the address if it does not stop)"
                ),
            );
        }
        let Some(flood) = wire.judge(now) else {
            return;
        };
        let Some(carrier) = self.carrier(key) else {
            return;
        };
        if !mem::replace(&mut carrier.is_flood, true) {
            carrier.engine.go_away(Reason::ENHANCE_YOUR_CALM);
            self.metrics.count(counter(flood));
            self.warn_of_http2(
                key,
                format_args!("{flood}: closing the connection ({})", advice(flood)),
            );
            self.give_up_streams(key);
            self.wake(key);
        }
    }

    /// Requests that nobody else has seen.
    fn tell_of_refused(&mut self, key: usize, passed: &Passed) {
        if passed.oversize > 0 {
            self.warn_of_http2(
                key,
                format_args!(
                    "{} request(s) answered with 431, since their headers are far longer than \
                     http2_max_header_list_size",
                    passed.oversize
                ),
            );
        } else if passed.malformed > 0 {
            let reason = Reason::from(passed.reason);
            let (count, what) = (passed.malformed, reason.description());
            self.warn_of_http2(
                key,
                format_args!("{count} stream(s) reset, {reason:?}: {what}"),
            );
        }
        if passed.refused > 0 {
            self.warn_of_http2(
                key,
                format_args!(
                    "{} request(s) refused, since the client has more under way than \
                     http2_max_concurrent_streams",
                    passed.refused
                ),
            );
        }
    }

    fn count_passed(&mut self, wire: &Rc<Wire>) {
        let passed = wire.take_passed();
        self.metrics.add(Counter::BytesOut, passed.sent);
    }

    pub(super) fn warn_of_http2(&mut self, key: usize, text: std::fmt::Arguments<'_>) {
        self.metrics.count(Counter::PeerFaults);
        let client = self.connections.get(key).map(Connection::client);
        let address = client.map(|client| String::from_utf8_lossy(client.text()).into_owned());
        let address = address.unwrap_or_default();
        self.warn_of_client(format_args!("Invalid HTTP/2 from ip={address}: {text}"));
    }

    /// Streams that waited until others' bytes have left.
    fn wake_waiting(&mut self, wire: &Rc<Wire>) {
        for (key, serial) in wire.take_waiting() {
            if self.connection(key, serial).is_some() {
                self.wake(key);
            }
        }
    }
}

impl Connection {
    /// A stream of this one, as a connection of its own.
    fn http2_stream(&self, incoming: Incoming, own: (usize, u64)) -> Option<Self> {
        let Session::Carrier(carrier) = &self.session else {
            return None;
        };
        let (request, respond) = incoming;
        let settings = self.resolved.settings.http2.as_ref();
        let most = settings.map_or(0, |one| one.max_header_list_size) as usize;
        let ends = request.body().is_end_stream();
        let most = Some(most).filter(|most| *most > 0);
        let stream = Stream::new(&self.resolved.rules, &request, ends, most);
        let mut session = Session::Stream(Box::new(stream));
        session.http_mut().set_forwarder_trusted(self.trusted);
        let end = StreamEnd::new(
            (request.into_body(), respond),
            Rc::clone(&carrier.wire),
            own,
            carrier.about.clone(),
        );
        Some(Self {
            serial: 0,
            transport: Transport::Stream(Box::new(end)),
            session,
            phase: Phase::Head,
            input: Input::default(),
            output: Output::default(),
            exchange: None,
            deadline: None,
            since: self.since,
            stalled_since: None,
            received: 0,
            sent: 0,
            is_unsent: false,
            accounted: 0,
            counted: None,
            resolved: Rc::clone(&self.resolved),
            peer: self.peer.clone(),
            server: Rc::clone(&self.server),
            proxied: self.proxied.clone(),
            trusted: self.trusted,
            has_task: false,
            waker: Waker::noop().clone(),
            // Its head is there: it is looked at before anything is read.
            interrupted: true,
            at_end: false,
            reading_stopped: false,
            served: 0,
            linger: false,
            discarded: 0,
            websocket: None,
            awaits_tls: false,
        })
    }
}
