//! What follows from what happens to a request and its response, carried out.

pub(crate) mod apply;
pub(crate) mod effects;
pub(crate) mod hijack;
pub(crate) mod refusal;
pub(crate) mod response_spool;
