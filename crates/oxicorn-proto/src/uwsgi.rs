//! The uwsgi protocol: a request's variables in one packet, then its body as it is.
//!
//! ```text
//!   modifier1 (1 byte, 0)   size (2, little endian)   modifier2 (1, 0)
//!   size bytes of: length (2, LE) name, length (2, LE) value, and again
//!   CONTENT_LENGTH bytes of body
//! ```
//!
//! Decides where a packet ends and what its variables are; [`cgi`](crate::cgi) says what they mean. Only
//! requests to an application are packets here (modifiers 0 and 0); the many other modifiers of the
//! protocol (spooler, cache, signals) are refused by name.

use crate::fault::PeerFault;
use crate::other_protocol;

/// Bytes before the variables.
const HEADER: usize = 4;

/// A packet at the front of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Its bytes with the header.
    pub len: usize,
    variables: &'a [u8],
}

impl<'a> Packet<'a> {
    /// The packet at the front of `input`; `None`: it is not all there.
    pub fn read(input: &'a [u8]) -> Result<Option<Self>, PeerFault> {
        // What cannot be a packet is refused by its first byte: a browser's `GET ` would be one of 21,573
        // bytes that never come.
        if let Some(&modifier) = input.first().filter(|&&modifier| modifier != 0) {
            return Err(other_protocol::named(modifier).unwrap_or(PeerFault::UnsupportedModifier));
        }
        if input.get(3).is_some_and(|&modifier| modifier != 0) {
            return Err(PeerFault::UnsupportedModifier);
        }
        let Some(&[_, low, high, _]) = input.first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let len = HEADER + usize::from(u16::from_le_bytes([low, high]));
        let Some(variables) = input.get(HEADER..len) else {
            return Ok(None);
        };
        let packet = Self { len, variables };
        if packet.variables().fit_together() {
            Ok(Some(packet))
        } else {
            Err(PeerFault::InvalidPacket)
        }
    }

    /// Names and values, in their order.
    pub fn variables(&self) -> Variables<'a> {
        Variables {
            rest: self.variables,
        }
    }
}

/// The variables of a packet.
#[derive(Clone, Debug)]
pub struct Variables<'a> {
    rest: &'a [u8],
}

impl Variables<'_> {
    fn fit_together(mut self) -> bool {
        while self.next().is_some() {}
        self.rest.is_empty()
    }
}

impl<'a> Iterator for Variables<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (name, rest) = text(self.rest)?;
        let (value, rest) = text(rest)?;
        self.rest = rest;
        Some((name, value))
    }
}

/// A text with its length before it, and what follows.
fn text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::from(u16::from_le_bytes(*len)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(variables: &[(&str, &str)]) -> Vec<u8> {
        let mut body = Vec::new();
        for text in variables.iter().flat_map(|(name, value)| [name, value]) {
            body.extend_from_slice(&u16::try_from(text.len()).expect("short").to_le_bytes());
            body.extend_from_slice(text.as_bytes());
        }
        let size = u16::try_from(body.len()).expect("short").to_le_bytes();
        [&[0, size[0], size[1], 0][..], &body].concat()
    }

    #[test]
    fn a_packet_is_read_at_any_cut() {
        let bytes = [
            packet(&[("REQUEST_METHOD", "GET"), ("EMPTY", "")]),
            b"body".to_vec(),
        ]
        .concat();
        let end = bytes.len() - 4;
        for cut in 0..end {
            assert_eq!(Packet::read(&bytes[..cut]), Ok(None), "{cut}");
        }
        let read = Packet::read(&bytes).expect("good").expect("whole");
        assert_eq!(read.len, end);
        let found: Vec<_> = read.variables().collect();
        assert_eq!(
            found,
            [(&b"REQUEST_METHOD"[..], &b"GET"[..]), (b"EMPTY", b"")]
        );
    }

    #[test]
    fn an_empty_packet_is_one() {
        let read = Packet::read(&[0, 0, 0, 0]).expect("good").expect("whole");
        assert_eq!((read.len, read.variables().count()), (4, 0));
    }

    #[test]
    fn other_modifiers_are_refused_at_once() {
        for (bytes, fault) in [
            (&b"GET / HTTP/1.1\r\n"[..], PeerFault::UnexpectedHttp),
            (&[22, 3, 1], PeerFault::UnexpectedTls),
            (&[1, 1, 0, 1], PeerFault::UnexpectedFastCgi),
            (&[5], PeerFault::UnsupportedModifier),
            (&[0, 1, 0, 7], PeerFault::UnsupportedModifier),
        ] {
            assert_eq!(Packet::read(bytes), Err(fault), "{bytes:?}");
        }
    }

    #[test]
    fn lengths_must_fit() {
        let mut whole = packet(&[("NAME", "value")]);
        // One byte more than the last value says.
        whole[1] += 1;
        whole.push(b'!');
        assert_eq!(Packet::read(&whole), Err(PeerFault::InvalidPacket));
        // A value that claims more than there is.
        let mut short = packet(&[("NAME", "value")]);
        short[4 + 2 + 4] = 9;
        assert_eq!(Packet::read(&short), Err(PeerFault::InvalidPacket));
        // A name without a value.
        assert_eq!(
            Packet::read(&[0, 3, 0, 0, 1, 0, b'A']),
            Err(PeerFault::InvalidPacket)
        );
    }
}
