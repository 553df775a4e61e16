//! Tests of the connection: what each state does with each call, and what responses look like.
//!
//! Request messages are judged in `tests/corpus`; here requests are only the way into a state.

mod pairs;
mod persistence;
mod responses;

use std::sync::Arc;

use super::{Connection, Event, Next, ResponseHead, Rules};
use crate::fault::LocalMisuse;

type Pairs<'h> = &'h [(&'h [u8], &'h [u8])];

/// A connection that has received `request` and polled it as far as it goes.
fn after(request: &[u8]) -> Connection {
    let mut rules = Rules::default();
    rules.strictness.permit_connect = true;
    let mut connection = Connection::new(Arc::new(rules));
    feed(&mut connection, request);
    connection
}

/// Polls `input` until nothing more comes of it; what was left of it.
fn feed<'i>(connection: &mut Connection, mut input: &'i [u8]) -> &'i [u8] {
    loop {
        let Ok(polled) = connection.poll_event(input) else {
            return input;
        };
        input = &input[polled.consumed..];
        if matches!(
            polled.event,
            Event::NeedMore | Event::Paused | Event::Switched
        ) {
            return input;
        }
    }
}

fn head(status: u16, reason: &str) -> ResponseHead<'_> {
    ResponseHead {
        status,
        reason: reason.as_bytes(),
        ..ResponseHead::default()
    }
}

/// Answers `request` with a status, headers and pieces of body; the bytes, and what comes next.
fn answer(
    request: &str,
    status: u16,
    headers: Pairs<'_>,
    pieces: &[&str],
) -> (String, Result<Next, LocalMisuse>) {
    let mut connection = after(request.as_bytes());
    let mut out = Vec::new();
    let next = answer_on(&mut connection, status, headers, pieces, &mut out);
    (String::from_utf8(out).expect("ASCII only"), next)
}

fn answer_on(
    connection: &mut Connection,
    status: u16,
    headers: Pairs<'_>,
    pieces: &[&str],
    out: &mut Vec<u8>,
) -> Result<Next, LocalMisuse> {
    connection.encode_response_head(&head(status, "Reason"), headers.iter().copied(), out)?;
    for piece in pieces {
        connection.encode_body(piece.as_bytes(), out)?;
    }
    connection.finish_response([], out)
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const GET_CLOSE: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
const GET_10: &str = "GET / HTTP/1.0\r\n\r\n";
const GET_10_KEEP: &str = "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
const HEAD: &str = "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n";
const CONNECT: &str = "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n";
const UPGRADE: &str =
    "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n";
const POST_CHUNKED: &str = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
const POST_EXPECT: &str =
    "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
