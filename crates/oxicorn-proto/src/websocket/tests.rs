//! Rules that concern several parts: sequences of frames in, messages out and in again.

use super::*;

/// A client's frame with a mask.
pub(super) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        len @ 0..=125 => frame.push(0x80 | u8::try_from(len).expect("short")),
        len => {
            frame.push(0xfe);
            frame.extend(u16::try_from(len).expect("medium").to_be_bytes());
        }
    }
    let key = [0x37, 0xfa, 0x21, 0x3d];
    frame.extend(key);
    frame.extend(payload.iter().zip(key.iter().cycle()).map(|(a, b)| a ^ b));
    frame
}

/// What a decoder made of `input`: one line for each message, control frame, and fault.
fn decode(mut decoder: Decoder, input: &[u8], room: usize) -> Vec<String> {
    let (mut codecs, mut message, mut seen) = (Codecs::default(), Vec::new(), Vec::new());
    let mut at = 0;
    loop {
        let before = message.len();
        match decoder.poll(&input[at..], room, &mut codecs, &mut message) {
            Err(fault) => {
                seen.push(format!("{fault:?}"));
                return seen;
            }
            Ok(polled) => {
                at += polled.consumed;
                assert!(message.len() - before <= room);
                match polled.event {
                    Event::NeedMore => {
                        assert_eq!(at, input.len());
                        return seen;
                    }
                    Event::Piece { last: false, .. } => {}
                    Event::Piece { kind, .. } => {
                        seen.push(format!("{kind:?} {}", message.escape_ascii()));
                        message.clear();
                    }
                    Event::Control(control) => {
                        let payload = decoder.control().escape_ascii();
                        seen.push(format!("{control:?} {payload}"));
                    }
                    Event::Close(code) => {
                        let code = code.map_or(0, |code| code.0);
                        let reason = decoder.control().escape_ascii();
                        seen.push(format!("Close {code} {reason}"));
                    }
                }
            }
        }
    }
}

fn plain(frames: &[Vec<u8>]) -> Vec<String> {
    decode(Decoder::new(Some(1000), None), &frames.concat(), 4096)
}

#[test]
fn messages_whole_and_in_fragments() {
    let frames = [
        frame(0x81, b"Hello"),
        frame(0x82, b""),
        frame(0x01, b"fra"),
        frame(0x00, b""),
        frame(0x80, b"gments"),
    ];
    assert_eq!(plain(&frames), ["Text Hello", "Binary ", "Text fragments"]);
}

#[test]
fn control_frames_between_fragments() {
    let frames = [
        frame(0x01, b"one "),
        frame(0x89, b"ping"),
        frame(0x80, b"two"),
        frame(0x8a, b""),
        frame(0x88, b"\x03\xe8bye"),
        frame(0x81, b"not read any more"),
    ];
    assert_eq!(
        plain(&frames),
        ["Ping ping", "Text one two", "Pong ", "Close 1000 bye"]
    );
}

#[test]
fn sequences_that_cannot_be() {
    for (frames, fault) in [
        (vec![frame(0x80, b"x")], "UnexpectedContinuation"),
        (
            vec![frame(0x01, b"x"), frame(0x81, b"y")],
            "InterruptedMessage",
        ),
        (vec![frame(0xc1, b"x")], "ReservedBit"),
        (vec![frame(0xc9, b"x")], "ReservedBit"),
        (vec![frame(0x81, b"\xce\xba\xe1\xff")], "InvalidText"),
        (vec![frame(0x81, b"\xce")], "InvalidText"),
        (vec![frame(0x88, b"\x03")], "TruncatedCloseCode"),
        (vec![frame(0x88, b"\x03\xed")], "InvalidCloseCode"),
        (vec![frame(0x88, b"\x03\xe8\xff")], "InvalidCloseReason"),
        (vec![frame(0x82, &[0; 1001])], "MessageTooBig"),
        (
            vec![frame(0x02, &[0; 1000]), frame(0x80, b"x")],
            "MessageTooBig",
        ),
    ] {
        assert_eq!(plain(&frames).last().map(String::as_str), Some(fault));
    }
    assert_eq!(plain(&[frame(0x82, &[b'x'; 1000])]).len(), 1);
}

#[test]
fn a_message_too_big_is_refused_when_it_is_announced() {
    let input = [0x82, 0xfe, 0x03, 0xe9, 1, 2, 3, 4];
    let refused = decode(Decoder::new(Some(1000), None), &input, 100);
    assert_eq!(refused, ["MessageTooBig"]);
}

#[test]
fn every_fault_has_its_code() {
    for fault in Fault::ALL {
        let expected = match fault {
            Fault::InvalidText | Fault::InvalidCloseReason | Fault::InvalidDeflate => 1007,
            Fault::MessageTooBig => 1009,
            _ => 1002,
        };
        assert_eq!(fault.code().0, expected, "{fault}");
        assert!(fault.to_string().len() <= REASON_MAX);
    }
}

/// What a client reads: our frames with a mask put on them.
pub(super) fn masked(mut frames: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let [first, len, rest @ ..] = frames {
        let (len, rest) = match len {
            127 => {
                let (len, rest) = rest.split_first_chunk::<8>().expect("a length");
                (u64::from_be_bytes(*len), rest)
            }
            126 => {
                let (len, rest) = rest.split_first_chunk::<2>().expect("a length");
                (u64::from(u16::from_be_bytes(*len)), rest)
            }
            len => (u64::from(*len), rest),
        };
        let (payload, rest) = rest.split_at(usize::try_from(len).expect("in memory"));
        let mut key = *first;
        for part in payload.chunks(60_000) {
            out.extend(frame(
                key & !0x80
                    | if part.len() == payload.len() {
                        key & 0x80
                    } else {
                        0
                    },
                part,
            ));
            key &= 0x80;
        }
        if payload.is_empty() {
            out.extend(frame(*first, payload));
        }
        frames = rest;
    }
    out
}

#[expect(clippy::unnecessary_wraps, reason = "as encoders and decoders take it")]
fn agreed(keep: bool, bits: u8) -> Option<Deflate> {
    Some(Deflate {
        server_context: keep,
        client_context: keep,
        server_bits: bits,
        bits_asked: bits < 15,
    })
}

#[test]
fn frames_begun_for_the_caller_are_those_of_messages() {
    let mut codecs = Codecs::default();
    let pieces: [(&[u8], bool); 4] = [(b"one", true), (b"a", false), (b"b", false), (b"", true)];
    let (mut whole, mut begun) = (Encoder::new(None), Encoder::new(None));
    let (mut expected, mut out) = (Vec::new(), Vec::new());
    for (piece, last) in pieces {
        whole.message(Kind::Text, piece, last, &mut codecs, &mut expected);
        assert!(begun.begin_frame(Kind::Text, piece.len(), last, &mut out));
        out.extend_from_slice(piece);
    }
    assert_eq!(out, expected);
    let mut compressing = Encoder::new(agreed(false, 15));
    assert!(compressing.begin_frame(Kind::Text, 5, true, &mut Vec::new()));
    assert!(!compressing.begin_frame(Kind::Text, 5000, true, &mut Vec::new()));
    assert!(!compressing.begin_frame(Kind::Text, 5, false, &mut Vec::new()));
}

#[test]
fn what_is_compressed_comes_back() {
    let text = "A message that says the same thing again and again. ".repeat(40);
    let noise: Vec<u8> = (0..5000_u32)
        .map(|number| (number.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0])
        .collect();
    for deflate in [agreed(false, 15), agreed(true, 15), agreed(true, 9)] {
        let (mut encoder, mut codecs, mut out) =
            (Encoder::new(deflate), Codecs::default(), Vec::new());
        for _ in 0..2 {
            encoder.message(Kind::Text, text.as_bytes(), true, &mut codecs, &mut out);
            encoder.message(Kind::Text, b"short", true, &mut codecs, &mut out);
            encoder.message(Kind::Binary, &noise, true, &mut codecs, &mut out);
            encoder.message(
                Kind::Text,
                &text.as_bytes()[..700],
                false,
                &mut codecs,
                &mut out,
            );
            encode_control(Control::Ping, b"between", &mut out);
            encoder.message(Kind::Text, b"", false, &mut codecs, &mut out);
            encoder.message(
                Kind::Text,
                &text.as_bytes()[700..],
                true,
                &mut codecs,
                &mut out,
            );
        }
        let one = vec![
            format!("Text {text}"),
            "Text short".to_owned(),
            format!("Binary {}", noise.escape_ascii()),
            "Ping between".to_owned(),
            format!("Text {text}"),
        ];
        for room in [3, 100_000] {
            let seen = decode(Decoder::new(None, deflate), &masked(&out), room);
            assert_eq!(seen, [one.clone(), one.clone()].concat(), "{deflate:?}");
        }
        assert!(out.len() < 2 * (noise.len() + text.len()));
    }
}

#[test]
fn a_kept_context_makes_the_second_message_smaller() {
    let words: Vec<_> = (0..200).map(|number| (number * 7919).to_string()).collect();
    let text = words.join(" ");
    let sizes = |deflate| {
        let (mut encoder, mut codecs) = (Encoder::new(deflate), Codecs::default());
        [0, 1].map(|_| {
            let mut out = Vec::new();
            encoder.message(Kind::Text, text.as_bytes(), true, &mut codecs, &mut out);
            out.len()
        })
    };
    let [first, second] = sizes(agreed(true, 15));
    assert!(second * 4 < first);
    let [first, second] = sizes(agreed(false, 15));
    assert_eq!(first, second);
}

#[test]
fn a_context_can_be_forgotten_between_messages_and_the_peer_need_not_know() {
    let text = "A message that says the same thing again and again. ".repeat(40);
    for bits in [9, 15] {
        let deflate = agreed(true, bits);
        let (mut encoder, mut codecs, mut out) =
            (Encoder::new(deflate), Codecs::default(), Vec::new());
        assert_eq!(encoder.memory(), 0);
        for _ in 0..3 {
            encoder.message(Kind::Text, text.as_bytes(), true, &mut codecs, &mut out);
            assert!(encoder.memory() > 0);
            encoder.forget_context();
            assert_eq!(encoder.memory(), 0);
        }
        // Not within one: what was sent of it refers to what went before.
        encoder.message(Kind::Text, text.as_bytes(), false, &mut codecs, &mut out);
        encoder.forget_context();
        encoder.message(Kind::Text, text.as_bytes(), true, &mut codecs, &mut out);
        let (mut decoder, mut made) = (Decoder::new(None, deflate), Vec::new());
        let (frames, mut at, mut messages) = (masked(&out), 0, 0);
        while messages < 4 {
            let polled = decoder
                .poll(&frames[at..], 4096, &mut codecs, &mut made)
                .expect("by the rules");
            at += polled.consumed;
            messages += usize::from(matches!(polled.event, Event::Piece { last: true, .. }));
        }
        assert!(made == text.repeat(5).as_bytes());
        assert!(decoder.memory() > 0 && !decoder.is_in_message());
    }
}

#[test]
fn a_message_that_inflates_beyond_the_limit_is_refused_early() {
    let (mut encoder, mut codecs, mut out) = (
        Encoder::new(agreed(false, 15)),
        Codecs::default(),
        Vec::new(),
    );
    encoder.message(
        Kind::Binary,
        &vec![0; 4_000_000],
        true,
        &mut codecs,
        &mut out,
    );
    let bomb = masked(&out);
    assert!(bomb.len() < 50_000);
    let (mut decoder, mut made) = (Decoder::new(Some(100_000), agreed(false, 15)), Vec::new());
    let (mut at, mut most) = (0, 0);
    let fault = loop {
        match decoder.poll(&bomb[at..], 4096, &mut codecs, &mut made) {
            Ok(polled) => at += polled.consumed,
            Err(fault) => break fault,
        }
        most = most.max(made.len());
        made.clear();
    };
    assert_eq!(fault, Fault::MessageTooBig);
    assert!(most <= 4096);
}

#[test]
fn compressed_frames_need_the_agreement_and_only_the_first_says_so() {
    let compressed = frame(0xc1, &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]);
    let seen = |deflate, input: &[u8]| decode(Decoder::new(None, deflate), input, 4096);
    assert_eq!(seen(None, &compressed), ["ReservedBit"]);
    assert_eq!(seen(agreed(false, 15), &compressed), ["Text Hello"]);
    let fragments = [
        frame(0x41, &[0xf2, 0x48]),
        frame(0x80, &[0xcd, 0xc9, 0xc9, 0x07, 0x00]),
    ];
    assert_eq!(seen(agreed(false, 15), &fragments.concat()), ["Text Hello"]);
    let twice = [frame(0x41, &[0xf2, 0x48]), frame(0xc0, &[0xcd])];
    assert_eq!(seen(agreed(false, 15), &twice.concat()), ["ReservedBit"]);
    let text = frame(0xc1, &[0x00, 0x01, 0x00, 0xfe, 0xff, 0xff, 0x00]);
    assert_eq!(seen(agreed(false, 15), &text), ["InvalidText"]);
    let nonsense = frame(0xc1, &[0xff; 9]);
    assert_eq!(seen(agreed(false, 15), &nonsense), ["InvalidDeflate"]);
}

#[test]
fn closes_and_pings_are_written() {
    let mut out = Vec::new();
    encode_close(CloseCode::SERVICE_RESTART, b"restart", &mut out);
    assert_eq!(out, b"\x88\x09\x03\xf4restart");
    out.clear();
    encode_close(CloseCode::NONE, b"dropped", &mut out);
    assert_eq!(out, b"\x88\x00");
    out.clear();
    encode_close(CloseCode::NORMAL, "ü".repeat(100).as_bytes(), &mut out);
    assert_eq!(out.len(), 2 + 2 + 122);
    out.clear();
    encode_control(Control::Pong, &[b'x'; 200], &mut out);
    assert_eq!(out.len(), 2 + CONTROL_MAX);
}

#[test]
fn long_messages_in_many_pieces_come_back() {
    let text = "word ".repeat(600_000);
    // Compresses to so little that nothing leaves before its last piece.
    let before = "é".repeat(32_770);
    for deflate in [agreed(false, 15), agreed(true, 12)] {
        let (mut encoder, mut codecs, mut out) =
            (Encoder::new(deflate), Codecs::default(), Vec::new());
        for text in [&before, &text, &before, &text] {
            let mut pieces = text.as_bytes().chunks(65_536).peekable();
            while let Some(piece) = pieces.next() {
                let last = pieces.peek().is_none();
                encoder.message(Kind::Text, piece, last, &mut codecs, &mut out);
            }
        }
        let seen = decode(Decoder::new(None, deflate), &masked(&out), 32_000);
        let expected = [&before, &text, &before, &text].map(|text| {
            let bytes = text.as_bytes();
            format!("Text {}", bytes.escape_ascii())
        });
        assert!(seen == expected);
    }
}
