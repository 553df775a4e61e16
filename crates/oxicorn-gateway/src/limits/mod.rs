//! What clients may hold.

pub(crate) mod min_rate;
pub(crate) mod per_client;
