//! Bytes to events and back: HTTP/1.1, what HTTP/2 adds to it, WebSocket, uwsgi, FastCGI and SCGI as a server speaks them, the PROXY
//! protocol, and whom to believe.
//!
//! Decides what a peer's bytes mean, which of them are refused and with which status, how a
//! response is framed, and whether the connection may serve another request. Refuses to know
//! sockets, clocks, logs, threads and the application: whoever drives it reads and writes.
//!
//! Theory of operation: every type here is a pure state machine over byte slices. The driver hands
//! over what it has received, is told how much of it was used and what it meant, and appends what
//! the machine encodes to a buffer of its own. The same bytes, whole or one by one, give the same
//! events; every deviation of a peer is a [`PeerFault`] with one name and one status; every mistake
//! of the driver or of the application behind it is a [`LocalMisuse`] and changes nothing.
#![forbid(unsafe_code)]

pub mod cgi;
pub mod fastcgi;
mod fault;
pub mod forwarded;
pub mod http1;
pub mod http2;
pub mod message;
pub mod other_protocol;
pub mod percent;
pub mod pool;
pub mod proxy_protocol;
pub mod request_id;
pub mod request_start;
pub mod scgi;
pub mod trace_context;
pub mod trust;
pub mod uwsgi;
pub mod websocket;

pub use fault::{LocalMisuse, PeerFault};
