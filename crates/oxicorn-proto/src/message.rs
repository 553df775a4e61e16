//! The heads of a request and of its response, whatever protocol carries them.
//!
//! Nothing is copied: a head is a table of positions, kept by the protocol's machine and read against
//! the bytes it was found in (those of its [`Head`](crate::http1::Event::Head) event). The few values
//! that are not there as such (folded over several lines, turned into upper case) lie in a scratch
//! buffer beside the positions. This module knows no grammar: who fills the table has checked what
//! is in it, and who reads a head (logs, routing, the link) need not know who has filled it.

use crate::http1::OwnLine;

/// The versions that differ for framing; `HTTP/1.2` to `1.9` are treated as 1.1 (RFC 9110
/// section 2.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// HTTP/1.0: no chunked, closes unless asked to stay.
    Http10,
    /// HTTP/1.1.
    #[default]
    Http11,
    /// HTTP/2: the carrier frames.
    Http2,
}

/// How the end of a request body is known (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum BodyFraming {
    /// Neither Content-Length nor Transfer-Encoding: no body.
    #[default]
    None,
    /// Exactly so many bytes.
    Length(u64),
    /// Chunks, until the one of size zero and the trailers after it.
    Chunked,
}

/// The start of a response, beside the application's headers.
#[derive(Clone, Copy, Debug, Default)]
pub struct ResponseHead<'a> {
    /// 200 to 999, or 101.
    pub status: u16,
    /// The reason phrase; may be empty.
    pub reason: &'a [u8],
    /// The Server line, if there is to be one.
    pub server: Option<&'a OwnLine>,
    /// The Date line, if there is to be one.
    pub date: Option<&'a OwnLine>,
    /// Length of the whole body where the caller has it already: counted framing is used then even
    /// if the application gave no Content-Length.
    pub body_length: Option<u64>,
}

/// One header line, or one trailer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// A token, in the peer's case.
    pub name: &'a [u8],
    /// Without whitespace at either end and without control bytes.
    pub value: &'a [u8],
}

/// A piece of the event's bytes, or of the scratch buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    start: u32,
    end: u32,
}

/// Set in [`Span::start`]: the piece lies in the scratch buffer. Such a start is behind every end, so
/// of the event's bytes the span means nothing.
const IN_SCRATCH: u32 = 1 << 31;

#[expect(
    clippy::cast_possible_truncation,
    reason = "bounded by Limits: heads are below 2^30 bytes"
)]
impl Span {
    #[inline]
    pub(crate) const fn new(start: usize, end: usize) -> Self {
        Self {
            start: start as u32,
            end: end as u32,
        }
    }

    /// Its length in bytes.
    #[inline]
    pub(crate) const fn len(self) -> usize {
        self.end.wrapping_sub(self.start & !IN_SCRATCH) as usize
    }

    pub(crate) const fn in_scratch(start: usize, end: usize) -> Self {
        Self {
            start: start as u32 | IN_SCRATCH,
            end: end as u32,
        }
    }
}

/// What spans are read against: the event's bytes and the scratch buffer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Source<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) scratch: &'a [u8],
}

impl<'a> Source<'a> {
    /// Empty rather than a panic for a caller that shows other bytes than the event's.
    #[inline]
    pub(crate) fn piece(self, span: Span) -> &'a [u8] {
        match self.bytes.get(span.start as usize..span.end as usize) {
            Some(piece) => piece,
            None => self
                .onward_in_scratch(span)
                .get(..span.len())
                .unwrap_or_default(),
        }
    }

    /// The piece and all that follows it.
    #[inline]
    pub(crate) fn onward(self, span: Span) -> &'a [u8] {
        match self.bytes.get(span.start as usize..) {
            Some(onward) => onward,
            None => self.onward_in_scratch(span),
        }
    }

    #[cold]
    fn onward_in_scratch(self, span: Span) -> &'a [u8] {
        let start = span.start.checked_sub(IN_SCRATCH);
        let onward = start.and_then(|start| self.scratch.get(start as usize..));
        onward.unwrap_or_default()
    }
}

/// Positions of the fields of one section, kept from request to request for their memory: that may pass
/// from one connection to another between requests.
#[derive(Debug, Default)]
pub struct FieldTable {
    pub(crate) spans: Vec<(Span, Span)>,
    pub(crate) scratch: Vec<u8>,
}

/// The trailers of a request: hardly any has them.
pub(crate) type Trailers = Option<Box<FieldTable>>;

/// What a table keeps from one request to the next: enough for ordinary ones. A peer cannot make an
/// idle connection hold more.
const KEPT_SPANS: usize = 128;
const KEPT_SCRATCH: usize = 1024;

impl FieldTable {
    pub(crate) fn clear(&mut self) {
        self.spans.clear();
        self.spans.shrink_to(KEPT_SPANS);
        self.scratch.clear();
        self.scratch.shrink_to(KEPT_SCRATCH);
    }

    #[inline]
    pub(crate) fn source<'a>(&'a self, bytes: &'a [u8]) -> Source<'a> {
        Source {
            bytes,
            scratch: &self.scratch,
        }
    }

    #[inline]
    pub(crate) fn iter<'a>(&'a self, bytes: &'a [u8]) -> Fields<'a> {
        Fields {
            spans: self.spans.iter(),
            source: self.source(bytes),
        }
    }
}

/// The fields of a section in order.
#[derive(Clone, Debug, Default)]
pub struct Fields<'a> {
    spans: std::slice::Iter<'a, (Span, Span)>,
    source: Source<'a>,
}

impl<'a> Iterator for Fields<'a> {
    type Item = Header<'a>;

    #[inline]
    fn next(&mut self) -> Option<Header<'a>> {
        let &(name, value) = self.spans.next()?;
        Some(Header {
            name: self.source.piece(name),
            value: self.source.piece(value),
        })
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        self.spans.size_hint()
    }
}

impl ExactSizeIterator for Fields<'_> {}

/// Everything known of a head: where its pieces are and what its headers amount to.
#[derive(Debug, Default)]
pub(crate) struct HeadParts {
    pub(crate) fields: FieldTable,
    pub(crate) facts: Facts,
}

/// The part of a head that is new with each request.
#[derive(Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one thing a header says"
)]
pub(crate) struct Facts {
    pub(crate) method: Span,
    pub(crate) request_target: Span,
    pub(crate) path: Span,
    pub(crate) query_string: Span,
    pub(crate) request_line: Span,
    pub(crate) version: Version,
    pub(crate) framing: BodyFraming,
    /// Authority of an absolute target.
    pub(crate) authority: Option<Span>,
    pub(crate) authority_is_https: bool,
    pub(crate) host: Option<Span>,
    pub(crate) upgrade: Option<Span>,
    pub(crate) is_head: bool,
    pub(crate) is_connect: bool,
    pub(crate) keep_alive: bool,
    pub(crate) expect_continue: bool,
    pub(crate) accepts_trailers: bool,
    /// It came by an extended CONNECT.
    pub(crate) extended_connect: bool,
}

/// The request head last reported, read against the bytes of its event.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    parts: &'a HeadParts,
    bytes: &'a [u8],
}

impl<'a> RequestHead<'a> {
    pub(crate) fn new(parts: &'a HeadParts, bytes: &'a [u8]) -> Self {
        Self { parts, bytes }
    }

    #[inline]
    fn piece(&self, span: Span) -> &'a [u8] {
        self.parts.fields.source(self.bytes).piece(span)
    }

    /// The method, in upper case where `casefold_http_method` says so.
    #[inline]
    pub fn method(&self) -> &'a [u8] {
        self.piece(self.parts.facts.method)
    }

    /// The target as it was sent.
    #[inline]
    pub fn request_target(&self) -> &'a [u8] {
        self.piece(self.parts.facts.request_target)
    }

    /// The path, still percent-encoded: of an absolute target the part after the authority (`/`
    /// where there is none), without query and fragment; `*` of an asterisk target; empty for
    /// CONNECT.
    #[inline]
    pub fn path(&self) -> &'a [u8] {
        match self.piece(self.parts.facts.path) {
            b"" if self.parts.facts.authority.is_some() => b"/",
            path => path,
        }
    }

    /// What follows the first `?`, without it and without a fragment; empty where there is none.
    #[inline]
    pub fn query_string(&self) -> &'a [u8] {
        self.piece(self.parts.facts.query_string)
    }

    /// The version that decides framing.
    pub fn version(&self) -> Version {
        self.parts.facts.version
    }

    /// The version as it was sent, such as `HTTP/1.1`.
    pub fn protocol(&self) -> &'a [u8] {
        // The last eight bytes of every good request line.
        let line = self.request_line();
        &line[line.len().saturating_sub(8)..]
    }

    /// The request line as it was sent, without CRLF.
    pub fn request_line(&self) -> &'a [u8] {
        self.piece(self.parts.facts.request_line)
    }

    /// The headers in order; those the policy dropped are gone.
    pub fn headers(&self) -> Fields<'a> {
        self.parts.fields.iter(self.bytes)
    }

    /// How the end of the body is known.
    pub fn framing(&self) -> BodyFraming {
        self.parts.facts.framing
    }

    /// The peer wishes (or, on 1.1, does not refuse) another exchange on this connection.
    pub fn keep_alive(&self) -> bool {
        self.parts.facts.keep_alive
    }

    /// The peer waits for a 100 before it sends the body (RFC 9110 section 10.1.1).
    pub fn expect_continue(&self) -> bool {
        self.parts.facts.expect_continue
    }

    /// The value of Upgrade, where Connection names it and the version is 1.1 (RFC 9110 section
    /// 7.8).
    pub fn upgrade(&self) -> Option<&'a [u8]> {
        self.parts.facts.upgrade.map(|span| self.piece(span))
    }

    /// The authority asked for: of an absolute target its own, else Host (RFC 9112 section 3.3).
    pub fn host(&self) -> Option<&'a [u8]> {
        let facts = &self.parts.facts;
        facts.authority.or(facts.host).map(|span| self.piece(span))
    }

    /// `Some(true)` for `https://` and `Some(false)` for `http://` in an absolute target.
    pub fn absolute_is_https(&self) -> Option<bool> {
        self.parts
            .facts
            .authority
            .map(|_| self.parts.facts.authority_is_https)
    }

    /// It asks for a WebSocket by an extended CONNECT (RFC 8441), and is written as a GET.
    pub fn is_extended_connect(&self) -> bool {
        self.parts.facts.extended_connect
    }

    /// The peer said `TE: trailers` (RFC 9110 section 10.1.4).
    pub fn accepts_trailers(&self) -> bool {
        self.parts.facts.accepts_trailers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_what_they_were_made_of() {
        let source = Source {
            bytes: b"0123456789",
            scratch: b"abcdef",
        };
        assert_eq!(source.piece(Span::new(2, 4)), b"23");
        assert_eq!(source.onward(Span::new(2, 4)), b"23456789");
        assert_eq!(source.piece(Span::in_scratch(2, 4)), b"cd");
        assert_eq!(source.onward(Span::in_scratch(2, 4)), b"cdef");
        for elsewhere in [Span::new(8, 40), Span::new(20, 40), Span::in_scratch(5, 9)] {
            assert_eq!(source.piece(elsewhere), b"", "other bytes than the event's");
        }
    }

    #[test]
    fn tables_keep_ordinary_memory_only() {
        let mut table = FieldTable::default();
        table.spans.resize(40, (Span::default(), Span::default()));
        let kept = table.spans.as_ptr();
        table.clear();
        table.spans.resize(40, (Span::default(), Span::default()));
        assert_eq!(
            table.spans.as_ptr(),
            kept,
            "no allocation for the next head"
        );
        table
            .spans
            .resize(30_000, (Span::default(), Span::default()));
        table.scratch.resize(100_000, 0);
        table.clear();
        assert!(table.spans.capacity() <= KEPT_SPANS && table.scratch.capacity() <= KEPT_SCRATCH);
    }
}
