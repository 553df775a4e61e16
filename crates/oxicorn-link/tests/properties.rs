//! Payloads come back as they went in; decoders refuse or accept any bytes without panicking; rings
//! behave like queues whatever the sizes and the order of steps.

#![cfg(not(loom))]
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::VecDeque;

use oxicorn_link::wire::*;
use oxicorn_link::{Placement, RingFull, StreamId};
use proptest::collection::vec;
use proptest::prelude::*;

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

fn bytes(max: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..max)
}

fn pairs() -> impl Strategy<Value = Pairs> {
    vec((bytes(20), bytes(100)), 0..12)
}

fn owned(list: HeaderList<'_>) -> Pairs {
    list.iter()
        .map(|(name, value)| (name.to_vec(), value.to_vec()))
        .collect()
}

#[derive(Debug, Clone)]
enum Step {
    Place(usize),
    Revoke(usize),
    Claim,
    Send(usize),
    Receive,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0..2100_usize).prop_map(Step::Place),
        1 => (0..8_usize).prop_map(Step::Revoke),
        3 => Just(Step::Claim),
        3 => (0..2100_usize).prop_map(Step::Send),
        3 => Just(Step::Receive),
    ];
    vec(step, 0..200)
}

/// A payload of this length that tells which it is.
fn payload(len: usize, number: u32) -> Vec<u8> {
    (0..len)
        .map(|i| number.wrapping_add(u32::try_from(i).unwrap()).to_le_bytes()[0])
        .collect()
}

proptest! {
    #[test]
    fn requests_come_back(
        texts in vec(bytes(50), 9),
        numbers in any::<(u16, u16, u16, u16, u32, u32)>(),
        is_unix in any::<(bool, bool)>(),
        has_proxy in any::<bool>(),
        (headers, variables) in (pairs(), pairs()),
        place in 0..4,
        len in any::<Option<u64>>(),
        body in bytes(300),
    ) {
        let address = |unix: bool, text, port| {
            if unix { Address::Unix { path: text } } else { Address::Ip { host: text, port } }
        };
        let (body_place, body) = match place {
            0 => (BodyPlace::None, &b""[..]),
            1 => (BodyPlace::Inline, &body[..]),
            2 => (BodyPlace::Descriptor { len: len.unwrap_or(0) }, &b""[..]),
            _ => (BodyPlace::Streamed { len: len.filter(|len| *len != u64::MAX) }, &b""[..]),
        };
        let head = RequestHead {
            version: Version::Http11,
            scheme: Scheme::Https,
            method: &texts[0],
            request_target: &texts[1],
            path: &texts[2],
            query_string: &texts[3],
            client: address(is_unix.0, &texts[4], numbers.0),
            server: address(is_unix.1, &texts[5], numbers.1),
            proxy: has_proxy.then_some(ProxyInfo {
                protocol: &texts[6],
                source: &texts[7],
                source_port: numbers.2,
                destination: &texts[8],
                destination_port: numbers.3,
            }),
            body: body_place,
            deadline_ms: numbers.4,
            queued_us: numbers.5,
        };
        let mut out = Vec::new();
        let mut encoder = RequestEncoder::begin(&mut out, &head);
        for (name, value) in &headers {
            encoder.header(name, value);
        }
        for (name, value) in &variables {
            encoder.variable(name, value);
        }
        encoder.finish(body);
        let view = RequestView::decode(&out).unwrap();
        prop_assert_eq!(view.head, head);
        prop_assert_eq!(owned(view.headers), headers);
        prop_assert_eq!(owned(view.variables), variables);
        prop_assert_eq!(view.body, body);
    }

    #[test]
    fn responses_come_back(
        status in any::<u16>(), reason in bytes(50), headers in pairs(), body in bytes(300),
    ) {
        let head = ResponseHead { status, reason: &reason };
        let mut out = b"before".to_vec();
        let mut encoder = ResponseEncoder::begin(&mut out, &head);
        for (name, value) in &headers {
            encoder.header(name, value);
        }
        encoder.finish();
        let out = &[&out[6..], &body].concat();
        let view = ResponseView::decode(out).unwrap();
        prop_assert_eq!(view.head, head);
        prop_assert_eq!(owned(view.headers), headers);
        prop_assert_eq!(view.body, &body[..]);
        prop_assert_eq!(ResponseView::head_len(out, out.len()), Ok(out.len() - body.len()));
    }

    #[test]
    fn decoders_take_any_bytes(junk in bytes(400)) {
        let _ = RequestView::decode(&junk);
        let _ = ResponseView::decode(&junk);
        let _ = ResponseView::head_len(&junk, junk.len());
        let _ = HeaderList::decode(&junk).map(owned);
        let _ = WebSocketClose::decode(&junk);
        let _ = FilePart::decode(&junk);
        prop_assert!(CallsInHand::new(&junk).count() <= junk.len());
        let _ = (decode_credit(&junk), decode_abort(&junk), decode_cancel(&junk));
    }

    #[test]
    fn requests_with_flipped_bits_are_refused_or_stay_within_the_payload(
        headers in pairs(), at in any::<prop::sample::Index>(), flip in 1..=255_u8,
    ) {
        let mut out = Vec::new();
        let head = RequestHead {
            version: Version::Http10,
            scheme: Scheme::Http,
            method: b"GET",
            request_target: b"/",
            path: b"/",
            query_string: b"",
            client: Address::Ip { host: b"::1", port: 1 },
            server: Address::Unix { path: b"/run/x" },
            proxy: None,
            body: BodyPlace::Inline,
            deadline_ms: 0,
            queued_us: 0,
        };
        let mut encoder = RequestEncoder::begin(&mut out, &head);
        for (name, value) in &headers {
            encoder.header(name, value);
        }
        encoder.finish(b"body");
        let at = at.index(out.len());
        out[at] ^= flip;
        if let Ok(view) = RequestView::decode(&out) {
            let shown: usize = view.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
            prop_assert!(shown + view.body.len() <= out.len());
        }
    }

    #[test]
    fn rings_are_queues(steps in steps()) {
        let (mut gateway, mut worker) = support::pair();
        let epoch = gateway.epoch();
        let id = |number| StreamId::new(epoch, 0, number);
        let mut requests: VecDeque<(u32, usize, Placement, bool)> = VecDeque::new();
        let mut responses: VecDeque<(u32, usize)> = VecDeque::new();
        let mut got = Vec::new();
        for (number, step) in (0..).zip(steps) {
            match step {
                Step::Place(len) => {
                    match gateway.place_request(id(number), 0, &payload(len, number)) {
                        Ok(placement) => requests.push_back((number, len, placement, false)),
                        Err(RingFull::NoRoomYet) => prop_assert!(!requests.is_empty()),
                        Err(RingFull::MessageTooLong) => {
                            prop_assert!(len > gateway.max_request_payload());
                        }
                    }
                }
                Step::Revoke(which) => {
                    if let Some((_, _, placement, revoked)) = requests.get_mut(which) {
                        prop_assert_eq!(gateway.revoke(*placement), !*revoked);
                        *revoked = true;
                    }
                }
                Step::Claim => {
                    while requests.pop_front_if(|(_, _, _, revoked)| *revoked).is_some() {}
                    let expected = requests.pop_front();
                    let claimed = worker.requests.try_claim(&mut got);
                    prop_assert_eq!(claimed.map(|one| one.stream), expected.map(|one| id(one.0)));
                    if let Some((number, len, placement, _)) = expected {
                        prop_assert_eq!(&got, &payload(len, number));
                        prop_assert!(gateway.is_claimed(placement));
                        prop_assert!(!gateway.revoke(placement));
                    }
                }
                Step::Send(len) => {
                    let (head, kind) = (payload(len, number), ResponseKind::BodyChunk);
                    let (head, body) = head.split_at(len / 3);
                    match worker.responses.try_send(kind, id(number), 0, head, body) {
                        Ok(()) => responses.push_back((number, len)),
                        Err(RingFull::NoRoomYet) => prop_assert!(!responses.is_empty()),
                        Err(RingFull::MessageTooLong) => {
                            prop_assert!(len > worker.responses.max_payload());
                        }
                    }
                }
                Step::Receive => {
                    let header = gateway.next_response().unwrap();
                    let expected = responses.pop_front();
                    prop_assert_eq!(header.map(|one| one.stream), expected.map(|one| id(one.0)));
                    if let Some((number, len)) = expected {
                        got.clear();
                        gateway.payload_into(0..len, &mut got);
                        prop_assert_eq!(&got, &payload(len, number));
                        gateway.release();
                    }
                }
            }
        }
    }
}
