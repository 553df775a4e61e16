//! The workers: who they are, who gets which request, and what they do for it.

pub(crate) mod calls;
pub(crate) mod coalesce;
pub(crate) mod dispatch;
pub(crate) mod lost;
pub(crate) mod place;
pub(crate) mod pool;
pub(crate) mod ring_reader;
pub(crate) mod unattended;
