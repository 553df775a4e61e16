//! Bounds in time and number.

use std::io::Write as _;
use std::time::{Duration, Instant};

use oxicorn_gateway::control::{FromGateway, ToGateway};
use oxicorn_link::scoreboard::Gauge;
use oxicorn_link::wire::{CancelReason, EventKind, ResponseKind, decode_cancel, flags};

use crate::scenario::{Client, Scenario, eventually, patient};

/// Until so many requests wait for a worker.
fn wait_for_queue(scenario: &Scenario, count: u64) {
    let figures = scenario.scoreboard.gateway(0).unwrap();
    eventually("it is queued", || figures.gauge(Gauge::Queued) == count);
}

#[test]
fn an_idle_connection_is_closed_after_keepalive() {
    let mut settings = patient();
    settings.timeouts.keep_alive = Duration::from_millis(300);
    let (scenario, mut worker) = Scenario::with_worker(settings);
    let mut client = scenario.connect();
    client.get("/");
    // Idle it is once the response is out, which is before the client has read it.
    let before = Instant::now();
    worker.echo();
    client.read_response();
    client.expect_end();
    assert!(before.elapsed() >= Duration::from_millis(300));
}

/// Until the gateway has not ticked for a while.
fn wait_for_rest(scenario: &Scenario) {
    let figures = scenario.scoreboard.gateway(0).unwrap();
    eventually("a rest", || {
        let last = figures.gauge(Gauge::Heartbeat);
        // Several ticks, if there were any.
        std::thread::sleep(Duration::from_millis(600));
        figures.gauge(Gauge::Heartbeat) == last
    });
}

#[test]
fn nothing_ticks_while_nothing_can_become_due() {
    let (scenario, mut worker) = Scenario::with_worker(patient());
    let mut client = scenario.connect();
    for _ in 0..2 {
        client.get("/");
        worker.echo();
        client.read_response();
        wait_for_rest(&scenario);
    }
    // In hand it may become due at any time.
    client.get("/");
    let claimed = worker.claim();
    let figures = scenario.scoreboard.gateway(0).unwrap();
    let rested = figures.gauge(Gauge::Heartbeat);
    eventually("a tick", || figures.gauge(Gauge::Heartbeat) > rested);
    worker.respond(&claimed, "");
    client.read_response();
}

#[test]
fn a_deadline_is_seen_by_a_gateway_that_rests() {
    let mut settings = patient();
    settings.timeouts.keep_alive = Duration::from_millis(2500);
    let (scenario, mut worker) = Scenario::with_worker(settings);
    let mut client = scenario.connect();
    client.get("/");
    let before = Instant::now();
    worker.echo();
    client.read_response();
    wait_for_rest(&scenario);
    client.expect_end();
    assert!(before.elapsed() >= Duration::from_millis(2500));
}

#[test]
fn no_connection_is_kept_without_keepalive() {
    let mut settings = patient();
    settings.timeouts.keep_alive = Duration::ZERO;
    let (scenario, mut worker) = Scenario::with_worker(settings);
    let mut client = scenario.connect();
    client.get("/");
    worker.echo();
    assert_eq!(client.read_response().header("connection"), Some("close"));
    client.expect_end();
}

#[test]
fn a_head_that_does_not_come_in_time_is_refused() {
    let mut settings = patient();
    settings.timeouts.head = Duration::from_millis(300);
    let scenario = Scenario::with_held_clock(settings);
    let mut silent = scenario.connect();
    let mut slow = scenario.connect();
    let head = "GET / HTTP/1.1\r\nHo";
    slow.send(head);
    scenario.wait_for_connections(2);
    scenario.wait_for_bytes(head.len());
    scenario.pass(Duration::from_millis(300));
    assert_eq!(slow.read_response().status, 408);
    silent.expect_end();
    assert!(scenario.access_log(1)[0].contains("\"GET / HTTP/1.1\" 408 "));
}

#[test]
fn a_body_that_stops_coming_is_refused() {
    let mut settings = patient();
    settings.timeouts.body = Duration::from_millis(300);
    let (scenario, _worker) = Scenario::with_worker(settings);
    let mut client = scenario.connect();
    client.send("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 10\r\n\r\n12345");
    assert_eq!(client.read_response().status, 408);
}

#[test]
fn a_reader_that_takes_nothing_is_cut() {
    let mut settings = patient();
    settings.timeouts.write = Duration::from_millis(300);
    let (scenario, mut worker) = Scenario::with_worker(settings);
    let mut client = scenario.connect();
    client.get("/");
    let claimed = worker.claim();
    worker.head(claimed.stream, 0, 200, &[], b"");
    loop {
        worker.send(ResponseKind::BodyChunk, claimed.stream, 0, &[0; 16_000]);
        let mut payload = Vec::new();
        match worker.parts.events.try_next(&mut payload) {
            Some(event) if event.kind == EventKind::Cancel => break,
            Some(_) => {}
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    }
    client.read_head();
    assert!(!client.read_to_end().ends_with(b"0\r\n\r\n"));
}

#[test]
fn a_request_that_takes_too_long_is_a_504_and_the_arbiter_hears_of_it() {
    let mut settings = patient();
    settings.timeouts.request = Duration::from_millis(300);
    let (scenario, mut worker) = Scenario::held_with_worker(settings);
    let mut client = scenario.connect();
    client.get("/slow\"");
    let claimed = worker.claim();
    scenario.pass_beyond(Duration::from_millis(300));
    assert_eq!(client.read_response().status, 504);
    let message = scenario.expect("expired", |message| {
        matches!(message, FromGateway::RequestExpired(_))
    });
    let FromGateway::RequestExpired(expired) = message else {
        unreachable!()
    };
    assert_eq!(expired.worker, worker.number);
    assert_eq!(expired.client, "127.0.0.1");
    assert_eq!(expired.others_in_flight, 0);
    assert!(expired.age_ms >= 300);
    let (kind, stream, payload) = worker.event();
    assert_eq!((kind, stream), (EventKind::Cancel, claimed.stream));
    assert_eq!(decode_cancel(&payload), Ok(CancelReason::Expired));
    // Its answer comes too late, but frees the worker.
    worker.respond(&claimed, "late");
    client.get("/next");
    worker.echo();
    assert_eq!(client.read_response().text(), "/next");
}

#[test]
fn a_worker_that_goes_on_with_others_ends_the_late_request_alone() {
    let mut settings = patient();
    settings.timeouts.request = Duration::from_millis(300);
    let mut scenario = Scenario::with_held_clock(settings);
    scenario.goes_on = true;
    let mut worker = scenario.ready_worker(2);
    let mut streaming = scenario.connect();
    streaming.get("/stream");
    let stream = worker.claim();
    worker.head(stream.stream, 0, 200, &[], b"first");
    streaming.read_head();
    let mut late = scenario.connect();
    late.get("/late");
    let claimed = worker.claim();
    scenario.pass_beyond(Duration::from_millis(300));
    assert_eq!(late.read_response().status, 504);
    let message = scenario.expect("expired", |message| {
        matches!(message, FromGateway::RequestExpired(_))
    });
    let FromGateway::RequestExpired(expired) = message else {
        unreachable!()
    };
    assert!(expired.worker_goes_on);
    assert_eq!(worker.event().1, claimed.stream);
    // What has begun to answer may pause for as long as it likes.
    worker.respond(&claimed, "too late");
    worker.send(ResponseKind::BodyChunk, stream.stream, flags::END, b"rest");
    while let Some(chunk) = streaming.read_chunk() {
        assert!(chunk == b"first" || chunk == b"rest");
    }
}

#[test]
fn a_response_that_stops_coming_is_cut() {
    let mut settings = patient();
    settings.timeouts.request = Duration::from_millis(300);
    let (scenario, mut worker) = Scenario::held_with_worker(settings);
    let mut client = scenario.connect();
    client.get("/");
    let claimed = worker.claim();
    worker.head(claimed.stream, 0, 200, &[], b"half");
    client.read_head();
    scenario.pass_beyond(Duration::from_millis(300));
    assert_eq!(client.read_to_end(), b"4\r\nhalf\r\n");
    scenario.expect("expired", |message| {
        matches!(message, FromGateway::RequestExpired(_))
    });
}

#[test]
fn a_response_that_keeps_coming_is_not_too_late() {
    let mut settings = patient();
    settings.timeouts.request = Duration::from_secs(10);
    let mut scenario = Scenario::with_held_clock(settings);
    let mut worker = scenario.ready_worker(1);
    let mut client = scenario.connect();
    client.get("/");
    let claimed = worker.claim();
    worker.head(claimed.stream, 0, 200, &[], b"");
    client.read_head();
    for _ in 0..3 {
        worker.send(ResponseKind::BodyChunk, claimed.stream, 0, b"tick");
        assert_eq!(client.read_chunk().unwrap(), b"tick");
        scenario.pass(Duration::from_secs(9));
    }
    worker.send(ResponseKind::BodyChunk, claimed.stream, flags::END, b"");
    assert_eq!(client.read_chunk(), None);
}

#[test]
fn a_full_queue_is_a_503_at_once() {
    let mut settings = patient();
    settings.queue.limit = 1;
    settings.queue.prefetch_limit = 0;
    let (scenario, mut worker) = Scenario::with_worker(settings);
    let (mut served, mut waiting, mut refused) =
        (scenario.connect(), scenario.connect(), scenario.connect());
    served.get("/served");
    let claimed = worker.claim();
    waiting.get("/waiting");
    // Only the order of arrival decides.
    wait_for_queue(&scenario, 1);
    refused.get("/refused");
    let response = refused.read_response();
    assert_eq!(response.status, 503);
    assert!(
        response
            .header("retry-after")
            .unwrap()
            .parse::<u32>()
            .unwrap()
            >= 1
    );
    worker.respond(&claimed, "served");
    worker.echo();
    assert_eq!(served.read_response().text(), "served");
    assert_eq!(waiting.read_response().text(), "/waiting");
    // The refused connection may try again.
    refused.get("/again");
    worker.echo();
    assert_eq!(refused.read_response().text(), "/again");
}

#[test]
fn a_request_that_waits_too_long_for_a_worker_is_a_503() {
    let mut settings = patient();
    settings.queue.timeout = Duration::from_millis(200);
    let scenario = Scenario::start(settings);
    scenario.tell(&ToGateway::ServeGeneration { generation: 1 });
    let mut client = scenario.connect();
    client.get("/");
    assert_eq!(client.read_response().status, 503);
}

#[test]
fn a_client_that_leaves_the_queue_costs_no_worker() {
    let scenario = Scenario::start(patient());
    scenario.tell(&ToGateway::ServeGeneration { generation: 1 });
    let mut leaving = scenario.connect();
    leaving.get("/leaving");
    wait_for_queue(&scenario, 1);
    oxicorn_os::sockets::set_linger(&leaving.stream, Some(Duration::ZERO)).unwrap();
    drop(leaving);
    let line = &scenario.access_log(1)[0];
    assert!(line.contains("\"GET /leaving HTTP/1.1\" 499 0 "), "{line}");
    let mut scenario = scenario;
    let mut worker = scenario.ready_worker(1);
    let mut client = scenario.connect();
    client.get("/next");
    worker.echo();
    assert_eq!(client.read_response().text(), "/next");
}

#[test]
fn a_request_behind_a_slow_one_is_given_to_who_is_free() {
    let mut settings = patient();
    settings.queue.prefetch_limit = 8;
    let (mut scenario, mut one) = Scenario::with_worker(settings);
    let mut two = scenario.ready_worker(1);
    // Short service times teach the dispatcher to place ahead.
    let mut clients: Vec<_> = (0..8).map(|_| scenario.connect()).collect();
    for _ in 0..50 {
        for client in &mut clients {
            client.get("/fast");
        }
        let mut served = 0;
        while served < clients.len() {
            for worker in [&mut one, &mut two] {
                while let Some(claimed) = worker.try_claim() {
                    worker.respond(&claimed, "fast");
                    served += 1;
                }
            }
        }
        for client in &mut clients {
            assert_eq!(client.read_response().text(), "fast");
        }
    }
    // Now one worker hangs in the first request; everybody else is served by the other.
    for client in &mut clients {
        client.get("/mixed");
    }
    let stuck = one.claim();
    let mut served = 0;
    let deadline = Instant::now() + crate::scenario::PATIENCE;
    while served < clients.len() - 1 {
        while let Some(claimed) = two.try_claim() {
            two.respond(&claimed, "fast");
            served += 1;
        }
        assert!(
            Instant::now() < deadline,
            "{served} served, the others wait behind the slow one"
        );
    }
    one.respond(&stuck, "slow");
    let slow = clients
        .iter_mut()
        .map(Client::read_response)
        .filter(|response| response.text() == "slow")
        .count();
    assert_eq!(slow, 1);
}

#[test]
fn five_hundred_slow_clients_hinder_nobody() {
    let (scenario, mut worker) = Scenario::with_worker(patient());
    let mut slow: Vec<_> = (0..500).map(|_| scenario.connect()).collect();
    for round in 0..3 {
        for client in &mut slow {
            let byte = &b"GET"[round..=round];
            client.stream.write_all(byte).unwrap();
        }
        let mut normal = scenario.connect();
        normal.get("/normal");
        worker.echo();
        assert_eq!(normal.read_response().text(), "/normal");
    }
}
