//! The workers: who they are, who gets which request, and what they do for it.

pub(crate) mod calls;
pub(crate) mod pool;
pub(crate) mod unattended;
