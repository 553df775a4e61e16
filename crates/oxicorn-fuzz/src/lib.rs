//! What is fuzzed: one function a target, which panics where its invariant does not hold.
//!
//! Never shipped. The same functions are run in two ways: by libFuzzer, guided by coverage, for as
//! long as one likes (`fuzz/`, `make fuzz`, needs a nightly toolchain); and by `tests/replay.rs`,
//! with every test run, on the seeds, the inputs kept in `kept/` and some thousands of seeded
//! mutations of both.

mod chunked_body;
mod connection_ops;
mod fastcgi_records;
mod header_trust;
pub mod kept;
mod pool_frames;
mod proxy_protocol;
mod request_head;
mod scgi_head;
pub mod seeds;
mod uwsgi_packet;
mod websocket_frames;

#[path = "../../oxicorn-proto/tests/support/mod.rs"]
mod support;

pub use chunked_body::chunked_body;
pub use connection_ops::connection_ops;
pub use fastcgi_records::fastcgi_records;
pub use header_trust::header_trust;
pub use pool_frames::pool_frames;
pub use proxy_protocol::proxy_protocol;
pub use request_head::request_head;
pub use scgi_head::scgi_head;
pub use uwsgi_packet::uwsgi_packet;
pub use websocket_frames::websocket_frames;

/// Panics if its invariant does not hold for the input.
pub type Target = fn(&[u8]);

/// Every target by its name.
pub const TARGETS: [(&str, Target); 10] = [
    ("request_head", request_head),
    ("chunked_body", chunked_body),
    ("connection_ops", connection_ops),
    ("proxy_protocol", proxy_protocol),
    ("header_trust", header_trust),
    ("websocket_frames", websocket_frames),
    ("uwsgi_packet", uwsgi_packet),
    ("fastcgi_records", fastcgi_records),
    ("scgi_head", scgi_head),
    ("pool_frames", pool_frames),
];
