//! Fields of answers, as the h2 crate takes them.
//!
//! Most fields of an answer are those of the one before it, of whichever connection: Server, Date, Content-Type, what an
//! application says of caching and security. What was made of a line is kept and given out again, which costs a
//! comparison instead of looking at each byte and a piece of memory of its own.

use std::io;

use http::{HeaderMap, HeaderName, HeaderValue};

/// Lines that are kept: the first of an answer.
const LINES: usize = 24;

/// Longer lines are not kept.
const LINE: usize = 256;

/// What was made of the lines of answers, by their place in them.
#[derive(Debug)]
pub(super) struct KnownFields {
    lines: Vec<Known>,
}

/// A line and what was made of it.
#[derive(Debug)]
struct Known {
    line: Vec<u8>,
    name: HeaderName,
    value: HeaderValue,
}

impl KnownFields {
    pub(super) const fn new() -> Self {
        Self { lines: Vec::new() }
    }

    /// Reads lines. Those without a colon are none.
    pub(super) fn read(&mut self, mut text: &[u8]) -> io::Result<HeaderMap> {
        let mut fields = HeaderMap::new();
        let mut place = 0;
        while !text.is_empty() {
            let (line, rest) = split_line(text);
            text = rest;
            let (name, value) = match self.lines.get(place) {
                Some(known) if known.line == line => (known.name.clone(), known.value.clone()),
                _ => match parse(line)? {
                    Some(field) => self.keep(place, line, field),
                    None => continue,
                },
            };
            place += 1;
            let appended = fields.try_append(name, value);
            appended.map_err(|_| io::ErrorKind::InvalidData)?;
        }
        Ok(fields)
    }

    /// Keeps what was made of a line, for the next answer.
    fn keep(
        &mut self,
        place: usize,
        line: &[u8],
        (name, value): (HeaderName, HeaderValue),
    ) -> (HeaderName, HeaderValue) {
        if place >= LINES || line.len() > LINE {
            return (name, value);
        }
        let known = Known {
            line: line.to_vec(),
            name: name.clone(),
            value: value.clone(),
        };
        if let Some(place) = self.lines.get_mut(place) {
            *place = known;
        } else if place == self.lines.len() {
            // A place is filled before the next, unless the line there is too long.
            self.lines.push(known);
        }
        (name, value)
    }
}

fn parse(line: &[u8]) -> io::Result<Option<(HeaderName, HeaderValue)>> {
    let Some(colon) = memchr::memchr(b':', line) else {
        return Ok(None);
    };
    let name = HeaderName::from_bytes(&line[..colon]);
    let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
    match (name, value) {
        (Ok(name), Ok(value)) => Ok(Some((name, value))),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// The first line without its end, and what follows.
pub(super) fn split_line(text: &[u8]) -> (&[u8], &[u8]) {
    let end = memchr::memchr(b'\n', text).map_or(text.len(), |at| at + 1);
    let (line, rest) = text.split_at(end);
    (line.trim_ascii_end(), rest)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    fn read(known: &mut KnownFields, text: &str) -> Vec<(String, String)> {
        let fields = known.read(text.as_bytes()).expect("fields");
        let pairs = fields.iter().map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.as_str().to_owned(), value)
        });
        pairs.collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        pairs.iter().map(owned).collect()
    }

    #[test]
    fn each_answer_has_its_own_fields_whatever_came_before() {
        let long = "x".repeat(LINE);
        let answers = [
            (
                "Server: a\r\nX-One: 1\r\n\r\n".to_owned(),
                pairs(&[("server", "a"), ("x-one", "1")]),
            ),
            (
                "Server: a\r\nX-One: 2\r\n\r\n".to_owned(),
                pairs(&[("server", "a"), ("x-one", "2")]),
            ),
            ("X-One: 2\r\n\r\n".to_owned(), pairs(&[("x-one", "2")])),
            (
                format!("Long: {long}\r\nServer: a\r\n"),
                pairs(&[("long", &long), ("server", "a")]),
            ),
            (
                "no field\r\nServer: a\r\nA: \r\n".to_owned(),
                pairs(&[("server", "a"), ("a", "")]),
            ),
            (
                "Server: a\r\nX-One: 2\r\nB: 3\r\n".to_owned(),
                pairs(&[("server", "a"), ("x-one", "2"), ("b", "3")]),
            ),
        ];
        let mut known = KnownFields::new();
        for _ in 0..2 {
            for (text, fields) in &answers {
                assert_eq!(read(&mut known, text), *fields, "{text:?}");
            }
        }
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut known = KnownFields::new();
        let mut many = String::new();
        for place in 0..10 * LINES {
            write!(many, "a{place}: {place}\r\n").expect("memory");
        }
        assert_eq!(read(&mut known, &many).len(), 10 * LINES);
        assert_eq!(known.lines.len(), LINES);
        let long = format!("a0: {}\r\n", "x".repeat(10 * LINE));
        read(&mut known, &long);
        assert!(known.lines.iter().all(|known| known.line.len() <= LINE));
    }

    #[test]
    fn what_is_no_field_is_refused_and_not_kept() {
        let mut known = KnownFields::new();
        assert!(known.read(b"a b: c\r\n").is_err());
        assert!(known.read(b"a: c\0\r\n").is_err());
        assert!(known.lines.is_empty());
    }
}
