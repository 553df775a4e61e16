//! What the arbiter, its templates and its workers say to each other: how words become packets. Who sends them, and by what, is the
//! performer's affair.

pub mod notice;
pub mod template;
pub mod to_worker;

pub use notice::Notice;
pub use to_worker::ToWorker;
