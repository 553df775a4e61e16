//! What a worker tells the arbiter: small packets on a socketpair whose one end all workers have.
//!
//! The other way nothing is sent; its end of file tells a worker that the arbiter is gone.

/// A worker's word to the arbiter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notice {
    /// Application loaded, hooks run: requests may come.
    Ready,
    /// `max_requests` is reached: a successor is wanted.
    MaxRequests,
}

impl Notice {
    /// The packet in which worker number `worker` says this.
    pub(crate) const fn encode(self, worker: u32) -> [u8; 5] {
        let [w0, w1, w2, w3] = worker.to_ne_bytes();
        let word = match self {
            Self::Ready => b'R',
            Self::MaxRequests => b'M',
        };
        [w0, w1, w2, w3, word]
    }

    /// Who says what; `None` for a packet that is none of these.
    pub(crate) fn decode(packet: &[u8]) -> Option<(u32, Self)> {
        let &[w0, w1, w2, w3, word] = packet else {
            return None;
        };
        let notice = match word {
            b'R' => Self::Ready,
            b'M' => Self::MaxRequests,
            _ => return None,
        };
        Some((u32::from_ne_bytes([w0, w1, w2, w3]), notice))
    }
}
