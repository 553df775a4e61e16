//! Why a link could not be attached.

use std::io;

use crate::LinkFault;

/// Why a link's memory was not attached.
#[derive(Debug)]
pub enum AttachError {
    /// It could not be mapped or asked about.
    System(io::Error),
    /// It could shrink under us.
    NotSealed,
    /// It is not a link of this layout version, or of impossible sizes.
    NotALink,
    /// It is one, but its indices cannot be.
    Fault(LinkFault),
}

impl From<LinkFault> for AttachError {
    fn from(fault: LinkFault) -> Self {
        Self::Fault(fault)
    }
}

impl From<io::Error> for AttachError {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

impl std::fmt::Display for AttachError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::System(error) => write!(f, "link memory: {error}"),
            Self::NotSealed => f.write_str("link memory is not sealed"),
            Self::Fault(fault) => write!(f, "link memory: {fault}"),
            Self::NotALink => f.write_str("not the memory of a link of this version"),
        }
    }
}

impl std::error::Error for AttachError {}
