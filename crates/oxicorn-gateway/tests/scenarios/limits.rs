//! What one client, and all of them together, may hold.

use std::io::Write as _;
use std::net::TcpListener;
use std::time::Duration;

use oxicorn_gateway::control::ToGateway;
use oxicorn_gateway::{ProxyProtocol, Settings};
use oxicorn_link::scoreboard::Gauge;
use oxicorn_link::wire::{BodyPlace, ResponseKind, flags};

use crate::scenario::{Client, Scenario, StubWorker, eventually, patient};

/// A listener whose connections send what is in the gateway's buffers, not in the kernel's.
pub(crate) fn listener_with_small_buffers() -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    rustix::net::sockopt::set_socket_send_buffer_size(&listener, 8192).unwrap();
    rustix::net::sockopt::set_socket_recv_buffer_size(&listener, 8192).unwrap();
    listener
}

/// Nobody is trusted, so that everybody is counted.
fn suspicious() -> Settings {
    let mut settings = patient();
    settings.trust.forwarded_allow_ips = Vec::new();
    settings
}

fn ask(client: &mut Client, worker: &mut StubWorker) {
    client.get("/asked");
    worker.echo();
    assert_eq!(client.read_response().text(), "/asked");
}

#[test]
fn a_connection_brings_so_many_requests() {
    let mut settings = patient();
    settings.requests_per_connection = 2;
    let (scenario, mut worker) = Scenario::with_worker(settings);
    let mut client = scenario.connect();
    for expected in ["keep-alive", "close"] {
        client.get("/");
        worker.echo();
        assert_eq!(client.read_response().header("connection"), Some(expected));
    }
    client.expect_end();
}

#[test]
fn one_address_has_so_many_connections_at_once() {
    let mut settings = suspicious();
    settings.client_connection_limit = 2;
    let (scenario, mut worker) = Scenario::with_worker(settings);
    let (mut one, mut two) = (scenario.connect(), scenario.connect());
    ask(&mut one, &mut worker);
    ask(&mut two, &mut worker);
    let mut three = scenario.connect();
    three.get("/three");
    let refused = three.read_response();
    assert_eq!(refused.status, 503);
    assert_eq!(refused.header("retry-after"), Some("1"));
    three.expect_end();
    scenario.expect_error_log("too many connections from this address");
    assert!(scenario.access_log(3)[2].contains(" 503 "));
    drop(one);
    scenario.wait_for_connections(1);
    let mut four = scenario.connect();
    ask(&mut four, &mut worker);
    ask(&mut two, &mut worker);
}

#[test]
fn who_speaks_for_many_is_not_counted_but_whom_he_names_is() {
    let mut settings = patient();
    settings.client_connection_limit = 1;
    settings.trust.proxy_protocol = ProxyProtocol::V1;
    let (scenario, mut worker) = Scenario::with_worker(settings);
    let mut open: Vec<_> = (0..3).map(|_| scenario.connect()).collect();
    for client in &mut open {
        ask(client, &mut worker);
    }
    let named = |address: &str| {
        let mut client = scenario.connect();
        client.send(&format!("PROXY TCP4 {address} 198.51.100.1 5678 443\r\n"));
        client
    };
    let mut one = named("203.0.113.7");
    ask(&mut one, &mut worker);
    let mut again = named("203.0.113.7");
    assert_eq!(again.read_response().status, 503);
    let mut other = named("203.0.113.8");
    ask(&mut other, &mut worker);
}

#[test]
fn idle_connections_make_room_for_new_ones() {
    let mut settings = patient();
    settings.connection_limit = 3;
    let mut scenario = Scenario::start(settings);
    let mut worker = scenario.ready_worker(8);
    scenario.tell(&ToGateway::ServeGeneration { generation: 1 });
    let mut busy = scenario.connect();
    busy.get("/busy");
    let claimed = worker.claim();
    let (mut oldest, mut idle) = (scenario.connect(), scenario.connect());
    ask(&mut oldest, &mut worker);
    ask(&mut idle, &mut worker);
    let mut new = scenario.connect();
    ask(&mut new, &mut worker);
    oldest.expect_end();
    ask(&mut idle, &mut worker);
    worker.respond(&claimed, "served");
    assert_eq!(busy.read_response().text(), "served");
    scenario.expect_error_log("closing those that wait longest");
}

#[test]
fn where_nobody_is_idle_new_ones_wait() {
    let mut settings = patient();
    settings.connection_limit = 1;
    let (scenario, mut worker) = Scenario::with_worker(settings);
    let mut busy = scenario.connect();
    busy.get("/busy");
    let claimed = worker.claim();
    let mut new = scenario.connect();
    new.get("/new");
    scenario.expect_error_log("connections are busy (limit_connections): new ones wait");
    worker.respond(&claimed, "served");
    assert_eq!(busy.read_response().text(), "served");
    worker.echo();
    assert_eq!(new.read_response().text(), "/new");
}

#[test]
fn readers_that_stand_still_are_cut_when_the_buffers_are_full() {
    const LIMIT: usize = 2 << 20;
    let mut settings = patient();
    settings.buffer_limit = LIMIT;
    settings.response_buffer = 1 << 20;
    let mut scenario = Scenario::with_listener(settings, listener_with_small_buffers());
    let mut worker = scenario.ready_worker(64);
    scenario.tell(&ToGateway::ServeGeneration { generation: 1 });
    let held = || {
        let figures = scenario.scoreboard.gateway(0).unwrap();
        usize::try_from(figures.gauge(Gauge::Buffered)).unwrap()
    };
    let mut stalled = Vec::new();
    for _ in 0..24 {
        let mut client = scenario.connect();
        client.get("/big");
        let claimed = worker.claim();
        worker.head(claimed.stream, 0, 200, &[], b"");
        for number in 0..20 {
            let last = if number == 19 { flags::END } else { 0 };
            let piece = vec![b'x'; 40_000];
            worker.send(ResponseKind::BodyChunk, claimed.stream, last, &piece);
        }
        stalled.push(client);
        assert!(held() < LIMIT + (1 << 20), "{}", held());
    }
    scenario.expect_error_log("Buffers are full (buffer_limit): cut off ip=127.0.0.1");
    // Whoever comes now is served, whatever the others do.
    ask(&mut scenario.connect(), &mut worker);
    drop(stalled);
    scenario.wait_for_connections(0);
    eventually("nothing is held", || held() == 0);
}

/// Beginnings of requests that hold `size` bytes together; each is too short to be refused.
pub(crate) fn fill_with_heads(scenario: &Scenario, size: usize) -> Vec<Client> {
    let value = "y".repeat(7000);
    let head = format!("GET / HTTP/1.1\r\nHost: t\r\nX-A: {value}\r\nX-B: {value}");
    let begin = |_| {
        let mut client = scenario.connect();
        client.send(&head);
        client
    };
    (0..=size / head.len()).map(begin).collect()
}

#[test]
fn a_reader_is_not_cut_for_what_others_hold() {
    const LIMIT: usize = 4 << 20;
    let mut settings = patient();
    settings.buffer_limit = LIMIT;
    let mut scenario = Scenario::with_listener(settings, listener_with_small_buffers());
    let mut worker = scenario.ready_worker(64);
    scenario.tell(&ToGateway::ServeGeneration { generation: 1 });
    let mut reader = scenario.connect();
    rustix::net::sockopt::set_socket_recv_buffer_size(&reader.stream, 4096).unwrap();
    reader.get("/slowly");
    let claimed = worker.claim();
    worker.head(claimed.stream, 0, 200, &[], b"");
    let answer = "x".repeat(LIMIT / 64);
    for (number, piece) in answer.as_bytes().chunks(LIMIT / 128).enumerate() {
        let last = if number == 1 { flags::END } else { 0 };
        worker.send(ResponseKind::BodyChunk, claimed.stream, last, piece);
    }
    let figures = scenario.scoreboard.gateway(0).unwrap();
    let held = || usize::try_from(figures.gauge(Gauge::Buffered)).unwrap();
    eventually("the answer waits", || held() > LIMIT / 128);
    let _others = fill_with_heads(&scenario, LIMIT + LIMIT / 16);
    eventually("more is held than may be", || held() > LIMIT + LIMIT / 16);
    assert_eq!(reader.read_response().text(), answer);
}

#[test]
fn with_full_buffers_long_heads_are_refused() {
    let mut settings = patient();
    settings.buffer_limit = 1 << 20;
    settings.rules.limits.field_size = 4 << 20;
    settings.rules.limits.head_size = 4 << 20;
    let (scenario, _worker) = Scenario::with_worker(settings);
    let mut holder = scenario.connect();
    holder.send("GET / HTTP/1.1\r\nHost: t\r\nX-Long: ");
    holder.send(&"y".repeat(1 << 20));
    // No more than is needed: what comes after the answer is only read so far.
    holder.stream.set_nonblocking(true).unwrap();
    eventually("an answer", || {
        let _ = holder.stream.write_all(&[b'y'; 1000]);
        holder.stream.peek(&mut [0]).is_ok()
    });
    holder.stream.set_nonblocking(false).unwrap();
    let refused = holder.read_response();
    assert_eq!(refused.status, 503);
    let text = refused.text();
    assert!(
        text.contains("no room for so long a request head"),
        "{text}"
    );
}

#[test]
fn with_full_buffers_short_bodies_are_files_too() {
    let mut settings = patient();
    settings.buffer_limit = 1;
    let (scenario, mut worker) = Scenario::with_worker(settings);
    let mut client = scenario.connect();
    client.send("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\n");
    let figures = scenario.scoreboard.gateway(0).unwrap();
    eventually("a head is held", || figures.gauge(Gauge::Buffered) > 1);
    client.send("short");
    let claimed = worker.claim();
    assert_eq!(claimed.view().head.body, BodyPlace::Descriptor { len: 5 });
    worker.respond(&claimed, "kept");
    assert_eq!(client.read_response().text(), "kept");
}

#[test]
fn without_workers_a_draining_server_refuses_at_once() {
    let mut scenario = Scenario::start(patient());
    let mut client = scenario.connect();
    client.get("/queued");
    scenario.wait_for_connections(1);
    let figures = scenario.scoreboard.gateway(0).unwrap();
    eventually("it is queued", || figures.gauge(Gauge::Queued) == 1);
    scenario.tell(&ToGateway::Drain {
        deadline_ms: 60_000,
    });
    let refused = client.read_response();
    assert_eq!(
        (refused.status, refused.text()),
        (503, "the server is stopping\n")
    );
    assert_eq!(scenario.exit_code(), 0);
}

#[test]
fn clients_cannot_fill_the_error_log() {
    let (scenario, _worker) = Scenario::with_worker(patient());
    for _ in 0..200 {
        let mut client = scenario.connect();
        client.send("nonsense\r\n\r\n");
        assert_eq!(client.read_response().status, 400);
    }
    scenario.expect_error_log("more warnings about clients were left out");
    scenario.access_log(200);
    let text = std::fs::read_to_string(scenario.directory.path().join("error.log")).unwrap();
    let lines = text.matches("Invalid request from").count();
    assert!((1..150).contains(&lines), "{lines}");
}

#[test]
fn half_a_proxy_header_is_a_fault_too() {
    let mut settings = patient();
    settings.timeouts.head = Duration::from_millis(300);
    settings.trust.proxy_protocol = ProxyProtocol::V1;
    let scenario = Scenario::with_held_clock(settings);
    let mut client = scenario.connect();
    let half = "PROXY TCP4 203.0.113.7";
    client.send(half);
    scenario.wait_for_bytes(half.len());
    scenario.pass(Duration::from_millis(300));
    assert_eq!(client.read_response().status, 408);
    assert!(scenario.access_log(1)[0].contains(" 408 "));
}
