//! What is decided by.

pub(crate) mod active;
pub(crate) mod settings;
