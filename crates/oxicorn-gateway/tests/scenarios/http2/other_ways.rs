//! Into HTTP/2 by an upgrade, and out of it to a WebSocket.

use std::io::Read as _;

use h2::ext::Protocol;
use http::{Method, Request};
use oxicorn_gateway::WebSocket;
use oxicorn_link::wire::{EventKind, ResponseKind, Scheme, Version, WebSocketClose, flags};

use super::client::{Asked, Http2Client, RawHttp2, frame, request, uri};
use super::{http2, start};
use crate::scenario::{Scenario, eventually, header, response_head};
use crate::websocket;

const UPGRADE: &str = "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n\
                       HTTP2-Settings: AAMAAABkAAQAAP__\r\n";

const SWITCHED: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";

/// A connection on which this was asked, and the upgrade granted.
fn upgraded(scenario: &Scenario, asked: &str) -> RawHttp2 {
    let mut client = scenario.connect();
    client.send(asked);
    let mut answer = vec![0; SWITCHED.len()];
    client.stream.read_exact(&mut answer).unwrap();
    assert_eq!(String::from_utf8(answer).unwrap(), SWITCHED);
    let stream = client.stream.try_clone().unwrap();
    let mut client = RawHttp2 { stream };
    client.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    client.frame(4, 0, 0, &[0, 4, 0, 0, 255, 255]);
    client
}

fn upgrade() -> oxicorn_gateway::Settings {
    let mut settings = http2();
    if let Some(http2) = &mut settings.http2 {
        (http2.prior_knowledge, http2.upgrade) = (false, true);
    }
    settings
}

#[test]
fn a_request_that_asks_for_http2_becomes_its_first_stream() {
    let (scenario, mut worker) = start(upgrade());
    let mut client = upgraded(
        &scenario,
        &format!("GET /first?x HTTP/1.1\r\nHost: t\r\nX-One: 1\r\n{UPGRADE}\r\n"),
    );
    let claimed = worker.claim();
    assert_eq!(claimed.view().head.version, Version::Http2);
    assert_eq!(claimed.target(), "/first?x");
    let headers = claimed.view().headers;
    assert_eq!(header(headers, "host"), Some(&b"t"[..]));
    assert_eq!(header(headers, "x-one"), Some(&b"1"[..]));
    for gone in ["upgrade", "connection", "http2-settings"] {
        assert_eq!(header(headers, gone), None);
    }
    worker.respond(&claimed, "first");
    let (_, stream, body) = client.read_kind(0);
    assert_eq!((stream, &body[..]), (1, &b"first"[..]));
    client.frame(1, 5, 3, &request("GET", "/second"));
    worker.echo();
    let (_, stream, body) = client.read_kind(0);
    assert_eq!((stream, &body[..]), (3, &b"/second"[..]));
    let lines = scenario.access_log(2);
    assert!(
        lines[0].contains("\"GET /first?x HTTP/2.0\" 200 5 "),
        "{lines:?}"
    );
}

#[test]
fn its_body_goes_along() {
    for streams in [false, true] {
        let mut settings = upgrade();
        settings.stream_requests = streams;
        let (scenario, mut worker) = start(settings);
        let asked = format!("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 4\r\n{UPGRADE}\r\nbody");
        let mut client = upgraded(&scenario, &asked);
        let claimed = worker.claim();
        assert_eq!(claimed.view().head.method, b"POST");
        assert_eq!(claimed.view().body, b"body");
        worker.respond(&claimed, "here");
        assert_eq!(client.read_kind(0).1, 1);
    }
}

#[test]
fn who_may_not_have_it_is_served_as_before() {
    let mut untrusted = upgrade();
    untrusted.trust.forwarded_allow_ips = Vec::new();
    for settings in [untrusted, http2()] {
        let (scenario, mut worker) = start(settings);
        let mut client = scenario.connect();
        client.send(&format!("GET /old HTTP/1.1\r\nHost: t\r\n{UPGRADE}\r\n"));
        worker.echo();
        assert_eq!(client.read_response().text(), "/old");
    }
}

#[test]
fn who_does_not_go_on_after_an_upgrade_is_not_waited_for() {
    let mut settings = upgrade();
    settings.timeouts.head = std::time::Duration::from_secs(5);
    let mut scenario = Scenario::with_held_clock(settings);
    let _worker = scenario.ready_worker(1);
    let mut client = scenario.connect();
    client.send(&format!("GET / HTTP/1.1\r\nHost: t\r\n{UPGRADE}\r\n"));
    let mut answer = vec![0; SWITCHED.len()];
    client.stream.read_exact(&mut answer).unwrap();
    scenario.pass(std::time::Duration::from_secs(6));
    client.stream.read_to_end(&mut answer).unwrap();
    assert!(answer.starts_with(SWITCHED.as_bytes()));
}

/// Asks for a WebSocket on a stream (RFC 8441), once that is offered.
fn ask_websocket(client: &mut Http2Client, path: &str, headers: &[(&str, &str)]) -> Asked {
    eventually("extended CONNECT is offered", || {
        client.speaks_extended_connect()
    });
    let mut asked = Request::builder()
        .method(Method::CONNECT)
        .uri(uri(path))
        .header("sec-websocket-version", "13");
    for (name, value) in headers {
        asked = asked.header(*name, *value);
    }
    let mut asked = asked.body(()).unwrap();
    asked
        .extensions_mut()
        .insert(Protocol::from_static("websocket"));
    client.ask(asked, false)
}

#[test]
fn a_websocket_is_spoken_on_a_stream_beside_others() {
    let mut settings = http2();
    settings.websocket = Some(WebSocket::default());
    let (scenario, mut worker) = start(settings);
    let mut client = Http2Client::connect(&scenario);
    let mut asked = ask_websocket(&mut client, "/chat", &[("sec-websocket-protocol", "talk")]);
    let claimed = worker.claim();
    let head = claimed.view().head;
    assert_eq!((head.version, head.scheme), (Version::Http2, Scheme::Ws));
    assert_eq!(head.path, b"/chat");
    assert_eq!(header(claimed.view().headers, "upgrade"), None);
    let accept = response_head(101, &[("Sec-WebSocket-Protocol", "talk")]);
    worker.send(ResponseKind::WebSocketAccept, claimed.stream, 0, &accept);
    let answer = client.head(asked.response);
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["sec-websocket-protocol"], "talk");
    for none in ["upgrade", "connection", "sec-websocket-accept"] {
        assert!(!answer.headers().contains_key(none));
    }
    let mut answers = answer.into_body();
    for piece in websocket::frame(0x81, b"hello").chunks(3) {
        let piece = bytes::Bytes::copy_from_slice(piece);
        asked.body.send_data(piece, false).unwrap();
    }
    let (event, payload) = worker.event_with_flags();
    assert_eq!(
        (event.kind, &payload[..]),
        (EventKind::WebSocketMessage, &b"hello"[..])
    );
    let other = client.get("/other");
    worker.echo();
    assert_eq!(client.read(other.response).text(), "/other");
    worker.send(
        ResponseKind::WebSocketMessage,
        claimed.stream,
        flags::END,
        b"world",
    );
    let message = client.wait(answers.data()).unwrap().unwrap();
    assert_eq!(&message[..], b"\x81\x05world");
    // The application closes; both have said so, and the stream ends.
    let mut close = Vec::new();
    let said = WebSocketClose {
        code: 1000,
        reason: b"",
    };
    said.encode(&mut close);
    worker.send(
        ResponseKind::WebSocketClose,
        claimed.stream,
        flags::END,
        &close,
    );
    let message = client.wait(answers.data()).unwrap().unwrap();
    assert_eq!(&message[..], [0x88, 2, 3, 0xe8]);
    let answer = bytes::Bytes::from(websocket::frame(0x88, &[3, 0xe8]));
    asked.body.send_data(answer, false).unwrap();
    while let Some(rest) = client.wait(answers.data()) {
        assert!(rest.unwrap().is_empty());
    }
    assert!(answers.is_end_stream());
    let lines = scenario.access_log(2);
    assert!(
        lines[1].contains("\"GET /chat HTTP/2.0\" 200 "),
        "{lines:?}"
    );
}

#[test]
fn a_websocket_whose_stream_is_reset_is_gone() {
    let mut settings = http2();
    settings.websocket = Some(WebSocket::default());
    let (scenario, mut worker) = start(settings);
    let mut client = Http2Client::connect(&scenario);
    let mut asked = ask_websocket(&mut client, "/", &[]);
    let claimed = worker.claim();
    worker.send(
        ResponseKind::WebSocketAccept,
        claimed.stream,
        0,
        &response_head(101, &[]),
    );
    client.head(asked.response);
    asked.body.send_reset(h2::Reason::CANCEL);
    assert_eq!(worker.event().0, EventKind::Cancel);
}

#[test]
fn where_no_websockets_are_spoken_an_extended_connect_is_not_offered() {
    let (scenario, _worker) = start(http2());
    let mut client = RawHttp2::connect(&scenario);
    let (_, _, settings) = client.read_kind(4);
    assert!(settings.chunks(6).all(|one| one[..2] != [0, 8]));
    let block = super::client::fields(&[
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "t"),
        ("sec-websocket-version", "13"),
    ]);
    client.write(&frame(1, 4, 1, &block));
    let (kind, _, stream, _) = loop {
        let next = client.read().expect("an answer");
        if ![4, 8].contains(&next.0) {
            break next;
        }
    };
    assert_eq!((kind, stream), (3, 1), "a reset");
}
