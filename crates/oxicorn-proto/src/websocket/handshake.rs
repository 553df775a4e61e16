//! The opening handshake (RFC 6455 section 4.2): whether a request asks for a WebSocket, whether it
//! may have one, and what a 101 answers.
//!
//! Refuses to know whether somebody wants to accept it: that is the application's.

use sha1::{Digest as _, Sha1};

use super::extensions::{Compression, Deflate, negotiate};
use super::fault::HandshakeFault;
use crate::http1::grammar::{is_token, list, trim};
use crate::http1::{BodyFraming, RequestHead};

/// The one version of the protocol.
pub const VERSION: &[u8] = b"13";

/// Appended to the key (RFC 6455 section 1.3).
const KEY_SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Length of a key: base64 of 16 bytes.
const KEY_LEN: usize = 24;

/// The value of Sec-WebSocket-Accept.
pub type AcceptKey = [u8; 28];

/// What was asked for, by the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// What Sec-WebSocket-Accept answers.
    pub accept_key: AcceptKey,
    /// The compression agreed on, if any.
    pub deflate: Option<Deflate>,
}

/// Looks at a request: `None` is an ordinary one. `compression` is what we offer.
///
/// A request that does not ask in the way of section 4.2.1 for the upgrade is ordinary, since a
/// server may leave any upgrade alone (RFC 9110 section 7.8). One that does is a handshake, and
/// what is wrong with it is a fault.
pub fn check(
    head: &RequestHead<'_>,
    compression: Option<Compression>,
) -> Result<Option<Handshake>, HandshakeFault> {
    if !head.is_extended_connect() && !asks_upgrade(head) {
        return Ok(None);
    }
    let mut versions = values(head, b"sec-websocket-version");
    if versions.next() != Some(VERSION) || versions.next().is_some() {
        return Err(HandshakeFault::UnsupportedVersion);
    }
    if !matches!(head.framing(), BodyFraming::None | BodyFraming::Length(0)) {
        return Err(HandshakeFault::UnexpectedBody);
    }
    let accept_key = if head.is_extended_connect() {
        // RFC 8441 section 5: there is none, since nobody could take it for something else.
        [b'='; 28]
    } else {
        accept_key(only_key(head)?)
    };
    if !subprotocols_of(head).all(is_token) {
        return Err(HandshakeFault::InvalidSubprotocol);
    }
    let offers = values(head, b"sec-websocket-extensions");
    Ok(Some(Handshake {
        accept_key,
        deflate: negotiate(offers, compression)?,
    }))
}

/// Whether it asks for an upgrade to it.
fn asks_upgrade(head: &RequestHead<'_>) -> bool {
    // `upgrade` holds on HTTP/1.1 only, and where Connection names it.
    head.upgrade().is_some()
        && head.method() == b"GET"
        && values(head, b"upgrade")
            .flat_map(list)
            .any(|protocol| protocol.eq_ignore_ascii_case(b"websocket"))
}

fn only_key<'a>(head: &RequestHead<'a>) -> Result<&'a [u8], HandshakeFault> {
    let mut keys = values(head, b"sec-websocket-key");
    let key = keys.next().ok_or(HandshakeFault::MissingKey)?;
    if !is_key(key) || keys.next().is_some() {
        return Err(HandshakeFault::InvalidKey);
    }
    Ok(key)
}

/// The subprotocols in the values of Sec-WebSocket-Protocol, in the client's order. Empty elements
/// do not count (RFC 9110 section 5.6.1).
pub fn subprotocols<'a>(values: impl Iterator<Item = &'a [u8]>) -> impl Iterator<Item = &'a [u8]> {
    values.flat_map(list).filter(|name| !name.is_empty())
}

fn subprotocols_of<'a>(head: &RequestHead<'a>) -> impl Iterator<Item = &'a [u8]> {
    subprotocols(values(head, b"sec-websocket-protocol"))
}

fn values<'a>(head: &RequestHead<'a>, name: &'static [u8]) -> impl Iterator<Item = &'a [u8]> {
    head.headers()
        .filter(move |header| header.name.eq_ignore_ascii_case(name))
        .map(|header| trim(header.value))
}

fn is_key(key: &[u8]) -> bool {
    key.len() == KEY_LEN
        && key.ends_with(b"==")
        && key[..KEY_LEN - 2]
            .iter()
            .all(|byte| ALPHABET.contains(byte))
}

fn accept_key(key: &[u8]) -> AcceptKey {
    let digest: [u8; 20] = Sha1::new()
        .chain_update(key)
        .chain_update(KEY_SUFFIX)
        .finalize()
        .into();
    let mut encoded = [b'='; 28];
    for (group, out) in digest.chunks(3).zip(encoded.chunks_mut(4)) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for (at, place) in out.iter_mut().take(group.len() + 1).enumerate() {
            *place = ALPHABET[(bits >> (18 - 6 * at) & 0x3f) as usize];
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::http1::{Connection, Event, Rules};

    /// The outcome for a request line and more headers than Host.
    fn outcome(line: &str, headers: &[&str]) -> Result<Option<Handshake>, HandshakeFault> {
        let request = format!(
            "{line}\r\nHost: a.example\r\n{}\r\n\r\n",
            headers.join("\r\n")
        );
        let mut connection = Connection::new(Arc::new(Rules::default()));
        let polled = connection.poll_event(request.as_bytes()).expect("a head");
        assert_eq!(polled.event, Event::Head);
        let head = &request.as_bytes()[..polled.consumed];
        check(&connection.head(head), Some(Compression::default()))
    }

    const LINE: &str = "GET /chat HTTP/1.1";
    const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    const GOOD: [&str; 4] = [
        "Upgrade: websocket",
        "Connection: Upgrade",
        KEY,
        "Sec-WebSocket-Version: 13",
    ];

    /// A good handshake with one header replaced, or left out by an empty one.
    fn with(old: &str, new: &str) -> Result<Option<Handshake>, HandshakeFault> {
        let headers = GOOD.iter().map(|header| {
            if header.starts_with(old) {
                new
            } else {
                *header
            }
        });
        let headers: Vec<_> = headers.filter(|header| !header.is_empty()).collect();
        outcome(LINE, &headers)
    }

    fn plus(more: &str) -> Result<Option<Handshake>, HandshakeFault> {
        let mut headers = GOOD.to_vec();
        headers.push(more);
        outcome(LINE, &headers)
    }

    #[test]
    fn answers_the_example_of_the_rfc() {
        let handshake = outcome(LINE, &GOOD).expect("a handshake").expect("one");
        assert_eq!(&handshake.accept_key, b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(handshake.deflate, None);
    }

    #[test]
    fn lists_and_case_do_not_matter_where_they_must_not() {
        for (old, new) in [
            ("Upgrade", "upgrade: h2c, WebSocket"),
            ("Upgrade", "Upgrade: h2c\r\nUpgrade: websocket"),
            ("Connection", "Connection: keep-alive, UPGRADE"),
            (
                "Connection",
                "Connection: keep-alive\r\nConnection: upgrade",
            ),
        ] {
            assert!(matches!(with(old, new), Ok(Some(_))), "{new}");
        }
    }

    #[test]
    fn leaves_ordinary_requests_alone() {
        for (old, new) in [
            ("Upgrade", ""),
            ("Upgrade", "Upgrade: h2c"),
            ("Upgrade", "Upgrade: websockets"),
            ("Connection", ""),
            ("Connection", "Connection: keep-alive"),
        ] {
            assert_eq!(with(old, new), Ok(None), "{new}");
        }
        assert_eq!(outcome("GET / HTTP/1.0", &GOOD), Ok(None));
        assert_eq!(outcome("POST / HTTP/1.1", &GOOD), Ok(None));
        assert_eq!(outcome("GET / HTTP/1.1", &GOOD[2..]), Ok(None));
    }

    #[test]
    fn refuses_what_is_no_handshake_by_the_rules() {
        use HandshakeFault as F;
        for (old, new, fault) in [
            ("Sec-WebSocket-V", "", F::UnsupportedVersion),
            (
                "Sec-WebSocket-V",
                "Sec-WebSocket-Version: 8",
                F::UnsupportedVersion,
            ),
            (
                "Sec-WebSocket-V",
                "Sec-WebSocket-Version: 013",
                F::UnsupportedVersion,
            ),
            (
                "Sec-WebSocket-V",
                "Sec-WebSocket-Version: 13, 8",
                F::UnsupportedVersion,
            ),
            (
                "Sec-WebSocket-V",
                "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Version: 13",
                F::UnsupportedVersion,
            ),
            ("Sec-WebSocket-K", "", F::MissingKey),
            ("Sec-WebSocket-K", "Sec-WebSocket-Key:", F::InvalidKey),
            (
                "Sec-WebSocket-K",
                "Sec-WebSocket-Key: dGhlIHNhbXBsZQ==",
                F::InvalidKey,
            ),
            (
                "Sec-WebSocket-K",
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=a",
                F::InvalidKey,
            ),
            (
                "Sec-WebSocket-K",
                "Sec-WebSocket-Key: dGhlIHNhbXBs*SBub25jZQ==",
                F::InvalidKey,
            ),
        ] {
            assert_eq!(with(old, new), Err(fault), "{new}");
        }
        for (more, fault) in [
            (KEY, F::InvalidKey),
            ("Content-Length: 1", F::UnexpectedBody),
            ("Transfer-Encoding: chunked", F::UnexpectedBody),
            (
                "Sec-WebSocket-Protocol: chat, super chat",
                F::InvalidSubprotocol,
            ),
            ("Sec-WebSocket-Protocol: \"chat\"", F::InvalidSubprotocol),
            ("Sec-WebSocket-Extensions: ;", F::InvalidExtensions),
        ] {
            assert_eq!(plus(more), Err(fault), "{more}");
        }
        assert!(matches!(plus("Content-Length: 0"), Ok(Some(_))));
    }

    #[test]
    fn every_fault_has_its_status() {
        for fault in HandshakeFault::ALL {
            let expected = if fault == HandshakeFault::UnsupportedVersion {
                426
            } else {
                400
            };
            assert_eq!(fault.status(), expected, "{fault}");
        }
    }

    #[test]
    fn subprotocols_in_order_over_several_lines() {
        let lines = [&b"chat , superchat"[..], b"", b"v2.x"];
        let found: Vec<_> = subprotocols(lines.into_iter()).collect();
        assert_eq!(found, [&b"chat"[..], b"superchat", b"v2.x"]);
        assert!(matches!(
            plus("Sec-WebSocket-Protocol: chat, v2.x"),
            Ok(Some(_))
        ));
    }

    #[test]
    fn compression_is_agreed_on() {
        let handshake = plus("Sec-WebSocket-Extensions: x-other, permessage-deflate");
        let deflate = handshake.expect("a handshake").expect("one").deflate;
        assert!(deflate.is_some());
    }
}
