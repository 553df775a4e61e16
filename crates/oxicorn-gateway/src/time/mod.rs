//! The one clock, and what happens because nothing happened.

pub(crate) mod clock;
