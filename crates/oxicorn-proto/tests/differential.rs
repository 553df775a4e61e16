//! A second opinion: what this crate takes for a head, another parser takes for the same head; and
//! what this crate encodes, another reader decodes to what was meant.
//!
//! The other way round does not hold: we refuse more.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use oxicorn_proto::http1::{Connection, Event, RequestHead, ResponseFraming, ResponseHead, Rules};
use proptest::prelude::*;

/// What both parsers can say of a head.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    method: Vec<u8>,
    target: Vec<u8>,
    headers: Vec<(Vec<u8>, Vec<u8>)>,
    length: usize,
}

fn ours(input: &[u8]) -> Option<Seen> {
    let mut connection = Connection::new(Arc::new(Rules::default()));
    let polled = connection.poll_event(input).ok()?;
    (polled.event == Event::Head)
        .then(|| seen(&connection.head(&input[..polled.consumed]), polled.consumed))
}

fn seen(head: &RequestHead<'_>, length: usize) -> Seen {
    let headers = head
        .headers()
        .map(|header| (header.name.to_vec(), header.value.to_vec()));
    Seen {
        method: head.method().to_vec(),
        target: head.request_target().to_vec(),
        headers: headers.collect(),
        length,
    }
}

/// The other parser's view, without the names our policy drops.
fn theirs(input: &[u8]) -> Option<Seen> {
    let mut headers = [httparse::EMPTY_HEADER; 128];
    let mut request = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(length) = request.parse(input).ok()? else {
        return None;
    };
    let kept = request
        .headers
        .iter()
        .filter(|header| !header.name.contains('_'));
    Some(Seen {
        method: request.method?.into(),
        target: request.path?.into(),
        headers: kept
            .map(|header| (header.name.into(), trim(header.value)))
            .collect(),
        length,
    })
}

fn trim(value: &[u8]) -> Vec<u8> {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value
        .iter()
        .position(|byte| !blank(byte))
        .unwrap_or(value.len());
    let end = value
        .iter()
        .rposition(|byte| !blank(byte))
        .map_or(start, |at| at + 1);
    value[start..end].to_vec()
}

fn agree(input: &[u8]) {
    if let Some(ours) = ours(input) {
        assert_eq!(Some(ours), theirs(input), "{}", input.escape_ascii());
    }
}

/// The other parser knows no version but 1.0 and 1.1.
fn has_known_version(input: &[u8]) -> bool {
    oxicorn_proto::http1::first_line(input).ends_with(b"HTTP/1.1")
        || oxicorn_proto::http1::first_line(input).ends_with(b"HTTP/1.0")
}

#[test]
fn heads_of_the_corpus_are_the_same_to_another_parser() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/accept");
    for entry in fs::read_dir(folder).expect("the corpus is there") {
        let path = entry.expect("a readable entry").path();
        if path
            .extension()
            .is_some_and(|extension| extension == "http")
        {
            let input = fs::read(path).expect("a readable message");
            if has_known_version(&input) {
                agree(&input);
            }
        }
    }
}

/// Pieces heads are made of, good and bad.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let fixed = prop::sample::select(vec![
        "GET / HTTP/1.1\r\n",
        "POST /a?b HTTP/1.1\r\n",
        "GET / HTTP/1.0\r\n",
        "Host: a\r\n",
        "Host: a.b:80\r\n",
        "X-A: b\r\n",
        "X-A:b\r\n",
        "X_A: b\r\n",
        "X: \t c \r\n",
        "Content-Length: 5\r\n",
        "\r\n",
        "\n",
        "\r",
        " ",
        "\t",
        ":",
        "a",
        "Transfer-Encoding: chunked\r\n",
        "Connection: close\r\n",
        "Expect: 100-continue\r\n",
        "\0",
        "\u{7f}",
        "é",
        "GET",
        "HTTP/1.1",
        ";",
        "\"",
    ]);
    prop_oneof![9 => fixed.prop_map(|text| text.as_bytes().to_vec()), 1 => prop::collection::vec(any::<u8>(), 0..4)]
}

fn header() -> impl Strategy<Value = (String, String)> {
    ("[A-Za-z-]{1,20}", "[ -~\t]{0,40}")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn generated_heads_are_the_same_to_another_parser(
        start in prop::bool::weighted(0.8),
        pieces in prop::collection::vec(piece(), 0..12),
    ) {
        let mut input = if start { b"GET / HTTP/1.1\r\nHost: a\r\n".to_vec() } else { Vec::new() };
        input.extend(pieces.concat());
        agree(&input);
        input.extend(b"\r\n\r\n");
        agree(&input);
    }

    /// Any headers of an application, in any framing, come out as one head that another parser
    /// reads, with the body that was meant behind it.
    #[test]
    fn responses_are_what_another_parser_reads(
        headers in prop::collection::vec(header(), 0..8),
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..5),
        counted in any::<bool>(),
        keep in any::<bool>(),
    ) {
        let body = pieces.concat();
        let request: &[u8] = if keep { b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" } else { b"GET / HTTP/1.0\r\n\r\n" };
        let (out, framing) = respond(request, &headers, &pieces, counted.then_some(body.len() as u64));
        let mut storage = [httparse::EMPTY_HEADER; 64];
        let mut response = httparse::Response::new(&mut storage);
        let httparse::Status::Complete(length) = response.parse(&out).expect("a good head") else {
            panic!("the head is not complete");
        };
        prop_assert_eq!(response.code, Some(200));
        let sent = headers.iter().filter(|(name, _)| !is_ours(name));
        for ((name, value), header) in sent.zip(response.headers.iter()) {
            prop_assert_eq!(header.name, name);
            prop_assert_eq!(trim(header.value), trim(value.as_bytes()));
        }
        prop_assert_eq!(read_body(&out[length..], framing), body);
    }
}

fn is_ours(name: &str) -> bool {
    [
        "te",
        "date",
        "server",
        "upgrade",
        "trailers",
        "connection",
        "keep-alive",
    ]
    .contains(&&*name.to_ascii_lowercase())
}

fn respond(
    request: &[u8],
    headers: &[(String, String)],
    pieces: &[Vec<u8>],
    body_length: Option<u64>,
) -> (Vec<u8>, ResponseFraming) {
    let mut connection = Connection::new(Arc::new(Rules::default()));
    let polled = connection.poll_event(request).expect("a good request");
    assert_eq!(polled.event, Event::Head);
    let head = ResponseHead {
        status: 200,
        reason: b"OK",
        body_length,
        ..ResponseHead::default()
    };
    let headers = headers
        .iter()
        .map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    let mut out = Vec::new();
    let framing = connection
        .encode_response_head(&head, headers, &mut out)
        .expect("good headers");
    for piece in pieces {
        connection.encode_body(piece, &mut out).expect("in order");
    }
    connection.finish_response([], &mut out).expect("complete");
    (out, framing)
}

/// Removes the framing; nothing may be left over.
fn read_body(mut wire: &[u8], framing: ResponseFraming) -> Vec<u8> {
    if framing != ResponseFraming::Chunked {
        return wire.to_vec();
    }
    let mut body = Vec::new();
    loop {
        let httparse::Status::Complete((start, size)) =
            httparse::parse_chunk_size(wire).expect("a size")
        else {
            panic!("a chunk is cut");
        };
        let end = start + usize::try_from(size).expect("small");
        body.extend_from_slice(&wire[start..end]);
        assert_eq!(&wire[end..end + 2], b"\r\n");
        wire = &wire[end + 2..];
        if size == 0 {
            assert!(wire.is_empty());
            return body;
        }
    }
}
