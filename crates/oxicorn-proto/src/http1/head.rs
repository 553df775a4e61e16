//! A request head: the request line (RFC 9112 section 3), then the header section.
//!
//! Decides where a head starts and ends and puts its pieces into [`HeadParts`]. What the fields
//! mean is [`policy`](super::policy), what the target means [`target`](super::target).

use super::grammar::{CLASS, TOKEN, UNCONVENTIONAL, find_non_graphic};
use super::policy::{Gathered, keeps_name};
use super::request::{Facts, FieldTable, HeadParts, Span, Version};
use super::rules::{Rules, Strictness};
use super::section::{Line, Section, Step};
use super::target::split_target;
use crate::fault::PeerFault;

/// How far a head has been read.
#[derive(Debug)]
pub(super) struct HeadParser {
    stage: Stage,
    gathered: Gathered,
}

#[derive(Debug)]
enum Stage {
    /// No LF of the request line before `searched`.
    RequestLine {
        searched: usize,
    },
    Fields(Section),
}

impl HeadParser {
    pub(super) fn new() -> Self {
        Self {
            stage: Stage::RequestLine { searched: 0 },
            gathered: Gathered::default(),
        }
    }

    /// Reads on; `Some` is the length of the complete head. `input` starts where the head does.
    #[inline]
    pub(super) fn poll(
        &mut self,
        input: &[u8],
        rules: &Rules,
        trusted: bool,
        parts: &mut HeadParts,
    ) -> Result<Option<usize>, PeerFault> {
        if let Stage::RequestLine { searched } = &mut self.stage {
            let Some((start, end)) = find_request_line(input, searched, rules)? else {
                return Ok(None);
            };
            let line = &input[start..end - 2];
            read_request_line(line, start, &rules.strictness, parts)
                .map_err(|fault| bare_cr(line).unwrap_or(fault))?;
            self.stage = Stage::Fields(Section::new(end, 0));
        }
        self.poll_fields(input, rules, trusted, parts)
    }

    #[inline]
    fn poll_fields(
        &mut self,
        input: &[u8],
        rules: &Rules,
        trusted: bool,
        parts: &mut HeadParts,
    ) -> Result<Option<usize>, PeerFault> {
        let Stage::Fields(section) = &mut self.stage else {
            return Ok(None);
        };
        let HeadParts { fields, facts } = parts;
        loop {
            match section.step(input, rules, &mut fields.scratch)? {
                Step::NeedMore => return Ok(None),
                Step::Field(line) => {
                    take_field(&mut self.gathered, fields, input, line, rules, trusted)?;
                }
                Step::End(end) => {
                    let value = |span: Span| span.of(input, &fields.scratch);
                    self.gathered.conclude(facts, &rules.limits, value)?;
                    return Ok(Some(end));
                }
            }
        }
    }

    /// Fields so far: they count against the trailers' limit too.
    pub(super) fn field_count(&self) -> usize {
        match &self.stage {
            Stage::RequestLine { .. } => 0,
            Stage::Fields(section) => section.count(),
        }
    }
}

#[inline]
fn take_field(
    gathered: &mut Gathered,
    fields: &mut FieldTable,
    input: &[u8],
    line: Line,
    rules: &Rules,
    trusted: bool,
) -> Result<(), PeerFault> {
    let name = &input[line.name.0..line.name.1];
    if !keeps_name(name, line.classes, &rules.strictness, trusted)? {
        return Ok(());
    }
    gathered.take(name, line.value.of(input, &fields.scratch), line.value)?;
    fields
        .spans
        .push((Span::new(line.name.0, line.name.1), line.value));
    Ok(())
}

/// Where the request line starts and the position after its LF. One empty line may stand before it
/// (RFC 9112 section 2.2: old clients end a body with one).
#[inline]
fn find_request_line(
    input: &[u8],
    searched: &mut usize,
    rules: &Rules,
) -> Result<Option<(usize, usize)>, PeerFault> {
    let Some(start) = find_line_start(input)? else {
        return Ok(None);
    };
    let from = start.max(*searched);
    let bound = start
        .saturating_add(rules.limits.request_line)
        .saturating_add(2);
    let Some(at) = memchr::memchr(b'\n', &input[from..]) else {
        *searched = input.len();
        return if input.len() >= bound {
            Err(PeerFault::RequestLineTooLong)
        } else {
            Ok(None)
        };
    };
    let end = from + at + 1;
    if end > bound {
        return Err(PeerFault::RequestLineTooLong);
    }
    if input.get(end - 2) != Some(&b'\r') {
        return Err(PeerFault::BareLineFeed);
    }
    Ok(Some((start, end)))
}

/// Judges the first byte as soon as it is there: what is not HTTP at all (a TLS handshake on a
/// plain listener) need not send a line's worth first.
#[inline]
fn find_line_start(input: &[u8]) -> Result<Option<usize>, PeerFault> {
    let start = if input.starts_with(b"\r\n") { 2 } else { 0 };
    match &input[start..] {
        [] | [b'\r'] => Ok(None),
        [b'\r', b'\n', ..] => Err(PeerFault::InvalidRequestLine),
        [b'\r', ..] => Err(PeerFault::BareCarriageReturn),
        [b'\n', ..] => Err(PeerFault::BareLineFeed),
        [first, ..] if CLASS[usize::from(*first)] & TOKEN == 0 => Err(PeerFault::InvalidMethod),
        _ => Ok(Some(start)),
    }
}

/// A CR inside of a line goes before whatever else is wrong with it. (No good line has one.)
fn bare_cr(line: &[u8]) -> Option<PeerFault> {
    memchr::memchr(b'\r', line).map(|_| PeerFault::BareCarriageReturn)
}

/// `method SP request-target SP HTTP-version`, one space each (RFC 9112 section 3).
#[inline]
fn read_request_line(
    line: &[u8],
    start: usize,
    strictness: &Strictness,
    parts: &mut HeadParts,
) -> Result<(), PeerFault> {
    let method_end = method_end(line, strictness)?;
    let from = method_end + 1;
    let to = find_non_graphic(line, from).ok_or(PeerFault::InvalidRequestLine)?;
    if line[to] != b' ' {
        return Err(PeerFault::InvalidRequestTarget);
    }
    let HeadParts { fields, facts } = parts;
    facts.version = read_version(&line[to + 1..], strictness)?;
    facts.method = method_span(&line[..method_end], start, strictness, fields);
    let folded = strictness.casefold_http_method;
    let method = if folded {
        &fields.scratch[..]
    } else {
        &line[..method_end]
    };
    read_target(method, &line[from..to], start + from, facts)?;
    facts.protocol = Span::new(start + to + 1, start + line.len());
    facts.request_line = Span::new(start, start + line.len());
    Ok(())
}

/// The space after the method. A token (RFC 9110 section 9.1); unless permitted, one of the shape
/// all registered methods have.
#[inline]
fn method_end(line: &[u8], strictness: &Strictness) -> Result<usize, PeerFault> {
    let mut classes = 0;
    let mut end = 0;
    while let Some(&byte) = line.get(end) {
        let class = CLASS[usize::from(byte)];
        if class & TOKEN == 0 {
            break;
        }
        classes |= class;
        end += 1;
    }
    match line.get(end) {
        None => return Err(PeerFault::InvalidRequestLine),
        Some(b' ') if end > 0 => {}
        Some(_) => return Err(PeerFault::InvalidMethod),
    }
    let conventional = classes & UNCONVENTIONAL == 0 && (3..=20).contains(&end);
    if conventional || strictness.permit_unconventional_http_method {
        Ok(end)
    } else {
        Err(PeerFault::InvalidMethod)
    }
}

/// RFC 9112 section 2.3, RFC 9110 section 2.5.
#[inline]
fn read_version(version: &[u8], strictness: &Strictness) -> Result<Version, PeerFault> {
    let &[
        b'H',
        b'T',
        b'T',
        b'P',
        b'/',
        major @ b'0'..=b'9',
        b'.',
        minor @ b'0'..=b'9',
    ] = version
    else {
        let spaces = version.contains(&b' ');
        return Err(if spaces {
            PeerFault::InvalidRequestLine
        } else {
            PeerFault::InvalidVersion
        });
    };
    match (major, minor) {
        (b'1', b'0') => Ok(Version::Http10),
        (b'1', _) => Ok(Version::Http11),
        _ if !strictness.permit_unconventional_http_version => Err(PeerFault::UnsupportedVersion),
        (b'0', _) => Ok(Version::Http10),
        _ => Ok(Version::Http11),
    }
}

#[inline]
fn read_target(
    method: &[u8],
    target: &[u8],
    offset: usize,
    facts: &mut Facts,
) -> Result<(), PeerFault> {
    let split = split_target(method, target)?;
    let place = |range: std::ops::Range<usize>| Span::new(offset + range.start, offset + range.end);
    facts.is_head = method == b"HEAD";
    facts.is_connect = method == b"CONNECT";
    facts.request_target = place(0..target.len());
    facts.path = place(split.path);
    facts.query_string = place(split.query);
    if let Some(authority) = split.authority {
        facts.authority = Some(place(authority.range));
        facts.authority_is_https = authority.https;
    }
    Ok(())
}

#[inline]
fn method_span(
    method: &[u8],
    start: usize,
    strictness: &Strictness,
    fields: &mut FieldTable,
) -> Span {
    if !strictness.casefold_http_method {
        return Span::new(start, start + method.len());
    }
    let scratch = &mut fields.scratch;
    let from = scratch.len();
    scratch.extend(method.iter().map(u8::to_ascii_uppercase));
    Span::in_scratch(from, scratch.len())
}
