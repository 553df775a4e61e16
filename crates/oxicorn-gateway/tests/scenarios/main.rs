//! The gateway as its neighbours see it: clients on real sockets, a scripted worker on a real link,
//! a scripted arbiter on a real control channel. Every wait is for a condition and has a deadline.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails where it stands"
)]

mod dashboard;
mod drain;
mod figures;
mod hijack;
mod http2;
mod limits;
mod logs;
mod monitoring;
mod paces;
mod requests;
mod responses;
mod scenario;
mod sockets;
mod timeouts;
mod tls;
mod together;
mod tracing;
mod unattended;
mod unclaimed;
mod websocket;
mod workers;
