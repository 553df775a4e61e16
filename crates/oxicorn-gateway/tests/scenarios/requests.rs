//! What clients may send, and how.

use std::io::Write as _;
use std::net::Shutdown;
use std::os::unix::fs::FileExt as _;

use oxicorn_link::wire::{Address, BodyPlace, Version, flags};

use crate::scenario::{Scenario, header, patient};

#[test]
fn serves_one_request_after_the_other_on_one_connection() {
    let (scenario, mut worker) = Scenario::with_worker(patient());
    let mut client = scenario.connect();
    for target in ["/one", "/two", "/three"] {
        client.get(target);
        worker.echo();
        let response = client.read_response();
        assert_eq!((response.status, response.text()), (200, target));
        assert_eq!(response.header("connection"), Some("keep-alive"));
        assert_eq!(response.header("server"), Some("oxicorn"));
        assert!(response.header("date").unwrap().ends_with(" GMT"));
    }
    let lines = scenario.access_log(3);
    assert!(lines[1].starts_with("127.0.0.1 - - ["), "{}", lines[1]);
    assert!(
        lines[1].ends_with("\"GET /two HTTP/1.1\" 200 4 \"-\" \"-\""),
        "{}",
        lines[1]
    );
}

#[test]
fn answers_pipelined_requests_in_their_order() {
    let (scenario, mut worker) = Scenario::with_worker(patient());
    let mut client = scenario.connect();
    let request = |number| format!("GET /{number} HTTP/1.1\r\nHost: t\r\n\r\n");
    client.send(&(0..50).map(request).collect::<String>());
    for _ in 0..50 {
        worker.echo();
    }
    for number in 0..50 {
        assert_eq!(client.read_response().text(), format!("/{number}"));
    }
}

#[test]
fn more_pipelined_requests_than_are_read_ahead_are_all_answered() {
    let (scenario, mut worker) = Scenario::with_worker(patient());
    let mut client = scenario.connect();
    let padding = "x".repeat(3000);
    let request = |number| format!("GET /{number} HTTP/1.1\r\nHost: t\r\nX: {padding}\r\n\r\n");
    client.send(&(0..40).map(request).collect::<String>());
    for number in 0..40 {
        worker.echo();
        assert_eq!(client.read_response().text(), format!("/{number}"));
    }
}

#[test]
fn takes_a_request_byte_by_byte() {
    let (scenario, mut worker) = Scenario::with_worker(patient());
    let mut client = scenario.connect();
    client.stream.set_nodelay(true).unwrap();
    for byte in b"POST /slow HTTP/1.1\r\nHost: t\r\nContent-Length: 3\r\n\r\nabc" {
        client.stream.write_all(&[*byte]).unwrap();
    }
    let claimed = worker.claim();
    assert_eq!(claimed.view().body, b"abc");
    worker.respond(&claimed, "ok");
    assert_eq!(client.read_response().text(), "ok");
}

#[test]
fn tells_the_worker_everything_about_a_request() {
    let (scenario, mut worker) = Scenario::with_worker(patient());
    let mut client = scenario.connect();
    client
        .send("GET /a%20b/%C3%A9?x=1&y=%20 HTTP/1.1\r\nHost: t:80\r\nX-One: 1\r\nx_two: 2\r\n\r\n");
    let claimed = worker.claim();
    let view = claimed.view();
    assert_eq!(view.head.version, Version::Http11);
    assert_eq!(view.head.method, b"GET");
    assert_eq!(view.head.request_target, b"/a%20b/%C3%A9?x=1&y=%20");
    assert_eq!(view.head.path, "/a b/é".as_bytes());
    assert_eq!(view.head.query_string, b"x=1&y=%20");
    let local = |port| Address::Ip {
        host: b"127.0.0.1",
        port,
    };
    assert_eq!(
        view.head.client,
        local(client.stream.local_addr().unwrap().port())
    );
    assert_eq!(view.head.server, local(scenario.address.port()));
    assert_eq!(view.head.body, BodyPlace::None);
    assert_eq!(view.head.deadline_ms, 30_000);
    assert_eq!(header(view.headers, "x-one"), Some(&b"1"[..]));
    assert_eq!(header(view.headers, "x_two"), None, "dropped by header_map");
    worker.respond(&claimed, "");
    assert_eq!(client.read_response().header("content-length"), Some("0"));
}

#[test]
fn http_1_0_is_answered_and_closed() {
    let (scenario, mut worker) = Scenario::with_worker(patient());
    let mut client = scenario.connect();
    client.send("GET / HTTP/1.0\r\n\r\n");
    worker.echo();
    let response = client.read_response();
    assert_eq!(response.header("connection"), Some("close"));
    client.expect_end();
}

#[test]
fn http_1_0_may_ask_to_stay() {
    let (scenario, mut worker) = Scenario::with_worker(patient());
    let mut client = scenario.connect();
    for _ in 0..2 {
        client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        worker.echo();
        assert_eq!(
            client.read_response().header("connection"),
            Some("keep-alive")
        );
    }
}

#[test]
fn head_is_answered_without_a_body() {
    let (scenario, mut worker) = Scenario::with_worker(patient());
    let mut client = scenario.connect();
    client.send("HEAD / HTTP/1.1\r\nHost: t\r\n\r\n");
    let claimed = worker.claim();
    worker.head(
        claimed.stream,
        flags::END,
        200,
        &[("Content-Length", "5")],
        b"12345",
    );
    assert_eq!(client.read_head().header("content-length"), Some("5"));
    client.get("/next");
    worker.echo();
    assert_eq!(client.read_response().text(), "/next");
    assert!(scenario.access_log(2)[0].contains("\"HEAD / HTTP/1.1\" 200 0 "));
}

#[test]
fn a_client_that_has_finished_sending_still_gets_its_answers() {
    let (scenario, mut worker) = Scenario::with_worker(patient());
    let mut client = scenario.connect();
    client.get("/one");
    client.get("/two");
    client.stream.shutdown(Shutdown::Write).unwrap();
    worker.echo();
    worker.echo();
    assert_eq!(client.read_response().text(), "/one");
    assert_eq!(client.read_response().text(), "/two");
    client.expect_end();
}

#[test]
fn says_continue_when_the_body_is_wanted() {
    let (scenario, mut worker) = Scenario::with_worker(patient());
    let mut client = scenario.connect();
    client.send("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(client.read_head().status, 100);
    client.send("hello");
    let claimed = worker.claim();
    assert_eq!(claimed.view().body, b"hello");
    worker.respond(&claimed, "done");
    assert_eq!(client.read_response().text(), "done");
}

#[test]
fn says_no_instead_of_continue_to_a_body_that_is_too_large() {
    let mut settings = patient();
    settings.rules.limits.body = Some(100);
    let (scenario, _worker) = Scenario::with_worker(settings);
    let mut client = scenario.connect();
    client
        .send("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 101\r\nExpect: 100-continue\r\n\r\n");
    let response = client.read_response();
    assert_eq!(
        (response.status, response.header("connection")),
        (413, Some("close"))
    );
    client.stream.shutdown(Shutdown::Write).unwrap();
    client.expect_end();
}

#[test]
fn gives_a_chunked_body_to_the_worker_in_one_piece() {
    let (scenario, mut worker) = Scenario::with_worker(patient());
    let mut client = scenario.connect();
    client.send("POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
    client.send("6;x=y\r\n world\r\n0\r\n\r\n");
    let claimed = worker.claim();
    assert_eq!(claimed.view().body, b"hello world");
    worker.respond(&claimed, "");
    assert_eq!(client.read_response().status, 200);
}

#[test]
fn gives_a_long_body_to_the_worker_as_a_file() {
    let mut settings = patient();
    settings.body_memory = 1000;
    let (scenario, mut worker) = Scenario::with_worker(settings);
    let mut client = scenario.connect();
    let body = "abcdefghijklmnopqrst".repeat(5000);
    client.send(&format!(
        "POST / HTTP/1.1\r\nHost: t\r\nContent-Length: {}\r\n\r\n",
        body.len()
    ));
    client.send(&body);
    let claimed = worker.claim();
    assert_eq!(claimed.flags, flags::HAS_DESCRIPTOR);
    assert_eq!(
        claimed.view().head.body,
        BodyPlace::Descriptor { len: 100_000 }
    );
    let file = std::fs::File::from(worker.parts.descriptors.take(claimed.stream).unwrap());
    let text = std::io::read_to_string(&file).unwrap();
    assert_eq!(text.len(), body.len(), "the file is at its beginning");
    assert!(text == body);
    worker.respond(&claimed, "");
    assert_eq!(client.read_response().status, 200);
}

#[test]
fn gives_a_request_that_is_too_long_for_the_ring_as_a_file() {
    let mut settings = patient();
    settings.rules.limits.field_size = 100_000;
    settings.body_memory = 1_000_000;
    let (scenario, mut worker) = Scenario::with_worker(settings);
    let mut client = scenario.connect();
    let long = "y".repeat(90_000);
    let body = "z".repeat(120_000);
    client.send(&format!(
        "POST /long HTTP/1.1\r\nHost: t\r\nX-A: {long}\r\nX-B: {long}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    let mut claimed = worker.claim();
    assert_eq!(claimed.flags, flags::SPILLED);
    let file = std::fs::File::from(worker.parts.descriptors.take(claimed.stream).unwrap());
    let len = file.metadata().unwrap().len();
    claimed.payload.resize(usize::try_from(len).unwrap(), 0);
    file.read_exact_at(&mut claimed.payload, 0).unwrap();
    assert_eq!(claimed.view().body, body.as_bytes());
    assert_eq!(header(claimed.view().headers, "x-b"), Some(long.as_bytes()));
    worker.respond(&claimed, "");
    assert_eq!(client.read_response().status, 200);
}

#[test]
fn refuses_what_breaks_the_rules_and_says_so_in_both_logs() {
    let (scenario, _worker) = Scenario::with_worker(patient());
    let mut client = scenario.connect();
    client.send("GET / HTTP/1.1\r\nHost: t\r\nBad Header: x\r\n\r\n");
    let response = client.read_response();
    assert_eq!(
        (response.status, response.header("connection")),
        (400, Some("close"))
    );
    assert_eq!(response.text(), "invalid header name\n");
    scenario.expect_error_log("[WARNING] Invalid request from ip=127.0.0.1: invalid header name");
    let line = &scenario.access_log(1)[0];
    assert!(line.contains("\"GET / HTTP/1.1\" 400 20 "), "{line}");
}

#[test]
fn a_refused_client_that_goes_on_sending_still_reads_the_answer() {
    let (scenario, _worker) = Scenario::with_worker(patient());
    let mut client = scenario.connect();
    client.send("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 1, 2\r\n\r\n");
    for _ in 0..20 {
        client.send(&"x".repeat(10_000));
    }
    assert_eq!(client.read_response().status, 400);
}

#[test]
fn a_refused_client_that_never_stops_is_cut() {
    let (scenario, _worker) = Scenario::with_worker(patient());
    let mut client = scenario.connect();
    client.send("GET / HTTP/9.9\r\n\r\n");
    assert_eq!(client.read_response().status, 505);
    let rubbish = [b'x'; 16_384];
    while client.stream.write_all(&rubbish).is_ok() {}
}

#[test]
fn contradicting_scheme_headers_are_refused() {
    let (scenario, _worker) = Scenario::with_worker(patient());
    let mut client = scenario.connect();
    client.send(
        "GET / HTTP/1.1\r\nHost: t\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Ssl: off\r\n\r\n",
    );
    assert_eq!(client.read_response().status, 400);
}
