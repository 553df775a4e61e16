//! However a WebSocket's bytes are cut, and however little room there is for what comes of them, the
//! same is made of them: messages in all kinds of frames, compressed or not, and damaged ones.

mod support;

use std::sync::Arc;

use oxicorn_proto::http1::{Connection, Rules};
use oxicorn_proto::websocket::{
    Codecs, Compression, Control, Decoder, Deflate, Encoder, Event, Kind, check, encode_control,
};
use support::{Random, cut};

/// Bounds the messages; some are longer.
const LIMIT: u64 = 3000;

/// What a browser would be answered.
fn agreed(keep_context: bool) -> Option<Deflate> {
    let request = b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n";
    let mut connection = Connection::new(Arc::new(Rules::default()));
    let polled = connection.poll_event(request).expect("a head");
    assert_eq!(polled.consumed, request.len());
    let head = connection.head(request);
    check(&head, Some(Compression { keep_context }))
        .expect("by the rules")
        .expect("a handshake")
        .deflate
}

/// The messages, control frames and the fault in `pieces`. What came of a message that a fault ended
/// does not count.
fn play(deflate: Option<Deflate>, pieces: Vec<&[u8]>, room: usize) -> Vec<String> {
    let (mut decoder, mut codecs) = (Decoder::new(Some(LIMIT), deflate), Codecs::default());
    let (mut message, mut seen, mut buffer) = (Vec::new(), Vec::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            let before = message.len();
            let polled = match decoder.poll(&buffer, room, &mut codecs, &mut message) {
                Ok(polled) => polled,
                Err(fault) => {
                    seen.push(format!("{fault:?}"));
                    return seen;
                }
            };
            assert!(
                message.len() - before <= room,
                "more than there is room for"
            );
            buffer.drain(..polled.consumed);
            match polled.event {
                Event::NeedMore => break,
                Event::Piece { last: false, .. } => {}
                Event::Piece { kind, .. } => {
                    seen.push(format!("{kind:?} {}", message.escape_ascii()));
                    message.clear();
                }
                Event::Control(control) => {
                    seen.push(format!("{control:?} {}", decoder.control().escape_ascii()));
                }
                Event::Close(code) => {
                    seen.push(format!("{code:?} {}", decoder.control().escape_ascii()));
                }
            }
        }
        assert!(buffer.is_empty(), "bytes that nobody wants");
    }
    seen
}

/// Puts a mask on our own frames, and cuts them further.
fn from_client(mut frames: &[u8], random: &mut Random) -> Vec<u8> {
    let mut out = Vec::new();
    while let [first, len, rest @ ..] = frames {
        let (len, rest) = match len {
            126 => (
                usize::from(u16::from_be_bytes([rest[0], rest[1]])),
                &rest[2..],
            ),
            len => (usize::from(*len), rest),
        };
        let (payload, rest) = rest.split_at(len);
        let control = first & 0x08 != 0;
        let cut = if control || random.below(2) == 0 {
            0
        } else {
            random.below(len + 1)
        };
        if cut > 0 {
            frame(first & !0x80, &payload[..cut], random, &mut out);
            frame(first & 0x80, &payload[cut..], random, &mut out);
        } else {
            frame(*first, payload, random, &mut out);
        }
        frames = rest;
    }
    out
}

fn frame(first: u8, payload: &[u8], random: &mut Random, out: &mut Vec<u8>) {
    out.push(first);
    if payload.len() < 126 {
        out.push(0x80 | u8::try_from(payload.len()).expect("short"));
    } else {
        out.push(0xfe);
        out.extend(u16::try_from(payload.len()).expect("medium").to_be_bytes());
    }
    let key = [0; 4].map(|_: u8| u8::try_from(random.below(256)).expect("a byte"));
    out.extend(key);
    out.extend(payload.iter().zip(key.iter().cycle()).map(|(a, b)| a ^ b));
}

/// Some messages with control frames between them.
fn conversation(deflate: Option<Deflate>, random: &mut Random) -> Vec<u8> {
    let (mut encoder, mut codecs, mut out) = (Encoder::new(deflate), Codecs::default(), Vec::new());
    for _ in 0..=random.below(4) {
        let text: String = (0..random.below(900))
            .map(|at| ["a", "bc", "ü", "漢", "\u{1f600}"][(at + random.below(3)) % 5])
            .collect();
        let kind = [Kind::Text, Kind::Binary][random.below(2)];
        let at = (0..=text.len() / 2)
            .rev()
            .find(|at| text.is_char_boundary(*at));
        let (first, second) = text.split_at(at.expect("0 is one"));
        encoder.message(kind, first.as_bytes(), false, &mut codecs, &mut out);
        if random.below(2) == 0 {
            encode_control(Control::Ping, b"between", &mut out);
        }
        encoder.message(kind, second.as_bytes(), true, &mut codecs, &mut out);
    }
    if random.below(2) == 0 {
        oxicorn_proto::websocket::encode_close(
            oxicorn_proto::websocket::CloseCode::NORMAL,
            b"bye",
            &mut out,
        );
    }
    from_client(&out, random)
}

fn damage(bytes: &mut [u8], random: &mut Random) {
    for _ in 0..random.below(3) {
        let at = random.below(bytes.len());
        bytes[at] ^= 1 << random.below(8);
    }
}

#[test]
fn however_it_is_cut_the_same_is_made_of_it() {
    let (mut messages, mut faults) = (0, 0);
    for deflate in [None, agreed(false), agreed(true)] {
        for seed in 1..60 {
            let mut random = Random(0x6f78_6963_6f72_6e00 + seed);
            let mut bytes = conversation(deflate, &mut random);
            damage(&mut bytes, &mut random);
            let whole = play(deflate, vec![&bytes], usize::MAX);
            messages += whole.len();
            faults += usize::from(whole.last().is_some_and(|last| !last.contains(' ')));
            for room in [1, 700] {
                assert_eq!(play(deflate, vec![&bytes], room), whole, "seed {seed}");
                let single = bytes.chunks(1).collect();
                assert_eq!(play(deflate, single, room), whole, "seed {seed}");
                let pieces = cut(&bytes, &mut random);
                assert_eq!(play(deflate, pieces, room), whole, "seed {seed}");
            }
        }
    }
    // The conversations are of some use: most come through, some are refused.
    assert!(messages > 200 && faults > 20, "{messages} {faults}");
}
