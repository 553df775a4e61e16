//! Windows in both directions: who is slow holds nobody else.

use std::time::Duration;

use bytes::Bytes;
use oxicorn_link::scoreboard::Counter;
use oxicorn_link::window::REQUEST_WINDOW;
use oxicorn_link::wire::{EventKind, ResponseKind, encode_credit, flags};

use super::client::{Http2Client, RawHttp2, request};
use super::{http2, start};
use crate::scenario::{Scenario, eventually, pattern};

#[test]
fn a_stream_that_is_not_read_holds_neither_others_nor_the_worker() {
    let (scenario, mut worker) = start(http2());
    // A client that gives its connection more room than each stream.
    let mut builder = h2::client::Builder::new();
    builder.initial_connection_window_size(1 << 20);
    let mut client = Http2Client::with(&scenario, &builder);
    let slow = client.get("/slow");
    let claimed = worker.claim();
    worker.head(claimed.stream, 0, 200, &[], b"");
    // More than all windows together; the rest goes to a file.
    let piece = vec![b'x'; 64 * 1024];
    for _ in 0..40 {
        worker.send(ResponseKind::BodyChunk, claimed.stream, 0, &piece);
    }
    worker.send(ResponseKind::BodyChunk, claimed.stream, flags::END, b"");
    let head = client.head(slow.response);
    for n in 0..20 {
        let quick = client.get(&format!("/{n}"));
        worker.echo();
        assert_eq!(client.read(quick.response).text(), format!("/{n}"));
    }
    let mut body = head.into_body();
    let mut length = 0;
    while let Some(data) = client.wait(body.data()) {
        let data = data.unwrap();
        length += data.len();
        body.flow_control().release_capacity(data.len()).unwrap();
    }
    assert_eq!(length, 40 * piece.len());
}

#[test]
fn long_bodies_pass_whole_in_both_directions() {
    let (scenario, mut worker) = start(http2());
    let mut client = Http2Client::connect(&scenario);
    let body = pattern(0, 300_000);
    let mut asked = client.post("/");
    client.send(&mut asked, &body, true);
    let claimed = worker.claim();
    worker.head(claimed.stream, 0, 200, &[], b"");
    for piece in body.chunks(50_000) {
        worker.send(ResponseKind::BodyChunk, claimed.stream, 0, piece);
    }
    worker.send(ResponseKind::BodyChunk, claimed.stream, flags::END, b"");
    assert_eq!(client.read(asked.response).body, body);
    // Each byte is counted once, though it passes a stream and its connection.
    let once = body.len() as u64..body.len() as u64 * 11 / 10;
    let figures = scenario.scoreboard.gateway(0).unwrap();
    for counter in [Counter::BytesIn, Counter::BytesOut] {
        eventually(&format!("{counter:?} is that of the bodies"), || {
            once.contains(&figures.counter(counter))
        });
    }
}

/// Sent straight out of the worker's ring as far as the client's window goes, and from memory as it grows.
#[test]
fn a_long_answer_in_one_message_passes_a_window_whole() {
    let (scenario, mut worker) = start(http2());
    let mut client = Http2Client::connect(&scenario);
    for length in [16_384, 65_535, 65_536, 200_000] {
        let asked = client.get("/");
        let claimed = worker.claim();
        let body = pattern(length, length);
        worker.head(claimed.stream, flags::END, 200, &[], &body);
        assert!(client.read(asked.response).body == body, "{length} bytes");
        let asked = client.get("/");
        let claimed = worker.claim();
        worker.head(claimed.stream, 0, 200, &[], &body);
        worker.send(ResponseKind::BodyChunk, claimed.stream, 0, &body);
        worker.send(ResponseKind::BodyChunk, claimed.stream, flags::END, b"end");
        let whole = [&body[..], &body, b"end"].concat();
        assert!(client.read(asked.response).body == whole, "{length} bytes");
    }
}

/// h2 has a budget for short frames of body that nobody takes, and ends the connection beyond it.
#[test]
fn short_pieces_for_an_application_that_does_not_read_cost_no_connection() {
    let mut settings = http2();
    settings.stream_requests = true;
    let (scenario, mut worker) = start(settings);
    let mut client = Http2Client::connect(&scenario);
    let mut asked = client.post("/slow");
    let count = 20_000;
    for _ in 0..count {
        asked
            .body
            .send_data(Bytes::from_static(b"x"), false)
            .unwrap();
    }
    let claimed = worker.claim();
    // Meanwhile others are served.
    let other = client.get("/other");
    worker.echo();
    assert_eq!(client.read(other.response).text(), "/other");
    asked.body.send_data(Bytes::new(), true).unwrap();
    let credit = encode_credit(REQUEST_WINDOW);
    worker.send(ResponseKind::Credit, claimed.stream, 0, &credit);
    let mut received = 0;
    loop {
        let (event, payload) = worker.event_with_flags();
        received += payload.len();
        let ends = event.flags & flags::END != 0 || event.kind == EventKind::BodyEnd;
        if ends {
            break;
        }
    }
    assert_eq!(received, count);
    worker.respond(&claimed, "all");
    assert_eq!(client.read(asked.response).text(), "all");
}

#[test]
fn a_window_that_stays_shut_ends_its_stream_alone() {
    let mut settings = http2();
    settings.timeouts.write = Duration::from_secs(5);
    let mut scenario = Scenario::with_held_clock(settings);
    let mut worker = scenario.ready_worker(8);
    let mut client = RawHttp2::connect(&scenario);
    // No room for any body on new streams, but for one that is given some.
    client.frame(4, 0, 0, &[0, 4, 0, 0, 0, 0]);
    client.frame(1, 5, 1, &request("GET", "/shut"));
    client.frame(1, 5, 3, &request("GET", "/open"));
    client.frame(8, 0, 3, &[0, 0, 1, 0]);
    worker.echo();
    worker.echo();
    let (_, stream, body) = client.read_kind(0);
    assert_eq!((stream, &body[..]), (3, &b"/open"[..]));
    scenario.pass(Duration::from_secs(1));
    scenario.pass(Duration::from_secs(6));
    let (_, stream, code) = client.read_kind(3);
    assert_eq!((stream, code[3]), (1, 8), "CANCEL");
    scenario.expect_error_log("it takes its response too slowly");
    // The connection lives.
    client.frame(1, 5, 5, &request("HEAD", "/"));
    worker.echo();
    assert_eq!(client.read_kind(1).1, 5);
}

#[test]
fn an_upload_that_nobody_reads_holds_up_no_other() {
    let mut settings = http2();
    settings.stream_requests = true;
    let (scenario, mut worker) = start(settings);
    let mut client = Http2Client::connect(&scenario);
    // As much as the windows of several streams have room for, and nobody takes it.
    let mut held = Vec::new();
    for n in 0..5 {
        let mut asked = client.post(&format!("/{n}"));
        client.send(&mut asked, &pattern(0, 60_000), false);
        held.push((asked, worker.claim()));
    }
    let mut asked = client.post("/quick");
    client.send(&mut asked, &pattern(0, 50_000), true);
    let claimed = worker.claim();
    let credit = encode_credit(REQUEST_WINDOW);
    worker.send(ResponseKind::Credit, claimed.stream, 0, &credit);
    // What has come whole by the time it is given to the worker goes along.
    let mut received = claimed.view().body.len();
    while received < 50_000 {
        let (event, payload) = worker.event_with_flags();
        assert_eq!(event.stream, claimed.stream);
        received += payload.len();
    }
    assert_eq!(received, 50_000);
    worker.respond(&claimed, "taken");
    assert_eq!(client.read(asked.response).text(), "taken");
}
