//! Bytes in order, in memory and in files.

pub(crate) mod body;
pub(crate) mod input;
pub(crate) mod output;
pub(crate) mod records;
pub(crate) mod spool;
