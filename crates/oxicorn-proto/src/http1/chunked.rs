//! The chunked coding (RFC 9112 section 7.1), taken apart.
//!
//! Decides where each chunk and the trailer section start and end. Knows no event: it says what
//! stands next in the input and how much that used up.
//!
//! Theory of operation: a chunk-size line is judged when it is complete or too long, the two bytes
//! after chunk data one by one, data as it comes.
//!
//! ```text
//!   Size --size > 0--> Data --remaining = 0--> DataEnd --CRLF--> Size
//!   Size --size = 0--> Trailers --empty line--> (done)
//! ```

use std::ops::Range;

use super::grammar::{CLASS, TOKEN, is_field_value};
use super::policy::{is_forbidden_trailer, keeps_name};
use super::rules::{Limits, Rules};
use super::scan::find_line_feed;
use super::section::Section;
use crate::fault::PeerFault;
use crate::message::Trailers;
use crate::percent::hex_value;

/// A chunk size has at most so many digits: more do not fit 64 bits, or are padding.
const SIZE_DIGITS_MAX: usize = 16;

/// How far a chunked body has been read.
#[derive(Debug)]
pub(super) struct ChunkDecoder {
    state: State,
    /// Fields of the head: trailers count on from there.
    field_count: usize,
    /// Bytes of data announced so far.
    body: u64,
    /// Bytes of chunk extensions so far.
    extensions: u64,
}

#[derive(Debug)]
enum State {
    /// No LF of the chunk-size line before `searched`.
    Size {
        searched: usize,
    },
    Data {
        remaining: u64,
    },
    DataEnd,
    Trailers(Section),
}

/// What stood next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decoded {
    /// Nothing whole; but `consumed` bytes are done with.
    NeedMore { consumed: usize },
    /// Data; everything up to its end is consumed.
    Data(Range<usize>),
    /// The end of the body, after `consumed` bytes in which the trailers are.
    End { consumed: usize },
}

impl ChunkDecoder {
    pub(super) const fn new(field_count: usize) -> Self {
        Self {
            state: State::Size { searched: 0 },
            field_count,
            body: 0,
            extensions: 0,
        }
    }

    pub(super) fn poll(
        &mut self,
        input: &[u8],
        rules: &Rules,
        trailers: &mut Trailers,
    ) -> Result<Decoded, PeerFault> {
        let mut at = 0;
        loop {
            match &mut self.state {
                State::DataEnd => match take_data_end(input, at)? {
                    Some(next) => {
                        at = next;
                        self.state = State::Size { searched: 0 };
                    }
                    None => return Ok(Decoded::NeedMore { consumed: at }),
                },
                State::Size { searched } => {
                    let Some(end) = find_size_line(input, at, searched, &rules.limits)? else {
                        *searched -= at;
                        return Ok(Decoded::NeedMore { consumed: at });
                    };
                    self.take_size_line(&input[at..end - 2], end, rules)?;
                    at = end;
                }
                State::Data { remaining } => {
                    let range = data_range(at, input.len(), *remaining);
                    if range.is_empty() {
                        return Ok(Decoded::NeedMore { consumed: at });
                    }
                    *remaining -= range.len() as u64;
                    if *remaining == 0 {
                        self.state = State::DataEnd;
                    }
                    return Ok(Decoded::Data(range));
                }
                State::Trailers(section) => {
                    let end = poll_trailers(section, input, rules, trailers)?;
                    return Ok(self.after_trailers(end, at, trailers));
                }
            }
        }
    }

    fn take_size_line(&mut self, line: &[u8], end: usize, rules: &Rules) -> Result<(), PeerFault> {
        let fault = |fault| {
            if line.contains(&b'\r') {
                PeerFault::BareCarriageReturn
            } else {
                fault
            }
        };
        let (size, digits) = read_size(line).ok_or_else(|| fault(PeerFault::InvalidChunkSize))?;
        check_extensions(&line[digits..]).map_err(fault)?;
        self.extensions = self.extensions.saturating_add((line.len() - digits) as u64);
        if self.extensions > rules.limits.chunk_extensions {
            return Err(PeerFault::ChunkLineTooLong);
        }
        self.body = self.body.saturating_add(size);
        if rules.limits.body.is_some_and(|limit| self.body > limit) {
            return Err(PeerFault::ContentTooLarge);
        }
        self.state = if size == 0 {
            State::Trailers(Section::new(end, self.field_count))
        } else {
            State::Data { remaining: size }
        };
        Ok(())
    }

    /// What comes before an unfinished trailer section is given back at once, the section itself
    /// stays in the input and is read anew from its front: its positions hold for one input only.
    fn after_trailers(
        &mut self,
        end: Option<usize>,
        at: usize,
        trailers: &mut Trailers,
    ) -> Decoded {
        if let Some(consumed) = end {
            return Decoded::End { consumed };
        }
        if at > 0 {
            *trailers = None;
            self.state = State::Trailers(Section::new(0, self.field_count));
        }
        Decoded::NeedMore { consumed: at }
    }
}

/// CRLF after the data, judged byte by byte.
fn take_data_end(input: &[u8], at: usize) -> Result<Option<usize>, PeerFault> {
    match &input[at..] {
        [] | [b'\r'] => Ok(None),
        [b'\r', b'\n', ..] => Ok(Some(at + 2)),
        _ => Err(PeerFault::MissingChunkTerminator),
    }
}

/// The position after the LF of the line that starts at `start`.
fn find_size_line(
    input: &[u8],
    start: usize,
    searched: &mut usize,
    limits: &Limits,
) -> Result<Option<usize>, PeerFault> {
    let from = start.max(*searched);
    let bound = start.saturating_add(limits.chunk_line);
    let Some(end) = find_line_feed(input, from) else {
        *searched = from.max(input.len());
        return if input.len() >= bound {
            Err(PeerFault::ChunkLineTooLong)
        } else {
            Ok(None)
        };
    };
    if end > bound {
        return Err(PeerFault::ChunkLineTooLong);
    }
    if end < start + 2 || input[end - 2] != b'\r' {
        return Err(PeerFault::BareLineFeed);
    }
    Ok(Some(end))
}

/// `1*HEXDIG` at the front: the size and how many digits it has. No sign, prefix or space.
fn read_size(line: &[u8]) -> Option<(u64, usize)> {
    let mut size = 0_u64;
    let mut digits = 0;
    while let Some(value) = line.get(digits).and_then(|&digit| hex_value(digit)) {
        size = size << 4 | u64::from(value);
        digits += 1;
    }
    (1..=SIZE_DIGITS_MAX)
        .contains(&digits)
        .then_some((size, digits))
}

fn data_range(at: usize, len: usize, remaining: u64) -> Range<usize> {
    let there = len.saturating_sub(at);
    let take = usize::try_from(remaining).map_or(there, |remaining| there.min(remaining));
    at..at + take
}

/// `chunk-ext = *( BWS ";" BWS name [ BWS "=" BWS value ] )` (RFC 9112 section 7.1.1). Nothing of
/// it is used, but what is not of this form may be a line end in other eyes.
fn check_extensions(mut rest: &[u8]) -> Result<(), PeerFault> {
    if !rest.is_empty() && skip_space(rest).first() != Some(&b';') {
        return Err(PeerFault::InvalidChunkSize);
    }
    while !rest.is_empty() {
        rest = read_extension(rest).ok_or(PeerFault::InvalidChunkExtension)?;
    }
    Ok(())
}

/// One extension; what follows it.
fn read_extension(rest: &[u8]) -> Option<&[u8]> {
    let name = skip_space(skip_space(rest).strip_prefix(b";")?);
    let rest = skip_token(name)?;
    match skip_space(rest).strip_prefix(b"=") {
        Some(value) => skip_value(skip_space(value)),
        None => Some(rest),
    }
}

fn skip_space(mut rest: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', after @ ..] = rest {
        rest = after;
    }
    rest
}

fn skip_token(rest: &[u8]) -> Option<&[u8]> {
    let is_token = |byte: &u8| CLASS[usize::from(*byte)] & TOKEN != 0;
    let len = rest
        .iter()
        .position(|byte| !is_token(byte))
        .unwrap_or(rest.len());
    (len > 0).then(|| &rest[len..])
}

/// A token or a quoted string (RFC 9110 section 5.6.4).
fn skip_value(rest: &[u8]) -> Option<&[u8]> {
    let Some(mut quoted) = rest.strip_prefix(b"\"") else {
        return skip_token(rest);
    };
    loop {
        quoted = match quoted {
            [b'"', after @ ..] => return Some(after),
            [b'\\', byte, after @ ..] | [byte, after @ ..] if is_field_value(&[*byte]) => after,
            _ => return None,
        };
    }
}

/// Reads trailers; the position after the section once it is complete.
fn poll_trailers(
    section: &mut Section,
    input: &[u8],
    rules: &Rules,
    trailers: &mut Trailers,
) -> Result<Option<usize>, PeerFault> {
    loop {
        if let Some(end) = section.end(input, rules) {
            return Ok(Some(end));
        }
        let table = trailers.get_or_insert_default();
        let Some(line) = section.line(input, rules, &mut table.scratch)? else {
            return Ok(None);
        };
        if is_forbidden_trailer(line.name) {
            return Err(PeerFault::ForbiddenTrailer);
        }
        // No trailer is believed more than another, whoever sent it.
        if keeps_name(line.name, line.classes, &rules.strictness, false)? {
            table.spans.push(line.spans());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(read_size(b"0"), Some((0, 1)));
        assert_eq!(read_size(b"aF;x"), Some((0xaf, 2)));
        assert_eq!(read_size(b"ffffffffffffffff"), Some((u64::MAX, 16)));
        for bad in [
            &b""[..],
            b"g",
            b"-1",
            b"+1",
            b" 1",
            b";a",
            b"10000000000000000",
            b"00000000000000001",
        ] {
            assert_eq!(read_size(bad), None, "{}", bad.escape_ascii());
        }
        assert_eq!(
            read_size(b"0x10"),
            Some((0, 1)),
            "the x is then no extension"
        );
    }

    #[test]
    fn extensions() {
        for good in [
            &b""[..],
            b";a",
            b";a=b",
            b" ; a = b",
            b";a;b;c=\"d;e\"",
            b";a=\"\\\"\"",
            b"\t;a=\"\xe4 \t\"",
        ] {
            assert_eq!(check_extensions(good), Ok(()), "{}", good.escape_ascii());
        }
        for bad in [
            &b";"[..],
            b";;",
            b";a=",
            b";a=\"",
            b";a=\"b",
            b";a=\"\\\"",
            b";a b",
            b";a=\"\x00\"",
            b";a=b;",
        ] {
            assert_eq!(
                check_extensions(bad),
                Err(PeerFault::InvalidChunkExtension),
                "{}",
                bad.escape_ascii()
            );
        }
        for bad in [&b" "[..], b"x10", b"_", b" 1"] {
            assert_eq!(
                check_extensions(bad),
                Err(PeerFault::InvalidChunkSize),
                "{}",
                bad.escape_ascii()
            );
        }
    }
}
