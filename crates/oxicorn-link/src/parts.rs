//! Making a link: memory, doorbells, socketpair. Run by the arbiter.

use std::io;
use std::os::fd::OwnedFd;

/// Bytes of each ring; each is rounded up to a power of two between 4 KiB and 1 GiB. A message is
/// at most half a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Gateway to worker: requests.
    pub requests: usize,
    /// Gateway to worker: what belongs to requests already taken.
    pub events: usize,
    /// Worker to gateway.
    pub responses: usize,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            requests: 256 << 10,
            events: 128 << 10,
            responses: 512 << 10,
        }
    }
}

/// The descriptors of one link, as the arbiter makes them, hands them to the gateway (again, if it
/// was replaced) and leaves them to the worker. All are close-on-exec.
#[derive(Debug)]
pub struct LinkParts {
    /// Sealed memory file with the rings.
    pub memory: OwnedFd,
    /// Eventfd the gateway waits on in epoll.
    pub gateway_doorbell: OwnedFd,
    /// Eventfd for a worker that waits in epoll ([`WaitMode::Doorbell`](crate::WaitMode::Doorbell)).
    pub worker_doorbell: OwnedFd,
    /// Gateway's end of the socketpair for descriptors.
    pub gateway_side: OwnedFd,
    /// Worker's end of it. Once every copy of it is closed the gateway sees
    /// [`DescriptorError::PeerGone`](crate::DescriptorError::PeerGone), so nobody but the worker
    /// may keep one.
    pub worker_side: OwnedFd,
}

impl LinkParts {
    /// Makes all of it.
    pub fn create(sizes: Sizes) -> io::Result<Self> {
        let _ = sizes;
        todo!()
    }
}
