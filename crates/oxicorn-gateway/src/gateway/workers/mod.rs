//! Requests on their way to workers, and what workers say.

pub(crate) mod coalesce;
pub(crate) mod dispatch;
pub(crate) mod lost;
pub(crate) mod place;
pub(crate) mod ring_reader;
pub(crate) mod unattended;
