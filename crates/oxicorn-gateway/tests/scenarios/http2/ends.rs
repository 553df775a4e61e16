//! Ends of streams and of connections, from either side.

use std::time::Duration;

use h2::Reason;
use oxicorn_gateway::control::{FromGateway, ToGateway};
use oxicorn_link::wire::{CancelReason, EventKind, ResponseKind, decode_cancel, flags};

use super::client::{Http2Client, RawHttp2, request};
use super::{http2, start};
use crate::scenario::{Scenario, eventually};

#[test]
fn a_stream_that_is_reset_is_cancelled_alone() {
    let (scenario, mut worker) = start(http2());
    let mut client = Http2Client::connect(&scenario);
    let (mut gone, stays) = (client.get("/gone"), client.get("/stays"));
    let (first, second) = (worker.claim(), worker.claim());
    gone.body.send_reset(Reason::CANCEL);
    let (kind, stream, payload) = worker.event();
    assert_eq!((kind, stream), (EventKind::Cancel, first.stream));
    assert_eq!(decode_cancel(&payload).unwrap(), CancelReason::ClientGone);
    worker.respond(&second, "here");
    assert_eq!(client.read(stays.response).text(), "here");
    let lines = scenario.access_log(2);
    assert!(
        lines[0].contains("\"GET /gone HTTP/2.0\" 499 "),
        "{lines:?}"
    );
}

#[test]
fn a_connection_that_is_cut_cancels_its_streams() {
    let (scenario, mut worker) = start(http2());
    let mut client = RawHttp2::connect(&scenario);
    for stream in [1, 3] {
        client.frame(1, 5, stream, &request("GET", "/"));
    }
    let claimed = [worker.claim(), worker.claim()];
    drop(client);
    for _ in claimed {
        assert_eq!(worker.event().0, EventKind::Cancel);
    }
    scenario.wait_for_connections(0);
}

#[test]
fn a_lost_worker_is_a_502_on_its_streams() {
    let (mut scenario, mut worker) = start(http2());
    let mut client = Http2Client::connect(&scenario);
    let (whole, begun) = (client.get("/whole"), client.get("/begun"));
    let _first = worker.claim();
    let second = worker.claim();
    worker.head(second.stream, 0, 200, &[], b"some");
    let number = worker.number;
    // The head is on its way before the worker goes.
    let begun = client.head(begun.response);
    drop(worker);
    scenario.tell(&ToGateway::WorkerGone { worker: number });
    assert_eq!(client.read(whole.response).status, 502);
    let mut body = begun.into_body();
    let error = loop {
        match client.wait(body.data()).expect("more, or an error") {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR));
    // The connection is as good as before.
    let mut other = scenario.ready_worker(1);
    let again = client.get("/again");
    other.echo();
    assert_eq!(client.read(again.response).text(), "/again");
}

#[test]
fn a_stop_finishes_what_is_under_way_and_takes_nothing_new() {
    let (mut scenario, mut worker) = start(http2());
    let mut client = Http2Client::connect(&scenario);
    let asked = client.get("/before");
    let claimed = worker.claim();
    scenario.tell(&ToGateway::Drain {
        deadline_ms: 60_000,
    });
    eventually("nobody listens any more", || {
        std::net::TcpStream::connect(scenario.address).is_err()
    });
    worker.respond(&claimed, "finished");
    assert_eq!(client.read(asked.response).text(), "finished");
    assert_eq!(client.end_reason(), None);
    scenario.expect("drained", |message| *message == FromGateway::Drained);
    assert_eq!(scenario.exit_code(), 0);
}

#[test]
fn a_connection_without_streams_ends_after_keep_alive() {
    let mut settings = http2();
    settings.timeouts.keep_alive = Duration::from_secs(5);
    let mut scenario = Scenario::with_held_clock(settings);
    let mut worker = scenario.ready_worker(1);
    let mut client = RawHttp2::connect(&scenario);
    client.frame(1, 5, 1, &request("GET", "/"));
    worker.echo();
    let end_stream = 1;
    while client.read_kind(0).0 & end_stream == 0 {}
    client.said_by_now();
    scenario.pass(Duration::from_secs(4));
    let go_away = 7;
    assert!(!client.said_by_now().contains(&go_away));
    scenario.pass(Duration::from_secs(2));
    let (_, _, payload) = client.read_kind(7);
    assert_eq!(
        payload[..8],
        [0, 0, 0, 1, 0, 0, 0, 0],
        "the last stream, no error"
    );
    assert!(client.read().is_none());
    drop(client);
    scenario.wait_for_connections(0);
}

#[test]
fn a_late_answer_is_a_504_on_its_stream() {
    let mut settings = http2();
    settings.timeouts.request = Duration::from_secs(30);
    let mut scenario = Scenario::with_held_clock(settings);
    let mut worker = scenario.ready_worker(1);
    let mut client = Http2Client::connect(&scenario);
    let asked = client.get("/late");
    let _claimed = worker.claim();
    scenario.pass(Duration::from_secs(1));
    scenario.pass(Duration::from_secs(31));
    assert_eq!(client.read(asked.response).status, 504);
    let line = &scenario.access_log(1)[0];
    assert!(line.contains("\"GET /late HTTP/2.0\" 504 "), "{line}");
}

#[test]
fn an_answer_before_the_end_of_the_body_ends_the_stream_without_an_error() {
    let mut settings = http2();
    settings.stream_requests = true;
    let (scenario, mut worker) = start(settings);
    let mut client = RawHttp2::connect(&scenario);
    client.frame(1, 4, 1, &request("POST", "/"));
    client.frame(0, 0, 1, b"some");
    let claimed = worker.claim();
    worker.head(claimed.stream, flags::END, 200, &[], b"enough");
    let (bits, stream, body) = client.read_kind(0);
    assert_eq!((bits & 1, stream, &body[..]), (1, 1, &b"enough"[..]));
    let (_, stream, code) = client.read_kind(3);
    assert_eq!((stream, &code[..]), (1, &[0, 0, 0, 0][..]), "NO_ERROR");
}

#[test]
fn a_response_that_breaks_off_is_a_reset() {
    let (scenario, mut worker) = start(http2());
    let mut client = Http2Client::connect(&scenario);
    let asked = client.get("/");
    let claimed = worker.claim();
    worker.head(claimed.stream, 0, 200, &[("Content-Length", "10")], b"some");
    worker.send(ResponseKind::BodyChunk, claimed.stream, flags::END, b"");
    let error = client.try_read(asked.response).unwrap_err();
    assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR));
    scenario.expect_error_log("Error handling request GET / HTTP/2.0");
}
