//! Invariant: the outcome for a shorter input is that more is needed, or the outcome for the whole one; and
//! what is made of a packet is the head of exactly one HTTP/1 request, or a fault of one.

use std::sync::Arc;

use oxicorn_proto::PeerFault;
use oxicorn_proto::cgi::{Pass, Request};
use oxicorn_proto::http1::{Behind, Connection, Event, Rules};
use oxicorn_proto::uwsgi::Packet;

/// See the head of the file.
pub fn uwsgi_packet(data: &[u8]) {
    let whole = read(data);
    // Nothing behind a packet is looked at: one cut there stands for all, however much there is.
    let behind = [packet_len(data), data.len().saturating_sub(1)];
    let cuts = (0..packet_len(data).min(data.len()))
        .chain(behind.into_iter().filter(|&len| len < data.len()));
    for len in cuts {
        let part = read(&data[..len]);
        assert!(
            part == Ok(None) || part == whole,
            "{len} {part:?} {whole:?}"
        );
    }
    let Ok(Some((len, request))) = whole else {
        return;
    };
    assert!(len <= data.len());
    let mut connection = Connection::behind_web_server(Arc::new(Rules::default()), Behind::Http);
    if let Ok(polled) = connection.poll_event(&request.head) {
        assert_eq!(polled.event, Event::Head, "{request:?}");
        assert_eq!(polled.consumed, request.head.len(), "{request:?}");
        let head = connection.head(&request.head);
        assert!(head.headers().all(|header| !header.name.contains(&b'_')));
    }
}

/// Bytes of the packet that `data` begins with, whether they are all there or not.
fn packet_len(data: &[u8]) -> usize {
    let size = data
        .first_chunk()
        .map_or(0, |&[_, low, high, _]: &[u8; 4]| {
            u16::from_le_bytes([low, high])
        });
    4 + usize::from(size)
}

fn read(data: &[u8]) -> Result<Option<(usize, Request)>, PeerFault> {
    let Some(packet) = Packet::read(data)? else {
        return Ok(None);
    };
    let request = Request::read(packet.variables(), Pass::All)?;
    Ok(Some((packet.len, request)))
}
