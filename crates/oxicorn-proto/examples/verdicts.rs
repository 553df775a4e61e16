//! What this crate makes of messages, for comparison with another parser.
//!
//! Reads from standard input: each message is the bytes of one connection, preceded by their number
//! as four bytes, most significant first. Writes for each, one thing a line, bytes in hexadecimal:
//!
//! ```text
//! request METHOD TARGET VERSION       header NAME VALUE      body DATA
//! trailer NAME VALUE                  end
//! closed | closing | fault NAME       (the last line of each message)
//! ```
//!
//! Every request is answered with an empty 200. `closing`: the connection ends after an answer;
//! `closed`: the peer's end of file came between two messages.
#![expect(clippy::print_stdout, reason = "a tool reports")]

use std::fmt::Write as _;
use std::io::{self, Read as _};
use std::sync::Arc;

use oxicorn_proto::PeerFault;
use oxicorn_proto::http1::{Connection, Event, Next, ResponseHead, Rules};

fn hex(bytes: &[u8]) -> String {
    // A word for nothing, so that every line has all its words.
    if bytes.is_empty() {
        return "-".to_owned();
    }
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Plays one connection; its last line.
fn play(input: &[u8]) -> String {
    let mut connection = Connection::new(Arc::new(Rules::default()));
    let mut at = 0;
    loop {
        let polled = match connection.poll_event(&input[at..]) {
            Ok(polled) => polled,
            Err(fault) => return refused(fault),
        };
        let bytes = &input[at..at + polled.consumed];
        match polled.event {
            Event::Head => tell_head(&connection, bytes),
            Event::Body(range) => println!("body {}", hex(&input[at..][range])),
            Event::BodyEnd => tell_end(&connection, bytes),
            Event::Paused if !answer(&mut connection) => return "closing".to_owned(),
            Event::Paused => {}
            Event::NeedMore | Event::Switched => break,
        }
        at += polled.consumed;
    }
    match connection.handle_eof() {
        Ok(()) => "closed".to_owned(),
        Err(fault) => refused(fault),
    }
}

fn refused(fault: PeerFault) -> String {
    format!("fault {fault:?}")
}

fn tell_head(connection: &Connection, bytes: &[u8]) {
    let head = connection.head(bytes);
    let (method, target) = (hex(head.method()), hex(head.request_target()));
    println!("request {method} {target} {}", hex(head.protocol()));
    for header in head.headers() {
        println!("header {} {}", hex(header.name), hex(header.value));
    }
}

fn tell_end(connection: &Connection, bytes: &[u8]) {
    for trailer in connection.trailers(bytes) {
        println!("trailer {} {}", hex(trailer.name), hex(trailer.value));
    }
    println!("end");
}

/// Answers; does the connection stay?
fn answer(connection: &mut Connection) -> bool {
    let head = ResponseHead {
        status: 200,
        body_length: Some(0),
        ..ResponseHead::default()
    };
    let mut out = Vec::new();
    connection
        .encode_response_head(&head, [], &mut out)
        .expect("an ordinary answer");
    let next = connection
        .finish_response([], &mut out)
        .expect("nothing is missing");
    if next == Next::KeepAlive {
        connection.start_next_exchange().expect("both are through");
    }
    next == Next::KeepAlive
}

fn main() -> io::Result<()> {
    let mut input = Vec::new();
    io::stdin().lock().read_to_end(&mut input)?;
    let mut rest = &input[..];
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(io::Error::other)?;
        let (message, next) = after
            .split_at_checked(length)
            .ok_or_else(|| io::Error::other("a message is cut"))?;
        println!("{}", play(message));
        rest = next;
    }
    Ok(())
}
