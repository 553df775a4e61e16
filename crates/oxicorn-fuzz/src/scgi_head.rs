//! Invariant: the outcome for a shorter input is that more is needed, or the outcome for the whole one; and
//! what is made of a head is the head of exactly one HTTP/1 request with the same length of body, or a fault of one.

use std::sync::Arc;

use oxicorn_proto::PeerFault;
use oxicorn_proto::cgi::{Pass, Request};
use oxicorn_proto::http1::{Behind, Connection, Event, Rules};
use oxicorn_proto::message::BodyFraming;
use oxicorn_proto::scgi::Head;

/// Bytes of variables that are allowed.
const LIMIT: usize = 1500;

/// See the head of the file.
pub fn scgi_head(data: &[u8]) {
    let head = Head::read(data, LIMIT);
    let end = match &head {
        Ok(Some(head)) => head.len,
        _ => data.len(),
    };
    for len in 0..data.len() {
        let part = Head::read(&data[..len], LIMIT);
        assert!(part == Ok(None) || part == head, "{len} {part:?} {head:?}");
        // Nothing behind a head is looked at: one cut there stands for all.
        if len > end {
            break;
        }
    }
    let Ok(Some(head)) = head else {
        return;
    };
    assert!(head.len <= data.len());
    let length = head.variables().next().expect("a length").1;
    let Ok(request) = read(&head) else {
        return;
    };
    let mut connection =
        Connection::behind_web_server(Arc::new(Rules::default()), Behind::Cgi { keep: false });
    if let Ok(polled) = connection.poll_event(&request.head) {
        assert_eq!(polled.event, Event::Head, "{request:?}");
        assert_eq!(polled.consumed, request.head.len(), "{request:?}");
        let head = connection.head(&request.head);
        let said = std::str::from_utf8(length)
            .ok()
            .and_then(|text| text.trim().parse().ok());
        let is_same = match head.framing() {
            BodyFraming::Length(length) => said == Some(length),
            _ => said == Some(0),
        };
        assert!(is_same, "{said:?} {request:?}");
    }
}

fn read(head: &Head<'_>) -> Result<Request, PeerFault> {
    Request::read(head.variables(), Pass::Usual)
}
