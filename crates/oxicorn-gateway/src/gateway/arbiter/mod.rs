//! What the arbiter orders, what it is told, and the orderly end.

pub(crate) mod commands;
pub(crate) mod drain;
pub(crate) mod log_forwarding;
