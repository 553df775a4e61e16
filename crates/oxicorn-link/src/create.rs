//! Making a link: memory, doorbells, socketpair. Run by the arbiter.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use oxicorn_os::channel::Channel;
use oxicorn_os::eventfd::EventFd;
use oxicorn_os::memfd;

use crate::layout::{LinkMemory, RING_SIZES, memory_len};
use crate::ring::max_payload;
use crate::window::{RESPONSE_HEAD, RESPONSE_PIECE};

/// Bytes of the ring of responses: long responses are sent straight out of it, and what is sent in few
/// calls costs least, so it takes long pieces, of which one is written while another is sent. What keeps up
/// stays in its first part; the rest becomes memory only where long responses, or very many, need it.
const RESPONSES: usize = 2 << 20;

const _: () = assert!(RESPONSE_HEAD + RESPONSE_PIECE <= max_payload(RESPONSES as u64));

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
            responses: RESPONSES,
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
    /// How many descriptors they are.
    pub const COUNT: usize = 5;

    /// Makes all of it.
    pub fn create(sizes: Sizes) -> io::Result<Self> {
        let rings = [sizes.requests, sizes.events, sizes.responses].map(ring_size);
        let memory = memfd::create_sealed("oxicorn-link", memory_len(rings))?;
        LinkMemory::format(&memory, rings)?;
        let (gateway_side, worker_side) = Channel::pair()?;
        Ok(Self {
            memory,
            gateway_doorbell: EventFd::new()?.into(),
            worker_doorbell: EventFd::new()?.into(),
            gateway_side: gateway_side.into(),
            worker_side: worker_side.into(),
        })
    }

    /// All of them, to be sent to another process.
    pub fn descriptors(&self) -> [BorrowedFd<'_>; Self::COUNT] {
        [
            self.memory.as_fd(),
            self.gateway_doorbell.as_fd(),
            self.worker_doorbell.as_fd(),
            self.gateway_side.as_fd(),
            self.worker_side.as_fd(),
        ]
    }

    /// Another set of descriptors for the same link, but for the worker's side.
    pub fn for_gateway(&self) -> io::Result<[OwnedFd; 4]> {
        Ok([
            self.memory.try_clone()?,
            self.gateway_doorbell.try_clone()?,
            self.worker_doorbell.try_clone()?,
            self.gateway_side.try_clone()?,
        ])
    }
}

/// In the order of [`LinkParts::descriptors`].
impl From<[OwnedFd; LinkParts::COUNT]> for LinkParts {
    fn from(descriptors: [OwnedFd; LinkParts::COUNT]) -> Self {
        let [
            memory,
            gateway_doorbell,
            worker_doorbell,
            gateway_side,
            worker_side,
        ] = descriptors;
        Self {
            memory,
            gateway_doorbell,
            worker_doorbell,
            gateway_side,
            worker_side,
        }
    }
}

fn ring_size(wanted: usize) -> usize {
    wanted
        .clamp(*RING_SIZES.start(), *RING_SIZES.end())
        .next_power_of_two()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AttachError;

    #[test]
    fn odd_sizes_become_possible_ones() {
        assert_eq!([0, 4097, usize::MAX].map(ring_size), [4096, 8192, 1 << 30]);
    }

    #[test]
    fn what_was_sent_is_the_same_link() {
        let parts = LinkParts::create(Sizes::default()).expect("descriptors");
        let sent = parts.descriptors();
        let copies = sent.map(|descriptor| descriptor.try_clone_to_owned().expect("descriptors"));
        let arrived = LinkParts::from(copies);
        for (here, there) in sent.into_iter().zip(arrived.descriptors()) {
            let [here, there] = [here, there].map(|file| rustix::fs::fstat(file).expect("a file"));
            assert_eq!((here.st_dev, here.st_ino), (there.st_dev, there.st_ino));
        }
        let sides = [arrived.gateway_side, arrived.worker_side].map(Channel::from);
        let said = sides[0].send(b"?", &[], oxicorn_os::channel::Blocking::No);
        assert!(said.expect("room"));
    }

    #[test]
    fn what_was_made_can_be_mapped() {
        let parts = LinkParts::create(Sizes {
            requests: 1,
            events: 1,
            responses: 5000,
        })
        .unwrap();
        assert!(LinkMemory::map(&parts.memory).is_ok());
    }

    #[test]
    fn other_files_are_refused() {
        let refused = |file: OwnedFd| LinkMemory::map(file).unwrap_err();
        let unsealed = memfd::with_content("test", &[0; 8192]).unwrap();
        assert!(matches!(refused(unsealed), AttachError::NotSealed));
        for len in [0, 64, 4096, 3 * 4096 + 4096] {
            let zeros = memfd::create_sealed("test", len).unwrap();
            assert!(matches!(refused(zeros), AttachError::NotALink), "{len}");
        }
    }

    #[test]
    fn impossible_sizes_are_refused() {
        let cases = [
            [0, 0, 0],
            [4096, 4096, 4095],
            [4096, 4096, 8192],
            [4096, 4096, 1 << 40],
        ];
        for rings in cases {
            let memory = memfd::create_sealed("test", memory_len([4096; 3])).unwrap();
            LinkMemory::format(&memory, rings).unwrap();
            let error = LinkMemory::map(&memory).unwrap_err();
            assert!(matches!(error, AttachError::NotALink), "{rings:?}");
        }
    }
}
