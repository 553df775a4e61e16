//! Who writes the access line, what the arbiter is sent, the JSON log, metrics.

use std::net::UdpSocket;
use std::time::Duration;

use oxicorn_gateway::control::{AccessRecord, FromGateway, ToGateway};
use oxicorn_gateway::{Level, LogForwarding, Settings, Statsd, StatsdAddress};
use oxicorn_link::wire::{AbortReason, CancelReason, EventKind, ResponseKind, encode_abort, flags};

use super::scenario::{PATIENCE, Scenario, StubWorker, patient};

fn forwarding() -> Settings {
    let mut settings = patient();
    settings.log_forwarding = LogForwarding {
        access: true,
        errors: true,
    };
    settings
}

/// The next record the arbiter gets.
fn record(scenario: &Scenario) -> AccessRecord {
    let wanted = |message: &FromGateway| matches!(message, FromGateway::Access(_));
    match scenario.expect("a record", wanted) {
        FromGateway::Access(record) => *record,
        _ => AccessRecord::default(),
    }
}

/// Answers the next request, saying that the worker logs it.
fn answer_and_log(worker: &mut StubWorker) {
    let claimed = worker.claim();
    worker.head(claimed.stream, flags::END | flags::LOGGED, 200, &[], b"ok");
}

#[test]
fn a_request_the_worker_logs_has_no_line_here() {
    let (scenario, mut worker) = Scenario::with_worker(patient());
    let mut client = scenario.connect();
    client.get("/logged");
    answer_and_log(&mut worker);
    assert_eq!(client.read_response().text(), "ok");
    client.get("/not-logged");
    worker.echo();
    client.read_response();
    let lines = scenario.access_log(1);
    assert!(lines[0].contains("GET /not-logged"), "{lines:?}");
    // The JSON log has everything.
    assert_eq!(scenario.log("access.json", 2).len(), 2);
}

#[test]
fn a_worker_that_dies_after_its_word_does_not_come_to_write_the_line() {
    let (scenario, mut worker) = Scenario::with_worker(patient());
    let mut client = scenario.connect();
    client.get("/cut");
    let claimed = worker.claim();
    worker.head(claimed.stream, flags::LOGGED, 200, &[], b"begun");
    client.read_head();
    scenario.tell(&ToGateway::WorkerGone {
        worker: worker.number,
    });
    client.read_to_end();
    let lines = scenario.access_log(1);
    assert!(lines[0].contains("\"GET /cut HTTP/1.1\" 200"), "{lines:?}");
    let json = scenario.log("access.json", 1);
    assert!(json[0].contains("\"reason\":\"the worker serving this request ended\""));
}

#[test]
fn who_leaves_while_the_rest_of_its_body_is_read_is_told_of_once() {
    let mut settings = patient();
    settings.stream_requests = true;
    let (scenario, mut worker) = Scenario::with_worker(settings);
    let mut client = scenario.connect();
    client.send("POST /early HTTP/1.1\r\nHost: t\r\nContent-Length: 10\r\n\r\n12345");
    let claimed = worker.claim();
    worker.respond(&claimed, "enough");
    assert_eq!(client.read_response().text(), "enough");
    client.reset();
    scenario.wait_for_connections(0);
    let mut client = scenario.connect();
    client.get("/next");
    worker.echo();
    client.read_response();
    let lines = scenario.access_log(2);
    assert!(
        lines[0].contains("/early") && lines[1].contains("/next"),
        "{lines:?}"
    );
}

#[test]
fn a_request_beyond_its_time_is_logged_here_and_the_worker_is_told_so() {
    let mut settings = patient();
    settings.timeouts.request = Duration::from_millis(200);
    let (scenario, mut worker) = Scenario::held_with_worker(settings);
    let mut client = scenario.connect();
    client.get("/stuck");
    let claimed = worker.claim();
    worker.head(claimed.stream, flags::LOGGED, 200, &[], b"begun");
    client.read_head();
    scenario.pass_beyond(Duration::from_millis(200));
    client.read_to_end();
    let (kind, _, payload) = worker.event();
    assert_eq!(kind, EventKind::Cancel);
    assert_eq!(
        payload,
        oxicorn_link::wire::encode_cancel(CancelReason::Expired)
    );
    assert!(scenario.access_log(1)[0].contains("GET /stuck"));
}

#[test]
fn what_no_worker_logs_goes_to_the_arbiter() {
    let (scenario, mut worker) = Scenario::with_worker(forwarding());
    let mut client = scenario.connect();
    client.get("/logged");
    answer_and_log(&mut worker);
    client.read_response();
    client.send("GET /sil%65nt?a=1 HTTP/1.1\r\nHost: test\r\nX-One: \u{e9}\r\n\r\n");
    let claimed = worker.claim();
    let silent = encode_abort(AbortReason::Silent);
    worker.send(ResponseKind::Abort, claimed.stream, 0, &silent);
    client.read_to_end();
    let record = record(&scenario);
    assert_eq!(record.request_target, "/sil%65nt?a=1");
    assert_eq!(
        (record.path.as_str(), record.method.as_str()),
        ("/silent", "GET")
    );
    let one = ("X-One".to_owned(), "\u{c3}\u{a9}".to_owned());
    assert_eq!(record.headers[1], one, "each byte is a character");
    assert_eq!(record.client, "127.0.0.1");
    assert!(record.client_port.is_some());
}

#[test]
fn what_could_not_be_read_goes_there_word_by_word() {
    let (scenario, _worker) = Scenario::with_worker(forwarding());
    let mut client = scenario.connect();
    client.send("BAD\r\n\r\n");
    assert_eq!(client.read_response().status, 400);
    let record = record(&scenario);
    assert_eq!(
        (record.method.as_str(), record.request_target.as_str()),
        ("BAD", "-")
    );
    assert_eq!(record.status, 400);
    let message = scenario.expect("a line", |message| {
        matches!(message, FromGateway::Log { .. })
    });
    let FromGateway::Log { level, text } = message else {
        unreachable!("looked for")
    };
    assert_eq!(level, Level::Warning);
    assert!(
        text.starts_with("Invalid request from ip=127.0.0.1: "),
        "{text}"
    );
}

#[test]
fn long_requests_are_shortened_so_that_their_record_fits() {
    let mut settings = forwarding();
    settings.rules.limits.request_line = 8190;
    let (scenario, mut worker) = Scenario::with_worker(settings);
    let mut client = scenario.connect();
    let long = "%01".repeat(2_000);
    client.send(&format!(
        "GET /{long} HTTP/1.1\r\nHost: test\r\nX-Long: {long}\r\nX-Longer: {long}\r\nX-Short: 1\r\n\r\n"
    ));
    let claimed = worker.claim();
    let silent = encode_abort(AbortReason::Silent);
    worker.send(ResponseKind::Abort, claimed.stream, 0, &silent);
    client.read_to_end();
    let record = record(&scenario);
    assert_eq!(record.request_target.len(), 4096);
    let names: Vec<_> = record
        .headers
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(names, ["Host", "X-Long", "X-Short"]);
}

#[test]
fn a_worker_that_logs_everything_also_logs_whom_the_client_left() {
    let mut scenario = Scenario::start(forwarding());
    let mut worker = scenario.attach_logging();
    let mut client = scenario.connect();
    client.get("/left");
    worker.claim();
    client.reset();
    let (kind, _, _) = worker.event();
    assert_eq!(kind, EventKind::Cancel);
    // Its line is the worker's; the next record is of something else.
    let mut client = scenario.connect();
    client.send("BAD\r\n\r\n");
    assert_eq!(client.read_response().status, 400);
    assert_eq!(record(&scenario).method, "BAD");
}

#[test]
fn without_an_arbiter_nothing_is_lost() {
    let (mut scenario, mut worker) = Scenario::with_worker(forwarding());
    let mut client = scenario.connect();
    client.get("/last");
    let claimed = worker.claim();
    scenario.hang_up();
    scenario.expect_error_log("Arbiter is gone");
    let silent = encode_abort(AbortReason::Silent);
    worker.send(ResponseKind::Abort, claimed.stream, 0, &silent);
    client.read_to_end();
    scenario.expect_error_log(": GET /last HTTP/1.1");
    assert_eq!(scenario.exit_code(), 0);
}

#[test]
fn metrics_of_every_request_are_sent() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut settings = patient();
    settings.statsd = Some(Statsd {
        address: StatsdAddress::Udp("localhost".into(), server.local_addr().unwrap().port()),
        prefix: "shop.".into(),
        tags: "red".into(),
    });
    let (scenario, mut worker) = Scenario::with_worker(settings);
    let mut client = scenario.connect();
    client.get("/logged");
    answer_and_log(&mut worker);
    client.read_response();
    client.send("BAD\r\n\r\n");
    client.read_response();
    let mut text = String::new();
    let mut buffer = [0; 2048];
    while !text.contains("shop.gunicorn.request.status.400:1|c|@1.0|#red") {
        let count = server.recv(&mut buffer).unwrap();
        text.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
        text.push('\n');
    }
    assert!(
        text.contains("shop.gunicorn.request.status.200:1|c|@1.0|#red\n"),
        "{text}"
    );
    assert_eq!(
        text.matches("shop.gunicorn.requests:1|c|@1.0|#red\n")
            .count(),
        2
    );
}
