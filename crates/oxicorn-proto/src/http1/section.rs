//! A field section line by line: the headers of a head, the trailers of a chunked body.
//!
//! Decides what a field line is (RFC 9112 section 5) and how long and how many there may be.
//! Refuses to know what a field means: that is [`policy`](super::policy).
//!
//! Theory of operation: **a line is judged when its LF has come, or when it is longer than its
//! limit**, never earlier and never by less; so it makes no difference in how many pieces it came.
//! There are two ways through one line. [`fast_field`] walks an ordinary complete line once and
//! gives up at anything else; [`Section::slow_step`] finds the line's end first, keeps where it has
//! searched already, and names the fault.

use super::grammar::{CLASS, TOKEN, is_field_value, token_classes, trim};
use super::request::Span;
use super::rules::{Rules, Strictness};
use super::scan::{Control, NotPlain, find, find_line_feed};
use crate::fault::PeerFault;

/// How far a section has been read. Positions count from the start of the input.
#[derive(Clone, Copy, Debug)]
pub(super) struct Section {
    /// Where the section starts.
    start: usize,
    /// Where the next line starts.
    next: usize,
    /// No LF stands between `next` and here.
    searched: usize,
    /// Lines so far, those the policy dropped included.
    count: usize,
}

/// What the next line was.
pub(super) enum Step {
    NeedMore,
    Field(Line),
    /// The empty line; the section ends before this position.
    End(usize),
}

/// A field line that is well-formed.
#[derive(Clone, Copy)]
pub(super) struct Line {
    pub(super) name: (usize, usize),
    pub(super) value: Span,
    /// The classes of the bytes of the name, those of letters perhaps left out.
    pub(super) classes: u8,
}

impl Section {
    /// A section that starts at `start` after `count` fields elsewhere that count too.
    pub(super) const fn new(start: usize, count: usize) -> Self {
        Self {
            start,
            next: start,
            searched: start,
            count,
        }
    }

    pub(super) const fn count(&self) -> usize {
        self.count
    }

    /// Reads one line. Folded values are put together at the end of `scratch`.
    #[expect(clippy::inline_always, reason = "the hot path of heads, once a line")]
    #[inline(always)]
    pub(super) fn step(
        &mut self,
        input: &[u8],
        rules: &Rules,
        scratch: &mut Vec<u8>,
    ) -> Result<Step, PeerFault> {
        if input.get(self.next..self.next + 2) == Some(b"\r\n")
            && self.next + 2 <= self.bound(rules).0
        {
            return Ok(Step::End(self.next + 2));
        }
        if self.searched == self.next
            && !rules.strictness.permit_obsolete_folding
            && let Some((line, next)) = fast_field(input, self.next)
            && next <= self.bound(rules).0
        {
            return self.accept(line, next, rules);
        }
        self.slow_step(input, rules, scratch)
    }

    /// Where the current line must have ended, and the fault if it has not.
    #[inline]
    fn bound(&self, rules: &Rules) -> (usize, PeerFault) {
        let line = self.next.saturating_add(rules.limits.field_size);
        let section = self.start.saturating_add(rules.limits.head_size);
        if line <= section {
            (line, PeerFault::FieldTooLong)
        } else {
            (section, PeerFault::HeadTooLong)
        }
    }

    #[inline]
    fn accept(&mut self, line: Line, next: usize, rules: &Rules) -> Result<Step, PeerFault> {
        self.count += 1;
        if self.count > rules.limits.fields {
            return Err(PeerFault::TooManyFields);
        }
        self.next = next;
        self.searched = next;
        Ok(Step::Field(line))
    }

    #[inline(never)]
    fn slow_step(
        &mut self,
        input: &[u8],
        rules: &Rules,
        scratch: &mut Vec<u8>,
    ) -> Result<Step, PeerFault> {
        let Some(end) = self.find_line_end(input, rules)? else {
            return Ok(Step::NeedMore);
        };
        let raw = RawLine {
            input,
            start: self.next,
            end,
        };
        let line = raw
            .judge(&rules.strictness, scratch)
            .map_err(|fault| raw.line_fault().unwrap_or(fault))?;
        self.accept(line, end, rules)
    }

    /// The position after the current line's LF. With folding permitted a line has not ended before
    /// the byte after its LF says so.
    fn find_line_end(&mut self, input: &[u8], rules: &Rules) -> Result<Option<usize>, PeerFault> {
        let (bound, fault) = self.bound(rules);
        loop {
            let Some(end) = find_line_feed(input, self.searched) else {
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

/// One ordinary line `name: value CRLF` at `start`, and the position after it.
#[expect(clippy::inline_always, reason = "the hot path of heads, once a line")]
#[inline(always)]
fn fast_field(input: &[u8], start: usize) -> Option<(Line, usize)> {
    let (colon, classes) = name_end(input, start)?;
    let value = match input.get(colon..colon + 2)? {
        b": " => colon + 2,
        [b':', _] => colon + 1,
        _ => return None,
    };
    let end = find::<Control>(input, value)?;
    let ordinary = colon > start
        && input.get(end..end + 2)? == b"\r\n"
        && input.get(value) != Some(&b' ')
        && input.get(end - 1) != Some(&b' ');
    // An empty value ends in the space before it: such a line goes the slow way.
    let line = Line {
        name: (start, colon),
        value: Span::new(value, end),
        classes,
    };
    ordinary.then_some((line, end + 2))
}

/// The first byte after a token, and the classes of the token's less usual bytes.
#[expect(clippy::inline_always, reason = "the hot path of heads, once a line")]
#[inline(always)]
fn name_end(input: &[u8], start: usize) -> Option<(usize, u8)> {
    let mut end = find::<NotPlain>(input, start)?;
    let mut classes = TOKEN;
    loop {
        let class = CLASS[usize::from(*input.get(end)?)];
        if class & TOKEN == 0 {
            return Some((end, classes));
        }
        classes |= class;
        end += 1;
    }
}

/// A complete line, folded ones with their continuations, and its place in the input.
#[derive(Clone, Copy)]
struct RawLine<'a> {
    input: &'a [u8],
    start: usize,
    end: usize,
}

impl RawLine<'_> {
    fn bytes(&self) -> &[u8] {
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

    fn judge(&self, strictness: &Strictness, scratch: &mut Vec<u8>) -> Result<Line, PeerFault> {
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
            name: (self.start, self.start + name.len()),
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
