//! The stash's entries in memory that callers share with the broker, so that `get` and `put` need no other process.
//!
//! A question to the broker costs two wake-ups, which is most of its time. So the broker shows its entries in a file
//! of memory that callers map: they look up what they want, and append what they put, which the broker takes into its
//! own tables before it does anything else. It stays the owner: whatever is not simple (other operations, long values,
//! a limit that is met) is asked of it as ever, and it needs nothing that callers write to be right.
//!
//! * `record`: what lies there
//! * `area`: where it lies, and how it is found
//! * `view`: the callers' end
//! * `mirror`: the broker's end
//!
//! # The promises
//!
//! *A put that has returned is not lost.* It counts from the moment in which the caller has moved `COMMIT` beyond its
//! record, by a compare-and-swap; what is before `COMMIT` a broker takes over, be it the one after a broker that died.
//! `CLOSED` is a bit of the same word: from then on no put counts, and its caller asks the broker.
//!
//! *A get sees one state.* `VERSION` is odd while somebody changes what readers follow; a reader that finds it odd or
//! changed looks again. Records are appended and never changed, so only a rebuild writes where others read.
//!
//! *Nobody waits for a process that is dead or stopped.* Whoever writes has `LOCK`. A caller that cannot have it within a
//! few turns asks the broker; a broker that cannot have it in some milliseconds closes the area and goes on in another
//! one, which its callers find when they ask. A closed area is used again when its lock is free: then nobody is about to
//! write there. `VERSION` goes on, so whoever still looks there sees what is there now, or looks again.
//!
//! *What callers did is known within a second.* The direct way is open until `LEASE`, a point in time that the broker puts
//! a second ahead when it is asked for anything. Then it looks what there is, and sleeps on. So a server at rest does not
//! wake up for it, and figures are never older than a second.

mod area;
mod mirror;
mod record;
#[cfg(test)]
mod tests;
mod view;

pub(crate) use mirror::{Asked, Counts, Mirror};
pub use view::{Put, Sought, View};

use std::io;
use std::os::fd::OwnedFd;

use oxicorn_os::memfd;
use oxicorn_proto::pool::value_length;

/// The file of a server, for [`Mirror`] and [`View`].
pub fn create_file() -> io::Result<OwnedFd> {
    memfd::create_sealed("oxicorn-stash-shared", area::FILE_BYTES)
}

/// Whether these are the bytes of one value, as the broker reads it.
pub fn is_whole(bytes: &[u8]) -> bool {
    value_length(bytes) == Ok(bytes.len())
}
