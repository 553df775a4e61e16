//! HTTP/2 (RFC 9113), as far as it is not a library's: what a request means, what the frames on a connection cost,
//! and the upgrade from HTTP/1.1.
//!
//! A request is *written* as the head of an HTTP/1 request and read by [`http1`](crate::http1), as those of web servers
//! are (see [`cgi`](crate::cgi)): so grammar, limits, header policy and refusals are the same for all carriers and
//! stand in one place. The response is written by the same machine, as text; who sends it makes frames of that.

mod flood;
mod frames;
mod head;
mod upgrade;

pub use flood::{
    CONTINUATIONS, CONTROL_FRAMES, Flood, FloodCounts, MALFORMED, RESETS, SPAN, WINDOW_UPDATES,
};
pub use frames::{Frame, FrameKind, FrameScanner};
pub use head::{Start, list_size, version_two, write_head};
pub use upgrade::{UpgradeRequest, first_frames, upgrade_request};

/// What a client begins with (RFC 9113 section 3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a field costs beside its bytes (RFC 9113 section 6.5.2).
pub(crate) const FIELD_OVERHEAD: usize = 32;
