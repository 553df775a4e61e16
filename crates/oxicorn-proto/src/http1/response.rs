//! The response side without its states: what is decided for a head, and how it is written.
//!
//! Decides the framing of a response (RFC 9112 section 6.3) and which of the application's headers
//! reach the peer. Refuses to know when: that is [`connection`](super::connection).
//!
//! Theory of operation: the application's headers are checked and written in one pass, in which
//! those that are the server's business are set aside; framing follows from what was set aside and
//! is written last. Every name, value and reason is checked on its way into the buffer, so no CR, LF
//! or NUL of an application can end a line here; on an error the caller truncates the buffer.

use std::io::Write as _;

use super::grammar::{check_field_name, check_field_value, decimal, list, same_name, trim};
use super::policy::is_forbidden_trailer;
use crate::fault::LocalMisuse;
use crate::message::{ResponseHead, Version};

/// How the end of a response body is told to the peer (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ResponseFraming {
    /// There is none, whatever the application yields: HEAD, 204, 304 (RFC 9110 section 6.4.1).
    NoBody,
    /// Exactly so many bytes; more are dropped, fewer are an error.
    Length(u64),
    /// In chunks.
    Chunked,
    /// By closing the connection.
    UntilClose,
    /// 101: what follows is not HTTP.
    Switched,
}

/// What became of a piece of body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BodyOutcome {
    /// Bytes that go to the peer.
    pub sent: u64,
    /// Bytes that do not: beyond Content-Length, or no body is allowed here.
    pub dropped: u64,
}

/// What the connection does after a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Next {
    /// Serve another exchange: `start_next_exchange`.
    KeepAlive,
    /// The same, but the body of this request has not all been read: poll it away up to `BodyEnd`
    /// first, as far as the caller has patience, or close.
    Drain,
    /// Close after everything is written.
    Close(CloseReason),
}

/// Why a connection ends after a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// Connection: close, or HTTP/1.0 without keep-alive.
    PeerWish,
    /// `deny_keep_alive` was called: draining, or too many requests.
    Denied,
    /// The application said `Connection: close`.
    ApplicationWish,
    /// The end of the response is told by closing.
    Undelimited,
    /// The request broke a rule: what follows it cannot be trusted.
    Faulty,
    /// There was no request that this answered.
    Unsolicited,
    /// CONNECT: the peer takes what follows for a tunnel.
    Connect,
    /// The peer was waiting for a 100 that never came: it may or may not send the body now.
    ExpectationOpen,
    /// The protocol was switched.
    Switched,
}

/// What of the request a response depends on.
#[derive(Clone, Copy, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one thing of the request"
)]
pub(super) struct Asked {
    pub(super) version: Version,
    /// The peer reads chunks, as far as anybody knows.
    pub(super) chunks: bool,
    pub(super) is_head: bool,
    pub(super) is_connect: bool,
    pub(super) upgrade: bool,
}

/// What the application's headers said of the server's business.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SetAside {
    pub(super) content_length: Option<u64>,
    /// An Upgrade line was written.
    pub(super) upgrade: bool,
    /// `Connection: close`: the one thing it may say of the connection, since ending it harms nobody.
    pub(super) close: bool,
}

/// A response of which the head is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outgoing {
    pub(super) framing: ResponseFraming,
    /// Of `ResponseFraming::Length`.
    pub(super) remaining: u64,
    /// What the head said about the connection.
    pub(super) close: Option<CloseReason>,
}

impl Outgoing {
    pub(super) fn new(framing: ResponseFraming, close: Option<CloseReason>) -> Self {
        let remaining = if let ResponseFraming::Length(length) = framing {
            length
        } else {
            0
        };
        Self {
            framing,
            remaining,
            close,
        }
    }

    /// Counts a piece of `len` bytes: how much of it may go out.
    #[inline]
    pub(super) fn take(&mut self, len: u64) -> BodyOutcome {
        let sent = match self.framing {
            ResponseFraming::NoBody => 0,
            ResponseFraming::Length(_) => len.min(self.remaining),
            ResponseFraming::Chunked | ResponseFraming::UntilClose | ResponseFraming::Switched => {
                len
            }
        };
        self.remaining = self.remaining.saturating_sub(sent);
        BodyOutcome {
            sent,
            dropped: len - sent,
        }
    }
}

/// What becomes of a header of the application.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Keep,
    /// Speaks for this connection, which is not the application's (RFC 9110 section 7.6.1), or is
    /// written by the server: Gunicorn's list.
    Drop,
    ContentLength,
    Connection,
    Upgrade,
}

#[inline]
fn fate(name: &[u8]) -> Fate {
    match name.len() {
        2 if same_name(name, b"te") => Fate::Drop,
        4 if same_name(name, b"date") => Fate::Drop,
        6 if same_name(name, b"server") => Fate::Drop,
        7 if same_name(name, b"upgrade") => Fate::Upgrade,
        8 if same_name(name, b"trailers") => Fate::Drop,
        10 if same_name(name, b"connection") => Fate::Connection,
        10 if same_name(name, b"keep-alive") => Fate::Drop,
        14 if same_name(name, b"content-length") => Fate::ContentLength,
        16 if same_name(name, b"proxy-connection") => Fate::Drop,
        17 if same_name(name, b"transfer-encoding") => Fate::Drop,
        18 if same_name(name, b"proxy-authenticate") => Fate::Drop,
        19 if same_name(name, b"proxy-authorization") => Fate::Drop,
        _ => Fate::Keep,
    }
}

/// `HTTP/1.1 200 OK`. The version is the request's own, as Gunicorn answers; RFC 9112 section 2.3
/// would have 1.1 always, but 1.0 clients that look at it are the ones that ask with it.
#[inline]
pub(super) fn write_status_line(
    out: &mut Vec<u8>,
    version: Version,
    status: u16,
    reason: &[u8],
) -> Result<(), LocalMisuse> {
    if check_field_value(reason).is_err() {
        return Err(LocalMisuse::InvalidReason);
    }
    let digit = |number: u16| b'0' + (number % 10).to_le_bytes()[0];
    let mut start = *b"HTTP/1.1 200 ";
    start[7] = if version == Version::Http10 {
        b'0'
    } else {
        b'1'
    };
    start[9..12].copy_from_slice(&[digit(status / 100), digit(status / 10), digit(status)]);
    out.extend_from_slice(&start);
    out.extend_from_slice(reason);
    out.extend_from_slice(b"\r\n");
    Ok(())
}

#[inline]
fn write_line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) -> Result<(), LocalMisuse> {
    check_field_value(value)?;
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// Writes the application's headers. An Upgrade line is kept where it means something: with 101 and
/// 426 (RFC 9110 sections 7.8 and 15.5.22).
#[inline]
pub(super) fn write_headers<'h>(
    out: &mut Vec<u8>,
    status: u16,
    headers: impl IntoIterator<Item = (&'h [u8], &'h [u8])>,
) -> Result<SetAside, LocalMisuse> {
    let mut aside = SetAside::default();
    for (name, value) in headers {
        check_field_name(name)?;
        let value = trim(value);
        match fate(name) {
            Fate::Keep => write_line(out, name, value)?,
            Fate::Upgrade if matches!(status, 101 | 426) => {
                write_line(out, name, value)?;
                aside.upgrade = true;
            }
            Fate::ContentLength => set_content_length(&mut aside, value)?,
            Fate::Connection => {
                check_field_value(value)?;
                aside.close |= list(value).any(|option| option.eq_ignore_ascii_case(b"close"));
            }
            Fate::Drop | Fate::Upgrade => check_field_value(value)?,
        }
    }
    Ok(aside)
}

/// Equal ones are one (the application may sit behind layers that each add it).
fn set_content_length(aside: &mut SetAside, value: &[u8]) -> Result<(), LocalMisuse> {
    let length = decimal(value)
        .flatten()
        .ok_or(LocalMisuse::InvalidContentLength)?;
    if aside.content_length.is_some_and(|other| other != length) {
        return Err(LocalMisuse::ConflictingContentLength);
    }
    aside.content_length = Some(length);
    Ok(())
}

/// How the end of the body will be told, and the Content-Length line that goes with it.
pub(super) fn decide_framing(
    head: &ResponseHead<'_>,
    aside: SetAside,
    asked: Asked,
) -> Result<(ResponseFraming, Option<u64>), LocalMisuse> {
    let counted = aside.content_length.or(head.body_length);
    Ok(match head.status {
        101 if !asked.upgrade || !aside.upgrade => return Err(LocalMisuse::UpgradeNotRequested),
        101 => (ResponseFraming::Switched, None),
        0..200 | 1000.. => return Err(LocalMisuse::InvalidStatus),
        // RFC 9110 section 9.3.6: no framing; and section 8.6: no Content-Length.
        200..300 if asked.is_connect => (ResponseFraming::UntilClose, None),
        204 => (ResponseFraming::NoBody, None),
        // RFC 9110 section 15.3.6: no content, but RFC 9112 section 6.3 makes no exception for it.
        205 => (ResponseFraming::Length(0), Some(0)),
        // What GET, or 200, would have had (RFC 9110 section 8.6): only the application knows.
        304 => (ResponseFraming::NoBody, aside.content_length),
        _ if asked.is_head => (ResponseFraming::NoBody, aside.content_length),
        _ => match counted {
            Some(length) => (ResponseFraming::Length(length), counted),
            None if asked.chunks => (ResponseFraming::Chunked, None),
            None => (ResponseFraming::UntilClose, None),
        },
    })
}

/// The status as CGI has it.
pub(super) fn write_cgi_status(
    out: &mut Vec<u8>,
    status: u16,
    reason: &[u8],
) -> Result<(), LocalMisuse> {
    let start = out.len();
    write_status_line(out, Version::Http11, status, reason)?;
    out.splice(start..start + b"HTTP/1.1".len(), *b"Status:");
    Ok(())
}

/// The lines that frame the message and end the head; `about_connection`: whether an upgrade was agreed
/// on, and whether the connection closes.
#[inline]
pub(super) fn write_framing(
    out: &mut Vec<u8>,
    framing: ResponseFraming,
    content_length: Option<u64>,
    about_connection: Option<(bool, bool)>,
) {
    if let Some(length) = content_length {
        out.extend_from_slice(b"Content-Length: ");
        out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    if framing == ResponseFraming::Chunked {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    let Some((upgrade, close)) = about_connection else {
        out.extend_from_slice(b"\r\n");
        return;
    };
    // Said on every response, also where 1.1 has it as default: so does Gunicorn.
    out.extend_from_slice(match (framing, upgrade, close) {
        (ResponseFraming::Switched, _, _) => b"Connection: upgrade\r\n\r\n",
        (_, true, true) => b"Connection: upgrade, close\r\n\r\n",
        (_, true, false) => b"Connection: upgrade, keep-alive\r\n\r\n",
        (_, false, true) => b"Connection: close\r\n\r\n",
        (_, false, false) => b"Connection: keep-alive\r\n\r\n",
    });
}

/// The chunk-size line of `len` bytes, which are not zero: that would be the last chunk.
#[inline]
pub(super) fn write_chunk_size(out: &mut Vec<u8>, len: u64) {
    debug_assert_ne!(len, 0, "an empty chunk ends the body");
    // Writing to a Vec cannot fail.
    let _ = write!(out, "{len:x}\r\n");
}

/// Whether a response may have such a trailer (RFC 9110 section 6.5.1): a token, and nothing that
/// frames, routes, authorises or describes the body, nor what the server writes.
pub fn check_trailer_name(name: &[u8]) -> Result<(), LocalMisuse> {
    check_field_name(name)?;
    if is_forbidden_trailer(name) || fate(name) != Fate::Keep {
        return Err(LocalMisuse::ForbiddenTrailer);
    }
    Ok(())
}

/// The last chunk and the trailer section.
pub(super) fn write_last_chunk<'h>(
    out: &mut Vec<u8>,
    trailers: impl IntoIterator<Item = (&'h [u8], &'h [u8])>,
) -> Result<(), LocalMisuse> {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers {
        check_trailer_name(name)?;
        write_line(out, name, trim(value))?;
    }
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// The whole of a 1xx response.
pub(super) fn write_informational<'h>(
    out: &mut Vec<u8>,
    status: u16,
    headers: impl IntoIterator<Item = (&'h [u8], &'h [u8])>,
) -> Result<(), LocalMisuse> {
    let reason: &[u8] = match status {
        100 => b"Continue",
        102 => b"Processing",
        103 => b"Early Hints",
        _ => b"",
    };
    write_status_line(out, Version::Http11, status, reason)?;
    write_headers(out, status, headers)?;
    out.extend_from_slice(b"\r\n");
    Ok(())
}
