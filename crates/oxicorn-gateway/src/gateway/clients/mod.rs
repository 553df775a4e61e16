//! What the owner does for and with clients.

pub(crate) mod admission;
pub(crate) mod ending;
pub(crate) mod handshake;
pub(crate) mod hangup;
pub(crate) mod listener;
pub(crate) mod pressure;
pub(crate) mod read;
pub(crate) mod upload;
pub(crate) mod write;
