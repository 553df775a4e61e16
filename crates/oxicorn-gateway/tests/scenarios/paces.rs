//! How fast a client must send, or take, measured in spans of a clock that the test holds: what is
//! asked for in a span is far more than any buffer of the kernel's takes by itself.

use std::time::Duration;

use oxicorn_gateway::{Settings, WebSocket};
use oxicorn_link::StreamId;
use oxicorn_link::scoreboard::{Counter, Gauge};
use oxicorn_link::wire::{
    CancelReason, EventKind, ResponseKind, decode_cancel, encode_credit, flags,
};

use crate::scenario::{Client, Scenario, StubWorker, eventually, patient};

const SPAN: Duration = Duration::from_secs(10);

/// Bytes of a response that must be taken in each span, what a steady reader takes in it, and what
/// comes for it in how many pieces: all within the worker's window.
const TO_TAKE: u32 = 200_000;
const TAKEN: usize = 300_000;
const PIECE: usize = 48_000;
const PIECES: usize = 20;

/// The same for bodies; two spans of them are held for a worker that has not asked.
const TO_SEND: u32 = 20_000;
const SENT: usize = 30_000;
const BODY: usize = 3 * SENT + 10;

/// A little, in one span.
const SIP: usize = 100;

fn demanding() -> Settings {
    let mut settings = patient();
    let seconds = u32::try_from(SPAN.as_secs()).unwrap();
    settings.timeouts.write = SPAN;
    settings.timeouts.write_rate = TO_TAKE / seconds;
    settings.timeouts.body = SPAN;
    settings.timeouts.body_rate = TO_SEND / seconds;
    settings.timeouts.request = Duration::ZERO;
    settings
}

fn with(settings: Settings) -> (Scenario, StubWorker) {
    let mut scenario = Scenario::with_held_clock(settings);
    let worker = scenario.ready_worker(4);
    (scenario, worker)
}

/// Three clients for whom the same waits: all are fast in two spans. Then one stops, one sips, and one
/// goes on.
fn judge_readers(scenario: &Scenario, clients: [Client; 3], in_all: usize) {
    let figures = scenario.scoreboard.gateway(0).unwrap();
    let connections = || figures.gauge(Gauge::Connections);
    // What the kernel does not take is held: all three make the gateway wait.
    let waiting = u64::try_from(3 * PIECES * PIECE * 3 / 4).unwrap();
    eventually("they are waited for", || {
        figures.gauge(Gauge::Buffered) > waiting
    });
    let [mut stops, mut sips, mut steady] = clients;
    for _ in 0..2 {
        for client in [&mut stops, &mut sips, &mut steady] {
            client.take(TAKEN);
        }
        scenario.pass(SPAN);
        assert_eq!(connections(), 3, "all are fast enough");
    }
    sips.take(SIP);
    steady.take(TAKEN);
    scenario.pass(SPAN * 9 / 10);
    assert_eq!(connections(), 3, "the span is not over");
    scenario.pass(SPAN / 10);
    scenario.wait_for_connections(1);
    // Another thread writes it.
    let told = "it takes its response too slowly (write_timeout, write_min_rate)";
    let log = scenario.directory.path().join("error.log");
    eventually("both are told of", || {
        let text = std::fs::read_to_string(&log).unwrap();
        text.matches(told).count() == 2
    });
    steady.take(in_all - 3 * TAKEN);
}

#[test]
fn a_reader_is_judged_by_what_it_takes_in_each_span() {
    let (scenario, mut worker) = with(demanding());
    let clients = std::array::from_fn(|_| {
        let mut client = scenario.connect_with_small_buffer();
        client.get("/");
        let claimed = worker.claim();
        let length = (PIECES * PIECE).to_string();
        worker.head(claimed.stream, 0, 200, &[("Content-Length", &length)], b"");
        for number in 1..=PIECES {
            let last = if number == PIECES { flags::END } else { 0 };
            let piece = vec![b'x'; PIECE];
            worker.send(ResponseKind::BodyChunk, claimed.stream, last, &piece);
        }
        client.read_head();
        client
    });
    judge_readers(&scenario, clients, PIECES * PIECE);
}

#[test]
fn the_client_of_a_websocket_is_judged_alike() {
    let mut settings = demanding();
    settings.websocket = Some(WebSocket {
        ping_interval: Duration::ZERO,
        ..WebSocket::default()
    });
    let (scenario, mut worker) = with(settings);
    let mut streams: Vec<StreamId> = Vec::new();
    let clients = std::array::from_fn(|_| {
        let client = scenario.connect_with_small_buffer();
        let (client, stream) = crate::websocket::open_by(client, &mut worker, "");
        for _ in 0..PIECES {
            let bits = flags::END | flags::BINARY;
            worker.send(
                ResponseKind::WebSocketMessage,
                stream,
                bits,
                &vec![7; PIECE],
            );
        }
        streams.push(stream);
        client
    });
    // Two bytes of a frame's head, and two for its length.
    judge_readers(&scenario, clients, PIECES * (PIECE + 4));
    for _ in 0..2 {
        let (about, reason) = cancelled(&mut worker);
        assert!(streams[..2].contains(&about));
        assert_eq!(reason, CancelReason::ClientGone);
    }
}

/// The next cancellation.
fn cancelled(worker: &mut StubWorker) -> (StreamId, CancelReason) {
    loop {
        let (kind, about, payload) = worker.event();
        if kind == EventKind::Cancel {
            return (about, decode_cancel(&payload).unwrap());
        }
        assert_eq!(kind, EventKind::Credit);
    }
}

/// Sends, and waits until the gateway has read so many bytes more.
fn send(scenario: &Scenario, client: &mut Client, count: usize) {
    let figures = scenario.scoreboard.gateway(0).unwrap();
    let before = figures.counter(Counter::BytesIn);
    client.send(&"x".repeat(count));
    let after = before + u64::try_from(count).unwrap();
    eventually("it is read", || figures.counter(Counter::BytesIn) == after);
}

/// A request of which only the head has come.
fn begin(scenario: &Scenario) -> Client {
    let figures = scenario.scoreboard.gateway(0).unwrap();
    let before = figures.counter(Counter::Requests);
    let mut client = scenario.connect();
    client.send(&format!(
        "POST / HTTP/1.1\r\nHost: t\r\nContent-Length: {BODY}\r\n\r\n"
    ));
    eventually("its head is read", || {
        figures.counter(Counter::Requests) == before + 1
    });
    client
}

fn expect_too_slow(client: &mut Client) {
    let refused = client.read_response();
    assert_eq!(
        (refused.status, refused.text()),
        (408, "request body came too slowly\n")
    );
}

#[test]
fn a_body_is_judged_by_what_comes_of_it_in_each_span() {
    let (scenario, mut worker) = with(demanding());
    let [mut stops, mut sips, mut steady] = std::array::from_fn(|_| begin(&scenario));
    for _ in 0..2 {
        for client in [&mut stops, &mut sips, &mut steady] {
            send(&scenario, client, SENT);
        }
        scenario.pass(SPAN);
    }
    send(&scenario, &mut sips, SIP);
    send(&scenario, &mut steady, SENT);
    scenario.pass(SPAN);
    expect_too_slow(&mut stops);
    expect_too_slow(&mut sips);
    send(&scenario, &mut steady, BODY - 3 * SENT);
    worker.echo();
    assert_eq!(steady.read_response().status, 200);
}

/// A request that a worker has before its body, whose client sends `last` bytes in the third span.
fn upload(last: usize) {
    let mut settings = demanding();
    settings.stream_requests = true;
    let (scenario, mut worker) = with(settings);
    let mut client = begin(&scenario);
    let claimed = worker.claim();
    let take = |worker: &mut StubWorker, count| {
        let mut came = 0;
        while came < count {
            let (kind, about, piece) = worker.event();
            assert_eq!((kind, about), (EventKind::BodyChunk, claimed.stream));
            came += piece.len();
            let credit = encode_credit(u32::try_from(piece.len()).unwrap());
            worker.send(ResponseKind::Credit, claimed.stream, 0, &credit);
        }
    };
    let window = u32::try_from(SENT).unwrap();
    worker.send(
        ResponseKind::Credit,
        claimed.stream,
        0,
        &encode_credit(window),
    );
    for _ in 0..2 {
        send(&scenario, &mut client, SENT);
        take(&mut worker, SENT);
        scenario.pass(SPAN);
    }
    send(&scenario, &mut client, last);
    take(&mut worker, last);
    scenario.pass(SPAN);
    if last == SENT {
        send(&scenario, &mut client, BODY - 3 * SENT);
        take(&mut worker, BODY - 3 * SENT);
        worker.respond(&claimed, "all of it");
        assert_eq!(client.read_response().text(), "all of it");
    } else {
        assert_eq!(
            cancelled(&mut worker),
            (claimed.stream, CancelReason::BodyFault)
        );
        expect_too_slow(&mut client);
    }
}

#[test]
fn a_body_that_a_worker_takes_as_it_comes_is_judged_alike() {
    for last in [0, SIP, SENT] {
        upload(last);
    }
}

#[test]
fn a_client_is_not_slow_while_nobody_wants_its_body() {
    let mut settings = demanding();
    settings.stream_requests = true;
    let (scenario, mut worker) = with(settings);
    let mut client = scenario.connect();
    client.send("POST / HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    let claimed = worker.claim();
    for _ in 0..3 {
        scenario.pass(SPAN);
    }
    worker.send(ResponseKind::Credit, claimed.stream, 0, &encode_credit(2));
    assert_eq!(client.read_head().status, 100);
    client.send("ok");
    let (event, piece) = worker.event_with_flags();
    assert_eq!((event.kind, &piece[..]), (EventKind::BodyChunk, &b"ok"[..]));
    worker.respond(&claimed, "taken");
    assert_eq!(client.read_response().text(), "taken");
}
