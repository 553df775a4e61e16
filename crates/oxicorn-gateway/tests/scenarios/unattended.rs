//! Calls of the application that nobody waits for: each is bounded all the same.

use std::time::Duration;

use oxicorn_gateway::Settings;
use oxicorn_gateway::control::{FromGateway, RequestExpired, ToGateway};
use oxicorn_link::scoreboard::Counter;
use oxicorn_link::wire::{AbortReason, CallInHand, EventKind, ResponseKind, encode_abort, flags};
use oxicorn_link::{LinkParts, Sizes, StreamId};

use crate::scenario::{Scenario, StubWorker, eventually, patient};

/// The end of a response whose call goes on.
const LAST: u8 = flags::END | flags::GOES_ON;

/// Less than requests wait for a worker.
const TOO_LONG: Duration = Duration::from_secs(5);

fn impatient() -> Settings {
    let mut settings = patient();
    settings.timeouts.request = TOO_LONG;
    settings
}

/// Time passes until what is in hand is late: which one is.
fn expired(scenario: &Scenario) -> RequestExpired {
    scenario.pass_beyond(TOO_LONG);
    let message = scenario.expect("expired", |message| {
        matches!(message, FromGateway::RequestExpired(_))
    });
    let FromGateway::RequestExpired(expired) = message else {
        unreachable!()
    };
    expired
}

/// The call in hand of an earlier gateway.
fn introduce(worker: &mut StubWorker, stream: StreamId) {
    let mut payload = Vec::new();
    let call = CallInHand {
        stream,
        request_line: b"GET /from-before\"",
        client: b"192.0.2.1",
    };
    call.encode(&mut payload);
    worker.send(ResponseKind::InHand, StreamId(0), 0, &payload);
}

/// Until the gateway has read what the worker has sent: messages of a worker are read in their order.
fn wait_for_messages(scenario: &Scenario, worker: &mut StubWorker) {
    let mut client = scenario.connect();
    client.get("/behind-them");
    worker.echo();
    client.read_response();
}

#[test]
fn a_request_whose_client_resets_is_as_late_as_any_other() {
    let (scenario, mut worker) = Scenario::held_with_worker(impatient());
    let mut client = scenario.connect();
    client.get("/left\"");
    let claimed = worker.claim();
    client.reset();
    assert_eq!(worker.event().0, EventKind::Cancel);
    let expired = expired(&scenario);
    assert_eq!(expired.worker, worker.number);
    assert_eq!(expired.request_line, "GET /left\\\" HTTP/1.1");
    assert_eq!(expired.client, "127.0.0.1");
    assert_eq!(expired.others_in_flight, 0);
    assert!(Duration::from_millis(expired.age_ms) > TOO_LONG);
    // Said once; and its end frees the worker.
    worker.respond(&claimed, "nobody's");
    let mut next = scenario.connect();
    next.get("/next");
    worker.echo();
    assert_eq!(next.read_response().text(), "/next");
}

#[test]
fn a_call_that_goes_on_behind_its_response_is_late_in_its_turn() {
    let (scenario, mut worker) = Scenario::held_with_worker(impatient());
    let mut client = scenario.connect();
    client.get("/closes-slowly");
    let claimed = worker.claim();
    worker.head(claimed.stream, LAST, 200, &[], b"whole");
    assert_eq!(client.read_response().text(), "whole");
    // Its connection has another request when it is found to be late.
    client.get("/next");
    let figures = scenario.scoreboard.gateway(0).unwrap();
    eventually("it is read", || figures.counter(Counter::Requests) == 2);
    let late = expired(&scenario);
    assert_eq!(late.request_line, "GET /closes-slowly HTTP/1.1");
    assert_eq!(late.worker, worker.number);
    scenario.tell(&ToGateway::WorkerGone {
        worker: worker.number,
    });
    let mut scenario = scenario;
    let mut successor = scenario.ready_worker(1);
    successor.echo();
    assert_eq!(client.read_response().text(), "/next");
    assert_eq!(scenario.access_log(2).len(), 2);
}

#[test]
fn a_worker_has_room_when_its_call_ends_not_its_response() {
    let (mut scenario, mut one) = Scenario::with_worker(patient());
    let mut client = scenario.connect();
    client.get("/first");
    let first = one.claim();
    one.head(first.stream, LAST, 200, &[], b"first");
    assert_eq!(client.read_response().text(), "first");
    let mut two = scenario.ready_worker(1);
    client.get("/second");
    two.echo();
    assert_eq!(client.read_response().text(), "/second");
    assert!(one.try_claim().is_none());
    // The other one is busy: the next request waits for whoever is through first.
    client.get("/third");
    let third = two.claim();
    let mut other = scenario.connect();
    other.get("/fourth");
    one.send(ResponseKind::CallEnd, first.stream, 0, b"");
    one.echo();
    assert_eq!(other.read_response().text(), "/fourth");
    two.respond(&third, "third");
    assert_eq!(client.read_response().text(), "third");
}

#[test]
fn a_retired_worker_is_drained_when_its_call_ends() {
    let (scenario, mut worker) = Scenario::with_worker(patient());
    let mut client = scenario.connect();
    client.get("/");
    let claimed = worker.claim();
    worker.head(claimed.stream, LAST, 200, &[], b"whole");
    assert_eq!(client.read_response().text(), "whole");
    let number = worker.number;
    scenario.tell(&ToGateway::RetireWorker { worker: number });
    scenario.tell(&ToGateway::RetireWorker { worker: 4321 });
    // Orders are obeyed one after the other.
    let drained = scenario.expect("drained", |message| {
        matches!(message, FromGateway::WorkerDrained { .. })
    });
    assert_eq!(drained, FromGateway::WorkerDrained { worker: 4321 });
    worker.send(ResponseKind::CallEnd, claimed.stream, 0, b"");
    scenario.expect("drained", |message| {
        *message == FromGateway::WorkerDrained { worker: number }
    });
}

#[test]
fn a_call_goes_on_behind_each_kind_of_end() {
    for (kind, payload, reads) in [
        (ResponseKind::BodyChunk, Vec::new(), true),
        (ResponseKind::Trailers, Vec::new(), true),
        (
            ResponseKind::Abort,
            encode_abort(AbortReason::ApplicationFailed).to_vec(),
            false,
        ),
    ] {
        let (scenario, mut worker) = Scenario::held_with_worker(impatient());
        let mut client = scenario.connect();
        client.get("/tail");
        let claimed = worker.claim();
        worker.head(claimed.stream, 0, 200, &[], b"half");
        client.read_head();
        assert_eq!(client.read_chunk().unwrap(), b"half");
        let bits = if kind == ResponseKind::BodyChunk {
            LAST
        } else {
            flags::GOES_ON
        };
        worker.send(kind, claimed.stream, bits, &payload);
        if reads {
            assert_eq!(client.read_chunk(), None, "{kind:?}");
        } else {
            client.expect_end();
        }
        let late = expired(&scenario);
        assert_eq!(late.request_line, "GET /tail HTTP/1.1", "{kind:?}");
    }
}

#[test]
fn an_end_of_a_call_without_a_response_is_an_error() {
    let (scenario, mut worker) = Scenario::with_worker(patient());
    let mut client = scenario.connect();
    client.get("/");
    let claimed = worker.claim();
    worker.send(ResponseKind::CallEnd, claimed.stream, 0, b"");
    assert_eq!(client.read_response().status, 500);
    client.get("/next");
    worker.echo();
    assert_eq!(client.read_response().text(), "/next");
}

#[test]
fn a_socket_that_was_taken_over_may_be_used_for_ever() {
    let (mut scenario, mut one) = Scenario::held_with_worker(impatient());
    let mut client = scenario.connect();
    client.get("/takes-over");
    let claimed = one.claim();
    one.send(ResponseKind::Hijack, claimed.stream, 0, b"");
    assert_eq!(one.event().0, EventKind::Hijacked);
    // A later request is found to be late, this one is not.
    let mut two = scenario.ready_worker(1);
    let mut other = scenario.connect();
    other.get("/late");
    let _late = two.claim();
    assert_eq!(expired(&scenario).request_line, "GET /late HTTP/1.1");
}

#[test]
fn what_is_in_hand_of_an_earlier_gateway_is_late_in_its_turn() {
    let parts = LinkParts::create(Sizes::default()).unwrap();
    let scenario = Scenario::with_held_clock(impatient());
    let mut worker = StubWorker::new(7, &parts);
    scenario.attach_again(&parts, worker.number, 2, 1);
    let ready = ToGateway::WorkerReady { worker: 7 };
    scenario.tell(&ready);
    let (ended, stays) = (StreamId::new(9, 0, 1), StreamId::new(9, 0, 2));
    introduce(&mut worker, ended);
    // Each message names all there are.
    introduce(&mut worker, stays);
    wait_for_messages(&scenario, &mut worker);
    let late = expired(&scenario);
    assert_eq!(late.worker, 7);
    assert_eq!(late.request_line, "GET /from-before\\\"");
    assert_eq!(late.client, "192.0.2.1");
    assert!(Duration::from_millis(late.age_ms) > TOO_LONG);
    // It is named again and again, and found to be late once.
    introduce(&mut worker, stays);
    let mut client = scenario.connect();
    client.get("/late");
    let _claimed = worker.claim();
    assert_eq!(expired(&scenario).request_line, "GET /late HTTP/1.1");
}

#[test]
fn what_ends_in_time_is_not_late() {
    let parts = LinkParts::create(Sizes::default()).unwrap();
    let scenario = Scenario::with_held_clock(impatient());
    let mut worker = StubWorker::new(7, &parts);
    scenario.attach_again(&parts, worker.number, 2, 1);
    scenario.tell(&ToGateway::WorkerReady { worker: 7 });
    introduce(&mut worker, StreamId::new(9, 0, 1));
    worker.send(ResponseKind::InHand, StreamId(0), 0, b"");
    wait_for_messages(&scenario, &mut worker);
    let mut client = scenario.connect();
    client.get("/late");
    let _claimed = worker.claim();
    assert_eq!(expired(&scenario).request_line, "GET /late HTTP/1.1");
}

#[test]
fn nonsense_about_calls_in_hand_breaks_the_link() {
    let (scenario, mut worker) = Scenario::with_worker(patient());
    worker.send(ResponseKind::InHand, StreamId(0), 0, b"nonsense");
    let number = worker.number;
    scenario.expect(
        "fault",
        |message| matches!(message, FromGateway::WorkerFault { worker, .. } if *worker == number),
    );
    eventually("the gateway still answers", || {
        let mut client = scenario.connect();
        client.send("nonsense\r\n\r\n");
        client.read_response().status == 400
    });
}
