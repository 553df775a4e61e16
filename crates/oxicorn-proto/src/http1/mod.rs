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

mod chunked;
mod connection;
mod grammar;
mod head;
mod policy;
mod request;
mod response;
mod rules;
mod section;
mod target;

pub use connection::{Connection, Event, Polled};
pub use grammar::{check_field_name, check_field_value, first_line, percent_decode};
pub use request::{BodyFraming, Fields, Header, RequestHead, Version};
pub use response::{BodyOutcome, CloseReason, Next, ResponseFraming, ResponseHead};
pub use rules::{
    FIELD_SIZE_DEFAULT, FIELDS_MAX, HeaderMap, Limits, REQUEST_LINE_MAX, REQUEST_LINE_UNLIMITED,
    Rules, Strictness,
};
