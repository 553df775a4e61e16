//! A request head: the request line (RFC 9112 section 3), then the header section.
//!
//! Decides where a head starts and ends and puts its pieces into [`HeadParts`]. What the fields
//! mean is [`policy`](super::policy), what the target means [`target`](super::target).

use super::grammar::{CLASS, TOKEN, UNCONVENTIONAL, token_classes};
use super::policy::{Gathered, keeps_name};
use super::request::{Facts, FieldTable, HeadParts, Span, Version};
use super::rules::{Rules, Strictness};
use super::scan::{NotGraphic, PathEnd, find, find_line_feed};
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
            let Some(line) = find_request_line(input, searched, rules)? else {
                return Ok(None);
            };
            let end = line.start + line.bytes.len() + 2;
            line.read(&rules.strictness, parts)
                .map_err(|fault| bare_cr(line.bytes).unwrap_or(fault))?;
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
    gathered.take(name, || line.value.of(input, &fields.scratch), line.value)?;
    fields
        .spans
        .push((Span::new(line.name.0, line.name.1), line.value));
    Ok(())
}

/// A complete request line without its CRLF.
#[derive(Clone, Copy)]
struct RequestLine<'a> {
    bytes: &'a [u8],
    /// Its place in the input.
    start: usize,
    marks: Option<Marks>,
}

/// Where the parts of a request line end.
#[derive(Clone, Copy)]
struct Marks {
    /// The first byte that cannot be in a method: the space, or a fault.
    method: usize,
    /// The first byte after it that ends a path.
    path: usize,
    /// The first byte after it that cannot be in a target: the space, or a fault.
    target: usize,
}

/// The request line, once it is complete. One empty line may stand before it (RFC 9112 section 2.2:
/// old clients end a body with one).
#[inline]
fn find_request_line<'a>(
    input: &'a [u8],
    searched: &mut usize,
    rules: &Rules,
) -> Result<Option<RequestLine<'a>>, PeerFault> {
    let start: usize = if input.starts_with(b"\r\n") { 2 } else { 0 };
    let bound = start
        .saturating_add(rules.limits.request_line)
        .saturating_add(2);
    // Tried once: of a line that comes byte by byte only what is new is looked at.
    if *searched == 0
        && let Some(line) = fast_request_line(input, start)
        && start + line.bytes.len() + 2 <= bound
    {
        return Ok(Some(line));
    }
    slow_request_line(input, start, bound, searched)
}

/// A line with two spaces and a version of the right shape, in one walk.
#[inline]
fn fast_request_line(input: &[u8], start: usize) -> Option<RequestLine<'_>> {
    let rest = &input[start..];
    let marks = find_marks(rest)?;
    let version: &[u8; 11] = rest.get(marks.target..)?.first_chunk()?;
    let ordinary = rest[marks.method] == b' '
        && version.starts_with(b" HTTP/1.")
        && version[8].is_ascii_digit()
        && version.ends_with(b"\r\n");
    ordinary.then_some(RequestLine {
        bytes: &rest[..marks.target + 9],
        start,
        marks: Some(marks),
    })
}

#[inline(never)]
fn slow_request_line<'a>(
    input: &'a [u8],
    start: usize,
    bound: usize,
    searched: &mut usize,
) -> Result<Option<RequestLine<'a>>, PeerFault> {
    if !judge_line_start(&input[start..])? {
        return Ok(None);
    }
    let Some(end) = slow_line_end(input, start.max(*searched), bound)? else {
        *searched = (*searched).max(input.len());
        return Ok(None);
    };
    let bytes = &input[start..end - 2];
    Ok(Some(RequestLine {
        bytes,
        start,
        marks: find_marks(bytes),
    }))
}

#[expect(clippy::inline_always, reason = "the hot path of heads")]
#[inline(always)]
fn find_marks(line: &[u8]) -> Option<Marks> {
    let method = find::<NotGraphic>(line, 0)?;
    let path = find::<PathEnd>(line, method + 1)?;
    let target = match line[path] {
        b' ' => path,
        _ => find::<NotGraphic>(line, path)?,
    };
    Some(Marks {
        method,
        path,
        target,
    })
}

/// The position after the line's LF; nothing before `from` needs to be searched.
fn slow_line_end(input: &[u8], from: usize, bound: usize) -> Result<Option<usize>, PeerFault> {
    let end = find_line_feed(input, from);
    if end.unwrap_or(input.len() + 1) > bound {
        return Err(PeerFault::RequestLineTooLong);
    }
    match end {
        Some(end) if input.get(end - 2) != Some(&b'\r') => Err(PeerFault::BareLineFeed),
        end => Ok(end),
    }
}

/// Judges the first byte as soon as it is there: what is not HTTP at all (a TLS handshake on a
/// plain listener) need not send a line's worth first. `false`: it is not there yet.
fn judge_line_start(line: &[u8]) -> Result<bool, PeerFault> {
    match line {
        [] | [b'\r'] => Ok(false),
        [b'\r', b'\n', ..] => Err(PeerFault::InvalidRequestLine),
        [b'\r', ..] => Err(PeerFault::BareCarriageReturn),
        [b'\n', ..] => Err(PeerFault::BareLineFeed),
        [first, ..] if CLASS[usize::from(*first)] & TOKEN == 0 => Err(PeerFault::InvalidMethod),
        _ => Ok(true),
    }
}

/// A CR inside of a line goes before whatever else is wrong with it. (No good line has one.)
fn bare_cr(line: &[u8]) -> Option<PeerFault> {
    memchr::memchr(b'\r', line).map(|_| PeerFault::BareCarriageReturn)
}

impl RequestLine<'_> {
    /// `method SP request-target SP HTTP-version`, one space each (RFC 9112 section 3).
    #[inline]
    fn read(&self, strictness: &Strictness, parts: &mut HeadParts) -> Result<(), PeerFault> {
        let Self { bytes, start, .. } = *self;
        let marks = self.marks.ok_or(PeerFault::InvalidRequestLine)?;
        let method = &bytes[..marks.method];
        if bytes[marks.method] != b' ' || !is_method(method, strictness) {
            return Err(PeerFault::InvalidMethod);
        }
        if bytes[marks.target] != b' ' {
            return Err(PeerFault::InvalidRequestTarget);
        }
        let HeadParts { fields, facts } = parts;
        facts.version = read_version(&bytes[marks.target + 1..], strictness)?;
        facts.method = method_span(method, start, strictness, fields);
        let method = if strictness.casefold_http_method {
            &fields.scratch[..]
        } else {
            method
        };
        let from = marks.method + 1;
        let target = &bytes[from..marks.target];
        read_target(method, target, marks.path - from, start + from, facts)?;
        facts.request_line = Span::new(start, start + bytes.len());
        Ok(())
    }
}

/// A token (RFC 9110 section 9.1); unless permitted, one of the shape all registered methods have.
#[inline]
fn is_method(method: &[u8], strictness: &Strictness) -> bool {
    // What nearly everybody sends need not be looked up.
    if matches!(method, b"GET" | b"POST") {
        return true;
    }
    let classes = token_classes(method);
    let conventional = classes & UNCONVENTIONAL == 0 && (3..=20).contains(&method.len());
    classes != 0 && (conventional || strictness.permit_unconventional_http_method)
}

/// RFC 9112 section 2.3, RFC 9110 section 2.5.
#[inline]
fn read_version(version: &[u8], strictness: &Strictness) -> Result<Version, PeerFault> {
    if version == b"HTTP/1.1" {
        return Ok(Version::Http11);
    }
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
    path_end: usize,
    offset: usize,
    facts: &mut Facts,
) -> Result<(), PeerFault> {
    let split = split_target(method, target, path_end)?;
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
