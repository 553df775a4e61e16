//! The one place where descriptors are registered with the runtime.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::unix::AsyncFd;

/// A descriptor whose readiness the runtime reports.
pub(crate) type Watched = AsyncFd<OwnedFd>;

/// Registers a descriptor (edge-triggered, both directions).
#[expect(
    deprecated,
    reason = "the successor wants a promise that the descriptor never changes; an OwnedFd's number \
              is the same as long as it lives, which needs no promise"
)]
pub(crate) fn watch(descriptor: OwnedFd) -> io::Result<Watched> {
    AsyncFd::new(descriptor)
}
