//! Ids and traces of requests: what workers, clients, logs and a collector see of them.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use oxicorn_gateway::control::{FromGateway, ToGateway};
use oxicorn_gateway::{AccessLog, Export, RequestId, Settings, TraceContext, Tracing};
use oxicorn_link::scoreboard::{Counter, HistogramKind};
use oxicorn_link::wire::flags;

use super::scenario::{Scenario, StubWorker, eventually, header, patient};

const CALLER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn with_ids() -> Settings {
    Settings {
        tracing: Tracing {
            request_id: Some(RequestId {
                header: "X-Request-ID".into(),
                respond: true,
            }),
            request_start: true,
            server_timing: true,
            context: TraceContext::Any,
            ..Tracing::default()
        },
        ..patient()
    }
}

/// A header of the request that the worker has, which it answers.
fn told(worker: &mut StubWorker, name: &str) -> Option<String> {
    let claimed = worker.claim();
    let value = header(claimed.view().headers, name);
    let value = value.map(|value| String::from_utf8_lossy(value).into_owned());
    worker.respond(&claimed, "");
    value
}

#[test]
fn ids_reach_application_client_and_logs() {
    let mut settings = with_ids();
    settings.access_log = Some(AccessLog {
        path: String::new(),
        format: "%(request_id)s %({x-request-id}i)s %({HTTP_X_REQUEST_ID}e)s %(trace_id)s".into(),
    });
    let (scenario, mut worker) = Scenario::with_worker(settings);
    let mut client = scenario.connect();
    client.send(&format!(
        "GET / HTTP/1.1\r\nHost: a\r\nX-Request-ID: abc-1\r\nTraceparent: {CALLER}\r\n\r\n"
    ));
    assert_eq!(told(&mut worker, "X-Request-ID").as_deref(), Some("abc-1"));
    assert_eq!(client.read_response().header("X-Request-ID"), Some("abc-1"));
    client.send("GET / HTTP/1.1\r\nHost: a\r\nX-Request-ID: not one\r\n\r\n");
    let made = told(&mut worker, "X-Request-ID").expect("an id");
    assert_eq!(made.len(), 36);
    assert_eq!(client.read_response().header("X-Request-ID"), Some(&*made));
    let lines = scenario.access_log(2);
    assert_eq!(
        lines[0],
        "abc-1 abc-1 abc-1 4bf92f3577b34da6a3ce929d0e0e4736"
    );
    assert!(
        lines[1].starts_with(&format!("{made} {made} {made} ")),
        "{lines:?}"
    );
    let json = scenario.log("access.json", 2);
    assert!(
        json[0].contains("\"request_id\":\"abc-1\",\"trace_id\":\"4bf92f35"),
        "{json:?}"
    );
    assert!(
        json[1].contains(&format!("\"request_id\":\"{made}\"")),
        "{json:?}"
    );
}

#[test]
fn answers_of_the_server_have_the_id_too() {
    let mut settings = with_ids();
    settings.rules.limits.body = Some(10);
    let scenario = Scenario::start(settings);
    let mut client = scenario.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nX-Request-ID: abc\r\nContent-Length: 11\r\n\r\n");
    let response = client.read_response();
    assert_eq!(
        (response.status, response.header("X-Request-ID")),
        (413, None),
        "no head was read"
    );
    let mut settings = with_ids();
    settings.queue.limit = 1;
    let scenario = Scenario::start(settings);
    let mut waiting = scenario.connect();
    waiting.get("/");
    scenario.wait_for_connections(1);
    let mut client = scenario.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nX-Request-ID: abc\r\n\r\n");
    let response = client.read_response();
    assert_eq!(
        (response.status, response.header("X-Request-ID")),
        (503, Some("abc"))
    );
}

#[test]
fn what_the_application_says_of_the_id_is_left_alone() {
    let (scenario, mut worker) = Scenario::with_worker(with_ids());
    let mut client = scenario.connect();
    client.get("/");
    let claimed = worker.claim();
    worker.head(
        claimed.stream,
        flags::END,
        200,
        &[("x-request-id", "its-own")],
        b"",
    );
    let response = client.read_response();
    assert_eq!(response.header("X-Request-ID"), Some("its-own"));
    assert_eq!(
        response
            .head
            .to_ascii_lowercase()
            .matches("x-request-id")
            .count(),
        1
    );
}

#[test]
fn lines_about_a_request_and_lists_have_its_ids() {
    let (scenario, mut worker) = Scenario::with_worker(with_ids());
    let mut client = scenario.connect();
    client.send(&format!(
        "GET /lost HTTP/1.1\r\nHost: a\r\nX-Request-ID: abc\r\ntraceparent: {CALLER}\r\n\r\n"
    ));
    worker.claim();
    scenario.tell(&ToGateway::ListRequests { token: 1, most: 10 });
    let wanted = |message: &FromGateway| matches!(message, FromGateway::Requests(_));
    let FromGateway::Requests(list) = scenario.expect("a list", wanted) else {
        return;
    };
    assert_eq!(list.requests[0].ids.request_id.as_deref(), Some("abc"));
    let trace = list.requests[0].ids.trace_id.as_deref();
    assert_eq!(trace, Some("4bf92f3577b34da6a3ce929d0e0e4736"));
    scenario.tell(&ToGateway::WorkerGone {
        worker: worker.number,
    });
    assert_eq!(client.read_response().header("X-Request-ID"), Some("abc"));
    scenario.expect_error_log(
        "GET /lost HTTP/1.1 from 127.0.0.1 request_id=abc trace_id=4bf92f3577b34da6a3ce929d0e0e4736",
    );
}

#[test]
fn the_time_in_proxies_queue_and_application_is_told() {
    let mut scenario = Scenario::with_held_clock(with_ids());
    let mut client = scenario.connect();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let started = now.saturating_sub(Duration::from_mins(10)).as_millis();
    client.send(&format!(
        "GET / HTTP/1.1\r\nHost: a\r\nX-Request-Start: t={started}\r\n\r\n"
    ));
    let figures = scenario.scoreboard.gateway(0).unwrap();
    eventually("a request", || figures.counter(Counter::Requests) == 1);
    scenario.pass(Duration::from_millis(1500));
    let mut worker = scenario.ready_worker(1);
    scenario.tell(&ToGateway::ServeGeneration { generation: 1 });
    let claimed = worker.claim();
    scenario.pass(Duration::from_millis(250));
    worker.respond(&claimed, "");
    let response = client.read_response();
    let timing = response.header("Server-Timing").expect("one");
    let (proxy, rest) = timing.split_once(", ").expect("three");
    assert_eq!(rest, "queue;dur=1500.000, app;dur=250.000");
    // By the kernel's clock, which goes on.
    assert!(proxy.starts_with("proxy;dur=6"), "{timing}");
    let json = &scenario.log("access.json", 1)[0];
    assert!(json.contains("\"proxy_time\":6"), "{json}");
    assert!(json.contains("\"queue_time\":1.500000"), "{json}");
    assert_eq!(figures.histogram(HistogramKind::ProxyTime).count(), 1);
}

#[test]
fn nothing_is_told_where_nothing_is_on() {
    let (scenario, mut worker) = Scenario::with_worker(patient());
    let mut client = scenario.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nX-Request-ID: not one\r\ntraceparent: x\r\n\r\n");
    assert_eq!(told(&mut worker, "traceparent").as_deref(), Some("x"));
    let response = client.read_response();
    let (id, timing) = (
        response.header("X-Request-ID"),
        response.header("Server-Timing"),
    );
    assert_eq!((id, timing), (None, None));
    let json = &scenario.log("access.json", 1)[0];
    assert!(
        json.contains("\"request_id\":\"not one\",\"trace_id\":null,\"proxy_time\":null"),
        "{json}"
    );
}

/// A collector's address, and the settings of a server that exports there.
fn exporting() -> (TcpListener, Settings) {
    let collector = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut settings = with_ids();
    settings.tracing.export = Some(Export {
        endpoint: format!("http://{}/v1/traces", collector.local_addr().unwrap()),
        authorities: None,
        headers: Vec::new(),
        resource: vec![("service.name".into(), "shop".into())],
        timeout: Duration::from_secs(10),
        delay: Duration::from_mins(10),
        queue: 10,
        batch: 2,
    });
    (collector, settings)
}

#[test]
fn spans_are_exported_and_are_the_application_s_parents() {
    let (collector, settings) = exporting();
    let (scenario, mut worker) = Scenario::with_worker(settings);
    let mut client = scenario.connect();
    let mut parents = Vec::new();
    for _ in 0..2 {
        client.send(&format!(
            "GET / HTTP/1.1\r\nHost: a\r\ntraceparent: {CALLER}\r\n\r\n"
        ));
        parents.push(told(&mut worker, "traceparent").expect("one"));
        client.read_response();
    }
    assert!(parents[0].starts_with(&CALLER[..36]) && parents[0] != parents[1]);
    let (mut stream, _) = collector.accept().unwrap();
    let mut post = Vec::new();
    let mut buffer = vec![0; 65536];
    for parent in &parents {
        let id = u64::from_str_radix(&parent[36..52], 16)
            .unwrap()
            .to_be_bytes();
        // Both are in the one post.
        while !post.windows(8).any(|window| window == id) {
            let count = stream.read(&mut buffer).unwrap();
            assert_ne!(count, 0);
            post.extend_from_slice(&buffer[..count]);
        }
    }
    stream
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        .unwrap();
    let figures = scenario.scoreboard.gateway(0).unwrap();
    eventually("counted", || figures.counter(Counter::SpansExported) == 2);
}

/// Ends with a span that was not sent yet.
fn one_span_at_the_end(settings: Settings) -> Scenario {
    let (mut scenario, mut worker) = Scenario::with_worker(settings);
    let mut client = scenario.connect();
    client.get("/");
    worker.echo();
    client.read_response();
    drop(client);
    scenario.tell(&ToGateway::Stop);
    assert_eq!(scenario.exit_code(), 0);
    scenario
}

fn assert_told_of(scenario: &Scenario) {
    scenario.expect_error_log("1 spans were not exported");
    let figures = scenario.scoreboard.gateway(0).unwrap();
    assert_eq!(figures.counter(Counter::SpansDropped), 1);
}

#[test]
fn spans_that_wait_at_the_end_are_sent_or_told_of() {
    let (collector, settings) = exporting();
    // Nobody answers the post.
    let scenario = one_span_at_the_end(settings);
    assert!(collector.accept().is_ok());
    assert_told_of(&scenario);
}

#[test]
fn spans_that_are_refused_at_the_end_are_told_of() {
    let (collector, settings) = exporting();
    drop(collector);
    assert_told_of(&one_span_at_the_end(settings));
}
