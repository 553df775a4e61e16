//! HTTP/1.0 and HTTP/1.1, the server's side (RFC 9110, RFC 9112).
//!
//! The walk through an exchange:
//!
//! ```text
//!  poll_event -> Head            head(bytes): method, path, headers, framing, keep-alive
//!             -> Body(range)*    pieces of the body, framing removed
//!             -> BodyEnd         trailers(bytes)
//!  encode_informational*         100, 103
//!  encode_response_head          framing and persistence decided here
//!  encode_body* | (body_prefix, raw bytes, body_suffix)*
//!  finish_response -> KeepAlive  start_next_exchange, and again
//!                  -> Drain      poll to BodyEnd, start_next_exchange, and again
//!                  -> Close
//! ```
//!
//! Receiving and sending are independent: a response may begin before the body has come.
//!
//! ```
//! use std::sync::Arc;
//! use oxicorn_proto::http1::{Connection, Event, Next, ResponseHead, Rules};
//!
//! let mut connection = Connection::new(Arc::new(Rules::default()));
//! let input = b"GET /hello HTTP/1.1\r\nHost: a.example\r\n\r\n";
//! let polled = connection.poll_event(input)?;
//! assert_eq!(polled.event, Event::Head);
//! assert_eq!(connection.head(&input[..polled.consumed]).path(), b"/hello");
//! assert_eq!(connection.poll_event(b"")?.event, Event::BodyEnd);
//!
//! let mut out = Vec::new();
//! let head = ResponseHead { status: 200, reason: b"OK", ..ResponseHead::default() };
//! connection.encode_response_head(&head, [(&b"Content-Length"[..], &b"2"[..])], &mut out)?;
//! connection.encode_body(b"hi", &mut out)?;
//! assert_eq!(connection.finish_response([], &mut out)?, Next::KeepAlive);
//! connection.start_next_exchange()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The rules, and where they stand
//!
//! "9110" and "9112" are the RFCs. Each rule has messages in `tests/corpus`.
//!
//! | rule | where from | file | answer |
//! |---|---|---|---|
//! | lines end with CRLF; bare LF and bare CR nowhere | 9112 2.2 (stricter) | `section`, `request_line`, `chunked` | 400 |
//! | one empty line before a request, not two | 9112 2.2 | `request_line` | 400 |
//! | three parts, single spaces | 9112 3 | `request_line` | 400 |
//! | method is a token of 3 to 20 bytes, no lower case, no `#` | 9110 9.1, Gunicorn | `request_line` | 400 |
//! | target is printable ASCII, of a form its method may have | 9112 3.2 | `request_line`, `target` | 400 |
//! | absolute target: http or https, a host, no user | 9110 4.2 | `target` | 400 |
//! | `HTTP/1.` and a digit; another major version | 9112 2.3, 9110 15.6.6 | `request_line` | 400; 505 |
//! | field line: token, colon at once, value without controls | 9112 5, 9110 5.5 | `section` | 400 |
//! | no folded lines | 9112 5.2 | `section` | 400 |
//! | underscores dropped, refused or kept | Gunicorn `header_map` | `policy` | - or 400 |
//! | 1.1 has a Host; nobody has two; it is `host[:port]` | 9112 3.2 | `policy` | 400 |
//! | Host agrees with an absolute target | 9112 3.2.2 (stricter) | `policy` | 400 |
//! | one Content-Type | 9110 8.3 | `policy` | 400 |
//! | one Content-Length, digits only, 64 bits | 9110 8.6, 9112 6.3 (stricter) | `policy` | 400; 413 |
//! | no Content-Length beside Transfer-Encoding | 9112 6.1 (stricter) | `policy` | 400 |
//! | no Transfer-Encoding on 1.0 | 9112 6.1 (stricter) | `policy` | 400 |
//! | codings end in one `chunked` | 9112 6.3 | `policy` | 400 |
//! | no other coding is decoded | 9112 6.1 | `policy` | 501 |
//! | expectations other than 100-continue | 9110 10.1.1 | `policy` | 417 |
//! | chunk size of 1 to 16 hex digits, extensions by grammar | 9112 7.1 | `chunked` | 400 |
//! | CRLF after chunk data | 9112 7.1 | `chunked` | 400 |
//! | trailers are fields, none that frames, routes or authorises | 9110 6.5.1 | `chunked`, `policy` | 400 |
//! | limits | Gunicorn, `Limits` | each | 413, 414, 431, 400 |
//! | EOF in the middle of a message | 9112 8 | `connection` | 400 |
//! | keep-alive by version and all Connection options | 9112 9.3, 9110 7.6.1 | `policy`, `connection` | |
//! | chunked only to 1.1, only with a body, only without a length | 9112 6.1, 6.3 | `response` | |
//! | no body with HEAD, 204, 304; no length with 204 | 9110 6.4.1, 8.6 | `response` | |
//! | application's hop-by-hop headers, Date and Server dropped | 9110 7.6.1, Gunicorn | `response` | |
//! | a response shorter than its length is an error | 9112 8 | `connection` | |
//! | 1xx never to 1.0 | 9110 15.2 | `connection` | |
//! | final response without the awaited 100: close | 9110 10.1.1 | `connection` | |

mod chunked;
mod connection;
pub(crate) mod grammar;
mod head;
mod own_line;
mod policy;
mod request_line;
mod response;
mod rules;
mod scan;
mod section;
mod target;
#[cfg(test)]
mod tests;

pub use crate::message::{BodyFraming, Fields, Header, RequestHead, ResponseHead, Version};
pub use connection::{Behind, Connection, Event, Polled};
pub use grammar::{check_field_name, check_field_value, first_line};
pub use own_line::OwnLine;
pub use response::{BodyOutcome, CloseReason, Next, ResponseFraming, check_trailer_name};
pub use rules::{
    FIELD_SIZE_DEFAULT, FIELDS_MAX, HeaderMap, Limits, REQUEST_LINE_MAX, REQUEST_LINE_UNLIMITED,
    Rules, Strictness,
};
pub(crate) use target::same_authority;
