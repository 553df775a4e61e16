//! Descriptors between the ends of a link, each with the stream it belongs to.
//!
//! A descriptor is always sent before the message that speaks of it. So whoever reads that message
//! finds the descriptor in the socket already, perhaps behind those of other streams, which are
//! kept aside until they are asked for.

use std::io;

/// Why no descriptor was sent or received.
#[derive(Debug)]
pub enum DescriptorError {
    /// The socket's buffer is full; try again later.
    Full,
    /// The other end is closed: the process behind it is gone.
    PeerGone,
    /// The descriptor that was announced is not there, or too many lie about unasked for.
    Missing,
    /// A system call failed.
    System(io::Error),
}

impl std::fmt::Display for DescriptorError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Full => f.write_str("descriptor socket is full"),
            Self::PeerGone => f.write_str("other end of the link is gone"),
            Self::Missing => f.write_str("announced descriptor was not sent"),
            Self::System(error) => write!(f, "descriptor socket: {error}"),
        }
    }
}

impl std::error::Error for DescriptorError {}
