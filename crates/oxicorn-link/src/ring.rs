//! A byte ring with one producer and one consumer.

/// What the other end wrote into the shared memory cannot be. The link is of no use any more; the
/// worker behind it must be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkFault {
    /// A ring index runs backwards or ahead of what the ring can hold.
    Index,
    /// A message does not lie within what was published, or goes over the ring's end.
    MessageLength,
    /// A message of a kind that does not exist.
    Kind,
}

impl std::fmt::Display for LinkFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Index => "impossible ring index",
            Self::MessageLength => "impossible message length",
            Self::Kind => "unknown message kind",
        })
    }
}

impl std::error::Error for LinkFault {}

/// A message was not put into a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingFull {
    /// There is no room now; there will be when the other end has read on.
    NoRoomYet,
    /// There will never be: a message is at most half a ring.
    MessageTooLong,
}

impl std::fmt::Display for RingFull {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NoRoomYet => "no room in the ring",
            Self::MessageTooLong => "message longer than half the ring",
        })
    }
}

impl std::error::Error for RingFull {}
