//! What the client of a conversation may not do for ever, and what all of them may hold.

use std::io::Read as _;
use std::time::{Duration, Instant};

use oxicorn_gateway::control::ToGateway;
use oxicorn_link::StreamId;
use oxicorn_link::scoreboard::Gauge;
use oxicorn_link::wire::{CancelReason, EventKind, ResponseKind, decode_cancel, flags};

use rustix::net::{self, AddressFamily, SocketType};

use super::{open_by, settings};
use crate::limits::listener_with_small_buffers;
use crate::scenario::{Client, Scenario, StubWorker};

const MESSAGES: usize = 20;
const MESSAGE: usize = 30_000;

/// In each of these 60,000 bytes are to be taken.
const SPAN: Duration = Duration::from_millis(600);

/// Taken four times in each span.
const SIP: usize = 8000;

/// A conversation in which the client has 600,000 bytes to read.
fn told_much(scenario: &Scenario, worker: &mut StubWorker) -> (Client, StreamId) {
    // What the client's machine takes ahead of it is settled when it connects.
    let socket = net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    net::sockopt::set_socket_recv_buffer_size(&socket, 16384).unwrap();
    net::connect(&socket, &scenario.address).unwrap();
    let (client, stream) = open_by(Client::new(socket.into()), worker, "");
    for _ in 0..MESSAGES {
        let bits = flags::END | flags::BINARY;
        worker.send(
            ResponseKind::WebSocketMessage,
            stream,
            bits,
            &vec![7; MESSAGE],
        );
    }
    (client, stream)
}

#[test]
fn a_client_that_sips_is_cut_and_one_that_drinks_is_not() {
    let mut settings = settings();
    settings.timeouts.write = SPAN;
    settings.timeouts.write_rate = 100_000;
    let mut scenario = Scenario::with_listener(settings, listener_with_small_buffers());
    let mut worker = scenario.ready_worker(2);
    scenario.tell(&ToGateway::ServeGeneration { generation: 1 });
    let (mut slow, stream) = told_much(&scenario, &mut worker);
    let (mut steady, _) = told_much(&scenario, &mut worker);
    scenario.wait_for_connections(2);
    slow.stream.set_nonblocking(true).unwrap();
    let (mut total, mut sipped) = (0, 0);
    let mut piece = vec![0; 20_000];
    let figures = scenario.scoreboard.gateway(0).unwrap();
    let start = Instant::now();
    let mut sips = 0;
    // It is cut while it goes on taking some, not because it stops.
    while total < MESSAGES * MESSAGE || figures.gauge(Gauge::Connections) == 2 {
        assert!(start.elapsed() < SPAN * 4, "{sipped} bytes were enough");
        if total < MESSAGES * MESSAGE {
            let count = steady.stream.read(&mut piece).unwrap();
            assert!(count > 0, "cut after {total} bytes");
            total += count;
        }
        std::thread::sleep(Duration::from_millis(5));
        if start.elapsed() > SPAN / 4 * sips {
            sips += 1;
            sipped += slow.stream.read(&mut [0; SIP]).unwrap_or(0);
        }
    }
    scenario.expect_error_log("takes its response too slowly (write_timeout, write_min_rate)");
    let reason = loop {
        let (kind, about, payload) = worker.event();
        if kind == EventKind::Cancel && about == stream {
            break decode_cancel(&payload);
        }
        assert_eq!(kind, EventKind::Credit);
    };
    assert_eq!(reason, Ok(CancelReason::ClientGone));
}
