//! What the fields of a request mean for the connection, and which of them are refused.
//!
//! Decides the framing of the body, the persistence of the connection, the expectation, the upgrade
//! and the fate of names with an underscore: every rule that has been used for request smuggling
//! stands in this file, once. Refuses to know lines and their ends.
//!
//! Theory of operation: [`Gathered`] takes the fields in their order and refuses at once what is
//! wrong by itself; [`Gathered::conclude`] refuses at the end of the head what is wrong together.

use super::grammar::{UNDERSCORE, decimal, is_authority, list, same_name};
use super::rules::{HeaderMap, Limits, Strictness};
use super::target::same_authority;
use crate::fault::PeerFault;
use crate::message::{BodyFraming, Facts, Source, Span, Version};

/// What the fields of one head have said so far.
#[derive(Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one thing a header says"
)]
pub(super) struct Gathered {
    host: Option<Span>,
    content_type: bool,
    content_length: Option<u64>,
    coding: Coding,
    close: bool,
    keep_alive: bool,
    upgrade_named: bool,
    upgrade: Option<Span>,
    expectation: Expectation,
    accepts_trailers: bool,
}

/// The transfer codings named so far, over all Transfer-Encoding lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Coding {
    #[default]
    None,
    /// Known ones that this server does not decode, and not yet `chunked`.
    Compressed,
    Chunked,
    /// `chunked` after others.
    CompressedChunked,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Expectation {
    #[default]
    None,
    Continue,
    Unknown,
}

/// Is a field with these name classes kept (`header_map`)? `trusted`: the peer may send forwarder
/// headers.
#[inline]
pub(super) fn keeps_name(
    name: &[u8],
    classes: u8,
    strictness: &Strictness,
    trusted: bool,
) -> Result<bool, PeerFault> {
    if classes & UNDERSCORE == 0 {
        return Ok(true);
    }
    keeps_underscore(name, strictness, trusted)
}

#[inline(never)]
fn keeps_underscore(
    name: &[u8],
    strictness: &Strictness,
    trusted: bool,
) -> Result<bool, PeerFault> {
    let named = |known: &str| known == "*" || known.as_bytes().eq_ignore_ascii_case(name);
    if trusted
        && strictness
            .forwarder_headers
            .iter()
            .any(|known| named(known))
    {
        return Ok(true);
    }
    match strictness.header_map {
        HeaderMap::Drop => Ok(false),
        HeaderMap::Refuse => Err(PeerFault::UnderscoreInFieldName),
        HeaderMap::Dangerous => Ok(true),
    }
}

/// A trailer comes when the body has been framed, routed and judged: what would have changed that
/// is refused (RFC 9110 section 6.5.1).
pub(super) fn is_forbidden_trailer(name: &[u8]) -> bool {
    const FORBIDDEN: [&str; 24] = [
        "authorization",
        "cache-control",
        "connection",
        "content-encoding",
        "content-length",
        "content-range",
        "content-type",
        "cookie",
        "expect",
        "forwarded",
        "host",
        "keep-alive",
        "max-forwards",
        "proxy-authorization",
        "proxy-connection",
        "range",
        "set-cookie",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
    ];
    FORBIDDEN
        .iter()
        .any(|forbidden| forbidden.as_bytes().eq_ignore_ascii_case(name))
}

impl Gathered {
    /// Takes one kept header.
    #[inline]
    pub(super) fn take(
        &mut self,
        name: &[u8],
        source: Source<'_>,
        span: Span,
    ) -> Result<(), PeerFault> {
        // Most headers have no need of their value.
        let value = || source.piece(span);
        // The length decides first: most headers are none of these.
        match name.len() {
            2 if same_name(name, b"te") => self.take_te(value()),
            4 if same_name(name, b"host") => return self.take_host(source.onward(span), span),
            6 if same_name(name, b"expect") => self.take_expect(value()),
            7 if same_name(name, b"upgrade") => self.upgrade = self.upgrade.or(Some(span)),
            10 if same_name(name, b"connection") => self.take_connection(value()),
            12 if same_name(name, b"content-type") => return self.take_content_type(),
            14 if same_name(name, b"content-length") => return self.take_content_length(value()),
            17 if same_name(name, b"transfer-encoding") => {
                return self.take_transfer_encoding(value());
            }
            _ => {}
        }
        Ok(())
    }

    /// One Host, of valid form (RFC 9112 section 3.2), be it empty: that is judged with the version.
    /// `onward` begins with it.
    #[inline(never)]
    fn take_host(&mut self, onward: &[u8], span: Span) -> Result<(), PeerFault> {
        if self.host.is_some() {
            return Err(PeerFault::DuplicateHost);
        }
        self.host = Some(span);
        if is_authority(onward, span.len()) {
            Ok(())
        } else {
            Err(PeerFault::InvalidHost)
        }
    }

    fn take_content_type(&mut self) -> Result<(), PeerFault> {
        if self.content_type {
            return Err(PeerFault::DuplicateContentType);
        }
        self.content_type = true;
        Ok(())
    }

    /// One Content-Length of digits (RFC 9110 section 8.6). The RFC lets equal ones be merged; who
    /// sends two has already been through something that disagrees with us about one of them.
    fn take_content_length(&mut self, value: &[u8]) -> Result<(), PeerFault> {
        if self.content_length.is_some() {
            return Err(PeerFault::DuplicateContentLength);
        }
        let length = decimal(value).ok_or(PeerFault::InvalidContentLength)?;
        self.content_length = Some(length.ok_or(PeerFault::ContentTooLarge)?);
        Ok(())
    }

    /// RFC 9112 section 6.1. No empty elements here, whatever section 5.6.1 of RFC 9110 allows.
    fn take_transfer_encoding(&mut self, value: &[u8]) -> Result<(), PeerFault> {
        list(value).try_for_each(|coding| {
            self.coding = self.coding.then(coding)?;
            Ok(())
        })
    }

    /// All options of all Connection lines (RFC 9110 section 7.6.1).
    fn take_connection(&mut self, value: &[u8]) {
        // What nearly everybody sends need not be taken for a list.
        if value == b"keep-alive" {
            self.keep_alive = true;
            return;
        }
        list(value).for_each(|option| self.take_option(option));
    }

    fn take_option(&mut self, option: &[u8]) {
        match option.len() {
            5 if option.eq_ignore_ascii_case(b"close") => self.close = true,
            7 if option.eq_ignore_ascii_case(b"upgrade") => self.upgrade_named = true,
            10 if option.eq_ignore_ascii_case(b"keep-alive") => self.keep_alive = true,
            _ => {}
        }
    }

    /// RFC 9110 section 10.1.1.
    fn take_expect(&mut self, value: &[u8]) {
        let known = value.eq_ignore_ascii_case(b"100-continue");
        self.expectation = match self.expectation {
            Expectation::Unknown => Expectation::Unknown,
            _ if known => Expectation::Continue,
            _ => Expectation::Unknown,
        };
    }

    fn take_te(&mut self, value: &[u8]) {
        self.accepts_trailers |= list(value).any(|coding| coding.eq_ignore_ascii_case(b"trailers"));
    }

    /// Draws the conclusions of a complete head.
    pub(super) fn conclude(
        &self,
        facts: &mut Facts,
        limits: &Limits,
        source: Source<'_>,
    ) -> Result<(), PeerFault> {
        let is_http11 = facts.version == Version::Http11;
        self.check_host(facts, source)?;
        facts.framing = self.framing(is_http11)?;
        check_body_limit(facts.framing, limits)?;
        if self.expectation == Expectation::Unknown {
            return Err(PeerFault::UnknownExpectation);
        }
        facts.host = self.host;
        facts.keep_alive = !self.close && (is_http11 || self.keep_alive);
        facts.accepts_trailers = is_http11 && self.accepts_trailers;
        if is_http11 && self.upgrade_named {
            facts.upgrade = self.upgrade;
        }
        if is_http11 && self.expectation == Expectation::Continue {
            facts.expect_continue =
                !matches!(facts.framing, BodyFraming::None | BodyFraming::Length(0));
        }
        Ok(())
    }

    /// HTTP/1.1 without Host is refused (RFC 9112 section 3.2). Section 3.2.2 would have the
    /// authority of an absolute target win over a Host that differs; but a proxy that routed by the
    /// one and an application that believes the other are how caches are poisoned.
    ///
    /// A Host without a host is for URIs without an authority (RFC 9112 section 3.2), and no `http` or
    /// `https` URI is one: it must be rejected (RFC 9110 section 4.2.1), whatever the form of the target.
    /// HTTP/1.0 knows no Host, an empty one is as good as none there.
    fn check_host(&self, facts: &Facts, source: Source<'_>) -> Result<(), PeerFault> {
        match (self.host, facts.authority) {
            (None, _) if facts.version == Version::Http11 => Err(PeerFault::MissingHost),
            (Some(host), _)
                if facts.version == Version::Http11 && names_no_host(source.piece(host)) =>
            {
                Err(PeerFault::EmptyHost)
            }
            (Some(host), Some(authority))
                if !same_authority(
                    source.piece(host),
                    source.piece(authority),
                    facts.authority_is_https,
                ) =>
            {
                Err(PeerFault::HostMismatch)
            }
            _ => Ok(()),
        }
    }

    /// RFC 9112 section 6.3, without the cases it leaves to the recipient.
    fn framing(&self, is_http11: bool) -> Result<BodyFraming, PeerFault> {
        match (self.coding, self.content_length) {
            (Coding::None, None) => Ok(BodyFraming::None),
            (Coding::None, Some(length)) => Ok(BodyFraming::Length(length)),
            _ if !is_http11 => Err(PeerFault::TransferEncodingOnHttp10),
            (_, Some(_)) => Err(PeerFault::LengthWithTransferEncoding),
            (Coding::Compressed, None) => Err(PeerFault::InvalidTransferEncoding),
            (Coding::CompressedChunked, None) => Err(PeerFault::UnsupportedTransferCoding),
            (Coding::Chunked, None) => Ok(BodyFraming::Chunked),
        }
    }
}

/// Is this authority empty, but perhaps for a port?
fn names_no_host(authority: &[u8]) -> bool {
    matches!(authority.first(), None | Some(b':'))
}

impl Coding {
    /// After one more coding: nothing may follow `chunked`, and it may not come twice.
    fn then(self, coding: &[u8]) -> Result<Self, PeerFault> {
        let is = |known: &[u8]| coding.eq_ignore_ascii_case(known);
        match self {
            Self::Chunked | Self::CompressedChunked => Err(PeerFault::InvalidTransferEncoding),
            Self::None if is(b"chunked") => Ok(Self::Chunked),
            Self::Compressed if is(b"chunked") => Ok(Self::CompressedChunked),
            _ if coding.is_empty() || is(b"identity") => Err(PeerFault::InvalidTransferEncoding),
            _ if KNOWN_CODINGS.iter().any(|known| is(known)) => Ok(Self::Compressed),
            _ => Err(PeerFault::UnsupportedTransferCoding),
        }
    }
}

/// The registered codings besides `chunked` (RFC 9112 section 7.2).
const KNOWN_CODINGS: [&[u8]; 5] = [b"gzip", b"x-gzip", b"deflate", b"compress", b"x-compress"];

fn check_body_limit(framing: BodyFraming, limits: &Limits) -> Result<(), PeerFault> {
    match (framing, limits.body) {
        (BodyFraming::Length(length), Some(limit)) if length > limit => {
            Err(PeerFault::ContentTooLarge)
        }
        _ => Ok(()),
    }
}
