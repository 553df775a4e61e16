//! Invariant: a chunked body is decoded the same whole and byte by byte; if it is accepted, a naive
//! decoder of well-formed bodies finds the same data.

use std::sync::Arc;

use oxicorn_proto::PeerFault;
use oxicorn_proto::http1::{Connection, Event, Rules};

const HEAD: &[u8] = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

/// The body and how many bytes it took, if it is complete.
fn decode(pieces: &mut dyn Iterator<Item = &[u8]>) -> Result<Option<(Vec<u8>, usize)>, PeerFault> {
    let mut connection = Connection::new(Arc::new(Rules::default()));
    let polled = connection.poll_event(HEAD).expect("a good head");
    assert_eq!((polled.consumed, polled.event), (HEAD.len(), Event::Head));
    let (mut buffer, mut body, mut taken) = (Vec::new(), Vec::new(), 0);
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            let polled = connection.poll_event(&buffer)?;
            if let Event::Body(range) = &polled.event {
                body.extend_from_slice(&buffer[range.clone()]);
            }
            taken += polled.consumed;
            buffer.drain(..polled.consumed);
            match polled.event {
                Event::NeedMore => break,
                Event::BodyEnd => return Ok(Some((body, taken))),
                _ => {}
            }
        }
    }
    Ok(None)
}

/// Decodes what is known to be well-formed.
fn naive(mut input: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let end = input
            .iter()
            .position(|byte| *byte == b'\n')
            .expect("a line");
        let digits: String = input
            .iter()
            .take_while(|byte| byte.is_ascii_hexdigit())
            .map(|byte| char::from(*byte))
            .collect();
        let size = usize::from_str_radix(&digits, 16).expect("a size");
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&input[end + 1..end + 1 + size]);
        input = &input[end + 1 + size + 2..];
    }
}

/// See the head of the file.
pub fn chunked_body(data: &[u8]) {
    let whole = decode(&mut std::iter::once(data));
    assert_eq!(decode(&mut data.chunks(1)), whole);
    if let Ok(Some((body, taken))) = whole {
        assert_eq!(naive(&data[..taken]), body);
    }
}
