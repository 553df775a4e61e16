//! Floods: each has a bound, a line in the log, and harms nobody else.

use oxicorn_link::scoreboard::Counter;

use super::client::{Http2Client, RawHttp2, fields, frame, request};
use super::{http2, start};
use crate::scenario::{Scenario, StubWorker, eventually};

/// `ENHANCE_YOUR_CALM`
const CALM: u8 = 11;

/// Sends `flood` until the server has enough of it; others are served meanwhile and afterwards.
fn flooded(flood: impl Fn(u32) -> Vec<u8>, count: u32, (told, counter): (&str, Counter)) {
    let (scenario, mut worker) = start(http2());
    let mut other = Http2Client::connect(&scenario);
    let mut client = RawHttp2::connect(&scenario);
    for n in 0..count {
        use std::io::Write as _;
        // It may have enough before the last.
        if client.stream.write_all(&flood(n)).is_err() {
            break;
        }
    }
    let (_, _, payload) = client.read_kind(7);
    assert_eq!(payload[7], CALM);
    scenario.expect_error_log(told);
    expect_counted(&scenario, counter);
    serve_one(&scenario, &mut worker, &mut other);
}

/// One connection was ended for this kind of flood, and none for another.
fn expect_counted(scenario: &Scenario, expected: Counter) {
    const KINDS: [Counter; 6] = [
        Counter::Http2Resets,
        Counter::Http2Malformed,
        Counter::Http2Continuations,
        Counter::Http2Control,
        Counter::Http2WindowUpdates,
        Counter::Http2HeaderLists,
    ];
    let figures = scenario.scoreboard.gateway(0).expect("a gateway");
    eventually("it is counted", || figures.counter(expected) > 0);
    for kind in KINDS {
        let number = u64::from(kind == expected);
        assert_eq!(figures.counter(kind), number, "{kind:?}");
    }
}

fn serve_one(_scenario: &Scenario, worker: &mut StubWorker, other: &mut Http2Client) {
    let asked = other.get("/other");
    loop {
        let claimed = worker.claim();
        let target = claimed.target().to_owned();
        worker.respond(&claimed, &target);
        if target == "/other" {
            break;
        }
    }
    assert_eq!(other.read(asked.response).text(), "/other");
}

#[test]
fn rapid_resets() {
    let reset = |n: u32| {
        let stream = 2 * n + 1;
        let open = frame(1, 5, stream, &request("GET", "/"));
        [open, frame(3, 0, stream, &[0, 0, 0, 8])].concat()
    };
    flooded(
        reset,
        400,
        (
            "more than 200 streams reset in 10 seconds",
            Counter::Http2Resets,
        ),
    );
}

#[test]
fn who_resets_some_at_once_goes_on() {
    let (scenario, mut worker) = start(http2());
    let mut client = RawHttp2::connect(&scenario);
    let mut all = Vec::new();
    for n in 0..100 {
        all.extend(frame(1, 5, 2 * n + 1, &request("GET", "/left")));
        all.extend(frame(3, 0, 2 * n + 1, &[0, 0, 0, 8]));
    }
    all.extend(frame(1, 5, 201, &request("GET", "/stays")));
    client.write(&all);
    loop {
        let claimed = worker.claim();
        worker.respond(&claimed, "ok");
        if claimed.target() == "/stays" {
            break;
        }
    }
    assert_eq!(client.read_kind(1).1, 201);
}

#[test]
fn malformed_requests() {
    let malformed = [request("GET", "/"), fields(&[("connection", "close")])].concat();
    let many = |n: u32| {
        let one = |k: u32| frame(1, 5, 2 * (100 * n + k) + 1, &malformed);
        (0..100).flat_map(one).collect()
    };
    flooded(
        many,
        20,
        (
            "more than 1000 malformed requests in 10 seconds",
            Counter::Http2Malformed,
        ),
    );
}

#[test]
fn heads_in_very_many_pieces() {
    let piece = |n: u32| match n {
        0 => frame(1, 1, 1, &request("GET", "/")),
        _ => frame(9, 0, 1, &fields(&[("x", "1")])),
    };
    flooded(
        piece,
        100,
        (
            "too many CONTINUATION frames in a head",
            Counter::Http2Continuations,
        ),
    );
}

/// A field of 4000 bytes that is entered into the table, and its entry so many times, with a byte each.
fn list_of(count: usize) -> Vec<u8> {
    let mut block = request("GET", "/");
    block.extend(b"\x40\x01x\x7f");
    // 4000 - 127 = 30 * 128 + 33
    block.extend([0xa1, 30]);
    block.extend([b'v'; 4000]);
    block.extend(vec![0xbe; count]);
    block
}

#[test]
fn lists_that_are_far_too_long_are_refused_and_told() {
    let (scenario, mut worker) = start(http2());
    let mut client = RawHttp2::connect(&scenario);
    client.frame(1, 5, 1, &list_of(100));
    assert_eq!(client.read_kind(1).1, 1);
    assert!(!scenario.has_logged("far longer"), "an answer of ours");
    client.frame(1, 5, 3, &list_of(300));
    assert_eq!(client.read_kind(1).1, 3);
    scenario.expect_error_log("1 request(s) answered with 431, since their headers are far longer");
    client.frame(1, 5, 5, &request("GET", "/other"));
    let claimed = worker.claim();
    worker.respond(&claimed, "ok");
    assert_eq!(client.read_kind(1).1, 5, "the connection goes on");
}

#[test]
fn bombs_of_fields() {
    let (scenario, mut worker) = start(http2());
    let mut other = Http2Client::connect(&scenario);
    let mut client = RawHttp2::connect(&scenario);
    client.frame(1, 5, 1, &list_of(12_000));
    let (_, _, payload) = client.read_kind(7);
    assert_eq!(payload[7], CALM);
    scenario.expect_error_log("far longer than http2_max_header_list_size: closing the connection");
    expect_counted(&scenario, Counter::Http2HeaderLists);
    serve_one(&scenario, &mut worker, &mut other);
}

#[test]
fn more_streams_than_are_permitted() {
    let mut settings = http2();
    if let Some(http2) = &mut settings.http2 {
        http2.max_concurrent_streams = 2;
    }
    let (scenario, _worker) = start(settings);
    let mut client = RawHttp2::connect(&scenario);
    for stream in [1, 3, 5] {
        client.frame(1, 5, stream, &request("GET", "/"));
    }
    let (_, stream, code) = client.read_kind(3);
    assert_eq!((stream, code[3]), (5, 7));
    scenario.expect_error_log("1 request(s) refused, since the client has more under way");
}

#[test]
fn frames_that_ask_for_nothing() {
    flooded(
        |_| frame(6, 0, 0, &[7; 8]),
        2000,
        ("frames that ask for nothing", Counter::Http2Control),
    );
    flooded(
        |_| frame(4, 0, 0, &[]),
        2000,
        ("frames that ask for nothing", Counter::Http2Control),
    );
    flooded(
        |_| frame(2, 0, 5, &[0, 0, 0, 0, 1]),
        2000,
        ("frames that ask for nothing", Counter::Http2Control),
    );
}

#[test]
fn updates_of_windows() {
    let update = |_| frame(8, 0, 0, &[0, 0, 0, 1]).repeat(100);
    flooded(
        update,
        200,
        ("updates of windows", Counter::Http2WindowUpdates),
    );
}

#[test]
fn what_h2_resets_by_itself_is_told() {
    let (scenario, _worker) = start(http2());
    let mut client = RawHttp2::connect(&scenario);
    client.frame(1, 5, 1, &request("GET", "no-slash and a space"));
    let (_, stream, code) = client.read_kind(3);
    assert_eq!((stream, code[3]), (1, 1));
    scenario.expect_error_log("Invalid HTTP/2 from ip=127.0.0.1: 1 stream(s) reset");
}

#[test]
fn what_breaks_the_protocol_ends_the_connection_and_is_told() {
    let (scenario, _worker) = start(http2());
    let mut client = RawHttp2::connect(&scenario);
    // DATA on the connection.
    client.frame(0, 0, 0, b"x");
    let (_, _, payload) = client.read_kind(7);
    assert_eq!(payload[7], 1);
    scenario.expect_error_log("Invalid HTTP/2 from ip=127.0.0.1: PROTOCOL_ERROR");
    scenario.wait_for_connections(0);
}
