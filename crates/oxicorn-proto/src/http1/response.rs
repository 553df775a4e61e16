//! The words of the response side: what the caller gives, what it is told.

/// The start of a response, beside the application's headers.
#[derive(Clone, Copy, Debug)]
pub struct ResponseHead<'a> {
    /// 200 to 999, or 101.
    pub status: u16,
    /// The reason phrase; may be empty.
    pub reason: &'a [u8],
    /// Value of the Server line; empty: no such line.
    pub server: &'a [u8],
    /// Value of the Date line; empty: no such line.
    pub date: &'a [u8],
    /// Length of the whole body where the caller has it already: counted framing is used then even
    /// if the application gave no Content-Length.
    pub body_length: Option<u64>,
}

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
