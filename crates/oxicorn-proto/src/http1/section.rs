//! A field section line by line: the headers of a head, the trailers of a chunked body.
//!
//! Decides what a field line is (RFC 9112 section 5) and how long and how many there may be.
//! Refuses to know what a field means: that is [`policy`](super::policy).
//!
//! Theory of operation: **a line is judged when its LF has come, or when it is longer than its
//! limit**, never earlier and never by less; so it makes no difference in how many pieces it came.
//! There are two ways through one line. [`Section::fast_line`] walks an ordinary complete line once
//! and gives up at anything else; [`Section::line`] finds the line's end first, keeps where it has
//! searched already, and names the fault.

use super::grammar::{CLASS, TOKEN, is_field_value, token_classes, trim};
use super::rules::{Rules, Strictness};
use super::scan::{Control, NotPlain, find, find_line_feed};
use crate::fault::PeerFault;
use crate::message::Span;

/// How far a section has been read. Positions count from the start of the input.
#[derive(Clone, Copy, Debug)]
pub(super) struct Section {
    /// Where the section starts.
    start: usize,
    /// Where the next line starts.
    next: usize,
    /// No LF stands between `next` and here, if this is behind `next` at all.
    searched: usize,
    /// Lines so far, those the policy dropped included.
    count: usize,
}

/// A field line that is well-formed.
#[derive(Clone, Copy)]
pub(super) struct Line<'a> {
    start: usize,
    pub(super) name: &'a [u8],
    pub(super) value: Span,
    /// The classes of the bytes of the name, those of letters perhaps left out.
    pub(super) classes: u8,
}

impl Line<'_> {
    /// Where name and value stand.
    #[inline]
    pub(super) const fn spans(&self) -> (Span, Span) {
        let name = Span::new(self.start, self.start + self.name.len());
        (name, self.value)
    }
}

impl Section {
    /// A section that starts at `start` after `count` fields elsewhere that count too.
    pub(super) const fn new(start: usize, count: usize) -> Self {
        Self {
            start,
            next: start,
            searched: 0,
            count,
        }
    }

    pub(super) const fn count(&self) -> usize {
        self.count
    }

    /// Where the section ends, if the empty line stands next.
    #[inline]
    pub(super) fn end(&self, input: &[u8], rules: &Rules) -> Option<usize> {
        let is_empty_line = input.get(self.next..)?.starts_with(b"\r\n");
        (is_empty_line && self.allows(self.next + 2, rules)).then_some(self.next + 2)
    }

    /// Reads one line if it is an ordinary one within the limits; all others are for
    /// [`line`](Self::line).
    #[expect(clippy::inline_always, reason = "the hot path of heads, once a line")]
    #[inline(always)]
    pub(super) fn fast_line<'a>(&mut self, input: &'a [u8], rules: &Rules) -> Option<Line<'a>> {
        if self.searched > self.next || rules.strictness.permit_obsolete_folding {
            return None;
        }
        let (line, len) = fast_field(input.get(self.next..)?, self.next)?;
        let next = self.next + len;
        if !self.allows(next, rules) || self.count >= rules.limits.fields {
            return None;
        }
        self.next = next;
        self.count += 1;
        Some(line)
    }

    /// Reads one line, once it is complete. Folded values are put together at the end of `scratch`.
    #[inline(never)]
    pub(super) fn line<'a>(
        &mut self,
        input: &'a [u8],
        rules: &Rules,
        scratch: &mut Vec<u8>,
    ) -> Result<Option<Line<'a>>, PeerFault> {
        let Some(end) = self.find_line_end(input, rules)? else {
            return Ok(None);
        };
        let raw = RawLine {
            input,
            start: self.next,
            end,
        };
        let line = raw
            .judge(&rules.strictness, scratch)
            .map_err(|fault| raw.line_fault().unwrap_or(fault))?;
        self.count += 1;
        if self.count > rules.limits.fields {
            return Err(PeerFault::TooManyFields);
        }
        self.next = end;
        Ok(Some(line))
    }

    /// May the current line end before `next`?
    #[inline]
    fn allows(&self, next: usize, rules: &Rules) -> bool {
        let limits = &rules.limits;
        next - self.next <= limits.field_size && next - self.start <= limits.head_size
    }

    /// Where the current line must have ended, and the fault if it has not.
    fn bound(&self, rules: &Rules) -> (usize, PeerFault) {
        let line = self.next.saturating_add(rules.limits.field_size);
        let section = self.start.saturating_add(rules.limits.head_size);
        if line <= section {
            (line, PeerFault::FieldTooLong)
        } else {
            (section, PeerFault::HeadTooLong)
        }
    }

    /// The position after the current line's LF. With folding permitted a line has not ended before
    /// the byte after its LF says so.
    fn find_line_end(&mut self, input: &[u8], rules: &Rules) -> Result<Option<usize>, PeerFault> {
        let (bound, fault) = self.bound(rules);
        loop {
            let Some(end) = find_line_feed(input, self.next.max(self.searched)) else {
                self.searched = self.searched.max(input.len());
                return if input.len() >= bound {
                    Err(fault)
                } else {
                    Ok(None)
                };
            };
            if end > bound {
                return Err(fault);
            }
            if !rules.strictness.permit_obsolete_folding || end - self.next <= 2 {
                return Ok(Some(end));
            }
            match input.get(end) {
                None => return Ok(None),
                Some(b' ' | b'\t') => self.searched = end,
                Some(_) => return Ok(Some(end)),
            }
        }
    }
}

/// The ordinary line `name: value CRLF` that stands at `start` and that `rest` begins with, and its
/// length.
#[expect(clippy::inline_always, reason = "the hot path of heads, once a line")]
#[inline(always)]
fn fast_field(rest: &[u8], start: usize) -> Option<(Line<'_>, usize)> {
    // Before a name is looked for: each section ends in an empty line.
    if rest.first() == Some(&b'\r') {
        return None;
    }
    let (colon, classes) = find_colon(rest)?;
    let space = rest.get(colon + 1) == Some(&b' ');
    let onward = rest.get(colon + 1 + usize::from(space)..)?;
    let (value, end) = onward.split_at_checked(find::<Control>(onward, 0)?)?;
    if colon == 0 || !end.starts_with(b"\r\n") || matches!(value, [b' ', ..] | [.., b' ']) {
        return None;
    }
    let value_start = rest.len() - onward.len();
    let value_end = value_start + value.len();
    let line = Line {
        start,
        name: &rest[..colon],
        value: Span::new(start + value_start, start + value_end),
        classes,
    };
    Some((line, value_end + 2))
}

/// Where the colon after a token stands, and the classes of the token's less usual bytes.
#[expect(clippy::inline_always, reason = "the hot path of heads, once a line")]
#[inline(always)]
fn find_colon(rest: &[u8]) -> Option<(usize, u8)> {
    let mut at = find::<NotPlain>(rest, 0)?;
    let mut classes = TOKEN;
    loop {
        match *rest.get(at)? {
            b':' => return Some((at, classes)),
            byte => classes |= token_class(byte)?,
        }
        at += 1;
    }
}

fn token_class(byte: u8) -> Option<u8> {
    let class = CLASS[usize::from(byte)];
    (class & TOKEN != 0).then_some(class)
}

/// A complete line, folded ones with their continuations, and its place in the input.
#[derive(Clone, Copy)]
struct RawLine<'a> {
    input: &'a [u8],
    start: usize,
    end: usize,
}

impl<'a> RawLine<'a> {
    fn bytes(&self) -> &'a [u8] {
        &self.input[self.start..self.end]
    }

    /// What is wrong with the ends of lines, which goes before anything inside of them.
    fn line_fault(&self) -> Option<PeerFault> {
        let bytes = self.bytes();
        let bare_cr = |at: usize| bytes.get(at + 1) != Some(&b'\n');
        let bare_lf = |at: usize| at == 0 || bytes[at - 1] != b'\r';
        memchr::memchr2_iter(b'\r', b'\n', bytes).find_map(|at| match bytes[at] {
            b'\r' => bare_cr(at).then_some(PeerFault::BareCarriageReturn),
            _ => bare_lf(at).then_some(PeerFault::BareLineFeed),
        })
    }

    fn judge(&self, strictness: &Strictness, scratch: &mut Vec<u8>) -> Result<Line<'a>, PeerFault> {
        let bytes = self
            .bytes()
            .strip_suffix(b"\r\n")
            .ok_or(PeerFault::BareLineFeed)?;
        if matches!(bytes.first(), Some(b' ' | b'\t')) {
            return Err(PeerFault::ObsoleteFolding);
        }
        let colon = memchr::memchr(b':', bytes).ok_or(PeerFault::MissingColon)?;
        let (name, value) = (&bytes[..colon], &bytes[colon + 1..]);
        let name = strip_name(name, strictness)?;
        let classes = token_classes(name);
        if classes == 0 {
            return Err(PeerFault::InvalidFieldName);
        }
        let value = self.value_span(value, strictness, scratch)?;
        Ok(Line {
            start: self.start,
            name,
            value,
            classes,
        })
    }

    fn value_span(
        &self,
        value: &[u8],
        strictness: &Strictness,
        scratch: &mut Vec<u8>,
    ) -> Result<Span, PeerFault> {
        if strictness.permit_obsolete_folding && memchr::memchr(b'\n', value).is_some() {
            return self
                .line_fault()
                .map_or_else(|| unfold(value, scratch), Err);
        }
        let trimmed = trim(value);
        if !is_field_value(trimmed) {
            return Err(PeerFault::InvalidFieldValue);
        }
        // Both end where `bytes` of the caller ends, so the distance from there places the value.
        let leading = value.len() - trim_start(value).len();
        let start = self.end - 2 - value.len() + leading;
        Ok(Span::new(start, start + trimmed.len()))
    }
}

fn trim_start(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    value
}

/// RFC 9112 section 5.1: no whitespace between name and colon; `strip_header_spaces` removes it.
fn strip_name<'n>(name: &'n [u8], strictness: &Strictness) -> Result<&'n [u8], PeerFault> {
    let mut stripped = name;
    while let [rest @ .., b' ' | b'\t'] = stripped {
        stripped = rest;
    }
    if stripped.len() < name.len() && !strictness.strip_header_spaces {
        return Err(PeerFault::SpaceBeforeColon);
    }
    Ok(stripped)
}

/// Joins the lines of a folded value by one space each (RFC 9112 section 5.2).
fn unfold(value: &[u8], scratch: &mut Vec<u8>) -> Result<Span, PeerFault> {
    let start = scratch.len();
    for line in value.split(|&byte| byte == b'\n') {
        let line = trim(line.strip_suffix(b"\r").unwrap_or(line));
        if !is_field_value(line) {
            return Err(PeerFault::InvalidFieldValue);
        }
        if scratch.len() > start && !line.is_empty() {
            scratch.push(b' ');
        }
        scratch.extend_from_slice(line);
    }
    Ok(Span::in_scratch(start, scratch.len()))
}
