//! SCGI: a request's variables in one netstring, then its body as it is.
//!
//! ```text
//!   length (decimal)  ":"
//!   length bytes of: "CONTENT_LENGTH" 0 value 0, name 0 value 0, and again; "SCGI" 0 "1" 0 among them
//!   ","
//!   CONTENT_LENGTH bytes of body
//! ```
//!
//! Decides where a head ends and what its variables are; [`cgi`](crate::cgi) says what they mean. A head is refused
//! that says its body's length twice, or not at once. (Specification: SCGI, revision of 2008-06-23.)

use crate::fault::PeerFault;
use crate::other_protocol;

/// Most digits of a length.
const DIGITS_MAX: usize = 9;

const CONTENT_LENGTH: &[u8] = b"CONTENT_LENGTH";

/// The head of a request at the front of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head<'a> {
    /// Its bytes, with the length and the comma.
    pub len: usize,
    variables: &'a [u8],
}

impl<'a> Head<'a> {
    /// The head at the front of `input`, of at most `limit` bytes of variables; `None`: it is not all there.
    pub fn read(input: &'a [u8], limit: usize) -> Result<Option<Self>, PeerFault> {
        let Some((digits, size)) = netstring_size(input)? else {
            return Ok(None);
        };
        if size > limit {
            return Err(PeerFault::HeadTooLong);
        }
        let start = digits + 1;
        let Some((variables, [end, ..])) = input[start..].split_at_checked(size) else {
            return Ok(None);
        };
        let head = Self {
            len: start + size + 1,
            variables,
        };
        if *end == b',' && head.is_sound() {
            Ok(Some(head))
        } else {
            Err(PeerFault::InvalidScgiHead)
        }
    }

    /// Names and values, in their order.
    pub fn variables(&self) -> Variables<'a> {
        Variables {
            rest: self.variables,
        }
    }

    fn is_sound(&self) -> bool {
        let mut variables = self.variables();
        let first = variables.next();
        let is_first =
            first.is_some_and(|(name, value)| name == CONTENT_LENGTH && !value.is_empty());
        let mut is_scgi = false;
        for (name, value) in variables.by_ref() {
            match name {
                CONTENT_LENGTH | b"" => return false,
                b"SCGI" => is_scgi = value == b"1",
                _ => {}
            }
        }
        is_first && is_scgi && variables.rest.is_empty()
    }
}

/// How many digits the netstring at the front of `input` begins with, and the length they say; `None`: they may go on.
fn netstring_size(input: &[u8]) -> Result<Option<(usize, usize)>, PeerFault> {
    let is_digit = |byte: &u8| byte.is_ascii_digit();
    let digits = input
        .iter()
        .take(DIGITS_MAX + 1)
        .take_while(|byte| is_digit(byte))
        .count();
    match (digits, input) {
        (0, []) => return Ok(None),
        (0, [first, ..]) => {
            return Err(other_protocol::named(*first).unwrap_or(PeerFault::InvalidScgiHead));
        }
        (2.., [b'0', ..]) => return Err(PeerFault::InvalidScgiHead),
        (1..=DIGITS_MAX, _) => {}
        _ => return Err(PeerFault::HeadTooLong),
    }
    match input.get(digits) {
        None => Ok(None),
        Some(b':') => {
            let add = |size: usize, digit: &u8| size * 10 + usize::from(digit - b'0');
            Ok(Some((digits, input[..digits].iter().fold(0, add))))
        }
        Some(_) => Err(PeerFault::InvalidScgiHead),
    }
}

/// Whether this begins as a head does: a length, and the colon behind it.
pub(crate) fn begins_head(input: &[u8]) -> bool {
    matches!(netstring_size(input), Ok(Some(_)))
}

/// The variables of a head.
#[derive(Clone, Debug)]
pub struct Variables<'a> {
    rest: &'a [u8],
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

/// A text with a zero behind it, and what follows.
fn text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(0, bytes)?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 1000;

    fn head(variables: &str) -> Vec<u8> {
        let text = variables.replace(['=', ' '], "\0");
        format!("{}:{text},", text.len()).into_bytes()
    }

    fn refused(input: &[u8]) -> PeerFault {
        Head::read(input, LIMIT).expect_err("refused")
    }

    #[test]
    fn a_head_is_read_at_any_cut() {
        let mut bytes = head("CONTENT_LENGTH=4 SCGI=1 EMPTY= REQUEST_METHOD=POST ");
        let end = bytes.len();
        bytes.extend(b"body");
        for cut in 0..end {
            assert_eq!(Head::read(&bytes[..cut], LIMIT), Ok(None), "{cut}");
        }
        let read = Head::read(&bytes, LIMIT).expect("good").expect("whole");
        assert_eq!(read.len, end);
        let found: Vec<_> = read.variables().collect();
        assert_eq!(
            found,
            [
                (&b"CONTENT_LENGTH"[..], &b"4"[..]),
                (b"SCGI", b"1"),
                (b"EMPTY", b""),
                (b"REQUEST_METHOD", b"POST")
            ]
        );
    }

    #[test]
    fn what_speaks_something_else_is_named_at_once() {
        for (bytes, fault) in [
            (&b"GET / HTTP/1.1\r\n"[..], PeerFault::UnexpectedHttp),
            (&[22, 3, 1], PeerFault::UnexpectedTls),
            (&[1, 1, 0, 1], PeerFault::UnexpectedFastCgi),
            (&[0, 9, 0, 0], PeerFault::UnexpectedUwsgi),
            (b"{", PeerFault::InvalidScgiHead),
        ] {
            assert_eq!(refused(bytes), fault, "{bytes:?}");
        }
    }

    #[test]
    fn a_length_has_one_form() {
        for bytes in [&b"01:"[..], b"00", b"7 :", b"7,", b"0:,", b"0:x"] {
            assert_eq!(refused(bytes), PeerFault::InvalidScgiHead, "{bytes:?}");
        }
        for bytes in [&b"1001:"[..], b"999999999:", b"9999999999"] {
            assert_eq!(refused(bytes), PeerFault::HeadTooLong, "{bytes:?}");
        }
    }

    #[test]
    fn what_is_in_it_must_be_sound() {
        for variables in [
            "",
            "SCGI=1 CONTENT_LENGTH=0 ",
            "CONTENT_LENGTH= SCGI=1 ",
            "CONTENT_LENGTH=0 ",
            "CONTENT_LENGTH=0 SCGI=2 ",
            "CONTENT_LENGTH=0 SCGI=1 CONTENT_LENGTH=5 ",
            "CONTENT_LENGTH=0 SCGI=1 =value ",
            "CONTENT_LENGTH=0 SCGI=1 NAME ",
            "CONTENT_LENGTH=0 SCGI=1 NAME=value",
        ] {
            assert_eq!(
                refused(&head(variables)),
                PeerFault::InvalidScgiHead,
                "{variables}"
            );
        }
        let mut other_end = head("CONTENT_LENGTH=0 SCGI=1 ");
        *other_end.last_mut().expect("a comma") = b';';
        assert_eq!(refused(&other_end), PeerFault::InvalidScgiHead);
    }
}
