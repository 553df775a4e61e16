//! What workers may answer, and what clients see of it.

use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use oxicorn_gateway::AccessLog;
use oxicorn_link::StreamId;
use oxicorn_link::scoreboard::Counter;
use oxicorn_link::window::{RESPONSE_PIECE, RESPONSE_WINDOW, SendWindow};
use oxicorn_link::wire::{
    AbortReason, EventKind, FilePart, HeaderList, ResponseKind, decode_credit, encode_abort, flags,
};

use crate::scenario::{Client, PATIENCE, Scenario, StubWorker, patient, pattern, response_head};

/// Output that the gateway does not hold back.
const SEND_FROM: usize = 64 << 10;

#[test]
fn streams_a_response_in_chunks() {
    let (scenario, mut worker) = Scenario::with_worker(patient());
    let mut client = scenario.connect();
    client.get("/");
    let claimed = worker.claim();
    worker.head(claimed.stream, 0, 200, &[("X-A", "b")], b"");
    let head = client.read_head();
    assert_eq!(head.header("transfer-encoding"), Some("chunked"));
    for piece in ["one", "two", "three"] {
        worker.send(ResponseKind::BodyChunk, claimed.stream, 0, piece.as_bytes());
        assert_eq!(client.read_chunk().unwrap(), piece.as_bytes());
    }
    worker.send(ResponseKind::BodyChunk, claimed.stream, flags::END, b"");
    assert_eq!(client.read_chunk(), None);
    assert!(scenario.access_log(1)[0].contains(" 200 11 "));
}

#[test]
fn sends_trailers_after_chunks() {
    let (scenario, mut worker) = Scenario::with_worker(patient());
    let mut client = scenario.connect();
    // Who has not asked for them gets the end without them.
    for (asks, rest) in [
        ("TE: trailers\r\n", "1\r\nx\r\n0\r\nX-Sum: 7\r\n\r\n"),
        ("", "1\r\nx\r\n0\r\n\r\n"),
    ] {
        client.send(&format!("GET / HTTP/1.1\r\nHost: t\r\n{asks}\r\n"));
        let claimed = worker.claim();
        worker.head(claimed.stream, 0, 200, &[], b"x");
        let mut trailers = Vec::new();
        HeaderList::encode_entry(&mut trailers, b"X-Sum", b"7");
        worker.send(ResponseKind::Trailers, claimed.stream, 0, &trailers);
        client.read_head();
        assert_eq!(client.take(rest.len()), rest.as_bytes());
    }
}

#[test]
fn sends_early_hints() {
    let (scenario, mut worker) = Scenario::with_worker(patient());
    let mut client = scenario.connect();
    client.get("/");
    let claimed = worker.claim();
    let hints = response_head(103, &[("Link", "</a.css>; rel=preload")]);
    worker.send(ResponseKind::Informational, claimed.stream, 0, &hints);
    let response = client.read_head();
    assert_eq!(
        (response.status, response.header("link").is_some()),
        (103, true)
    );
    worker.respond(&claimed, "body");
    assert_eq!(client.read_response().text(), "body");
}

#[test]
fn a_slow_reader_holds_the_worker_at_its_window_and_gets_everything() {
    // In pieces that are mostly copied, and in those of which only what the socket leaves is.
    for piece in [SEND_FROM / 2, SEND_FROM, RESPONSE_PIECE] {
        hold_a_worker_at_its_window(piece);
    }
}

fn hold_a_worker_at_its_window(piece: usize) {
    const TOTAL: usize = 24 << 20;
    let mut settings = patient();
    // Where nothing goes to a file.
    settings.response_spool = 0;
    let (scenario, mut worker) = Scenario::with_worker(settings);
    let mut client = scenario.connect();
    client.get("/");
    let claimed = worker.claim();
    let length = TOTAL.to_string();
    worker.head(claimed.stream, 0, 200, &[("Content-Length", &length)], b"");
    client.read_head();
    let piece = pattern(0, piece);
    let expected = piece.clone();
    let mut window = SendWindow::new(RESPONSE_WINDOW);
    let mut sent = 0;
    // Until neither the client's socket nor the gateway takes any more.
    let mut quiet = Instant::now();
    while quiet.elapsed() < Duration::from_millis(300) {
        let (event, mut payload) = (&mut worker.parts.events, Vec::new());
        while event.try_next(&mut payload).is_some() {
            window.credit(decode_credit(&payload).unwrap());
        }
        if window.available() >= piece.len() as u64 {
            worker.send(ResponseKind::BodyChunk, claimed.stream, 0, &piece);
            window.spend(piece.len());
            sent += piece.len();
            quiet = Instant::now();
        } else {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    assert!(
        sent < TOTAL - (4 << 20),
        "{sent} bytes were taken for a client that reads nothing"
    );
    // Now it reads.
    let reader = std::thread::spawn(move || {
        let body = client.take(TOTAL);
        assert!(body.chunks(expected.len()).all(|chunk| chunk == expected));
        client
    });
    while sent < TOTAL {
        while window.available() < piece.len() as u64 {
            let (kind, _, payload) = worker.event();
            assert_eq!(kind, EventKind::Credit);
            window.credit(decode_credit(&payload).unwrap());
        }
        worker.send(ResponseKind::BodyChunk, claimed.stream, 0, &piece);
        window.spend(piece.len());
        sent += piece.len();
    }
    worker.send(ResponseKind::BodyChunk, claimed.stream, flags::END, b"");
    let mut client = reader.join().unwrap();
    client.get("/next");
    worker.echo();
    assert_eq!(client.read_response().text(), "/next");
}

#[test]
fn long_pieces_are_framed_and_counted_as_short_ones() {
    let (scenario, mut worker) = Scenario::with_worker(patient());
    let mut client = scenario.connect();
    let [head, last] = [pattern(0, RESPONSE_PIECE), pattern(7, RESPONSE_PIECE)];
    for _ in 0..2 {
        client.get("/");
        let claimed = worker.claim();
        worker.head(claimed.stream, 0, 200, &[], &head);
        worker.send(ResponseKind::BodyChunk, claimed.stream, flags::END, &last);
        client.read_head();
        assert_eq!(client.read_chunk().unwrap(), head);
        assert_eq!(client.read_chunk().unwrap(), last);
        assert_eq!(client.read_chunk(), None);
    }
    let counted = format!(" 200 {} ", 2 * RESPONSE_PIECE);
    let lines = scenario.access_log(2);
    assert!(
        lines.iter().all(|line| line.contains(&counted)),
        "{lines:?}"
    );
    let sent = scenario
        .scoreboard
        .gateway(0)
        .unwrap()
        .counter(Counter::BytesOut);
    assert!(sent > 4 * RESPONSE_PIECE as u64, "{sent}");
}

#[test]
fn a_response_that_fails_after_a_long_piece_is_visibly_incomplete() {
    for fails in [AbortReason::ApplicationFailed, AbortReason::Interrupted] {
        let (scenario, mut worker) = Scenario::with_worker(patient());
        let mut client = scenario.connect();
        client.get("/");
        let claimed = worker.claim();
        let piece = pattern(0, RESPONSE_PIECE);
        worker.head(claimed.stream, 0, 200, &[], &piece);
        client.read_head();
        assert_eq!(client.read_chunk().unwrap(), piece);
        worker.send(ResponseKind::Abort, claimed.stream, 0, &encode_abort(fails));
        assert_eq!(client.read_to_end(), b"");
    }
}

#[test]
fn a_worker_that_ignores_its_window_loses_the_response() {
    let mut settings = patient();
    // What goes to a file is credited.
    settings.response_spool = 0;
    let (scenario, mut worker) = Scenario::with_worker(settings);
    let mut client = scenario.connect();
    client.get("/");
    let claimed = worker.claim();
    worker.head(claimed.stream, 0, 200, &[], b"");
    let piece = vec![0; 100_000];
    let deadline = Instant::now() + PATIENCE;
    let mut payload = Vec::new();
    // The client does not read, so no credit comes for long.
    loop {
        worker.send(ResponseKind::BodyChunk, claimed.stream, 0, &piece);
        if let Some(event) = worker.parts.events.try_next(&mut payload)
            && event.kind == EventKind::Cancel
        {
            break;
        }
        assert!(Instant::now() < deadline, "nobody stopped it");
    }
    worker.send(ResponseKind::BodyChunk, claimed.stream, flags::END, b"");
    assert!(!client.read_to_end().ends_with(b"0\r\n\r\n"));
    scenario.expect_error_log("more than it had credit for");
    // The worker is as good as before.
    let mut next = scenario.connect();
    next.get("/next");
    worker.echo();
    assert_eq!(next.read_response().text(), "/next");
}

fn file_of(len: usize) -> std::fs::File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&pattern(0, len)).unwrap();
    file
}

fn sends_a_file(sendfile: bool) {
    let mut settings = patient();
    settings.sendfile = sendfile;
    let (scenario, mut worker) = Scenario::with_worker(settings);
    let mut client = scenario.connect();
    client.get("/");
    let claimed = worker.claim();
    let file = file_of(3_000_000);
    worker.head(
        claimed.stream,
        0,
        200,
        &[("Content-Length", "2999000")],
        b"",
    );
    worker
        .parts
        .descriptors
        .send(claimed.stream, file.as_fd(), PATIENCE)
        .unwrap();
    let part = FilePart {
        offset: 1000,
        len: 2_999_000,
    }
    .encode();
    let bits = flags::END | flags::HAS_DESCRIPTOR;
    worker.send(ResponseKind::File, claimed.stream, bits, &part);
    let response = client.read_response();
    assert!(response.body == pattern(1000, 2_999_000));
    assert!(scenario.access_log(1)[0].contains(" 200 2999000 "));
    client.get("/next");
    worker.echo();
    assert_eq!(client.read_response().text(), "/next");
}

#[test]
fn sends_a_file_and_counts_its_bytes() {
    sends_a_file(true);
}

#[test]
fn sends_a_file_without_sendfile() {
    sends_a_file(false);
}

#[test]
fn a_file_that_is_shorter_than_promised_ends_the_connection() {
    let (scenario, mut worker) = Scenario::with_worker(patient());
    let mut client = scenario.connect();
    client.get("/");
    let claimed = worker.claim();
    let file = file_of(1000);
    worker.head(claimed.stream, 0, 200, &[], b"");
    worker
        .parts
        .descriptors
        .send(claimed.stream, file.as_fd(), PATIENCE)
        .unwrap();
    let part = FilePart {
        offset: 0,
        len: 2000,
    }
    .encode();
    let bits = flags::END | flags::HAS_DESCRIPTOR;
    worker.send(ResponseKind::File, claimed.stream, bits, &part);
    client.read_head();
    assert!(!client.read_to_end().ends_with(b"0\r\n\r\n"));
}

#[test]
fn a_pipe_is_not_a_file() {
    let (scenario, mut worker) = Scenario::with_worker(patient());
    let mut client = scenario.connect();
    client.get("/");
    let claimed = worker.claim();
    let (reader, _writer) = std::io::pipe().unwrap();
    worker
        .parts
        .descriptors
        .send(claimed.stream, reader.as_fd(), PATIENCE)
        .unwrap();
    worker.head(claimed.stream, 0, 200, &[], b"");
    let part = FilePart { offset: 0, len: 10 }.encode();
    let bits = flags::END | flags::HAS_DESCRIPTOR;
    worker.send(ResponseKind::File, claimed.stream, bits, &part);
    client.read_head();
    assert_eq!(client.read_to_end(), b"");
    scenario.expect_error_log("none");
}

#[test]
fn a_header_that_must_not_be_sent_becomes_an_error_500() {
    let (scenario, mut worker) = Scenario::with_worker(patient());
    let mut client = scenario.connect();
    client.get("/split");
    let claimed = worker.claim();
    worker.head(
        claimed.stream,
        flags::END,
        200,
        &[("X", "a\r\nSet-Cookie: b")],
        b"",
    );
    let response = client.read_response();
    assert_eq!(response.status, 500);
    assert_eq!(response.header("set-cookie"), None);
    scenario.expect_error_log("Error handling request GET /split HTTP/1.1: invalid byte");
    client.get("/next");
    worker.echo();
    assert_eq!(client.read_response().text(), "/next");
}

#[test]
fn a_body_shorter_than_its_length_ends_the_connection() {
    let (scenario, mut worker) = Scenario::with_worker(patient());
    let mut client = scenario.connect();
    client.get("/");
    let claimed = worker.claim();
    worker.head(
        claimed.stream,
        flags::END,
        200,
        &[("Content-Length", "10")],
        b"short",
    );
    assert_eq!(client.read_head().header("content-length"), Some("10"));
    assert_eq!(client.read_to_end(), b"short");
}

#[test]
fn bytes_beyond_the_length_are_dropped() {
    let (scenario, mut worker) = Scenario::with_worker(patient());
    let mut client = scenario.connect();
    client.get("/");
    let claimed = worker.claim();
    worker.head(
        claimed.stream,
        flags::END,
        200,
        &[("Content-Length", "4")],
        b"longer",
    );
    assert_eq!(client.read_response().text(), "long");
    client.get("/next");
    worker.echo();
    assert_eq!(client.read_response().text(), "/next");
}

#[test]
fn an_application_that_fails_before_its_head_is_a_500() {
    let (scenario, mut worker) = Scenario::with_worker(patient());
    let mut client = scenario.connect();
    client.get("/");
    let claimed = worker.claim();
    let reason = encode_abort(AbortReason::ApplicationFailed);
    worker.send(ResponseKind::Abort, claimed.stream, 0, &reason);
    assert_eq!(client.read_response().status, 500);
    client.get("/next");
    worker.echo();
    assert_eq!(client.read_response().text(), "/next");
}

#[test]
fn an_application_that_fails_after_its_head_is_seen_to_fail() {
    let (scenario, mut worker) = Scenario::with_worker(patient());
    let mut client = scenario.connect();
    client.get("/");
    let claimed = worker.claim();
    worker.head(claimed.stream, 0, 200, &[], b"half");
    let reason = encode_abort(AbortReason::ApplicationFailed);
    worker.send(ResponseKind::Abort, claimed.stream, 0, &reason);
    client.read_head();
    assert_eq!(client.read_to_end(), b"4\r\nhalf\r\n");
}

#[test]
fn a_request_that_is_declined_goes_to_the_next_worker() {
    let (mut scenario, mut one) = Scenario::with_worker(patient());
    let mut client = scenario.connect();
    client.get("/");
    let claimed = one.claim();
    let mut two = scenario.ready_worker(1);
    scenario.tell(&oxicorn_gateway::control::ToGateway::RetireWorker { worker: one.number });
    let reason = encode_abort(AbortReason::Declined);
    one.send(ResponseKind::Abort, claimed.stream, 0, &reason);
    two.echo();
    assert_eq!(client.read_response().text(), "/");
}

#[test]
fn the_application_may_ask_for_the_end_of_the_connection() {
    let (scenario, mut worker) = Scenario::with_worker(patient());
    let mut client = scenario.connect();
    client.get("/");
    let claimed = worker.claim();
    worker.head(claimed.stream, flags::END | flags::CLOSE, 200, &[], b"bye");
    let response = client.read_response();
    assert_eq!(
        (response.text(), response.header("connection")),
        ("bye", Some("close"))
    );
    client.expect_end();
}

#[test]
fn the_access_log_shows_what_its_format_asks_for() {
    let mut settings = patient();
    let format =
        r#"%(h)s %(m)s %(U)s %(q)s %(H)s %(s)s %(B)s %({x-in}i)s %({X-Out}o)s "%(a)s" %(p)s"#;
    settings.access_log = Some(AccessLog {
        path: "-".into(),
        format: format.into(),
    });
    let (scenario, mut worker) = Scenario::with_worker(settings);
    let mut client = scenario.connect();
    client.send("GET /a%22b?q=1 HTTP/1.1\r\nHost: t\r\nX-In: i\"n\r\nUser-Agent: u\\\"\r\n\r\n");
    let claimed = worker.claim();
    worker.head(claimed.stream, flags::END, 201, &[("x-out", "out")], b"123");
    client.read_response();
    assert_eq!(
        scenario.access_log(1)[0],
        r#"127.0.0.1 GET /a\"b q=1 HTTP/1.1 201 3 i\"n out "u\\\"" <4711>"#
    );
}

#[test]
fn hints_without_end_are_stopped() {
    let (scenario, mut worker) = Scenario::with_worker(patient());
    let mut client = scenario.connect();
    client.get("/");
    let claimed = worker.claim();
    let hints = response_head(103, &[("Link", &"x".repeat(4000))]);
    let deadline = Instant::now() + PATIENCE;
    let mut payload = Vec::new();
    while worker.parts.events.try_next(&mut payload).is_none() {
        worker.send(ResponseKind::Informational, claimed.stream, 0, &hints);
        assert!(Instant::now() < deadline, "nobody stopped it");
    }
    assert_eq!(payload.len(), 1, "a cancellation");
    worker.respond(&claimed, "");
    drop(client);
    let mut next = scenario.connect();
    next.get("/next");
    worker.echo();
    assert_eq!(next.read_response().text(), "/next");
}

#[test]
fn a_larger_buffer_is_credit_from_the_start() {
    let mut settings = patient();
    settings.response_buffer = 4 << 20;
    let (scenario, mut worker) = Scenario::with_worker(settings);
    let mut client = scenario.connect();
    client.get("/");
    let claimed = worker.claim();
    worker.head(claimed.stream, 0, 200, &[], b"");
    let (kind, _, payload) = worker.event();
    assert_eq!(
        (kind, decode_credit(&payload)),
        (EventKind::Credit, Ok(3 << 20))
    );
    worker.send(ResponseKind::BodyChunk, claimed.stream, flags::END, b"x");
    assert_eq!(client.read_response().text(), "x");
}

/// Sends a body in pieces, each when there is credit for it; says how much went before it was over with waiting
/// for more.
fn send_as_credit_allows(
    worker: &mut StubWorker,
    stream: StreamId,
    len: usize,
    is_over: impl Fn(Duration) -> bool,
) -> usize {
    const PIECE: usize = 64 * 1024;
    let mut window = RESPONSE_WINDOW as usize;
    let mut sent = 0;
    while sent < len {
        let mut payload = Vec::new();
        while let Some(event) = worker.parts.events.try_next(&mut payload) {
            assert_eq!(event.kind, EventKind::Credit);
            window += decode_credit(&payload).unwrap() as usize;
            payload.clear();
        }
        let count = PIECE.min(len - sent);
        if window < count {
            let since = Instant::now();
            let mut had_credit = false;
            while !had_credit && !is_over(since.elapsed()) {
                if worker.parts.events.try_next(&mut payload).is_some() {
                    window += decode_credit(&payload).unwrap() as usize;
                    had_credit = true;
                } else {
                    std::thread::yield_now();
                }
            }
            if !had_credit {
                return sent;
            }
            continue;
        }
        window -= count;
        let end = if sent + count == len { flags::END } else { 0 };
        worker.send(ResponseKind::BodyChunk, stream, end, &pattern(sent, count));
        sent += count;
    }
    sent
}

/// More than the sockets of both ends hold.
const LONG: usize = 32 << 20;

/// A response of a thread's that its client does not read; how much of it the gateway took.
fn taken_of_a_slow_client(
    spool: u64,
    is_over: impl Fn(&Scenario, Duration) -> bool,
) -> (Scenario, Client, usize) {
    let mut settings = patient();
    settings.response_spool = spool;
    let (scenario, mut worker) = Scenario::with_worker(settings);
    let mut client = scenario.connect_with_small_buffer();
    client.get("/");
    let claimed = worker.claim();
    worker.head(claimed.stream, 0, 200, &[], b"");
    let taken = send_as_credit_allows(&mut worker, claimed.stream, LONG, |waited| {
        is_over(&scenario, waited)
    });
    (scenario, client, taken)
}

#[test]
fn a_slow_client_does_not_make_its_thread_wait() {
    let (_scenario, mut client, taken) =
        taken_of_a_slow_client(1 << 30, |_, waited| waited > PATIENCE);
    assert_eq!(taken, LONG, "all of it, though nobody has read any");
    assert_eq!(
        client.read_response().body,
        pattern(0, LONG),
        "chunked, and in order"
    );
}

#[test]
fn a_file_for_a_slow_client_is_bounded_and_can_be_switched_off() {
    let (_scenario, _client, taken) =
        taken_of_a_slow_client(0, |_, waited| waited > Duration::from_millis(300));
    assert!(taken < 12 << 20, "{taken} with no file at all");
    let (scenario, _client, taken) = taken_of_a_slow_client(8 << 20, |scenario, waited| {
        scenario.has_logged("response_spool") || waited > PATIENCE
    });
    assert!(
        (8 << 20..20 << 20).contains(&taken),
        "{taken} with a file of 8 MiB"
    );
    scenario.expect_error_log("response_spool");
}

#[test]
fn what_waits_behind_a_full_file_is_credited_when_it_leaves_itself() {
    let mut settings = patient();
    settings.response_spool = 8 << 20;
    let (scenario, mut worker) = Scenario::with_worker(settings);
    let mut client = scenario.connect_with_small_buffer();
    client.get("/");
    let claimed = worker.claim();
    worker.head(claimed.stream, 0, 200, &[], b"");
    let (file_is_full, begin) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        begin.recv().expect("the file gets full");
        client.read_response().body
    });
    let taken = send_as_credit_allows(&mut worker, claimed.stream, LONG, |waited| {
        if scenario.has_logged("response_spool") {
            let _ = file_is_full.send(());
        }
        waited > PATIENCE
    });
    assert_eq!(taken, LONG);
    assert_eq!(reader.join().expect("a reader"), pattern(0, LONG));
}
