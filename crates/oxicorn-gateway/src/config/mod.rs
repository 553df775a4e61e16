//! What is decided by.

pub(crate) mod settings;
pub(crate) mod tracing;
