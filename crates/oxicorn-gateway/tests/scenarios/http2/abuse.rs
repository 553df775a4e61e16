//! Floods: each has a bound, a line in the log, and harms nobody else.

use super::client::{Http2Client, RawHttp2, frame, request};
use super::{http2, start};
use crate::scenario::{Scenario, StubWorker};

/// `ENHANCE_YOUR_CALM`
const CALM: u8 = 11;

/// Sends `flood` until the server has enough of it; others are served meanwhile and afterwards.
fn flooded(flood: impl Fn(u32) -> Vec<u8>, count: u32, told: &str) {
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
    serve_one(&scenario, &mut worker, &mut other);
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
    flooded(reset, 400, "Invalid HTTP/2 from ip=127.0.0.1");
}

#[test]
fn frames_that_ask_for_nothing() {
    flooded(
        |_| frame(6, 0, 0, &[7; 8]),
        2000,
        "frames that ask for nothing",
    );
    flooded(|_| frame(4, 0, 0, &[]), 2000, "frames that ask for nothing");
    flooded(
        |_| frame(2, 0, 5, &[0, 0, 0, 0, 1]),
        2000,
        "frames that ask for nothing",
    );
}

#[test]
fn updates_of_windows() {
    let update = |_| frame(8, 0, 0, &[0, 0, 0, 1]).repeat(100);
    flooded(update, 200, "updates of windows");
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
