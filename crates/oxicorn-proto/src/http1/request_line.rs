//! The request line (RFC 9112 section 3): `method SP request-target SP HTTP-version CRLF`.
//!
//! Decides where the line ends, what its three parts are and which of them are refused. What the
//! target means is [`target`](super::target).
//!
//! Theory of operation: as with field lines there are two ways through a line. [`ordinary_line`]
//! walks a complete one of the usual shape once and gives up at anything else; [`complete_line`]
//! waits for the line's end, keeps where it has searched already, and names the fault. Both take it
//! apart into a [`Line`], which [`Line::judge`] looks at in the same way.

use super::grammar::{CLASS, TOKEN, UNCONVENTIONAL, token_classes};
use super::rules::{Rules, Strictness};
use super::scan::{NotGraphic, PathEnd, find, find_line_feed, find_near};
use super::target::{Target, split_target};
use crate::fault::PeerFault;
use crate::message::{Facts, HeadParts, Span, Version};
use crate::{other_protocol, scgi};

/// The parts of a line with single spaces between them.
struct Line<'a> {
    /// Printable ASCII.
    method: &'a [u8],
    /// Printable ASCII.
    target: &'a [u8],
    /// How much of the target stands before the first `?` or `#`.
    path_len: usize,
    version: Version,
}

/// Length of what follows the target: ` HTTP/1.1`.
const VERSION: usize = 9;

/// Reads the request line that `input` starts with; `Some` is where it ends. One empty line may
/// stand before it (RFC 9112 section 2.2: old clients end a body with one). No LF of the line stands
/// before `searched`.
#[inline(never)]
pub(super) fn read_request_line(
    input: &[u8],
    searched: &mut usize,
    rules: &Rules,
    parts: &mut HeadParts,
) -> Result<Option<usize>, PeerFault> {
    // Tried once: of a line that comes byte by byte only what is new is looked at.
    if *searched == 0
        && let Some(line) = ordinary_line(input)
        && line.len() <= rules.limits.request_line
    {
        return line.judge(0, &rules.strictness, parts).map(Some);
    }
    read_unusual_line(input, searched, rules, parts)
}

/// Any line, once it is complete.
#[inline(never)]
fn read_unusual_line(
    input: &[u8],
    searched: &mut usize,
    rules: &Rules,
    parts: &mut HeadParts,
) -> Result<Option<usize>, PeerFault> {
    let start = if input.starts_with(b"\r\n") { 2 } else { 0 };
    match complete_line(input, start, searched, rules)? {
        Some(line) => line.judge(start, &rules.strictness, parts).map(Some),
        None => Ok(None),
    }
}

/// A line that ends in one of the two versions there are, in one walk.
#[inline]
fn ordinary_line(input: &[u8]) -> Option<Line<'_>> {
    let (method, rest) = input.split_at_checked(find_near::<NotGraphic>(input)?)?;
    let rest = rest.strip_prefix(b" ")?;
    let path_len = find_near::<PathEnd>(rest)?;
    let target_len = match rest[path_len] {
        b' ' => path_len,
        _ => find::<NotGraphic>(rest, path_len)?,
    };
    let (target, tail) = rest.split_at_checked(target_len)?;
    let version = match tail.strip_prefix(b" HTTP/1.")? {
        [b'1', b'\r', b'\n', ..] => Version::Http11,
        [b'0', b'\r', b'\n', ..] => Version::Http10,
        _ => return None,
    };
    Some(Line {
        method,
        target,
        path_len,
        version,
    })
}

/// Any line, once its end has come. `input[start..]` starts with it.
fn complete_line<'a>(
    input: &'a [u8],
    start: usize,
    searched: &mut usize,
    rules: &Rules,
) -> Result<Option<Line<'a>>, PeerFault> {
    if !judge_line_start(&input[start..])? {
        return Ok(None);
    }
    let bound = start
        .saturating_add(rules.limits.request_line)
        .saturating_add(2);
    let Some(end) = line_end(input, start.max(*searched), bound)? else {
        *searched = (*searched).max(input.len());
        return Ok(None);
    };
    let line = &input[start..end - 2];
    take_apart(line, &rules.strictness)
        .map(Some)
        .map_err(|fault| bare_cr(line).unwrap_or(fault))
}

/// Judges the first byte as soon as it is there: what is not HTTP at all (a TLS handshake on a
/// plain listener) need not send a line's worth first. `false`: it is not there yet.
fn judge_line_start(line: &[u8]) -> Result<bool, PeerFault> {
    match line {
        [] | [b'\r'] => Ok(false),
        [b'\r', b'\n', ..] => Err(PeerFault::InvalidRequestLine),
        [b'\r', ..] => Err(PeerFault::BareCarriageReturn),
        [b'\n', ..] => Err(PeerFault::BareLineFeed),
        [first, ..] if CLASS[usize::from(*first)] & TOKEN == 0 => {
            Err(other_protocol::named(*first).unwrap_or(PeerFault::InvalidMethod))
        }
        // No method goes on with a colon, however strange it may be.
        [b'0'..=b'9', ..] if scgi::begins_head(line) => Err(PeerFault::UnexpectedScgi),
        _ => Ok(true),
    }
}

/// The position after the line's LF; nothing before `from` needs to be searched.
fn line_end(input: &[u8], from: usize, bound: usize) -> Result<Option<usize>, PeerFault> {
    let end = find_line_feed(input, from);
    if end.unwrap_or(input.len() + 1) > bound {
        return Err(PeerFault::RequestLineTooLong);
    }
    match end {
        Some(end) if input.get(end - 2) != Some(&b'\r') => Err(PeerFault::BareLineFeed),
        end => Ok(end),
    }
}

/// A CR inside of a line goes before whatever else is wrong with it. (No good line has one.)
fn bare_cr(line: &[u8]) -> Option<PeerFault> {
    memchr::memchr(b'\r', line).map(|_| PeerFault::BareCarriageReturn)
}

/// The parts of a line without its CRLF, each refused where it ends in another byte than a space.
fn take_apart<'a>(line: &'a [u8], strictness: &Strictness) -> Result<Line<'a>, PeerFault> {
    let part = |bytes: &'a [u8]| {
        let end = find::<NotGraphic>(bytes, 0).ok_or(PeerFault::InvalidRequestLine)?;
        Ok((&bytes[..end], bytes[end] == b' ', &bytes[end + 1..]))
    };
    let (method, is_whole, rest) = part(line)?;
    let (target, target_is_whole, version) = part(rest)?;
    if !is_whole || !is_method(method, strictness) {
        return Err(PeerFault::InvalidMethod);
    }
    if !target_is_whole {
        return Err(PeerFault::InvalidRequestTarget);
    }
    Ok(Line {
        method,
        target,
        path_len: find::<PathEnd>(target, 0).unwrap_or(target.len()),
        version: read_version(version, strictness)?,
    })
}

impl Line<'_> {
    /// Without its CRLF.
    #[inline]
    fn len(&self) -> usize {
        self.method.len() + 1 + self.target.len() + VERSION
    }

    /// Looks at method and target, and writes down where all is; the answer is where the line ends.
    #[expect(clippy::inline_always, reason = "the hot path of heads")]
    #[inline(always)]
    fn judge(
        &self,
        start: usize,
        strictness: &Strictness,
        parts: &mut HeadParts,
    ) -> Result<usize, PeerFault> {
        if !is_method(self.method, strictness) {
            return Err(no_method(self.method));
        }
        let HeadParts { fields, facts } = parts;
        let mut method = self.method;
        facts.method = Span::new(start, start + method.len());
        if strictness.casefold_http_method {
            fields
                .scratch
                .extend(method.iter().map(u8::to_ascii_uppercase));
            method = &fields.scratch;
            facts.method = Span::in_scratch(0, method.len());
        }
        facts.is_head = method == b"HEAD";
        facts.is_connect = method == b"CONNECT";
        facts.version = self.version;
        facts.request_line = Span::new(start, start + self.len());
        let target = split_target(method, self.target, self.path_len)?;
        if facts.is_connect && !strictness.permit_connect {
            return Err(PeerFault::ConnectNotPermitted);
        }
        let target_start = start + self.method.len() + 1;
        facts.request_target = Span::new(target_start, target_start + self.target.len());
        place_target(target, target_start, facts);
        Ok(start + self.len() + 2)
    }
}

/// Writes down where the pieces of a target are that starts at `start`.
#[inline]
fn place_target(target: Target, start: usize, facts: &mut Facts) {
    let place = |range: std::ops::Range<usize>| Span::new(start + range.start, start + range.end);
    facts.path = place(target.path);
    facts.query_string = place(target.query);
    if let Some(authority) = target.authority {
        facts.authority = Some(place(authority.range));
        facts.authority_is_https = authority.https;
    }
}

/// A token (RFC 9110 section 9.1); unless permitted, one of the shape all registered methods have.
#[inline]
fn is_method(method: &[u8], strictness: &Strictness) -> bool {
    // What nearly everybody sends need not be looked up.
    if method == b"GET" || method == b"POST" {
        return true;
    }
    let classes = token_classes(method);
    let conventional = classes & UNCONVENTIONAL == 0 && (3..=20).contains(&method.len());
    classes != 0 && (conventional || strictness.permit_unconventional_http_method)
}

/// The fault of what is none; one that is complete has the name that its beginning has.
#[cold]
fn no_method(method: &[u8]) -> PeerFault {
    if scgi::begins_head(method) {
        PeerFault::UnexpectedScgi
    } else {
        PeerFault::InvalidMethod
    }
}

/// RFC 9112 section 2.3, RFC 9110 section 2.5.
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
