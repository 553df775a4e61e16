//! From HTTP/1.1 to HTTP/2 on a connection without TLS (RFC 7540 section 3.2; RFC 9113 has it no more, clients do).
//!
//! The request that asked is stream 1. What the client would have sent of it in frames is made here, to be put behind
//! the SETTINGS that it begins with: so who reads the frames need not know of it.

use crate::http1::grammar::list;
use crate::message::RequestHead;

/// Bytes of one setting.
const SETTING: usize = 6;

/// The most bytes of a frame before anything else was agreed on.
const FRAME: usize = 16_384;

/// Headers that speak of the connection, or of the upgrade.
const DROPPED: [&[u8]; 9] = [
    b"connection",
    b"host",
    b"http2-settings",
    b"keep-alive",
    b"proxy-connection",
    b"te",
    b"transfer-encoding",
    b"upgrade",
    b"expect",
];

/// A request that asks for HTTP/2 in a way that may be granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpgradeRequest {
    /// The settings that the client will begin with.
    pub settings: Vec<u8>,
}

/// Whether a request asks for it, with everything that belongs to it (RFC 7540 section 3.2.1): one HTTP2-Settings,
/// which Connection names.
pub fn upgrade_request(head: &RequestHead<'_>) -> Option<UpgradeRequest> {
    let asks = list(head.upgrade()?).any(|one| one.eq_ignore_ascii_case(b"h2c"));
    let values = |name: &'static [u8]| {
        head.headers()
            .filter(move |header| header.name.eq_ignore_ascii_case(name))
            .map(|header| header.value)
    };
    let named = values(b"connection")
        .flat_map(list)
        .any(|option| option.eq_ignore_ascii_case(b"http2-settings"));
    let mut settings = values(b"http2-settings");
    let (Some(value), None) = (settings.next(), settings.next()) else {
        return None;
    };
    let settings = decode(value).filter(|settings| are_valid(settings))?;
    (asks && named).then_some(UpgradeRequest { settings })
}

/// Base64 for URLs, with or without its padding.
fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let text = text.trim_ascii_end();
    let end = text
        .iter()
        .rposition(|byte| *byte != b'=')
        .map_or(0, |at| at + 1);
    if text.len() - end > 2 || end % 4 == 1 {
        return None;
    }
    let mut out = Vec::with_capacity(end * 3 / 4);
    let (mut bits, mut count) = (0_u32, 0);
    for byte in &text[..end] {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count & 0xff).to_le_bytes()[0]);
        }
    }
    Some(out)
}

/// Whole settings, each of which may be said (RFC 9113 section 6.5.2).
fn are_valid(settings: &[u8]) -> bool {
    let is_valid = |one: &[u8]| {
        let id = u16::from_be_bytes([one[0], one[1]]);
        let value = u32::from_be_bytes([one[2], one[3], one[4], one[5]]);
        match id {
            2 | 8 => value <= 1,
            4 => value < 1 << 31,
            5 => (1 << 14..1 << 24).contains(&value),
            _ => true,
        }
    };
    settings.len().is_multiple_of(SETTING) && settings.chunks_exact(SETTING).all(is_valid)
}

/// The frames of the request as stream 1. `https`: its scheme.
pub fn first_frames(head: &RequestHead<'_>, body: &[u8], https: bool) -> Vec<u8> {
    let mut block = Vec::new();
    let scheme: &[u8] = if https { b"https" } else { b"http" };
    literal(b":method", head.method(), &mut block);
    literal(b":scheme", scheme, &mut block);
    literal(b":path", target(head), &mut block);
    if let Some(host) = head.host() {
        literal(b":authority", host, &mut block);
    }
    for header in head.headers() {
        let name = header.name.to_ascii_lowercase();
        if !DROPPED.contains(&&name[..]) {
            literal(&name, header.value, &mut block);
        }
    }
    if !body.is_empty() && !has_length(head) {
        literal(
            b"content-length",
            body.len().to_string().as_bytes(),
            &mut block,
        );
    }
    let mut out = Vec::with_capacity(block.len() + body.len() + 64);
    let pieces = block.chunks(FRAME);
    let last = pieces.len().saturating_sub(1);
    for (at, piece) in pieces.enumerate() {
        let kind = if at == 0 { 1 } else { 9 };
        let ends_stream = u8::from(at == 0 && body.is_empty());
        let ends_headers = if at == last { 4 } else { 0 };
        frame(kind, ends_stream | ends_headers, piece, &mut out);
    }
    let pieces = body.chunks(FRAME);
    let last = pieces.len().saturating_sub(1);
    for (at, piece) in pieces.enumerate() {
        frame(0, u8::from(at == last), piece, &mut out);
    }
    out
}

fn has_length(head: &RequestHead<'_>) -> bool {
    head.headers()
        .any(|header| header.name.eq_ignore_ascii_case(b"content-length"))
}

/// The target without scheme and authority.
fn target<'a>(head: &RequestHead<'a>) -> &'a [u8] {
    let target = head.request_target();
    if target.starts_with(b"/") || target == b"*" {
        return target;
    }
    let behind = target.windows(3).position(|part| part == b"://");
    let rest = behind.map_or(target, |at| &target[at + 3..]);
    let path = rest.iter().position(|byte| *byte == b'/');
    path.map_or(&b"/"[..], |at| &rest[at..])
}

fn frame(kind: u8, flags: u8, payload: &[u8], out: &mut Vec<u8>) {
    let length = u32::try_from(payload.len()).unwrap_or(0).to_be_bytes();
    out.extend_from_slice(&length[1..]);
    out.extend_from_slice(&[kind, flags, 0, 0, 0, 1]);
    out.extend_from_slice(payload);
}

/// A field that no table is to keep (RFC 7541 section 6.2.2).
fn literal(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.push(0);
    for text in [name, value] {
        length(text.len(), out);
        out.extend_from_slice(text);
    }
}

/// An integer with a prefix of seven bits (RFC 7541 section 5.1).
fn length(mut number: usize, out: &mut Vec<u8>) {
    const FULL: usize = 127;
    if number < FULL {
        out.push(number.to_le_bytes()[0]);
        return;
    }
    out.push(127);
    number -= FULL;
    while number >= 128 {
        out.push(number.to_le_bytes()[0] | 128);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::http1::{Connection, Rules};
    use crate::http2::FrameKind as F;

    fn with_head<T>(lines: &str, look: impl FnOnce(&RequestHead<'_>) -> T) -> T {
        let text = format!("GET /x?y HTTP/1.1\r\nHost: a.example\r\n{lines}\r\n");
        let mut connection = Connection::new(Arc::new(Rules::default()));
        let polled = connection.poll_event(text.as_bytes()).expect("a head");
        look(&connection.head(&text.as_bytes()[..polled.consumed]))
    }

    const GOOD: &str = "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n\
                        HTTP2-Settings: AAMAAABkAAQAAP__\r\n";

    #[test]
    fn a_whole_request_is_found() {
        let found = with_head(GOOD, upgrade_request).expect("an upgrade");
        assert_eq!(found.settings, [0, 3, 0, 0, 0, 100, 0, 4, 0, 0, 255, 255]);
    }

    #[test]
    fn half_of_one_is_served_as_it_is() {
        for (old, new) in [
            ("h2c", "websocket"),
            ("Upgrade, HTTP2-Settings", "Upgrade"),
            ("HTTP2-Settings: AAMAAABkAAQAAP__\r\n", ""),
            ("AAMAAABkAAQAAP__", "AAMAAABk*"),
            ("AAMAAABkAAQAAP__", "AAMAAABkAAQ"),
            ("AAMAAABkAAQAAP__", "AAT_____"),
        ] {
            let lines = GOOD.replace(old, new);
            assert_eq!(with_head(&lines, upgrade_request), None, "{lines}");
        }
        let twice = format!("{GOOD}HTTP2-Settings: AAMAAABkAAQAAP__\r\n");
        assert_eq!(with_head(&twice, upgrade_request), None);
    }

    #[test]
    fn the_request_becomes_frames() {
        let frames = with_head(GOOD, |head| first_frames(head, b"", false));
        assert_eq!(frames[3..9], [1, 5, 0, 0, 0, 1]);
        let text = String::from_utf8_lossy(&frames);
        assert!(text.contains(":path\u{4}/x?y"), "{text}");
        assert!(!text.to_lowercase().contains("settings"), "{text}");
        let frames = with_head(GOOD, |head| first_frames(head, &vec![b'x'; 20_000], false));
        let mut kinds = Vec::new();
        crate::http2::FrameScanner::after(0).pass(&frames, |frame| {
            kinds.push((frame.kind, frame.flags, frame.length));
        });
        assert_eq!(kinds.len(), 3);
        assert_eq!((kinds[0].0, kinds[0].1), (F::Headers, 4));
        assert_eq!(
            &kinds[1..],
            [(F::Data, 0, FRAME), (F::Data, 1, 20_000 - FRAME)]
        );
    }

    #[test]
    fn long_lengths_are_written_in_sevens() {
        let mut out = Vec::new();
        length(1337, &mut out);
        // 1337 - 127 = 1210 = 9 * 128 + 58
        assert_eq!(out, [127, 0xba, 9]);
    }
}
