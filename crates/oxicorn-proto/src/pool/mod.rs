//! What callers of the pool of heavy applications, its broker and its workers say to each other: the
//! frames of Gunicorn's dirty arbiters (`gunicorn/dirty/protocol.py`, `tlv.py`).
//!
//! Decides where a frame ends and what its values are. Refuses to build trees of values: a byte on the
//! wire may be a value, so a tree could take thirty times what was sent. Who reads gets one item after
//! the other, in bounded memory.

mod fields;
mod frame;
mod value;

pub use fields::{Fields, externals, value_length};
pub use frame::{Fault, HEADER_LENGTH, Header, Kind, PAYLOAD_MAX};
pub use value::{DEPTH_MAX, ITEMS_MAX, Item, Reader, tag, write};
