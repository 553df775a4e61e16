//! Giving the client's connection away.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use oxicorn_link::wire::{EventKind, ResponseKind, flags};

use crate::scenario::{Scenario, patient};

#[test]
fn the_worker_gets_the_socket_and_what_was_read_of_it() {
    let (scenario, mut worker) = Scenario::with_worker(patient());
    let mut client = scenario.connect();
    client.send("GET /socket HTTP/1.1\r\nHost: t\r\n\r\nread ahead");
    let claimed = worker.claim();
    worker.send(ResponseKind::Hijack, claimed.stream, 0, b"");
    let (kind, stream, payload) = worker.event();
    assert_eq!((kind, stream), (EventKind::Hijacked, claimed.stream));
    assert_eq!(payload, b"read ahead");
    let mut socket = TcpStream::from(worker.parts.descriptors.take(stream).unwrap());
    // It blocks, as the application expects.
    client.send("ping");
    let mut four = [0; 4];
    socket.read_exact(&mut four).unwrap();
    assert_eq!(&four, b"ping");
    socket.write_all(b"pong").unwrap();
    assert_eq!(client.take(4), b"pong");
    drop(socket);
    client.expect_end();
    assert!(scenario.access_log(1)[0].contains("\"GET /socket HTTP/1.1\" 101 0 "));
    // The worker counts as busy until it says otherwise.
    let mut next = scenario.connect();
    next.get("/next");
    assert!(worker.try_claim().is_none());
    worker.send(ResponseKind::BodyChunk, claimed.stream, flags::END, b"");
    worker.echo();
    assert_eq!(next.read_response().text(), "/next");
}

#[test]
fn a_connection_in_use_is_not_given_away() {
    let (scenario, mut worker) = Scenario::with_worker(patient());
    let mut client = scenario.connect();
    client.get("/");
    let claimed = worker.claim();
    worker.head(claimed.stream, 0, 200, &[], b"x");
    worker.send(ResponseKind::Hijack, claimed.stream, 0, b"");
    let (kind, ..) = worker.event();
    assert_eq!(kind, EventKind::Cancel);
    client.read_head();
    assert_eq!(client.read_to_end(), b"1\r\nx\r\n");
}
