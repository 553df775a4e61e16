//! The view of a request head: names for the pieces of bytes the driver holds.
//!
//! Nothing is copied: a head is positions kept in the connection and read against the bytes of the
//! [`Head`](super::Event::Head) event.

/// The two versions that differ for framing; `HTTP/1.2` to `1.9` are treated as 1.1 (RFC 9110
/// section 2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// HTTP/1.0: no chunked, closes unless asked to stay.
    Http10,
    /// HTTP/1.1.
    Http11,
}

/// How the end of a request body is known (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BodyFraming {
    /// Neither Content-Length nor Transfer-Encoding: no body.
    None,
    /// Exactly so many bytes.
    Length(u64),
    /// Chunks, until the one of size zero and the trailers after it.
    Chunked,
}

/// One header line, or one trailer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// A token, in the peer's case.
    pub name: &'a [u8],
    /// Without whitespace at either end and without control bytes.
    pub value: &'a [u8],
}

/// The request head last reported, read against the bytes of its event.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    bytes: &'a [u8],
}

impl<'a> RequestHead<'a> {
    /// The method, in upper case where `casefold_http_method` says so.
    pub fn method(&self) -> &'a [u8] {
        let _ = self.bytes;
        todo!()
    }
    /// The target as it was sent.
    pub fn request_target(&self) -> &'a [u8] {
        todo!()
    }
    /// The path, still percent-encoded: of an absolute target the part after the authority (`/`
    /// where there is none), without query and fragment; `*` of an asterisk target; empty for
    /// CONNECT.
    pub fn path(&self) -> &'a [u8] {
        todo!()
    }
    /// What follows the first `?`, without it and without a fragment; empty where there is none.
    pub fn query_string(&self) -> &'a [u8] {
        todo!()
    }
    /// The version that decides framing.
    pub fn version(&self) -> Version {
        todo!()
    }
    /// The version as it was sent, such as `HTTP/1.1`.
    pub fn protocol(&self) -> &'a [u8] {
        todo!()
    }
    /// The request line as it was sent, without CRLF.
    pub fn request_line(&self) -> &'a [u8] {
        todo!()
    }
    /// The headers in order; those the policy dropped are gone.
    pub fn headers(&self) -> impl ExactSizeIterator<Item = Header<'a>> + Clone + use<'a> {
        std::iter::empty()
    }
    /// How the end of the body is known.
    pub fn framing(&self) -> BodyFraming {
        todo!()
    }
    /// The peer wishes (or, on 1.1, does not refuse) another exchange on this connection.
    pub fn keep_alive(&self) -> bool {
        todo!()
    }
    /// The peer waits for a 100 before it sends the body (RFC 9110 section 10.1.1).
    pub fn expect_continue(&self) -> bool {
        todo!()
    }
    /// The value of Upgrade, where Connection names it and the version is 1.1 (RFC 9110 section
    /// 7.8).
    pub fn upgrade(&self) -> Option<&'a [u8]> {
        todo!()
    }
    /// The authority asked for: of an absolute target its own, else Host (RFC 9112 section 3.3).
    pub fn host(&self) -> Option<&'a [u8]> {
        todo!()
    }
    /// `Some(true)` for `https://` and `Some(false)` for `http://` in an absolute target.
    pub fn absolute_is_https(&self) -> Option<bool> {
        todo!()
    }
    /// The peer said `TE: trailers` (RFC 9110 section 10.1.4).
    pub fn accepts_trailers(&self) -> bool {
        todo!()
    }
}
