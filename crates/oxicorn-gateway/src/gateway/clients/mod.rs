//! What the owner does for and with clients.

pub(crate) mod admission;
pub(crate) mod ending;
pub(crate) mod handshake;
pub(crate) mod hangup;
pub(crate) mod listener;
pub(crate) mod memory_budget;
pub(crate) mod read;
pub(crate) mod unsent;
pub(crate) mod upload;
pub(crate) mod write;
