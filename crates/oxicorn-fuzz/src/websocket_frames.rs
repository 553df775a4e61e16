//! Invariant: whole or in pieces, with much room or little, the same messages, control frames and
//! fault come of the bytes; never more than there is room for, never more than the limit.

use std::sync::Arc;

use oxicorn_proto::http1::{Connection, Rules};
use oxicorn_proto::websocket::{Codecs, Compression, Decoder, Deflate, Event, Kind, check};

const LIMIT: u64 = 4096;

/// More than most messages.
const WIDE: usize = 1024;

#[derive(Debug, PartialEq)]
enum Seen {
    Message(Kind, Vec<u8>),
    Control(Event, Vec<u8>),
    Fault(String),
}

fn agreed(keep_context: bool) -> Option<Deflate> {
    let request = b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
    let mut connection = Connection::new(Arc::new(Rules::default()));
    let polled = connection.poll_event(request).expect("a head");
    assert_eq!(polled.consumed, request.len());
    let head = connection.head(request);
    let handshake = check(&head, Some(Compression { keep_context }));
    handshake
        .expect("by the rules")
        .expect("a handshake")
        .deflate
}

fn play(deflate: Option<Deflate>, data: &[u8], step: usize, room: usize) -> Vec<Seen> {
    let (mut decoder, mut codecs) = (Decoder::new(Some(LIMIT), deflate), Codecs::default());
    let (mut message, mut seen) = (Vec::new(), Vec::new());
    for piece in data.chunks(step) {
        let mut rest = piece;
        loop {
            let before = message.len();
            let polled = match decoder.poll(rest, room, &mut codecs, &mut message) {
                Ok(polled) => polled,
                Err(fault) => {
                    seen.push(Seen::Fault(fault.to_string()));
                    return seen;
                }
            };
            assert!(message.len() - before <= room && message.len() as u64 <= LIMIT);
            rest = &rest[polled.consumed..];
            match polled.event {
                Event::NeedMore => break,
                Event::Piece { last: false, .. } => {}
                Event::Piece { kind, .. } => {
                    seen.push(Seen::Message(kind, std::mem::take(&mut message)));
                }
                event => seen.push(Seen::Control(event, decoder.control().to_vec())),
            }
        }
        assert!(rest.is_empty());
    }
    seen
}

/// See the head of the file. The first byte chooses compression and room.
pub fn websocket_frames(data: &[u8]) {
    let Some((choice, data)) = data.split_first() else {
        return;
    };
    let deflate = match choice % 3 {
        0 => None,
        1 => agreed(false),
        _ => agreed(true),
    };
    let whole = play(deflate, data, data.len().max(1), WIDE);
    let room = usize::from(choice / 3) + 1;
    assert_eq!(play(deflate, data, 1, room), whole);
    assert_eq!(play(deflate, data, room, WIDE), whole);
}
