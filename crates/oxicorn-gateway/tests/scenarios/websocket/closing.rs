//! The order at the end: a client's close goes behind its messages, and is answered behind what the
//! application has to say to them.

use std::net::Shutdown;
use std::time::Duration;

use oxicorn_gateway::WebSocket;
use oxicorn_gateway::control::ToGateway;
use oxicorn_link::StreamId;
use oxicorn_link::wire::{
    AbortReason, CancelReason, EventKind, ResponseKind, WebSocketClose, encode_abort, flags,
};

use super::{
    CLOSE, PING, TEXT, WebSocketClient as _, close, expect_cancelled, message, open, open_by,
    settings, start, with_held_clock,
};
use crate::scenario::StubWorker;

/// What the worker is told of a client that closes in order.
fn expect_awaited(worker: &mut StubWorker, stream: StreamId, code: u16) {
    let (event, payload) = worker.event_with_flags();
    assert_eq!(
        (event.kind, event.stream),
        (EventKind::WebSocketClose, stream)
    );
    assert_eq!(event.flags, flags::AWAITED);
    assert_eq!(WebSocketClose::decode(&payload).unwrap().code, code);
}

fn say(worker: &mut StubWorker, stream: StreamId, text: &[u8]) {
    worker.send(ResponseKind::WebSocketMessage, stream, flags::END, text);
}

#[test]
fn what_is_said_to_the_messages_before_a_close_goes_before_its_answer() {
    let (scenario, mut worker) = start();
    for (last, bits) in [(false, 0), (true, flags::END)] {
        let (mut client, stream) = open(&scenario, &mut worker, "");
        client.say(TEXT, b"one");
        client.say(TEXT, b"two");
        client.say(CLOSE, b"\x0f\xa0");
        assert_eq!(message(&mut worker, stream).1, b"one");
        assert_eq!(message(&mut worker, stream).1, b"two");
        expect_awaited(&mut worker, stream, 4000);
        say(&mut worker, stream, b"to one");
        client.expect(TEXT, b"to one");
        say(&mut worker, stream, b"to two");
        // Its own code is what the client gets, whatever the worker's says.
        close(&mut worker, stream, 1000, b"said", bits);
        client.expect(TEXT, b"to two");
        client.expect(CLOSE, b"\x0f\xa0");
        client.expect_end();
        if !last {
            expect_cancelled(&mut worker, stream, CancelReason::ClientGone);
            close(&mut worker, stream, 1000, b"", flags::END);
        }
    }
    assert_eq!(scenario.access_log(2).len(), 2);
}

#[test]
fn a_close_without_a_code_is_answered_without_one() {
    let (scenario, mut worker) = start();
    let (mut client, stream) = open(&scenario, &mut worker, "");
    client.say(CLOSE, b"");
    expect_awaited(&mut worker, stream, 1005);
    close(&mut worker, stream, 1005, b"", 0);
    client.expect(CLOSE, b"");
    client.expect_end();
}

#[test]
fn a_broken_rule_is_told_behind_what_is_said_to_the_messages_before_it() {
    let (scenario, mut worker) = start();
    let (mut client, stream) = open(&scenario, &mut worker, "");
    client.say(TEXT, b"fine");
    client.say(0xf1, b"not so");
    client.say(TEXT, b"never seen");
    assert_eq!(message(&mut worker, stream).1, b"fine");
    expect_awaited(&mut worker, stream, 1002);
    say(&mut worker, stream, b"to that");
    close(&mut worker, stream, 1002, b"", 0);
    client.expect(TEXT, b"to that");
    client.expect_close(1002);
    client.expect_end();
}

#[test]
fn a_broken_rule_is_told_soon_whatever_the_worker_does() {
    let (scenario, mut worker) = with_held_clock(settings());
    let (mut client, stream) = open(&scenario, &mut worker, "");
    client.say(0xf1, b"x");
    expect_awaited(&mut worker, stream, 1002);
    // Long before a client that broke no rule would be answered.
    scenario.pass(Duration::from_secs(1));
    client.expect_close(1002);
    client.expect_end();
    expect_cancelled(&mut worker, stream, CancelReason::ClientGone);
}

#[test]
fn a_close_is_answered_at_last_whatever_the_worker_does() {
    let mut settings = settings();
    settings.websocket = Some(WebSocket {
        answer_timeout: Duration::from_secs(10),
        ping_interval: Duration::ZERO,
        ..WebSocket::default()
    });
    let (scenario, mut worker) = with_held_clock(settings);
    let (mut client, stream) = open(&scenario, &mut worker, "");
    client.say(CLOSE, b"\x03\xe8");
    expect_awaited(&mut worker, stream, 1000);
    scenario.pass(Duration::from_secs(9));
    say(&mut worker, stream, b"and on and on");
    client.expect(TEXT, b"and on and on");
    scenario.pass(Duration::from_secs(1));
    client.expect(CLOSE, b"\x03\xe8");
    client.expect_end();
    expect_cancelled(&mut worker, stream, CancelReason::ClientGone);
    // It says so only now: too late, and no mistake.
    close(&mut worker, stream, 1000, b"", 0);
    close(&mut worker, stream, 1000, b"", flags::END);
    assert_eq!(scenario.access_log(1).len(), 1);
}

#[test]
fn what_comes_after_a_close_is_not_looked_at_and_costs_not_the_answer() {
    let (scenario, mut worker) = start();
    let (mut client, stream) = open(&scenario, &mut worker, "");
    client.say(CLOSE, b"\x03\xe8");
    client.say(PING, b"?");
    expect_awaited(&mut worker, stream, 1000);
    client.say(TEXT, &b"x".repeat(100_000));
    client.say(0xff, b"nonsense");
    say(&mut worker, stream, b"still");
    client.expect(TEXT, b"still");
    close(&mut worker, stream, 1000, b"", 0);
    // Not an event of what came after.
    expect_cancelled(&mut worker, stream, CancelReason::ClientGone);
    client.expect(CLOSE, b"\x03\xe8");
    client.expect_end();
    let log = std::fs::read_to_string(scenario.directory.path().join("error.log")).unwrap();
    assert!(!log.contains("Invalid WebSocket data"), "{log}");
}

#[test]
fn a_client_that_sends_nothing_after_its_close_may_still_read() {
    let (scenario, mut worker) = start();
    let (mut client, stream) = open(&scenario, &mut worker, "");
    client.say(TEXT, b"last");
    client.say(CLOSE, b"\x03\xe9");
    client.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(message(&mut worker, stream).1, b"last");
    expect_awaited(&mut worker, stream, 1001);
    say(&mut worker, stream, b"to that");
    close(&mut worker, stream, 1001, b"", 0);
    client.expect(TEXT, b"to that");
    client.expect(CLOSE, b"\x03\xe9");
    client.expect_end();
}

#[test]
fn a_worker_that_fails_before_it_is_through_is_an_internal_error() {
    let (scenario, mut worker) = start();
    let (mut client, stream) = open(&scenario, &mut worker, "");
    client.say(CLOSE, b"\x03\xe8");
    expect_awaited(&mut worker, stream, 1000);
    let reason = encode_abort(AbortReason::ApplicationFailed);
    worker.send(ResponseKind::Abort, stream, 0, &reason);
    client.expect_close(1011);
    client.expect_end();
    let (mut client, stream) = open(&scenario, &mut worker, "");
    client.say(CLOSE, b"\x03\xe8");
    expect_awaited(&mut worker, stream, 1000);
    let number = worker.number;
    drop(worker);
    scenario.tell(&ToGateway::WorkerGone { worker: number });
    client.expect_close(1011);
    client.expect_end();
}

#[test]
fn a_close_of_the_application_that_meets_the_clients_is_its_answer() {
    let (scenario, mut worker) = start();
    let (mut client, stream) = open(&scenario, &mut worker, "");
    client.say(CLOSE, b"\x03\xe8");
    expect_awaited(&mut worker, stream, 1000);
    close(&mut worker, stream, 3001, b"ours", 0);
    client.expect(CLOSE, b"\x03\xe8");
    client.expect_end();
    expect_cancelled(&mut worker, stream, CancelReason::ClientGone);
    close(&mut worker, stream, 1000, b"", flags::END);
    assert_eq!(scenario.access_log(1).len(), 1);
}

#[test]
fn who_has_not_come_to_read_our_close_need_not_have_answered_it() {
    const MESSAGES: usize = 10;
    const MESSAGE: usize = 60_000;
    let mut settings = settings();
    settings.websocket = Some(WebSocket {
        close_timeout: Duration::from_secs(5),
        ping_interval: Duration::ZERO,
        ..WebSocket::default()
    });
    let (scenario, mut worker) = with_held_clock(settings);
    let (mut client, stream) = open_by(scenario.connect_with_small_buffer(), &mut worker, "");
    for _ in 0..MESSAGES {
        say(&mut worker, stream, &b"x".repeat(MESSAGE));
    }
    close(&mut worker, stream, 1000, b"", flags::END);
    for _ in 0..MESSAGES {
        assert_eq!(client.hear().1.len(), MESSAGE);
        // Much faster than it must, and slower than our close waits for an answer.
        scenario.pass(Duration::from_secs(4));
    }
    client.expect_close(1000);
    // From here on it has to.
    scenario.pass(Duration::from_secs(5));
    client.expect_end();
}
