//! Invariant: a connection makes the same of its bytes whole and in any pieces, never panics, and
//! what it takes for a head has no control byte in any part.
//!
//! First byte: which rules. Second: the seed of the cuts. The rest: what the peer sends.

use std::sync::Arc;

use oxicorn_proto::http1::{Connection, Event, HeaderMap, Limits, Rules, Strictness};

use crate::support;

fn rules(choice: u8) -> Arc<Rules> {
    let bit = |at: u8| choice >> at & 1 == 1;
    let strictness = Strictness {
        header_map: [HeaderMap::Drop, HeaderMap::Refuse, HeaderMap::Dangerous]
            [usize::from(choice & 3) % 3],
        permit_obsolete_folding: bit(2),
        strip_header_spaces: bit(3),
        permit_unconventional_http_method: bit(4),
        permit_unconventional_http_version: bit(5),
        casefold_http_method: bit(6),
        permit_connect: bit(4),
        ..Strictness::default()
    };
    let mut limits = Limits::default();
    if bit(7) {
        limits = Limits {
            request_line: 40,
            fields: 5,
            field_size: 40,
            head_size: 120,
            chunk_line: 20,
            chunk_extensions: 10,
            body: Some(30),
        };
    }
    Arc::new(Rules { limits, strictness })
}

fn check_head(rules: &Arc<Rules>, input: &[u8]) {
    let mut connection = Connection::new(Arc::clone(rules));
    let Ok(polled) = connection.poll_event(input) else {
        return;
    };
    if polled.event != Event::Head {
        return;
    }
    let head = connection.head(&input[..polled.consumed]);
    let clean = |bytes: &[u8]| {
        bytes
            .iter()
            .all(|byte| *byte == b'\t' || *byte >= 0x20 && *byte != 0x7f)
    };
    assert!(clean(head.request_line()));
    assert!(
        head.headers()
            .all(|header| clean(header.value) && clean(header.name) && !header.name.is_empty())
    );
    assert!(input[..polled.consumed].ends_with(b"\r\n\r\n") || head.headers().len() == 0);
}

/// See the head of the file.
pub fn request_head(data: &[u8]) {
    let [choice, seed, input @ ..] = data else {
        return;
    };
    let rules = rules(*choice);
    let whole = support::play(&rules, seed & 1 == 1, [input]);
    assert_eq!(support::play(&rules, seed & 1 == 1, input.chunks(1)), whole);
    let mut random = support::Random(u64::from(*seed) + 1);
    let pieces = support::cut(input, &mut random);
    assert_eq!(support::play(&rules, seed & 1 == 1, pieces), whole);
    check_head(&rules, input);
}
