//! Workers that come, go, die and lie.

use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use oxicorn_gateway::control::{FromGateway, ToGateway};
use oxicorn_link::window::RESPONSE_PIECE;
use oxicorn_link::wire::{EventKind, ResponseKind, flags};
use oxicorn_link::{LinkParts, Sizes};

use crate::scenario::{Scenario, StubWorker, patient, pattern, response_head};

#[test]
fn a_request_waits_for_the_first_worker() {
    let mut scenario = Scenario::start(patient());
    let mut client = scenario.connect();
    client.get("/early");
    scenario.tell(&ToGateway::ServeGeneration { generation: 1 });
    let mut worker = scenario.ready_worker(1);
    worker.echo();
    assert_eq!(client.read_response().text(), "/early");
}

#[test]
fn a_worker_that_is_not_ready_gets_nothing() {
    let mut scenario = Scenario::start(patient());
    let mut booting = scenario.attach(&LinkParts::create(Sizes::default()).unwrap(), 1, 1);
    let mut ready = scenario.ready_worker(1);
    scenario.tell(&ToGateway::ServeGeneration { generation: 1 });
    for _ in 0..5 {
        let mut client = scenario.connect();
        client.get("/");
        ready.echo();
        assert_eq!(client.read_response().status, 200);
        assert!(booting.try_claim().is_none());
    }
}

/// Kills a worker and says so as the arbiter would.
fn kill(scenario: &Scenario, worker: StubWorker) {
    let number = worker.number;
    drop(worker);
    scenario.tell(&ToGateway::WorkerGone { worker: number });
}

#[test]
fn a_request_the_dead_worker_had_not_taken_goes_to_another() {
    let (mut scenario, worker) = Scenario::with_worker(patient());
    let mut client = scenario.connect();
    client.get("/");
    crate::scenario::eventually("the request is placed", || {
        worker.parts.requests.has_pending()
    });
    let mut other = scenario.ready_worker(1);
    kill(&scenario, worker);
    other.echo();
    assert_eq!(client.read_response().text(), "/");
    assert_eq!(scenario.access_log(1).len(), 1);
}

#[test]
fn a_request_the_dead_worker_had_taken_is_a_502() {
    let (mut scenario, mut worker) = Scenario::with_worker(patient());
    let mut client = scenario.connect();
    client.get("/");
    worker.claim();
    kill(&scenario, worker);
    assert_eq!(client.read_response().status, 502);
    // The connection is as good as before.
    let mut other = scenario.ready_worker(1);
    client.get("/next");
    other.echo();
    assert_eq!(client.read_response().text(), "/next");
    assert!(scenario.access_log(2)[0].contains(" 502 "));
}

#[test]
fn a_response_cut_short_by_the_workers_death_is_seen_to_be() {
    let (scenario, mut worker) = Scenario::with_worker(patient());
    let mut client = scenario.connect();
    client.get("/");
    let claimed = worker.claim();
    worker.head(claimed.stream, 0, 200, &[], b"half");
    client.read_head();
    kill(&scenario, worker);
    assert_eq!(client.read_to_end(), b"4\r\nhalf\r\n");
    assert!(scenario.access_log(1)[0].contains(" 200 4 "));
}

#[test]
fn a_close_delimited_response_is_reset_when_the_worker_dies() {
    let (scenario, mut worker) = Scenario::with_worker(patient());
    let mut client = scenario.connect();
    client.send("GET / HTTP/1.0\r\n\r\n");
    let claimed = worker.claim();
    worker.head(claimed.stream, 0, 200, &[], b"half");
    client.read_head();
    assert_eq!(client.take(4), b"half");
    kill(&scenario, worker);
    let error = std::io::Read::read(&mut client.stream, &mut [0; 10]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn what_a_worker_wrote_before_it_died_still_counts() {
    let (scenario, mut worker) = Scenario::with_worker(patient());
    let mut client = scenario.connect();
    client.get("/");
    let claimed = worker.claim();
    worker.head(claimed.stream, 0, 200, &[("Content-Length", "300000")], b"");
    for _ in 0..20 {
        worker.send(ResponseKind::BodyChunk, claimed.stream, 0, &[7; 15_000]);
    }
    worker.send(ResponseKind::BodyChunk, claimed.stream, flags::END, b"");
    kill(&scenario, worker);
    assert_eq!(client.read_response().body, vec![7; 300_000]);
}

#[test]
fn a_worker_that_dies_between_long_pieces_leaves_a_response_without_end() {
    let (scenario, mut worker) = Scenario::with_worker(patient());
    let mut client = scenario.connect();
    client.get("/");
    let claimed = worker.claim();
    let [first, second] = [0, 7].map(|start| pattern(start, RESPONSE_PIECE));
    worker.head(claimed.stream, 0, 200, &[], &first);
    client.read_head();
    assert_eq!(client.read_chunk().unwrap(), first);
    worker.send(ResponseKind::BodyChunk, claimed.stream, 0, &second);
    kill(&scenario, worker);
    // As much as had left before the connection was cut, and nothing behind it.
    let rest = client.read_to_end();
    let whole = [b"80000\r\n", second.as_slice(), b"\r\n"].concat();
    assert!(whole.starts_with(&rest), "{} bytes", rest.len());
}

#[test]
fn the_end_of_the_links_socket_is_death_enough() {
    let (scenario, worker) = Scenario::with_worker(patient());
    drop(worker);
    // Nobody said anything; the request waits for another worker all the same.
    let mut scenario = scenario;
    let mut client = scenario.connect();
    client.get("/");
    let mut other = scenario.ready_worker(1);
    other.echo();
    assert_eq!(client.read_response().status, 200);
}

#[test]
fn a_worker_that_writes_rubbish_is_reported_and_let_go() {
    let mut scenario = Scenario::start(patient());
    let parts = LinkParts::create(Sizes::default()).unwrap();
    let memory = std::fs::File::from(parts.memory.try_clone().unwrap());
    let mut worker = scenario.attach(&parts, 1, 1);
    scenario.tell(&ToGateway::WorkerReady {
        worker: worker.number,
    });
    scenario.tell(&ToGateway::ServeGeneration { generation: 1 });
    let mut client = scenario.connect();
    client.get("/");
    worker.claim();
    // All over the memory, its indices included.
    let rubbish = |n: u32| n.wrapping_mul(2_654_435_761).to_le_bytes();
    let len = u32::try_from(memory.metadata().unwrap().len()).unwrap();
    let rubbish: Vec<u8> = (1..=len / 4).flat_map(rubbish).collect();
    memory.write_all_at(&rubbish, 0).unwrap();
    scenario.expect("the fault", |message| {
        matches!(message, FromGateway::WorkerFault { .. })
    });
    assert_eq!(client.read_response().status, 502);
    let mut other = scenario.ready_worker(1);
    client.get("/next");
    other.echo();
    assert_eq!(client.read_response().text(), "/next");
}

#[test]
fn messages_about_nothing_are_ignored() {
    let (scenario, mut worker) = Scenario::with_worker(patient());
    let mut client = scenario.connect();
    client.get("/");
    let claimed = worker.claim();
    let nobody = oxicorn_link::StreamId(claimed.stream.0 ^ (1 << 24));
    // That one is about no stream at all.
    let about_streams = |kind: &&ResponseKind| **kind != ResponseKind::InHand;
    for kind in ResponseKind::ALL.iter().filter(about_streams) {
        worker.send(*kind, nobody, flags::END | flags::HAS_DESCRIPTOR, b"x");
    }
    worker.respond(&claimed, "right");
    worker.respond(&claimed, "twice");
    assert_eq!(client.read_response().text(), "right");
    client.get("/next");
    worker.echo();
    assert_eq!(client.read_response().text(), "/next");
}

#[test]
fn a_body_before_its_head_is_an_error_500() {
    let (scenario, mut worker) = Scenario::with_worker(patient());
    let mut client = scenario.connect();
    client.get("/");
    let claimed = worker.claim();
    worker.send(ResponseKind::BodyChunk, claimed.stream, flags::END, b"x");
    assert_eq!(client.read_response().status, 500);
}

#[test]
fn a_retired_worker_finishes_and_is_reported_drained() {
    let (mut scenario, mut old) = Scenario::with_worker(patient());
    let mut client = scenario.connect();
    client.get("/old");
    let claimed = old.claim();
    let mut new = scenario.ready_worker(1);
    scenario.tell(&ToGateway::RetireWorker { worker: old.number });
    let mut other = scenario.connect();
    other.get("/new");
    new.echo();
    assert_eq!(other.read_response().text(), "/new");
    old.respond(&claimed, "finished");
    assert_eq!(client.read_response().text(), "finished");
    let drained = FromGateway::WorkerDrained { worker: old.number };
    scenario.expect("drained", |message| *message == drained);
}

#[test]
fn a_new_generation_takes_over_when_it_is_told_to() {
    let (mut scenario, mut old) = Scenario::with_worker(patient());
    let mut new = scenario.attach(&LinkParts::create(Sizes::default()).unwrap(), 1, 2);
    scenario.tell(&ToGateway::WorkerReady { worker: new.number });
    let mut client = scenario.connect();
    client.get("/1");
    old.echo();
    assert_eq!(client.read_response().text(), "/1");
    scenario.tell(&ToGateway::ServeGeneration { generation: 2 });
    client.get("/2");
    new.echo();
    assert_eq!(client.read_response().text(), "/2");
}

#[test]
fn the_worker_is_told_when_its_client_has_left() {
    let (scenario, mut worker) = Scenario::with_worker(patient());
    let mut client = scenario.connect();
    client.get("/");
    let claimed = worker.claim();
    worker.head(claimed.stream, 0, 200, &[], b"x");
    client.read_head();
    // Closing with unread data resets the connection.
    drop(client);
    let event = loop {
        worker.send(ResponseKind::BodyChunk, claimed.stream, 0, &[0; 1000]);
        let mut payload = Vec::new();
        if let Some(event) = worker.parts.events.try_next(&mut payload) {
            break event;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    assert_eq!(
        (event.kind, event.stream),
        (EventKind::Cancel, claimed.stream)
    );
    worker.send(ResponseKind::BodyChunk, claimed.stream, flags::END, b"");
    let mut next = scenario.connect();
    next.get("/next");
    worker.echo();
    assert_eq!(next.read_response().text(), "/next");
    assert_eq!(scenario.access_log(2).len(), 2);
}

#[test]
fn a_new_gateway_takes_over_living_workers() {
    let parts = LinkParts::create(Sizes::default()).unwrap();
    let mut first = Scenario::start(patient());
    let mut worker = first.attach(&parts, 1, 1);
    first.tell(&ToGateway::WorkerReady {
        worker: worker.number,
    });
    first.tell(&ToGateway::ServeGeneration { generation: 1 });
    let mut client = first.connect();
    client.get("/lost");
    let lost = worker.claim();
    first.tell(&ToGateway::Stop);
    assert_eq!(first.exit_code(), 0);
    client.expect_end();

    let second = Scenario::start(patient());
    second.attach_again(&parts, worker.number, 1, 1);
    second.tell(&ToGateway::WorkerReady {
        worker: worker.number,
    });
    second.tell(&ToGateway::ServeGeneration { generation: 1 });
    let mut client = second.connect();
    client.get("/again");
    // The answer to the first gateway's request is nobody's.
    worker.respond(&lost, "too late");
    worker.echo();
    assert_eq!(client.read_response().text(), "/again");
}

/// Numbers that look like chance and are the same every time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % sides as u64).unwrap()
    }

    fn payload(&mut self) -> Vec<u8> {
        match self.roll(4) {
            0 => response_head(200, &[("A", "b")]),
            1 => (0..self.roll(64))
                .map(|_| u8::try_from(self.roll(256)).unwrap())
                .collect(),
            2 => vec![0; self.roll(5000)],
            _ => Vec::new(),
        }
    }
}

#[test]
fn a_worker_that_says_anything_at_all_confuses_nobody() {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for round in 0..60 {
        let (mut scenario, mut worker) = Scenario::with_worker(patient());
        let mut client = scenario.connect();
        client.send("GET / HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
        let claimed = worker.claim();
        for _ in 0..dice.roll(12) {
            let kind = ResponseKind::ALL[dice.roll(ResponseKind::ALL.len())];
            let bits = u8::try_from(dice.roll(256)).unwrap();
            let payload = dice.payload();
            worker.send(kind, claimed.stream, bits, &payload);
        }
        kill(&scenario, worker);
        // Whatever it was, it ends, and the next one is served.
        client.read_to_end();
        let mut other = scenario.ready_worker(1);
        let mut next = scenario.connect();
        next.get("/next");
        other.echo();
        assert_eq!(next.read_response().text(), "/next", "round {round}");
    }
}
