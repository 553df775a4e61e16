//! What the client of a WebSocket may not do for ever, and what all of them may hold.

use oxicorn_gateway::control::ToGateway;
use oxicorn_gateway::{WebSocket, WebSocketCompression};
use oxicorn_link::StreamId;
use oxicorn_link::scoreboard::Gauge;
use oxicorn_link::window::REQUEST_CREDIT;
use oxicorn_link::wire::{EventKind, ResponseKind, WebSocketClose, encode_credit, flags};

use super::{BINARY, PING, PONG, TEXT, WebSocketClient as _, open, settings, with};
use crate::limits::fill_with_heads;
use crate::scenario::{Scenario, StubWorker, eventually};

/// What is counted as held.
fn held(scenario: &Scenario) -> usize {
    let figures = scenario.scoreboard.gateway(0).unwrap();
    usize::try_from(figures.gauge(Gauge::Buffered)).unwrap()
}

/// Buffers of a mebibyte.
const BUFFERS: usize = 1 << 20;

fn with_small_buffers() -> (Scenario, StubWorker) {
    let mut settings = settings();
    settings.buffer_limit = BUFFERS;
    with(settings)
}

/// Takes everything that comes of `stream` up to `count` bytes, and asks for more at once, as a worker
/// does with the parts of a message.
fn take(worker: &mut StubWorker, stream: StreamId, count: usize) {
    let mut came = 0;
    while came < count {
        let (kind, about, piece) = worker.event();
        assert_eq!((kind, about), (EventKind::WebSocketMessage, stream));
        came += piece.len();
        let credit = encode_credit(u32::try_from(piece.len()).unwrap() + 64);
        worker.send(ResponseKind::Credit, stream, 0, &credit);
    }
    assert_eq!(came, count);
}

#[test]
fn messages_that_never_end_are_held_for_their_clients_and_the_largest_give_way() {
    let (scenario, mut worker) = with_small_buffers();
    let mut begun = Vec::new();
    for size in [50_000, 400_000, 300_000] {
        let (mut client, stream) = open(&scenario, &mut worker, "");
        client.say(0x02, &vec![b'x'; size]);
        take(&mut worker, stream, size);
        begun.push((client, stream));
    }
    eventually("they are counted", || {
        (740_000..BUFFERS).contains(&held(&scenario))
    });
    let (mut last, stream) = open(&scenario, &mut worker, "");
    last.say(0x02, &vec![b'x'; 350_000]);
    let (mut came, mut told) = (0, Vec::new());
    while came < 350_000 || told.is_empty() {
        let (kind, about, payload) = worker.event();
        match kind {
            EventKind::WebSocketMessage => {
                came += payload.len();
                let credit = encode_credit(u32::try_from(payload.len()).unwrap() + 64);
                worker.send(ResponseKind::Credit, about, 0, &credit);
            }
            EventKind::WebSocketClose => {
                told.push((about, WebSocketClose::decode(&payload).unwrap().code));
            }
            kind => assert_eq!((kind, about), (EventKind::Cancel, begun[1].1)),
        }
    }
    assert_eq!(told, [(begun[1].1, 1013)]);
    begun[1].0.expect_close(1013);
    begun[1].0.expect_end();
    eventually("there is room again", || held(&scenario) < BUFFERS);
    scenario
        .expect_error_log("Buffers are full (buffer_limit): closed the WebSocket of ip=127.0.0.1");
    // The others go on, and what is complete is not held any more.
    for (client, _) in [&mut begun[0], &mut (last, stream)] {
        client.say(0x80, b"end");
        client.say(PING, b"");
        client.expect(PONG, b"");
    }
    drop(begun);
    scenario.wait_for_connections(0);
    eventually("nothing is held", || held(&scenario) == 0);
}

#[test]
fn a_message_is_not_refused_for_what_others_hold() {
    const SMALL: usize = BUFFERS / 16 - 4096;
    let (scenario, mut worker) = with_small_buffers();
    let (mut talker, stream) = open(&scenario, &mut worker, "");
    let _others = fill_with_heads(&scenario, BUFFERS);
    eventually("the buffers are full", || held(&scenario) > BUFFERS);
    talker.say(0x02, &vec![b'x'; SMALL]);
    take(&mut worker, stream, SMALL);
    talker.say(PING, b"");
    talker.expect(PONG, b"");
    // A larger one is: it would fill them, too.
    talker.say(0x00, &vec![b'x'; SMALL]);
    loop {
        let (kind, _, payload) = worker.event();
        if kind == EventKind::WebSocketClose {
            break;
        }
        let credit = encode_credit(u32::try_from(payload.len()).unwrap() + 64);
        worker.send(ResponseKind::Credit, stream, 0, &credit);
    }
    talker.expect_close(1013);
}

#[test]
fn a_large_message_is_held_until_the_worker_has_taken_it() {
    let (scenario, mut worker) = with_small_buffers();
    let (mut client, stream) = open(&scenario, &mut worker, "");
    client.say(BINARY, &vec![b'x'; 300_000]);
    let (mut came, mut owed) = (0, 0);
    while came < 300_000 {
        let piece = worker.event().2.len();
        came += piece;
        owed += u32::try_from(piece).unwrap() + 64;
        if came < 300_000 {
            let credit = encode_credit(std::mem::take(&mut owed));
            worker.send(ResponseKind::Credit, stream, 0, &credit);
        }
    }
    client.say(PING, b"");
    client.expect(PONG, b"");
    eventually("it is counted", || held(&scenario) >= 300_000);
    worker.send(ResponseKind::Credit, stream, 0, &encode_credit(owed));
    eventually("it is taken", || held(&scenario) < 20_000);
}

#[test]
fn with_little_memory_left_less_is_read_ahead() {
    let (scenario, mut worker) = with_small_buffers();
    let (mut holder, stream) = open(&scenario, &mut worker, "");
    holder.say(0x02, &vec![b'x'; BUFFERS / 2 + 1]);
    take(&mut worker, stream, BUFFERS / 2 + 1);
    let (mut client, stream) = open(&scenario, &mut worker, "");
    client.say(BINARY, &vec![b'x'; 200_000]);
    // So much that a worker that takes it has to say so, and not much more.
    let quarter = usize::try_from(REQUEST_CREDIT).unwrap();
    let mut came = 0;
    let mut cost = 0;
    while cost < quarter {
        let piece = worker.event().2.len();
        came += piece;
        cost += piece + 64;
    }
    assert!(cost < quarter + 200, "{cost}");
    worker.send(
        ResponseKind::Credit,
        stream,
        0,
        &encode_credit(u32::try_from(cost).unwrap()),
    );
    take(&mut worker, stream, 200_000 - came);
    client.say(PING, b"");
    client.expect(PONG, b"");
}

#[test]
fn compressors_of_ones_own_are_taken_away_when_the_buffers_are_full() {
    const CLIENTS: usize = 12;
    let mut settings = settings();
    settings.buffer_limit = BUFFERS;
    settings.websocket = Some(WebSocket {
        compression: WebSocketCompression::Dedicated,
        ..WebSocket::default()
    });
    let mut scenario = Scenario::start(settings);
    let mut worker = scenario.ready_worker(64);
    scenario.tell(&ToGateway::ServeGeneration { generation: 1 });
    let offer = "Sec-WebSocket-Extensions: permessage-deflate\r\n";
    let mut all: Vec<_> = (0..CLIENTS)
        .map(|_| open(&scenario, &mut worker, offer))
        .collect();
    for _ in 0..2 {
        for (client, stream) in &mut all {
            let bits = flags::END;
            worker.send(ResponseKind::WebSocketMessage, *stream, bits, &[b'a'; 5000]);
            let (first, payload) = client.hear();
            assert_eq!(first, TEXT | 0x40);
            assert!(payload.len() < 100);
        }
        // What is shown is as old as a tick: two of them pass.
        let figures = scenario.scoreboard.gateway(0).unwrap();
        for _ in 0..2 {
            let last = figures.gauge(Gauge::Heartbeat);
            eventually("a tick", || figures.gauge(Gauge::Heartbeat) != last);
        }
        let held = held(&scenario);
        assert!((BUFFERS / 2..=BUFFERS).contains(&held), "{held}");
    }
    scenario.wait_for_connections(CLIENTS as u64);
}
