//! Many clients that are answered at the same time, sent to together and each by itself.

use std::fs;
use std::io::Read as _;
use std::sync::Arc;

use oxicorn_gateway::Settings;
use oxicorn_gateway::control::ToGateway;
use oxicorn_link::wire::{ResponseKind, flags};

use crate::scenario::{Client, Scenario, StubWorker, eventually, patient, pattern};
use crate::tls::{self, TlsClient};

/// More than leave by one system call.
const CLIENTS: u32 = 100;

fn settings(io_uring: bool) -> Settings {
    Settings {
        io_uring,
        ..patient()
    }
}

/// A gateway with a worker that has room for all.
fn start(io_uring: bool) -> (Scenario, StubWorker) {
    let mut scenario = Scenario::start(settings(io_uring));
    let worker = scenario.ready_worker(CLIENTS);
    scenario.tell(&ToGateway::ServeGeneration { generation: 1 });
    (scenario, worker)
}

/// How many rings this process has: each test has one of its own.
fn rings() -> usize {
    let descriptors = fs::read_dir("/proc/self/fd").unwrap();
    let names = descriptors.filter_map(|one| fs::read_link(one.unwrap().path()).ok());
    let rings = names.filter(|name| name.to_string_lossy().contains("io_uring"));
    rings.count()
}

/// Whether the kernel would give one.
fn is_to_be_had() -> bool {
    oxicorn_os::send_batch::SendBatch::new().is_ok()
}

/// Answers all requests in one go, with their targets.
fn answer(worker: &mut StubWorker, count: u32) {
    let claimed: Vec<_> = (0..count).map(|_| worker.claim()).collect();
    for one in &claimed {
        worker.respond(one, one.target());
    }
}

fn everybody_gets_the_own_answer(io_uring: bool) {
    let (scenario, mut worker) = start(io_uring);
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| scenario.connect()).collect();
    for round in 0..3 {
        for (number, client) in clients.iter_mut().enumerate() {
            client.get(&format!("/{round}/{number}"));
        }
        answer(&mut worker, CLIENTS);
        for (number, client) in clients.iter_mut().enumerate() {
            assert_eq!(client.read_response().text(), format!("/{round}/{number}"));
        }
    }
    let lines = scenario.access_log(3 * CLIENTS as usize);
    assert!(lines.iter().all(|line| line.contains(" 200 ")));
}

#[test]
fn everybody_gets_the_own_answer_by_one_call_for_all() {
    everybody_gets_the_own_answer(true);
}

#[test]
fn everybody_gets_the_own_answer_by_a_call_each() {
    everybody_gets_the_own_answer(false);
}

#[test]
fn the_setting_decides_at_the_start_and_on_a_reload() {
    let possible = usize::from(is_to_be_had());
    let (scenario, _worker) = start(false);
    assert_eq!(rings(), 0);
    for (io_uring, expected) in [(true, possible), (true, possible), (false, 0)] {
        scenario.tell(&ToGateway::Settings(Box::new(settings(io_uring))));
        eventually("a ring, or none", || rings() == expected);
    }
}

#[test]
fn who_does_not_read_or_has_left_keeps_nobody_from_the_answer() {
    let (scenario, mut worker) = start(true);
    let mut slow = scenario.connect_with_small_buffer();
    let mut gone = scenario.connect();
    let mut others: Vec<Client> = (0..8).map(|_| scenario.connect()).collect();
    for client in others.iter_mut().chain([&mut slow]) {
        client.get("/");
    }
    gone.get("/");
    let claimed: Vec<_> = (0..10).map(|_| worker.claim()).collect();
    drop(gone);
    let length = 200_000;
    let body = pattern(0, length);
    for piece in body.chunks(20_000) {
        for one in &claimed {
            if piece.as_ptr() == body.as_ptr() {
                let length = length.to_string();
                worker.head(one.stream, 0, 200, &[("Content-Length", &length)], piece);
            } else {
                worker.send(ResponseKind::BodyChunk, one.stream, 0, piece);
            }
        }
    }
    for one in &claimed {
        worker.send(ResponseKind::BodyChunk, one.stream, flags::END, b"");
    }
    for client in others.iter_mut().chain([&mut slow]) {
        assert_eq!(client.read_response().body, body);
    }
}

#[test]
fn with_tls_too() {
    for io_uring in [true, false] {
        let (mut scenario, _, pki) = tls::start(settings(io_uring));
        let mut worker = scenario.ready_worker(CLIENTS);
        let config = Arc::new(pki.client_config());
        let mut clients: Vec<_> = (0..20)
            .map(|_| TlsClient::connect(&scenario, &config))
            .collect();
        for round in 0..3 {
            for (number, client) in clients.iter_mut().enumerate() {
                client.get(&format!("/{round}/{number}"));
            }
            answer(&mut worker, 20);
            for (number, client) in clients.iter_mut().enumerate() {
                assert_eq!(client.read_response().text(), format!("/{round}/{number}"));
            }
        }
        let mut rest = Vec::new();
        let last = clients.last_mut().unwrap();
        last.stream.conn.send_close_notify();
        std::io::Write::flush(&mut last.stream).unwrap();
        last.stream.read_to_end(&mut rest).expect("a goodbye");
        assert!(rest.is_empty());
    }
}
