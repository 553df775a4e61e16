//! Metrics and probes, on their own listener.

use std::collections::HashSet;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use oxicorn_gateway::control::{FromGateway, RequestList, ToGateway};
use oxicorn_link::metric_store::{Family, FamilyKind, Series};
use oxicorn_link::scoreboard::ArbiterGauge;

use crate::scenario::{PATIENCE, Scenario, eventually, patient};

/// Sends these bytes and reads the answer to its end.
fn ask_raw(scenario: &Scenario, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(scenario.monitoring_address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn ask(scenario: &Scenario, path: &str, more: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n{more}\r\n");
    ask_raw(scenario, request.as_bytes())
}

fn status(answer: &str) -> &str {
    answer.get(9..12).unwrap_or_default()
}

/// The number of a series.
fn number(answer: &str, series: &str) -> u64 {
    let line = answer
        .lines()
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in {answer}"))
        .parse()
        .unwrap()
}

#[test]
fn what_clients_and_workers_do_is_scraped() {
    let (scenario, mut worker) = Scenario::with_worker(patient());
    let mut client = scenario.connect();
    for _ in 0..3 {
        client.get("/");
        worker.echo();
        client.read_response();
    }
    client.get("/busy");
    let claimed = worker.claim();
    let mut bad = scenario.connect();
    bad.send("rubbish\r\n\r\n");
    assert_eq!(bad.read_response().status, 400);
    let scrape = ask(&scenario, "/metrics", "");
    assert_eq!(status(&scrape), "200");
    assert!(scrape.contains("Content-Type: text/plain; version=0.0.4"));
    for (series, expected) in [
        ("oxicorn_responses_total{method=\"GET\",class=\"2xx\"}", 3),
        ("oxicorn_responses_total{method=\"other\",class=\"4xx\"}", 1),
        ("oxicorn_requests_refused_total{reason=\"malformed\"}", 1),
        ("oxicorn_requests_in_flight", 1),
        ("oxicorn_capacity", 1),
        ("oxicorn_capacity_used", 1),
        ("oxicorn_workers_serving", 1),
        ("oxicorn_workers_busy", 1),
        ("oxicorn_request_queue_seconds_count", 4),
    ] {
        assert_eq!(number(&scrape, series), expected, "{series}");
    }
    worker.respond(&claimed, "");
    client.read_response();
    eventually("served", || {
        let scrape = ask(&scenario, "/metrics", "");
        number(&scrape, "oxicorn_request_service_seconds_count") == 4
            && number(&scrape, "oxicorn_capacity_used") == 0
    });
}

#[test]
fn open_metrics_is_for_who_asks_for_it() {
    let scenario = Scenario::start(patient());
    let accept = "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5\r\n";
    let scrape = ask(&scenario, "/metrics", accept);
    assert!(scrape.contains("Content-Type: application/openmetrics-text; version=1.0.0"));
    assert!(scrape.contains("\n# TYPE oxicorn_requests counter\noxicorn_requests_total 0\n"));
    assert!(scrape.ends_with("# EOF\n"));
}

#[test]
fn what_the_application_counts_follows_the_figures_of_the_server() {
    let scenario = Scenario::start(patient());
    let accept = "Accept: application/openmetrics-text;version=1.0.0\r\n";
    let without = ask(&scenario, "/metrics", accept);
    let sold = Series {
        family: Family {
            name: "shop_sold".into(),
            kind: FamilyKind::Counter,
            mode: None,
            help: "Things sold.".into(),
        },
        suffix: "_total".into(),
        labels: vec![("kind".into(), "book".into())],
    };
    let store = &scenario.metric_store;
    store.add(store.shared(&sold).unwrap(), 2.5);
    for accept in ["", accept] {
        let scrape = ask(&scenario, "/metrics", accept);
        let (ours, theirs) = scrape.split_once("# HELP shop_sold").unwrap();
        assert!(ours.contains("oxicorn_start_time_seconds") && !theirs.contains("oxicorn_"));
        assert!(theirs.contains("\nshop_sold_total{kind=\"book\"} 2.5\n"));
        assert_eq!(theirs.ends_with("# EOF\n"), !accept.is_empty());
    }
    assert!(without.ends_with("# EOF\n"));
}

#[test]
fn probes_follow_the_server_from_its_beginning_to_its_end() {
    let mut scenario = Scenario::start(patient());
    let codes = |scenario: &Scenario| {
        ["/livez", "/startupz", "/readyz"].map(|path| status(&ask(scenario, path, "")).to_owned())
    };
    assert_eq!(codes(&scenario), ["200", "503", "503"]);
    let worker = scenario.ready_worker(1);
    scenario.tell(&ToGateway::ServeGeneration { generation: 1 });
    eventually("ready", || codes(&scenario) == ["200", "200", "200"]);

    scenario
        .scoreboard
        .arbiter()
        .set(ArbiterGauge::Generation, 1);
    scenario.tell(&ToGateway::RetireWorker {
        worker: worker.number,
    });
    eventually("not ready", || codes(&scenario) == ["200", "200", "503"]);
    assert!(ask(&scenario, "/readyz", "").contains("no worker can take requests"));
}

#[test]
fn a_full_queue_is_not_ready_and_the_probe_does_not_wait_in_it() {
    let mut settings = patient();
    settings.queue.limit = 1;
    settings.queue.prefetch_limit = 0;
    let (scenario, mut worker) = Scenario::with_worker(settings);
    let mut first = scenario.connect();
    first.get("/");
    let _claimed = worker.claim();
    let mut second = scenario.connect();
    second.get("/");
    eventually("full", || {
        ask(&scenario, "/readyz", "").contains("1 requests wait for a worker (queue_limit: 1)")
    });
    assert_eq!(status(&ask(&scenario, "/livez", "")), "200");
}

#[test]
fn a_graceful_stop_is_not_ready_and_still_answered() {
    let (scenario, mut worker) = Scenario::with_worker(patient());
    let mut client = scenario.connect();
    client.get("/");
    let claimed = worker.claim();
    scenario.tell(&ToGateway::Drain {
        deadline_ms: 60_000,
    });
    eventually("told", || {
        ask(&scenario, "/readyz", "").contains("the server is stopping")
    });
    assert_eq!(status(&ask(&scenario, "/livez", "")), "200");
    worker.respond(&claimed, "");
    client.read_response();
}

#[test]
fn any_bytes_get_a_clear_answer() {
    let scenario = Scenario::start(patient());
    for (request, expected) in [
        (&b"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n"[..], "404"),
        (
            b"POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
            "405",
        ),
        (b"HEAD /livez HTTP/1.1\r\nHost: a\r\n\r\n", "200"),
        (b"GET / HTTP/1.0\r\n\r\n", "200"),
        (
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
            "400",
        ),
        (b"GET /livez HTTP/3.0\r\n\r\n", "505"),
        (b"GET /livez HTTP/1.1\r\n\r\n", "400"),
    ] {
        let answer = ask_raw(&scenario, request);
        assert_eq!(status(&answer), expected, "{request:?}: {answer}");
        assert!(answer.contains("Connection: close\r\n"), "{answer}");
    }
    // Who says nothing, or too much, gets nothing, and nobody else waits for it.
    let silent = TcpStream::connect(scenario.monitoring_address).unwrap();
    silent.shutdown(Shutdown::Write).unwrap();
    let long = vec![b'a'; 100_000];
    let mut flood = TcpStream::connect(scenario.monitoring_address).unwrap();
    let _ = flood.write_all(&long);
    assert_eq!(status(&ask(&scenario, "/livez", "")), "200");
}

/// The first part of the list of `most` requests.
#[test]
fn who_says_nothing_keeps_no_probe_away() {
    let scenario = Scenario::start(patient());
    let connect = || TcpStream::connect(scenario.monitoring_address).unwrap();
    let _silent: Vec<_> = (0..200).map(|_| connect()).collect();
    assert_eq!(status(&ask(&scenario, "/livez", "")), "200");
}

fn list_of(scenario: &Scenario, token: u64, most: u32) -> RequestList {
    scenario.tell(&ToGateway::ListRequests { token, most });
    let is_list = |message: &FromGateway| matches!(message, FromGateway::Requests(_));
    match scenario.expect("a list", is_list) {
        FromGateway::Requests(list) => list,
        other => unreachable!("asked for, not {other:?}"),
    }
}

#[test]
fn a_long_list_comes_in_parts_that_fit_into_packets() {
    let (scenario, _worker) = Scenario::with_worker(patient());
    let clients: Vec<_> = (0..250)
        .map(|number| {
            let mut client = scenario.connect();
            client.get(&format!("/{number}{}", "\\".repeat(500)));
            client
        })
        .collect();
    let mut parts = vec![];
    eventually("all are there", || {
        parts = vec![list_of(&scenario, 1, 1000)];
        while parts.last().is_some_and(|part| part.more) {
            let is_list = |message: &FromGateway| matches!(message, FromGateway::Requests(_));
            let FromGateway::Requests(part) = scenario.expect("the next part", is_list) else {
                unreachable!("asked for");
            };
            parts.push(part);
        }
        parts[0].total == clients.len()
    });
    let lengths: Vec<_> = parts.iter().map(|part| part.requests.len()).collect();
    assert_eq!(lengths, [100, 100, 50]);
    let ids: HashSet<_> = (parts.iter().flat_map(|part| &part.requests))
        .map(|request| &request.id)
        .collect();
    assert_eq!(ids.len(), clients.len(), "each has a name of its own");
}

#[test]
fn requests_are_listed_with_who_has_them() {
    let mut settings = patient();
    settings.queue.prefetch_limit = 0;
    let (scenario, mut worker) = Scenario::with_worker(settings);
    let mut first = scenario.connect();
    first.get("/busy");
    let claimed = worker.claim();
    let mut second = scenario.connect();
    second.send(&format!(
        "GET /{} HTTP/1.1\r\nHost: a\r\n\r\n",
        "w".repeat(500)
    ));
    eventually("queued", || {
        ask(&scenario, "/metrics", "").contains("oxicorn_queue_depth 1")
    });
    let list = list_of(&scenario, 5, 1);
    assert_eq!((list.token, list.total, list.requests.len()), (5, 2, 1));
    let list = list_of(&scenario, 6, 100);
    assert_eq!((list.token, list.total, list.more), (6, 2, false));
    let requests = list.requests;
    let shown: Vec<_> = (requests.iter())
        .map(|one| (one.state.as_str(), one.pid, one.request_line.len() < 200))
        .collect();
    assert_eq!(
        shown,
        [("working", Some(4711), true), ("queued", None, true)]
    );
    assert_eq!(requests[0].request_line, "GET /busy HTTP/1.1");
    worker.respond(&claimed, "");
    first.read_response();
}

#[test]
fn a_slow_request_is_told_of_once_and_goes_on() {
    let mut settings = patient();
    settings.timeouts.slow = Duration::from_secs(2);
    let mut scenario = Scenario::with_held_clock(settings);
    let mut worker = scenario.ready_worker(1);
    let mut client = scenario.connect();
    client.get("/slow");
    let claimed = worker.claim();
    scenario.pass(Duration::from_millis(1900));
    scenario.pass(Duration::from_millis(200));
    scenario.pass(Duration::from_secs(5));
    let is_slow = |message: &FromGateway| matches!(message, FromGateway::RequestSlow(_));
    let FromGateway::RequestSlow(slow) = scenario.expect("a slow request", is_slow) else {
        unreachable!("asked for");
    };
    assert_eq!(slow.request_line, "GET /slow HTTP/1.1");
    assert_eq!((slow.worker, slow.queued_ms), (worker.number, 0));
    assert!((2000..7000).contains(&slow.age_ms), "{}", slow.age_ms);
    scenario.tell(&ToGateway::ListRequests { token: 1, most: 9 });
    let next = scenario.expect("a list, and nothing said again before it", |message| {
        is_slow(message) || matches!(message, FromGateway::Requests { .. })
    });
    assert!(!is_slow(&next));
    worker.respond(&claimed, "");
    assert_eq!(client.read_response().status, 200);
}
