//! Whose fault it was: every deviation of a peer and every misuse by our own side, by name.
//!
//! One table maps a fault to what is logged ([`std::fmt::Display`]) and one to what is answered
//! ([`PeerFault::status`]). There is no catch-all variant: a new rule gets a new name here first.

use std::error::Error;
use std::fmt;

/// What the peer did that it must not do. After one of these the connection is finished: the caller
/// answers with [`PeerFault::status`] where a response has not begun, and closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PeerFault {
    /// A line ended with LF alone (RFC 9112 section 2.2 allows, smuggling forbids).
    BareLineFeed,
    /// A CR that is not followed by LF (RFC 9112 section 2.2).
    BareCarriageReturn,
    /// Not exactly method, target and version with one space between (RFC 9112 section 3).
    InvalidRequestLine,
    /// Not a token, or an unconventional one that the rules do not permit (RFC 9110 section 9.1).
    InvalidMethod,
    /// A byte or a form the request target must not have (RFC 9112 section 3.2).
    InvalidRequestTarget,
    /// Not `HTTP/` digit dot digit (RFC 9112 section 2.3).
    InvalidVersion,
    /// A well-formed version whose major number is not ours (RFC 9110 section 15.6.6).
    UnsupportedVersion,
    /// The request line is longer than `limit_request_line`.
    RequestLineTooLong,
    /// More header lines than `limit_request_fields`.
    TooManyFields,
    /// One header line is longer than `limit_request_field_size`.
    FieldTooLong,
    /// All header lines together are longer than the bound on a head.
    HeadTooLong,
    /// A header line without a colon (RFC 9112 section 5).
    MissingColon,
    /// A field name that is empty or not a token (RFC 9110 section 5.1).
    InvalidFieldName,
    /// Whitespace between the field name and the colon (RFC 9112 section 5.1).
    SpaceBeforeColon,
    /// A control byte in a field value (RFC 9110 section 5.5).
    InvalidFieldValue,
    /// A header continued on the next line (RFC 9112 section 5.2).
    ObsoleteFolding,
    /// A field name with an underscore where `header_map` is `refuse`.
    UnderscoreInFieldName,
    /// CONNECT where `permit_connect` is off: nobody is made a proxy by an answer of 200 (RFC 9110
    /// section 9.3.6).
    ConnectNotPermitted,
    /// HTTP/1.1 without Host (RFC 9112 section 3.2).
    MissingHost,
    /// HTTP/1.1 with a Host that names no host (RFC 9110 section 4.2.1).
    EmptyHost,
    /// More than one Host (RFC 9112 section 3.2).
    DuplicateHost,
    /// A Host that is not `uri-host [":" port]` (RFC 9112 section 3.2).
    InvalidHost,
    /// Host and the authority of an absolute target disagree (RFC 9112 section 3.2.2).
    HostMismatch,
    /// More than one Content-Type (RFC 9110 section 8.3).
    DuplicateContentType,
    /// Content-Length that is not only digits (RFC 9110 section 8.6).
    InvalidContentLength,
    /// More than one Content-Length, equal or not (RFC 9112 section 6.3).
    DuplicateContentLength,
    /// Content-Length beside Transfer-Encoding (RFC 9112 section 6.1).
    LengthWithTransferEncoding,
    /// Transfer-Encoding in an HTTP/1.0 request (RFC 9112 section 6.1).
    TransferEncodingOnHttp10,
    /// A list of codings that does not end in one single `chunked` (RFC 9112 section 6.3).
    InvalidTransferEncoding,
    /// A transfer coding that this server does not decode (RFC 9112 section 6.1).
    UnsupportedTransferCoding,
    /// The body is longer than `limit_request_body` (RFC 9110 section 15.5.14).
    ContentTooLarge,
    /// An expectation other than `100-continue` (RFC 9110 section 10.1.1).
    UnknownExpectation,
    /// A chunk size that is not 1 to 16 hexadecimal digits (RFC 9112 section 7.1).
    InvalidChunkSize,
    /// A chunk extension against its grammar (RFC 9112 section 7.1.1).
    InvalidChunkExtension,
    /// A chunk-size line longer than its bound, or too many extension bytes in one body.
    ChunkLineTooLong,
    /// Chunk data that is not followed by CRLF (RFC 9112 section 7.1).
    MissingChunkTerminator,
    /// A trailer whose meaning is needed before the body (RFC 9110 section 6.5.1).
    ForbiddenTrailer,
    /// The peer closed in the middle of a head.
    TruncatedHead,
    /// The peer closed in the middle of a body.
    TruncatedBody,
    /// A PROXY protocol version 1 line against its grammar.
    InvalidProxyLine,
    /// A PROXY protocol version 2 header against its layout.
    InvalidProxyHeader,
    /// A uwsgi packet whose lengths do not fit together.
    InvalidPacket,
    /// A uwsgi packet that is no request (modifiers other than 0).
    UnsupportedModifier,
    /// A FastCGI record against its layout, or one that cannot come now (FastCGI 1.0 section 3.3).
    InvalidRecord,
    /// A FastCGI request for another role than that of a responder (FastCGI 1.0 section 6).
    UnsupportedRole,
    /// A head of SCGI whose netstring or variables are not as they must be (SCGI section 3).
    InvalidScgiHead,
    /// A FastCGI request that the web server gave up (FastCGI 1.0 section 5.4).
    AbortedRequest,
    /// TLS at an address without it.
    UnexpectedTls,
    /// HTTP at an address that speaks uwsgi, FastCGI or SCGI.
    UnexpectedHttp,
    /// uwsgi at an address that speaks something else.
    UnexpectedUwsgi,
    /// FastCGI at an address that speaks something else.
    UnexpectedFastCgi,
    /// SCGI at an address that speaks something else.
    UnexpectedScgi,
}

impl PeerFault {
    /// All of them, for tables and tests.
    pub const ALL: [Self; 52] = [
        Self::BareLineFeed,
        Self::BareCarriageReturn,
        Self::InvalidRequestLine,
        Self::InvalidMethod,
        Self::InvalidRequestTarget,
        Self::InvalidVersion,
        Self::UnsupportedVersion,
        Self::RequestLineTooLong,
        Self::TooManyFields,
        Self::FieldTooLong,
        Self::HeadTooLong,
        Self::MissingColon,
        Self::InvalidFieldName,
        Self::SpaceBeforeColon,
        Self::InvalidFieldValue,
        Self::ObsoleteFolding,
        Self::UnderscoreInFieldName,
        Self::ConnectNotPermitted,
        Self::MissingHost,
        Self::EmptyHost,
        Self::DuplicateHost,
        Self::InvalidHost,
        Self::HostMismatch,
        Self::DuplicateContentType,
        Self::InvalidContentLength,
        Self::DuplicateContentLength,
        Self::LengthWithTransferEncoding,
        Self::TransferEncodingOnHttp10,
        Self::InvalidTransferEncoding,
        Self::UnsupportedTransferCoding,
        Self::ContentTooLarge,
        Self::UnknownExpectation,
        Self::InvalidChunkSize,
        Self::InvalidChunkExtension,
        Self::ChunkLineTooLong,
        Self::MissingChunkTerminator,
        Self::ForbiddenTrailer,
        Self::TruncatedHead,
        Self::TruncatedBody,
        Self::InvalidProxyLine,
        Self::InvalidProxyHeader,
        Self::InvalidPacket,
        Self::UnsupportedModifier,
        Self::InvalidRecord,
        Self::UnsupportedRole,
        Self::InvalidScgiHead,
        Self::AbortedRequest,
        Self::UnexpectedTls,
        Self::UnexpectedHttp,
        Self::UnexpectedUwsgi,
        Self::UnexpectedFastCgi,
        Self::UnexpectedScgi,
    ];

    /// The one status this fault is answered with.
    pub const fn status(self) -> u16 {
        use PeerFault as F;
        match self {
            F::BareLineFeed
            | F::BareCarriageReturn
            | F::InvalidRequestLine
            | F::InvalidMethod
            | F::InvalidRequestTarget
            | F::InvalidVersion
            | F::MissingColon
            | F::InvalidFieldName
            | F::SpaceBeforeColon
            | F::InvalidFieldValue
            | F::ObsoleteFolding
            | F::UnderscoreInFieldName
            | F::MissingHost
            | F::EmptyHost
            | F::DuplicateHost
            | F::InvalidHost
            | F::HostMismatch
            | F::DuplicateContentType
            | F::InvalidContentLength
            | F::DuplicateContentLength
            | F::LengthWithTransferEncoding
            | F::TransferEncodingOnHttp10
            | F::InvalidTransferEncoding
            | F::InvalidChunkSize
            | F::InvalidChunkExtension
            | F::ChunkLineTooLong
            | F::MissingChunkTerminator
            | F::ForbiddenTrailer
            | F::TruncatedHead
            | F::TruncatedBody
            | F::InvalidProxyLine
            | F::InvalidProxyHeader
            | F::InvalidPacket
            | F::InvalidRecord
            | F::InvalidScgiHead
            | F::AbortedRequest
            | F::UnexpectedTls
            | F::UnexpectedHttp
            | F::UnexpectedUwsgi
            | F::UnexpectedFastCgi
            | F::UnexpectedScgi => 400,
            F::ContentTooLarge => 413,
            F::RequestLineTooLong => 414,
            F::UnknownExpectation => 417,
            F::TooManyFields | F::FieldTooLong | F::HeadTooLong => 431,
            F::UnsupportedTransferCoding
            | F::ConnectNotPermitted
            | F::UnsupportedModifier
            | F::UnsupportedRole => 501,
            F::UnsupportedVersion => 505,
        }
    }

    /// The reason phrase that belongs to [`PeerFault::status`].
    pub const fn reason(self) -> &'static str {
        match self.status() {
            413 => "Content Too Large",
            414 => "URI Too Long",
            417 => "Expectation Failed",
            431 => "Request Header Fields Too Large",
            501 => "Not Implemented",
            505 => "HTTP Version Not Supported",
            _ => "Bad Request",
        }
    }

    /// What is said of it in logs and in the plain body of the answer.
    pub const fn message(self) -> &'static str {
        use PeerFault as F;
        match self {
            F::BareLineFeed => "line ended by a bare line feed",
            F::BareCarriageReturn => "carriage return without a line feed",
            F::InvalidRequestLine => "invalid request line",
            F::InvalidMethod => "invalid method",
            F::InvalidRequestTarget => "invalid request target",
            F::InvalidVersion => "invalid protocol version",
            F::UnsupportedVersion => "unsupported protocol version",
            F::RequestLineTooLong => "request line too long",
            F::TooManyFields => "too many header fields",
            F::FieldTooLong => "header field too long",
            F::HeadTooLong => "header section too long",
            F::MissingColon => "header line without a colon",
            F::InvalidFieldName => "invalid header name",
            F::SpaceBeforeColon => "space between header name and colon",
            F::InvalidFieldValue => "invalid byte in a header value",
            F::ObsoleteFolding => "header folded over several lines",
            F::UnderscoreInFieldName => "underscore in a header name",
            F::ConnectNotPermitted => "connect is not permitted",
            F::MissingHost => "missing host header",
            F::EmptyHost => "empty host header",
            F::DuplicateHost => "more than one host header",
            F::InvalidHost => "invalid host header",
            F::HostMismatch => "host header and request target disagree",
            F::DuplicateContentType => "more than one content-type header",
            F::InvalidContentLength => "invalid content-length",
            F::DuplicateContentLength => "more than one content-length",
            F::LengthWithTransferEncoding => "content-length beside transfer-encoding",
            F::TransferEncodingOnHttp10 => "transfer-encoding in an http/1.0 request",
            F::InvalidTransferEncoding => "transfer-encoding that does not end in one chunked",
            F::UnsupportedTransferCoding => "unsupported transfer coding",
            F::ContentTooLarge => "request body too large",
            F::UnknownExpectation => "unknown expectation",
            F::InvalidChunkSize => "invalid chunk size",
            F::InvalidChunkExtension => "invalid chunk extension",
            F::ChunkLineTooLong => "chunk extensions too long",
            F::MissingChunkTerminator => "chunk data not followed by a line end",
            F::ForbiddenTrailer => "field that is not allowed as a trailer",
            F::TruncatedHead => "connection closed in the middle of a request head",
            F::TruncatedBody => "connection closed in the middle of a request body",
            F::InvalidProxyLine => "invalid proxy protocol line",
            F::InvalidProxyHeader => "invalid proxy protocol header",
            F::InvalidPacket => "invalid uwsgi packet",
            F::InvalidRecord => "invalid fastcgi record",
            F::UnsupportedRole => "unsupported fastcgi role",
            F::InvalidScgiHead => "invalid scgi head",
            F::AbortedRequest => "request given up by the web server",
            F::UnexpectedTls => {
                "tls was sent to an address that does not speak it: set certfile, or bind https://"
            }
            F::UnexpectedHttp => {
                "http was sent to an address that speaks uwsgi, fastcgi or scgi: set protocol to http, or bind http://"
            }
            F::UnexpectedUwsgi => {
                "uwsgi was sent to an address that does not speak it: set protocol to uwsgi, or bind uwsgi://"
            }
            F::UnexpectedFastCgi => {
                "fastcgi was sent to an address that does not speak it: set protocol to fastcgi, or bind fastcgi://"
            }
            F::UnexpectedScgi => {
                "scgi was sent to an address that does not speak it: set protocol to scgi, or bind scgi://"
            }
            F::UnsupportedModifier => "no uwsgi request (modifiers other than 0)",
        }
    }

    /// Where the rule stands that was broken; "stricter" where the RFC leaves a choice.
    pub const fn rule(self) -> &'static str {
        use PeerFault as F;
        match self {
            F::BareLineFeed => "RFC 9112 section 2.2, stricter",
            F::BareCarriageReturn => "RFC 9112 section 2.2",
            F::InvalidRequestLine | F::RequestLineTooLong => "RFC 9112 section 3",
            F::InvalidMethod => "RFC 9110 section 9.1; shape as Gunicorn",
            F::InvalidRequestTarget => "RFC 9112 section 3.2, RFC 9110 section 4.2",
            F::InvalidVersion => "RFC 9112 section 2.3",
            F::UnsupportedVersion => "RFC 9110 section 15.6.6",
            F::TooManyFields | F::FieldTooLong | F::HeadTooLong => "RFC 6585 section 5",
            F::MissingColon => "RFC 9112 section 5",
            F::InvalidFieldName => "RFC 9110 section 5.1",
            F::SpaceBeforeColon => "RFC 9112 section 5.1",
            F::InvalidFieldValue => "RFC 9110 section 5.5",
            F::ObsoleteFolding => "RFC 9112 section 5.2",
            F::UnderscoreInFieldName => "Gunicorn",
            F::MissingHost | F::DuplicateHost | F::InvalidHost => "RFC 9112 section 3.2",
            F::ConnectNotPermitted => "RFC 9110 section 9.3.6",
            F::EmptyHost => "RFC 9110 section 4.2.1, RFC 9112 section 3.3",
            F::HostMismatch => "RFC 9112 section 3.2.2, stricter",
            F::DuplicateContentType => "RFC 9110 sections 5.3 and 8.3",
            F::InvalidContentLength => "RFC 9110 section 8.6",
            F::DuplicateContentLength => "RFC 9112 section 6.3, stricter",
            F::LengthWithTransferEncoding => "RFC 9112 section 6.1, stricter",
            F::TransferEncodingOnHttp10 | F::UnsupportedTransferCoding => "RFC 9112 section 6.1",
            F::InvalidTransferEncoding => "RFC 9112 section 6.3",
            F::ContentTooLarge => "RFC 9110 section 15.5.14",
            F::UnknownExpectation => "RFC 9110 section 10.1.1",
            F::InvalidChunkSize | F::MissingChunkTerminator => "RFC 9112 section 7.1",
            F::InvalidChunkExtension | F::ChunkLineTooLong => "RFC 9112 section 7.1.1",
            F::ForbiddenTrailer => "RFC 9110 section 6.5.1, stricter",
            F::TruncatedHead | F::TruncatedBody => "RFC 9112 section 8",
            F::InvalidProxyLine => "PROXY protocol section 2.1",
            F::InvalidProxyHeader => "PROXY protocol section 2.2",
            F::InvalidPacket | F::UnsupportedModifier => "uwsgi protocol",
            F::InvalidRecord => "FastCGI section 3.3",
            F::UnsupportedRole => "FastCGI section 6",
            F::InvalidScgiHead => "SCGI section 3",
            F::AbortedRequest => "FastCGI section 5.4",
            F::UnexpectedTls
            | F::UnexpectedHttp
            | F::UnexpectedUwsgi
            | F::UnexpectedFastCgi
            | F::UnexpectedScgi => "the first bytes",
        }
    }

    /// The settings that move the rule, separated by commas; empty: none does.
    pub const fn settings(self) -> &'static str {
        use PeerFault as F;
        match self {
            F::InvalidMethod => "permit_unconventional_http_method",
            F::UnsupportedVersion => "permit_unconventional_http_version",
            F::ConnectNotPermitted => "permit_connect",
            F::RequestLineTooLong => "limit_request_line",
            F::TooManyFields => "limit_request_fields",
            F::FieldTooLong | F::ChunkLineTooLong => "limit_request_field_size",
            F::HeadTooLong => "limit_request_fields, limit_request_field_size",
            F::SpaceBeforeColon => "strip_header_spaces",
            F::ObsoleteFolding => "permit_obsolete_folding",
            F::UnderscoreInFieldName => "header_map, forwarder_headers",
            F::ContentTooLarge => "limit_request_body",
            F::InvalidProxyLine | F::InvalidProxyHeader => "proxy_protocol",
            F::InvalidPacket
            | F::UnsupportedModifier
            | F::InvalidRecord
            | F::UnsupportedRole
            | F::InvalidScgiHead => "protocol",
            F::UnexpectedTls => "certfile, bind",
            F::UnexpectedHttp | F::UnexpectedUwsgi | F::UnexpectedFastCgi | F::UnexpectedScgi => {
                "protocol, bind"
            }
            _ => "",
        }
    }
}

impl fmt::Display for PeerFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl Error for PeerFault {}

/// What our own side (the driver, or the application behind it) asked for that cannot be done.
/// Nothing was changed and nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LocalMisuse {
    /// This call does not belong to the state the exchange is in.
    OutOfOrder,
    /// A status outside 100 to 999, or one that this call does not send.
    InvalidStatus,
    /// A reason phrase with a control byte.
    InvalidReason,
    /// A header name that is not a token.
    InvalidFieldName,
    /// A header value with a control byte.
    InvalidFieldValue,
    /// The application's Content-Length is not a number.
    InvalidContentLength,
    /// The application gave two different Content-Length values.
    ConflictingContentLength,
    /// A trailer that must not be one (RFC 9110 section 6.5.1).
    ForbiddenTrailer,
    /// Status 101, but the peer asked for no upgrade (RFC 9110 section 7.8).
    UpgradeNotRequested,
    /// The response ended before its Content-Length: the connection must be cut, so that the peer
    /// can see it (RFC 9112 section 8).
    Incomplete {
        /// How many promised bytes never came.
        missing: u64,
    },
}

impl fmt::Display for LocalMisuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OutOfOrder => "call out of order",
            Self::InvalidStatus => "invalid response status",
            Self::InvalidReason => "invalid reason phrase",
            Self::InvalidFieldName => "invalid response header name",
            Self::InvalidFieldValue => "invalid byte in a response header value",
            Self::InvalidContentLength => "invalid content-length in a response",
            Self::ConflictingContentLength => "two different content-lengths in a response",
            Self::ForbiddenTrailer => "field that is not allowed as a trailer",
            Self::UpgradeNotRequested => "switching protocols without a request for it",
            Self::Incomplete { missing } => {
                return write!(
                    f,
                    "response ended {missing} bytes before its content-length"
                );
            }
        })
    }
}

impl Error for LocalMisuse {}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_fault_has_a_name_and_a_status_of_its_own_kind() {
        let mut messages = HashSet::new();
        for (index, fault) in PeerFault::ALL.into_iter().enumerate() {
            assert_eq!(fault as usize, index, "ALL is complete and in order");
            assert!(matches!(
                fault.status(),
                400 | 413 | 414 | 417 | 431 | 501 | 505
            ));
            assert_eq!(
                fault.reason() == "Bad Request",
                fault.status() == 400,
                "{fault:?}"
            );
            assert!(
                messages.insert(fault.message()),
                "{fault:?} says what another says"
            );
        }
    }

    #[test]
    fn messages_are_lower_case_without_stop() {
        let misuses = [
            LocalMisuse::OutOfOrder,
            LocalMisuse::InvalidStatus,
            LocalMisuse::InvalidReason,
            LocalMisuse::InvalidFieldName,
            LocalMisuse::InvalidFieldValue,
            LocalMisuse::InvalidContentLength,
            LocalMisuse::ConflictingContentLength,
            LocalMisuse::ForbiddenTrailer,
            LocalMisuse::UpgradeNotRequested,
            LocalMisuse::Incomplete { missing: 3 },
        ];
        let faults = PeerFault::ALL.iter().map(ToString::to_string);
        for message in faults.chain(misuses.iter().map(ToString::to_string)) {
            assert_eq!(message, message.to_lowercase());
            assert!(!message.is_empty() && !message.ends_with('.'));
        }
    }
}
