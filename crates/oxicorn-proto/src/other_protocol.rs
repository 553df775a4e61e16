//! What a client speaks that does not speak what its address does, as its first bytes tell.
//!
//! Decides by the first byte where it can, else by the shortest beginning that leaves no doubt, so that the same bytes
//! are the same fault however they are cut.

use crate::fault::PeerFault;
use crate::scgi;

/// A record of TLS with a handshake in it (RFC 8446 section 5.1).
const TLS_HANDSHAKE: u8 = 22;
/// A uwsgi packet with a request in it.
const UWSGI_REQUEST: u8 = 0;
/// A record of `FastCGI`'s only version.
const FASTCGI_VERSION: u8 = 1;

/// The fault of a client that begins with `first`, if it is known what it speaks; `first` begins nothing of what is
/// spoken here.
pub(crate) const fn named(first: u8) -> Option<PeerFault> {
    match first {
        TLS_HANDSHAKE => Some(PeerFault::UnexpectedTls),
        UWSGI_REQUEST => Some(PeerFault::UnexpectedUwsgi),
        FASTCGI_VERSION => Some(PeerFault::UnexpectedFastCgi),
        // The length of its head.
        b'0'..=b'9' => Some(PeerFault::UnexpectedScgi),
        b'A'..=b'Z' => Some(PeerFault::UnexpectedHttp),
        _ => None,
    }
}

/// Whether a client began with what no log can show.
pub fn is_binary(input: &[u8]) -> bool {
    match input.first() {
        Some(&(TLS_HANDSHAKE | UWSGI_REQUEST | FASTCGI_VERSION)) => true,
        // Texts with zeros between them.
        Some(b'0'..=b'9') => scgi::begins_head(input),
        _ => false,
    }
}
