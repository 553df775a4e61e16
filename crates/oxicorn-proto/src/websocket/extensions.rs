//! Which extensions are agreed on: permessage-deflate (RFC 7692), or none.
//!
//! The client offers a list in its order of preference. The first offer that we know and can serve
//! is taken, all others are passed over (RFC 7692 section 5.1); only a header against the grammar
//! is a fault.

use super::fault::HandshakeFault;
use crate::http1::grammar::{decimal, is_token, list, trim};

const NAME: &[u8] = b"permessage-deflate";

/// Window bits without a word about them.
const WINDOW_BITS_MAX: u8 = 15;

/// Fewest window bits our compressor has. RFC 7692 allows 8, which zlib cannot do for raw data; an
/// offer that insists on it is passed over.
const WINDOW_BITS_MIN: u8 = 9;

/// What we are willing to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compression {
    /// Keeps what was sent and received as context for what follows. Without it a message is
    /// compressed by itself, and between messages there is nothing to keep.
    pub keep_context: bool,
}

/// What was agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deflate {
    /// Our messages refer to earlier ones.
    pub(super) server_context: bool,
    /// The client's messages refer to earlier ones.
    pub(super) client_context: bool,
    /// The window our messages are compressed with.
    pub(super) server_bits: u8,
    /// The client asked for that window, and must be told that it is granted (RFC 7692 section
    /// 7.1.2.1).
    pub(super) bits_asked: bool,
}

impl Deflate {
    /// The value of Sec-WebSocket-Extensions that says so.
    pub fn response(&self) -> String {
        let mut value = String::from("permessage-deflate");
        if !self.server_context {
            value.push_str("; server_no_context_takeover");
        }
        if !self.client_context {
            value.push_str("; client_no_context_takeover");
        }
        if self.bits_asked {
            value.push_str("; server_max_window_bits=");
            value.push_str(&self.server_bits.to_string());
        }
        value
    }
}

/// Chooses among the offers in the values of Sec-WebSocket-Extensions.
pub(super) fn negotiate<'a>(
    values: impl Iterator<Item = &'a [u8]>,
    ours: Option<Compression>,
) -> Result<Option<Deflate>, HandshakeFault> {
    let mut agreed = None;
    // Empty elements of a list do not count (RFC 9110 section 5.6.1).
    for offer in values.flat_map(list).filter(|offer| !offer.is_empty()) {
        let mut parts = offer.split(|&byte| byte == b';').map(trim);
        let name = parts.next().unwrap_or_default();
        if !is_token(name) {
            return Err(HandshakeFault::InvalidExtensions);
        }
        let wanted = ours.filter(|_| agreed.is_none() && name == NAME);
        let mut offered = wanted.map(Offer::new);
        for part in parts {
            let (parameter, value) = parse_parameter(part)?;
            offered = offered.and_then(|offer| offer.take(parameter, value));
        }
        agreed = agreed.or(offered.map(Offer::agree));
    }
    Ok(agreed)
}

/// `token [ "=" ( token / quoted-string ) ]`, where the quoted string holds a token (RFC 6455
/// section 9.1), so that no comma or semicolon can hide in it.
fn parse_parameter(part: &[u8]) -> Result<(&[u8], Option<&[u8]>), HandshakeFault> {
    let mut sides = part.splitn(2, |&byte| byte == b'=').map(trim);
    let name = sides.next().unwrap_or_default();
    let value = sides.next().map(|value| {
        value
            .strip_prefix(b"\"")
            .and_then(|value| value.strip_suffix(b"\""))
            .unwrap_or(value)
    });
    if is_token(name) && value.is_none_or(is_token) {
        Ok((name, value))
    } else {
        Err(HandshakeFault::InvalidExtensions)
    }
}

/// One offer of permessage-deflate.
struct Offer {
    ours: Compression,
    seen: [bool; 4],
    server_bits: u8,
}

const SERVER_NO_CONTEXT: usize = 0;
const CLIENT_NO_CONTEXT: usize = 1;
const SERVER_BITS: usize = 2;
const CLIENT_BITS: usize = 3;

impl Offer {
    const fn new(ours: Compression) -> Self {
        Self {
            ours,
            seen: [false; 4],
            server_bits: WINDOW_BITS_MAX,
        }
    }

    /// Takes a parameter; `None`: an offer with it is passed over (RFC 7692 section 7.1).
    fn take(mut self, name: &[u8], value: Option<&[u8]>) -> Option<Self> {
        let parameter = match (name, value) {
            (b"server_no_context_takeover", None) => SERVER_NO_CONTEXT,
            (b"client_no_context_takeover", None) => CLIENT_NO_CONTEXT,
            (b"server_max_window_bits", Some(bits)) => {
                self.server_bits = window_bits(bits).filter(|bits| *bits >= WINDOW_BITS_MIN)?;
                SERVER_BITS
            }
            // Whatever the client's window is, ours to inflate with is as large.
            (b"client_max_window_bits", None) => CLIENT_BITS,
            (b"client_max_window_bits", Some(bits)) => {
                window_bits(bits)?;
                CLIENT_BITS
            }
            _ => return None,
        };
        let twice = std::mem::replace(&mut self.seen[parameter], true);
        (!twice).then_some(self)
    }

    fn agree(self) -> Deflate {
        let keeps = self.ours.keep_context;
        Deflate {
            server_context: keeps && !self.seen[SERVER_NO_CONTEXT],
            client_context: keeps && !self.seen[CLIENT_NO_CONTEXT],
            server_bits: self.server_bits,
            bits_asked: self.seen[SERVER_BITS],
        }
    }
}

/// 8 to 15, without a leading zero (RFC 7692 section 7.1.2).
fn window_bits(digits: &[u8]) -> Option<u8> {
    let bits = decimal(digits).flatten()?;
    let bits = u8::try_from(bits)
        .ok()
        .filter(|bits| (8..=15).contains(bits))?;
    (digits.len() == if bits < 10 { 1 } else { 2 }).then_some(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(offers: &str, keep_context: bool) -> Result<Option<String>, HandshakeFault> {
        let ours = Some(Compression { keep_context });
        let agreed = negotiate([offers.as_bytes()].into_iter(), ours)?;
        Ok(agreed.map(|agreed| agreed.response()))
    }

    #[test]
    fn offers_and_answers() {
        for (offers, kept, own) in [
            ("permessage-deflate", "", "sc"),
            ("permessage-deflate; client_max_window_bits", "", "sc"),
            ("permessage-deflate; client_max_window_bits=8", "", "sc"),
            (
                "permessage-deflate; client_max_window_bits=\"10\"",
                "",
                "sc",
            ),
            ("permessage-deflate; server_no_context_takeover", "s", "sc"),
            ("permessage-deflate;client_no_context_takeover", "c", "sc"),
            (
                "permessage-deflate; server_max_window_bits=15",
                "15",
                "sc15",
            ),
            ("permessage-deflate; server_max_window_bits=9", "9", "sc9"),
            (
                "permessage-deflate; server_max_window_bits=10; server_no_context_takeover; client_no_context_takeover",
                "sc10",
                "sc10",
            ),
            // What we cannot do is passed over for what we can.
            (
                "permessage-deflate; server_max_window_bits=8, permessage-deflate; server_no_context_takeover",
                "s",
                "sc",
            ),
            ("x-webkit-deflate-frame, , permessage-deflate", "", "sc"),
        ] {
            let expected = |letters: &str| {
                let mut value = "permessage-deflate".to_owned();
                if letters.contains('s') {
                    value += "; server_no_context_takeover";
                }
                if letters.contains('c') {
                    value += "; client_no_context_takeover";
                }
                let bits = letters.trim_start_matches(['s', 'c']);
                if !bits.is_empty() {
                    value += "; server_max_window_bits=";
                    value += bits;
                }
                Ok(Some(value))
            };
            assert_eq!(answer(offers, true), expected(kept), "{offers}");
            assert_eq!(answer(offers, false), expected(own), "{offers}");
        }
    }

    #[test]
    fn offers_that_cannot_be_served_are_passed_over() {
        for offers in [
            "",
            "x-webkit-deflate-frame",
            "permessage-deflate; server_max_window_bits=8",
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; server_max_window_bits=16",
            "permessage-deflate; server_max_window_bits=010",
            "permessage-deflate; client_max_window_bits=7",
            "permessage-deflate; client_max_window_bits=x",
            "permessage-deflate; server_no_context_takeover=1",
            "permessage-deflate; unheard_of",
            "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
        ] {
            assert_eq!(answer(offers, true), Ok(None), "{offers}");
        }
    }

    #[test]
    fn headers_against_the_grammar_are_refused() {
        for offers in [
            ";",
            "permessage-deflate;",
            "permessage-deflate; =1",
            "permessage-deflate; a=",
            "permessage-deflate; a=\"b",
            "permessage-deflate; a=\"b c\"",
            "permessage deflate",
            "a=b",
        ] {
            let refused = Err(HandshakeFault::InvalidExtensions);
            assert_eq!(answer(offers, true), refused, "{offers}");
        }
    }

    #[test]
    fn without_compression_nothing_is_agreed_on() {
        let offers = [&b"permessage-deflate"[..]];
        assert_eq!(negotiate(offers.into_iter(), None), Ok(None));
    }
}
