//! The end: nothing that was promised is lost.

use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use oxicorn_gateway::Settings;
use oxicorn_gateway::control::{FromGateway, ToGateway};
use oxicorn_link::wire::{ResponseKind, flags};

use crate::scenario::{Client, Scenario, StubWorker, eventually, patient};

fn drain(scenario: &Scenario, deadline: Duration) {
    let deadline_ms = u64::try_from(deadline.as_millis()).unwrap();
    scenario.tell(&ToGateway::Drain { deadline_ms });
    eventually("nobody listens any more", || {
        TcpStream::connect(scenario.address).is_err()
    });
}

/// A client whose connection was kept after its first response.
fn kept(scenario: &Scenario, worker: &mut StubWorker) -> Client {
    let mut client = scenario.connect();
    client.get("/");
    worker.echo();
    assert_eq!(
        client.read_response().header("connection"),
        Some("keep-alive")
    );
    client
}

#[test]
fn a_further_request_on_a_kept_connection_is_answered_and_told_of_the_end() {
    let (mut scenario, mut worker) = Scenario::with_worker(patient());
    let mut client = kept(&scenario, &mut worker);
    drain(&scenario, Duration::from_mins(1));
    client.get("/again");
    worker.echo();
    let response = client.read_response();
    assert_eq!(
        (response.status, response.header("connection")),
        (200, Some("close"))
    );
    client.expect_end();
    scenario.expect("drained", |message| *message == FromGateway::Drained);
    assert_eq!(scenario.exit_code(), 0);
}

#[test]
fn kept_connections_that_bring_nothing_are_closed_and_the_gateway_ends() {
    let (mut scenario, mut worker) = Scenario::with_worker(patient());
    let mut client = kept(&scenario, &mut worker);
    drain(&scenario, Duration::from_mins(1));
    client.expect_end();
    scenario.expect("drained", |message| *message == FromGateway::Drained);
    assert_eq!(scenario.exit_code(), 0);
}

/// By the setting, or because there is little time for the whole end.
#[test]
fn how_long_kept_connections_are_answered_is_bounded() {
    let without = |mut settings: Settings| {
        settings.timeouts.kept_in_drain = Duration::ZERO;
        settings
    };
    for (settings, limit) in [
        (without(patient()), Duration::from_mins(10)),
        (patient(), Duration::from_millis(200)),
    ] {
        let (mut scenario, mut worker) = Scenario::with_worker(settings);
        let mut client = kept(&scenario, &mut worker);
        drain(&scenario, limit);
        client.expect_end();
        scenario.expect("drained", |message| *message == FromGateway::Drained);
        assert_eq!(scenario.exit_code(), 0);
    }
}

#[test]
fn without_kept_connections_a_stop_is_immediate() {
    let mut settings = patient();
    settings.timeouts.kept_in_drain = Duration::from_mins(10);
    let (mut scenario, mut worker) = Scenario::with_worker(settings);
    let mut client = scenario.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    worker.echo();
    client.read_response();
    client.expect_end();
    drain(&scenario, Duration::from_hours(1));
    scenario.expect("drained", |message| *message == FromGateway::Drained);
    assert_eq!(scenario.exit_code(), 0);
}

#[test]
fn a_request_in_flight_is_finished_and_told_of_the_end() {
    let (mut scenario, mut worker) = Scenario::with_worker(patient());
    let mut client = scenario.connect();
    client.get("/");
    let claimed = worker.claim();
    drain(&scenario, Duration::from_mins(1));
    worker.respond(&claimed, "finished");
    let response = client.read_response();
    assert_eq!(
        (response.text(), response.header("connection")),
        ("finished", Some("close"))
    );
    client.expect_end();
    assert_eq!(scenario.exit_code(), 0);
}

#[test]
fn a_response_that_streams_is_finished() {
    let (mut scenario, mut worker) = Scenario::with_worker(patient());
    let mut client = scenario.connect();
    client.get("/");
    let claimed = worker.claim();
    worker.head(claimed.stream, 0, 200, &[], b"one");
    client.read_head();
    drain(&scenario, Duration::from_mins(1));
    worker.send(ResponseKind::BodyChunk, claimed.stream, flags::END, b"two");
    // Its head was out before anybody knew of the end: one more request is answered.
    client.get("/again");
    worker.echo();
    let rest = String::from_utf8(client.read_to_end()).unwrap();
    assert!(
        rest.starts_with("3\r\none\r\n3\r\ntwo\r\n0\r\n\r\nHTTP/1.1 200 "),
        "{rest}"
    );
    assert!(rest.contains("Connection: close"), "{rest}");
    assert_eq!(scenario.exit_code(), 0);
}

#[test]
fn who_is_in_the_backlog_is_served() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // They connect before anybody listens to the listener.
    let address = listener.local_addr().unwrap();
    let mut clients: Vec<_> = (0..20)
        .map(|_| Client::new(TcpStream::connect(address).unwrap()))
        .collect();
    let mut settings = patient();
    settings.connection_limit = 1;
    let mut scenario = Scenario::with_listener(settings, listener);
    scenario.tell(&ToGateway::ServeGeneration { generation: 1 });
    let mut worker = scenario.ready_worker(1);
    // Requests that are there when their clients are let in: who sends nothing for a second makes room.
    for client in &mut clients {
        client.get("/backlog");
    }
    drain(&scenario, Duration::from_mins(1));
    for _ in 0..clients.len() {
        worker.echo();
    }
    for client in &mut clients {
        let response = client.read_response();
        assert_eq!(
            (response.status, response.header("connection")),
            (200, Some("close"))
        );
    }
    assert_eq!(scenario.exit_code(), 0);
    let refused = TcpStream::connect(address).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[test]
fn what_is_not_finished_at_the_deadline_is_cut() {
    let (mut scenario, mut worker) = Scenario::with_worker(patient());
    let mut client = scenario.connect();
    client.get("/");
    worker.claim();
    drain(&scenario, Duration::from_millis(300));
    client.expect_end();
    scenario.expect("drained", |message| *message == FromGateway::Drained);
    assert_eq!(scenario.exit_code(), 0);
}

#[test]
fn the_arbiters_death_is_a_drain() {
    let (mut scenario, mut worker) = Scenario::with_worker(patient());
    let mut client = scenario.connect();
    client.get("/");
    let claimed = worker.claim();
    scenario.hang_up();
    scenario.expect_error_log("Arbiter is gone");
    worker.respond(&claimed, "finished");
    assert_eq!(client.read_response().text(), "finished");
    assert_eq!(scenario.exit_code(), 0);
}

#[test]
fn stop_cuts_everything() {
    let (mut scenario, mut worker) = Scenario::with_worker(patient());
    let mut client = scenario.connect();
    client.get("/");
    worker.claim();
    scenario.tell(&ToGateway::Stop);
    client.expect_end();
    assert_eq!(scenario.exit_code(), 0);
    assert_eq!(scenario.access_log(1).len(), 1);
}
