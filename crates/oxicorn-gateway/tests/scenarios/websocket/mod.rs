//! Conversations: the handshake, messages both ways, what bounds them, and how they end.

mod closing;
mod limits;

use std::io::Write as _;
use std::time::Duration;

use oxicorn_gateway::control::{FromGateway, ToGateway};
use oxicorn_gateway::{Settings, WebSocket, WebSocketCompression};
use oxicorn_link::scoreboard::Counter;
use oxicorn_link::wire::{
    CancelReason, EventKind, ResponseKind, Scheme, WebSocketClose, decode_cancel, encode_abort,
    encode_credit, flags,
};
use oxicorn_link::{LinkParts, Sizes, StreamId};

use crate::scenario::{Client, Scenario, StubWorker, eventually, patient, response_head};

const HANDSHAKE: &str = "GET /chat HTTP/1.1\r\nHost: t\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";

const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;

fn settings() -> Settings {
    Settings {
        websocket: Some(WebSocket::default()),
        ..patient()
    }
}

/// A client's frame.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        len @ 0..126 => frame.push(0x80 | u8::try_from(len).unwrap()),
        len @ 126..65536 => {
            frame.push(0xfe);
            frame.extend(u16::try_from(len).unwrap().to_be_bytes());
        }
        len => {
            frame.push(0xff);
            frame.extend((len as u64).to_be_bytes());
        }
    }
    let key = [1, 2, 3, 4];
    frame.extend(key);
    frame.extend(payload.iter().zip(key.iter().cycle()).map(|(a, b)| a ^ b));
    frame
}

trait WebSocketClient {
    fn say(&mut self, first: u8, payload: &[u8]);
    fn hear(&mut self) -> (u8, Vec<u8>);
    fn expect(&mut self, first: u8, payload: &[u8]);
    fn expect_close(&mut self, code: u16);
}

impl WebSocketClient for Client {
    fn say(&mut self, first: u8, payload: &[u8]) {
        self.stream.write_all(&frame(first, payload)).unwrap();
    }

    fn hear(&mut self) -> (u8, Vec<u8>) {
        let head = self.take(2);
        let len = match head[1] {
            126 => usize::from(u16::from_be_bytes(self.take(2).try_into().unwrap())),
            127 => {
                let len = u64::from_be_bytes(self.take(8).try_into().unwrap());
                usize::try_from(len).unwrap()
            }
            len => usize::from(len),
        };
        (head[0], self.take(len))
    }

    fn expect(&mut self, first: u8, payload: &[u8]) {
        let (found, heard) = self.hear();
        assert_eq!(
            (found, heard.escape_ascii().to_string()),
            (first, payload.escape_ascii().to_string())
        );
    }

    fn expect_close(&mut self, code: u16) {
        let (found, heard) = self.hear();
        assert_eq!((found, &heard[..2]), (CLOSE, &code.to_be_bytes()[..]));
    }
}

/// A WebSocket that has begun.
fn open(scenario: &Scenario, worker: &mut StubWorker, more: &str) -> (Client, StreamId) {
    open_by(scenario.connect(), worker, more)
}

pub(crate) fn open_by(
    mut client: Client,
    worker: &mut StubWorker,
    more: &str,
) -> (Client, StreamId) {
    client.send(&format!("{HANDSHAKE}{more}\r\n"));
    let claimed = worker.claim();
    assert_eq!(claimed.view().head.scheme, Scheme::Ws);
    let accept = response_head(101, &[]);
    worker.send(ResponseKind::WebSocketAccept, claimed.stream, 0, &accept);
    let response = client.read_head();
    assert_eq!(response.status, 101);
    (client, claimed.stream)
}

fn start() -> (Scenario, StubWorker) {
    with(settings())
}

fn with(settings: Settings) -> (Scenario, StubWorker) {
    let mut scenario = Scenario::start(settings);
    let worker = scenario.ready_worker(10);
    scenario.tell(&ToGateway::ServeGeneration { generation: 1 });
    (scenario, worker)
}

/// Time passes only as the test says.
fn with_held_clock(settings: Settings) -> (Scenario, StubWorker) {
    let mut scenario = Scenario::with_held_clock(settings);
    let worker = scenario.ready_worker(10);
    (scenario, worker)
}

/// The next message from a client, whole.
fn message(worker: &mut StubWorker, stream: StreamId) -> (bool, Vec<u8>) {
    let mut whole = Vec::new();
    loop {
        let (event, payload) = worker.event_with_flags();
        assert_eq!(
            (event.kind, event.stream),
            (EventKind::WebSocketMessage, stream)
        );
        whole.extend(payload);
        if event.flags & flags::END != 0 {
            return (event.flags & flags::BINARY != 0, whole);
        }
    }
}

/// The next event about `stream`. A cancellation may be said twice (at once, and when a revocation
/// came too late), so one of another stream is passed over.
fn event_of(worker: &mut StubWorker, stream: StreamId) -> (EventKind, Vec<u8>) {
    loop {
        let (kind, found, payload) = worker.event();
        if found == stream {
            return (kind, payload);
        }
        assert_eq!(kind, EventKind::Cancel);
    }
}

fn expect_closed(worker: &mut StubWorker, stream: StreamId, code: u16, reason: Option<&str>) {
    let (kind, payload) = event_of(worker, stream);
    assert_eq!(kind, EventKind::WebSocketClose);
    let close = WebSocketClose::decode(&payload).unwrap();
    assert_eq!(close.code, code);
    assert!(reason.is_none_or(|reason| reason.as_bytes() == close.reason));
}

fn expect_cancelled(worker: &mut StubWorker, stream: StreamId, reason: CancelReason) {
    let (kind, payload) = event_of(worker, stream);
    assert_eq!(kind, EventKind::Cancel);
    assert_eq!(decode_cancel(&payload), Ok(reason));
}

fn close(worker: &mut StubWorker, stream: StreamId, code: u16, reason: &[u8], bits: u8) {
    let mut payload = Vec::new();
    WebSocketClose { code, reason }.encode(&mut payload);
    worker.send(ResponseKind::WebSocketClose, stream, bits, &payload);
}

#[test]
fn a_websocket_from_the_handshake_to_the_log() {
    let (scenario, mut worker) = start();
    let mut client = scenario.connect();
    client.send(&format!("{HANDSHAKE}Sec-WebSocket-Protocol: a, b\r\n\r\n"));
    let claimed = worker.claim();
    let stream = claimed.stream;
    let accept = response_head(
        101,
        &[
            ("Sec-WebSocket-Protocol", "b"),
            ("X-More", "1"),
            ("Sec-WebSocket-Accept", "not the application's"),
        ],
    );
    worker.send(ResponseKind::WebSocketAccept, stream, 0, &accept);
    let response = client.read_head();
    assert!(
        response
            .head
            .starts_with("HTTP/1.1 101 Switching Protocols\r\n")
    );
    assert_eq!(
        response.header("sec-websocket-accept"),
        Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    );
    assert_eq!(response.header("upgrade"), Some("websocket"));
    assert_eq!(response.header("connection"), Some("upgrade"));
    assert_eq!(response.header("sec-websocket-protocol"), Some("b"));
    assert_eq!(response.header("x-more"), Some("1"));
    assert_eq!(response.header("sec-websocket-extensions"), None);
    client.say(TEXT, b"hello");
    assert_eq!(message(&mut worker, stream), (false, b"hello".to_vec()));
    worker.send(
        ResponseKind::WebSocketMessage,
        stream,
        flags::END,
        b"hello back",
    );
    client.expect(TEXT, b"hello back");
    client.say(CLOSE, b"\x03\xe8bye");
    expect_closed(&mut worker, stream, 1000, Some("bye"));
    close(&mut worker, stream, 1000, b"", 0);
    expect_cancelled(&mut worker, stream, CancelReason::ClientGone);
    client.expect(CLOSE, b"\x03\xe8");
    client.expect_end();
    close(&mut worker, stream, 1000, b"", flags::END);
    let line = &scenario.access_log(1)[0];
    assert!(line.contains("\"GET /chat HTTP/1.1\" 101 10 "), "{line}");
}

#[test]
fn every_log_shows_the_request_also_without_the_gateways_own() {
    let mut settings = settings();
    settings.log_forwarding.access = true;
    let (scenario, mut worker) = with(settings);
    let (mut client, stream) = open(&scenario, &mut worker, "X-Request-ID: ab-12\r\n");
    client.say(CLOSE, b"\x03\xe8");
    expect_closed(&mut worker, stream, 1000, Some(""));
    close(&mut worker, stream, 1000, b"", flags::END);
    let wanted = |message: &FromGateway| matches!(message, FromGateway::Access(record) if record.request_target == "/chat");
    scenario.expect("the arbiter's record", wanted);
    let line = &scenario.log("access.json", 1)[0];
    for field in [r#""target":"/chat""#, r#""request_id":"ab-12""#] {
        assert!(line.contains(field), "{line}");
    }
}

#[test]
fn what_is_sent_with_the_handshake_is_read_after_it() {
    let (scenario, mut worker) = start();
    let mut client = scenario.connect();
    client.send(&format!("{HANDSHAKE}\r\n"));
    client.say(TEXT, b"eager");
    let claimed = worker.claim();
    let accept = response_head(101, &[]);
    worker.send(ResponseKind::WebSocketAccept, claimed.stream, 0, &accept);
    assert_eq!(client.read_head().status, 101);
    let heard = message(&mut worker, claimed.stream);
    assert_eq!(heard, (false, b"eager".to_vec()));
}

#[test]
fn handshakes_against_the_rules_are_refused() {
    let (scenario, _worker) = start();
    let mut client = scenario.connect();
    client.send(&HANDSHAKE.replace("Version: 13", "Version: 8"));
    client.send("\r\n");
    let response = client.read_response();
    assert_eq!(response.status, 426);
    assert_eq!(response.header("sec-websocket-version"), Some("13"));
    assert_eq!(response.header("upgrade"), Some("websocket"));
    let mut client = scenario.connect();
    client.send(&HANDSHAKE.replace("nonce", "x").replace("ZQ==", "=="));
    client.send("\r\n");
    assert_eq!(client.read_response().status, 400);
    assert_eq!(scenario.access_log(2).len(), 2);
}

#[test]
fn where_workers_do_not_speak_it_a_handshake_is_an_ordinary_request() {
    let (scenario, mut worker) = with(patient());
    let mut client = scenario.connect();
    client.send(&format!("{HANDSHAKE}\r\n"));
    let claimed = worker.claim();
    assert_eq!(claimed.view().head.scheme, Scheme::Http);
    worker.respond(&claimed, "plain");
    assert_eq!(client.read_response().text(), "plain");
}

#[test]
fn a_denial_is_an_ordinary_response() {
    let (scenario, mut worker) = start();
    let mut client = scenario.connect();
    client.send(&format!("{HANDSHAKE}\r\n"));
    let claimed = worker.claim();
    worker.head(
        claimed.stream,
        flags::END,
        403,
        &[("X-Why", "no")],
        b"go away",
    );
    let response = client.read_response();
    assert_eq!((response.status, response.text()), (403, "go away"));
    client.get("/next");
    worker.echo();
    assert_eq!(client.read_response().text(), "/next");
}

#[test]
fn messages_in_pieces_are_frames_of_one_message() {
    let (scenario, mut worker) = start();
    let (mut client, stream) = open(&scenario, &mut worker, "");
    client.say(0x02, b"one ");
    client.say(PING, b"?");
    client.say(0x80, b"two");
    client.expect(PONG, b"?");
    assert_eq!(message(&mut worker, stream), (true, b"one two".to_vec()));
    let say = |worker: &mut StubWorker, bits, piece: &[u8]| {
        worker.send(ResponseKind::WebSocketMessage, stream, bits, piece);
    };
    say(&mut worker, flags::BINARY, b"a");
    say(&mut worker, flags::BINARY, b"b");
    say(&mut worker, flags::BINARY | flags::END, b"c");
    say(&mut worker, flags::END, b"text");
    client.expect(0x02, b"a");
    client.expect(0x00, b"b");
    client.expect(0x80, b"c");
    client.expect(TEXT, b"text");
}

#[test]
fn a_slow_application_stops_the_client() {
    let (scenario, mut worker) = start();
    let (mut client, stream) = open(&scenario, &mut worker, "");
    // More than the sockets of both ends can hold.
    let whole = vec![b'x'; 12_000_000];
    let writer = std::thread::spawn({
        let mut stream = client.stream.try_clone().unwrap();
        let frame = frame(BINARY, &whole);
        move || stream.write_all(&frame).unwrap()
    });
    // What the worker has not asked for does not come.
    let mut came = Vec::new();
    while came.len() < 60_000 {
        came.extend(worker.event().2);
    }
    assert!(came.len() <= 64 << 10, "{}", came.len());
    assert!(!writer.is_finished());
    // A ping behind it is not read, and so not answered; the client is not given up for that.
    while came.len() < whole.len() {
        worker.send(ResponseKind::Credit, stream, 0, &encode_credit(50_000));
        let mut asked = 0;
        while asked < 40_000 && came.len() < whole.len() {
            let (event, payload) = worker.event_with_flags();
            asked += payload.len();
            came.extend(payload);
            assert_eq!(event.flags & flags::END != 0, came.len() == whole.len());
        }
    }
    writer.join().unwrap();
    assert!(came == whole);
    client.say(PING, b"");
    client.expect(PONG, b"");
}

#[test]
fn a_worker_is_credited_as_the_client_reads_and_bounded_until_then() {
    let (scenario, mut worker) = start();
    let (mut client, stream) = open(&scenario, &mut worker, "");
    let piece = vec![7; 30_000];
    let mut credit = 1_u64 << 20;
    let mut sent = 0;
    while credit >= 30_064 {
        worker.send(
            ResponseKind::WebSocketMessage,
            stream,
            flags::END | flags::BINARY,
            &piece,
        );
        credit -= 30_064;
        sent += 1;
    }
    for _ in 0..sent {
        assert_eq!(client.hear().1.len(), piece.len());
    }
    let (kind, ..) = worker.event();
    assert_eq!(kind, EventKind::Credit);
    // More than there is credit for is the worker's mistake: the WebSocket ends.
    let (mut client, stream) = open(&scenario, &mut worker, "");
    client.stream.set_nonblocking(false).unwrap();
    for _ in 0..200 {
        worker.send(ResponseKind::WebSocketMessage, stream, flags::END, &piece);
    }
    scenario.expect_error_log("more than it had credit for");
    loop {
        let (first, payload) = client.hear();
        if first == CLOSE {
            assert_eq!(payload, 1011_u16.to_be_bytes());
            break;
        }
    }
}

#[test]
fn a_client_that_breaks_a_rule_is_told_and_so_is_the_application() {
    let (scenario, mut worker) = start();
    for (bytes, code) in [
        (vec![0x81, 0x01, b'x'], 1002),
        (frame(0xc1, b"x"), 1002),
        (frame(0x80, b"x"), 1002),
        (frame(TEXT, b"\xff"), 1007),
        (frame(CLOSE, b"\x03\xed"), 1002),
    ] {
        let (mut client, stream) = open(&scenario, &mut worker, "");
        client.stream.write_all(&bytes).unwrap();
        expect_closed(&mut worker, stream, code, None);
        close(&mut worker, stream, 1000, b"", 0);
        client.expect_close(code);
        client.expect_end();
        expect_cancelled(&mut worker, stream, CancelReason::ClientGone);
        close(&mut worker, stream, 1000, b"", flags::END);
    }
    scenario.expect_error_log("frame without a mask");
}

#[test]
fn a_message_beyond_the_limit_is_refused() {
    let mut settings = settings();
    settings.websocket = Some(WebSocket {
        max_message_size: Some(10),
        ..WebSocket::default()
    });
    let (scenario, mut worker) = with(settings);
    let (mut client, stream) = open(&scenario, &mut worker, "");
    client.say(TEXT, b"0123456789");
    assert_eq!(message(&mut worker, stream).1, b"0123456789");
    client.say(TEXT, b"0123456789a");
    client.expect_close(1009);
}

#[test]
fn the_application_closes() {
    let (scenario, mut worker) = start();
    let (mut client, stream) = open(&scenario, &mut worker, "");
    worker.send(
        ResponseKind::WebSocketMessage,
        stream,
        flags::END,
        b"last words",
    );
    close(&mut worker, stream, 3001, b"why", flags::END);
    client.expect(TEXT, b"last words");
    client.expect(CLOSE, b"\x0b\xb9why");
    // What comes before the client's close is not for the application any more.
    client.say(TEXT, b"too late");
    client.say(CLOSE, b"\x0b\xb9");
    client.expect_end();
    assert!(scenario.access_log(1)[0].contains(" 101 10 "));
    client = scenario.connect();
    client.get("/");
    worker.echo();
    assert_eq!(client.read_response().text(), "/");
}

#[test]
fn a_client_that_does_not_answer_a_close_in_order_is_dropped_with_its_socket() {
    let (scenario, mut worker) = start();
    let (client, stream) = open(&scenario, &mut worker, "");
    drop(client);
    expect_cancelled(&mut worker, stream, CancelReason::ClientGone);
    scenario.wait_for_connections(0);
    assert!(scenario.access_log(1)[0].contains(" 101 0 "));
}

#[test]
fn a_client_that_leaves_during_the_handshake_is_gone() {
    let (scenario, mut worker) = start();
    let mut client = scenario.connect();
    client.send(&format!("{HANDSHAKE}\r\n"));
    let claimed = worker.claim();
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    expect_cancelled(&mut worker, claimed.stream, CancelReason::ClientGone);
    scenario.wait_for_connections(0);
}

#[test]
fn silent_clients_are_asked_and_given_up_and_websockets_have_no_time_limit() {
    let mut settings = settings();
    settings.timeouts.request = Duration::from_secs(2);
    settings.websocket = Some(WebSocket {
        ping_interval: Duration::from_secs(20),
        ping_timeout: Duration::from_secs(10),
        ..WebSocket::default()
    });
    let (scenario, mut worker) = with_held_clock(settings);
    let figures = scenario.scoreboard.gateway(0).unwrap();
    let (mut client, stream) = open(&scenario, &mut worker, "");
    for _ in 0..2 {
        scenario.pass(Duration::from_secs(20));
        client.expect(PING, b"");
        let before = figures.counter(Counter::BytesIn);
        scenario.pass(Duration::from_secs(9));
        client.say(PONG, b"");
        eventually("it is heard", || figures.counter(Counter::BytesIn) > before);
    }
    scenario.pass(Duration::from_secs(20));
    client.expect(PING, b"");
    scenario.pass(Duration::from_secs(10));
    client.expect_close(1011);
    client.expect_end();
    expect_closed(&mut worker, stream, 1011, Some("keepalive ping timeout"));
}

#[test]
fn a_worker_that_retires_closes_its_websockets() {
    let (scenario, mut worker) = start();
    let (mut client, stream) = open(&scenario, &mut worker, "");
    let mut late = scenario.connect();
    late.send(&format!("{HANDSHAKE}\r\n"));
    let claimed = worker.claim();
    scenario.tell(&ToGateway::RetireWorker {
        worker: worker.number,
    });
    expect_closed(&mut worker, stream, 1012, Some(""));
    client.expect_close(1012);
    client.say(CLOSE, b"\x03\xf4");
    client.expect_end();
    expect_cancelled(&mut worker, stream, CancelReason::ClientGone);
    // One that is accepted only now is closed at once.
    let accept = response_head(101, &[]);
    worker.send(ResponseKind::WebSocketAccept, claimed.stream, 0, &accept);
    assert_eq!(late.read_head().status, 101);
    late.expect_close(1012);
    for stream in [stream, claimed.stream] {
        close(&mut worker, stream, 1000, b"", flags::END);
    }
    let number = worker.number;
    scenario.expect("drained", |message| {
        *message == FromGateway::WorkerDrained { worker: number }
    });
}

#[test]
fn a_drain_closes_websockets() {
    let (mut scenario, mut worker) = start();
    let (mut client, stream) = open(&scenario, &mut worker, "");
    scenario.tell(&ToGateway::Drain { deadline_ms: 5000 });
    expect_closed(&mut worker, stream, 1012, Some(""));
    client.expect_close(1012);
    client.say(CLOSE, b"\x03\xf4");
    client.expect_end();
    assert_eq!(scenario.exit_code(), 0);
}

#[test]
fn a_client_that_ignores_the_end_is_cut_at_the_deadline() {
    let (mut scenario, mut worker) = start();
    let (mut client, _) = open(&scenario, &mut worker, "");
    scenario.tell(&ToGateway::Drain { deadline_ms: 300 });
    client.expect_close(1012);
    client.expect_end();
    assert_eq!(scenario.exit_code(), 0);
}

#[test]
fn a_lost_worker_is_an_internal_error() {
    let (scenario, mut worker) = start();
    let (mut client, _) = open(&scenario, &mut worker, "");
    let number = worker.number;
    drop(worker);
    scenario.tell(&ToGateway::WorkerGone { worker: number });
    client.expect_close(1011);
    client.say(CLOSE, b"\x03\xf3");
    client.expect_end();
}

#[test]
fn an_application_that_fails_is_an_internal_error() {
    let (scenario, mut worker) = start();
    let (mut client, stream) = open(&scenario, &mut worker, "");
    let reason = encode_abort(oxicorn_link::wire::AbortReason::ApplicationFailed);
    worker.send(ResponseKind::Abort, stream, 0, &reason);
    client.expect_close(1011);
}

#[test]
fn messages_without_an_accept_are_a_mistake() {
    let (scenario, mut worker) = start();
    let mut client = scenario.connect();
    client.send(&format!("{HANDSHAKE}\r\n"));
    let claimed = worker.claim();
    worker.send(
        ResponseKind::WebSocketMessage,
        claimed.stream,
        flags::END,
        b"x",
    );
    assert_eq!(client.read_response().status, 500);
    scenario.expect_error_log("unexpected message WebSocketMessage");
    // Nor is a 101 for who did not ask.
    let mut client = scenario.connect();
    client.get("/");
    let claimed = worker.claim();
    let accept = response_head(101, &[]);
    worker.send(ResponseKind::WebSocketAccept, claimed.stream, 0, &accept);
    assert_eq!(client.read_response().status, 500);
}

#[test]
fn a_flood_of_pings_is_not_answered_into_memory() {
    let (scenario, mut worker) = start();
    let (client, _) = open(&scenario, &mut worker, "");
    let mut socket = client.stream.try_clone().unwrap();
    let pings = frame(PING, &[b'p'; 100]).repeat(100_000);
    let writer = std::thread::spawn(move || socket.write_all(&pings).is_ok());
    // It goes on only as the client reads.
    let figures = scenario.scoreboard.gateway(0).unwrap();
    let mut before = 0;
    eventually("the gateway stops reading", || {
        std::thread::sleep(Duration::from_millis(100));
        let read = figures.counter(Counter::BytesIn);
        std::mem::replace(&mut before, read) == read && read > 100_000
    });
    assert!(!writer.is_finished());
    let mut client = client;
    for _ in 0..100_000 {
        client.expect(PONG, &[b'p'; 100]);
    }
    assert!(writer.join().unwrap());
}

#[test]
fn messages_are_compressed_where_that_was_agreed_on() {
    for (compression, agreed) in [
        (WebSocketCompression::Off, None),
        (
            WebSocketCompression::Shared,
            Some("permessage-deflate; server_no_context_takeover; client_no_context_takeover"),
        ),
        (WebSocketCompression::Dedicated, Some("permessage-deflate")),
    ] {
        let mut settings = settings();
        settings.websocket = Some(WebSocket {
            compression,
            ..WebSocket::default()
        });
        let (scenario, mut worker) = with(settings);
        let mut client = scenario.connect();
        let offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits";
        client.send(&format!("{HANDSHAKE}{offer}\r\n\r\n"));
        let stream = worker.claim().stream;
        let accept = response_head(101, &[("Sec-WebSocket-Extensions", "x-not-agreed")]);
        worker.send(ResponseKind::WebSocketAccept, stream, 0, &accept);
        let head = client.read_head();
        assert_eq!(head.header("sec-websocket-extensions"), agreed);
        worker.send(
            ResponseKind::WebSocketMessage,
            stream,
            flags::END,
            &[b'a'; 5000],
        );
        let (first, payload) = client.hear();
        if agreed.is_some() {
            assert_eq!(first, TEXT | 0x40);
            assert!(payload.len() < 100);
            // "Hello", of RFC 7692 section 7.2.3.1.
            client.say(TEXT | 0x40, &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]);
            assert_eq!(message(&mut worker, stream).1, b"Hello");
        } else {
            assert_eq!((first, payload.len()), (TEXT, 5000));
        }
    }
}

#[test]
fn what_a_few_bytes_inflate_to_comes_whole_as_there_is_room() {
    let (scenario, mut worker) = start();
    let offer = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
    let (mut client, stream) = open(&scenario, &mut worker, offer);
    // 200,000 zeros as zlib compresses them.
    let deflated = [
        &b"\xec\xc1\x31\x01\0\0\0\xc2\xa0\xf5\x4f\x6d\x06\x7f\xa0"[..],
        &[0; 193],
        b"\x80\xd7\0",
    ]
    .concat();
    client.say(BINARY | 0x40, &deflated);
    let mut came = Vec::new();
    loop {
        let (event, piece) = worker.event_with_flags();
        assert_eq!(event.kind, EventKind::WebSocketMessage);
        worker.send(
            ResponseKind::Credit,
            stream,
            0,
            &encode_credit(u32::try_from(piece.len()).unwrap() + 64),
        );
        came.extend(piece);
        if event.flags & flags::END != 0 {
            break;
        }
    }
    assert!(came == vec![0; 200_000]);
}

#[test]
fn a_new_gateway_does_not_know_the_websockets_of_the_old_one() {
    let parts = LinkParts::create(Sizes::default()).unwrap();
    let mut first = Scenario::start(settings());
    let mut worker = first.attach(&parts, 10, 1);
    first.tell(&ToGateway::WorkerReady {
        worker: worker.number,
    });
    first.tell(&ToGateway::ServeGeneration { generation: 1 });
    let (mut client, stream) = open(&first, &mut worker, "");
    drop(first);
    client.read_to_end();
    let second = Scenario::start(settings());
    second.attach_again(&parts, worker.number, 10, 1);
    second.tell(&ToGateway::WorkerReady {
        worker: worker.number,
    });
    second.tell(&ToGateway::ServeGeneration { generation: 1 });
    let (mut client, fresh) = open(&second, &mut worker, "");
    // Late messages of the old WebSocket reach nobody.
    worker.send(ResponseKind::WebSocketMessage, stream, flags::END, b"old");
    worker.send(ResponseKind::WebSocketMessage, fresh, flags::END, b"new");
    client.expect(TEXT, b"new");
}
