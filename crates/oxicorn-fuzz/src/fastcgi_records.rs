//! Invariant: the same records, whole or byte by byte, give the same variables, body, answers and fault; and no
//! more is used than there is.

use oxicorn_proto::PeerFault;
use oxicorn_proto::cgi::{Pass, Request};
use oxicorn_proto::fastcgi::{Decoder, Event};

/// Bytes of variables that are allowed.
const LIMIT: usize = 1000;

/// See the head of the file.
pub fn fastcgi_records(data: &[u8]) {
    let whole = play(&[data]);
    let bytes: Vec<_> = data.chunks(1).collect();
    assert_eq!(play(&bytes), whole);
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    requests: Vec<Result<Request, PeerFault>>,
    bodies: Vec<Vec<u8>>,
    replies: Vec<u8>,
    fault: Option<PeerFault>,
}

fn play(pieces: &[&[u8]]) -> Seen {
    let mut decoder = Decoder::new(LIMIT);
    let mut seen = Seen::default();
    let (mut held, mut body) = (Vec::new(), Vec::new());
    for piece in pieces {
        held.extend_from_slice(piece);
        loop {
            let polled = decoder.poll(&held);
            seen.replies.extend(decoder.take_replies());
            let (used, event) = match polled {
                Ok(polled) => polled,
                Err(fault) => {
                    seen.fault = Some(fault);
                    return seen;
                }
            };
            assert!(used <= held.len());
            match &event {
                Event::NeedMore => {}
                Event::Variables => {
                    let variables = decoder.variables();
                    let request = variables.and_then(|found| Request::read(found, Pass::Usual));
                    seen.requests.push(request);
                }
                Event::Body(range) => body.extend_from_slice(&held[range.clone()]),
                Event::BodyEnd => {
                    seen.bodies.push(std::mem::take(&mut body));
                    decoder.start_next();
                }
            }
            held.drain(..used);
            if event == Event::NeedMore {
                break;
            }
        }
    }
    seen
}
