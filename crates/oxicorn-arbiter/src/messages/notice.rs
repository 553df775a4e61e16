//! What a worker tells the arbiter: small packets on a socketpair whose one end all workers have.
//!
//! The other way nothing is sent; its end of file tells a worker that the arbiter is gone. Two notices have a memory file
//! with them, which is the answer to a question ([`super::ToWorker::Stacks`]).

/// Bytes of a packet: the worker's number, a letter, what the letter needs.
pub const PACKET: usize = 13;

/// A worker's word to the arbiter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// Application loaded, hooks run: requests may come.
    Ready {
        /// The worker writes the access log's lines of its requests.
        logs: bool,
    },
    /// `max_requests` is reached: a successor is wanted.
    MaxRequests,
    /// It was told to stop, by whomever.
    Told,
    /// What the application is, where that is worth a word (`oxicorn.workers.finding.Finding`); `misfit`: another
    /// worker class serves it, and this worker exits.
    Finding {
        /// The number of the finding.
        finding: u8,
        /// The worker exits.
        misfit: bool,
    },
    /// A file of the application changed; the number stands for this change.
    SourceChanged(u64),
    /// Answer to the question of this number: which thread has which request.
    Calls(u64),
    /// Answer to the question of this number: what each call is doing.
    Stacks(u64),
}

impl Notice {
    /// The packet in which worker number `worker` says this.
    pub fn encode(self, worker: u32) -> [u8; PACKET] {
        let (word, value) = match self {
            Self::Ready { logs: false } => (b'R', 0),
            Self::Ready { logs: true } => (b'L', 0),
            Self::MaxRequests => (b'M', 0),
            Self::Told => (b'T', 0),
            Self::Finding { finding, misfit } => {
                (if misfit { b'X' } else { b'F' }, u64::from(finding))
            }
            Self::SourceChanged(change) => (b'S', change),
            Self::Calls(question) => (b'C', question),
            Self::Stacks(question) => (b'K', question),
        };
        let mut packet = [0; PACKET];
        packet[..4].copy_from_slice(&worker.to_ne_bytes());
        packet[4] = word;
        packet[5..].copy_from_slice(&value.to_ne_bytes());
        packet
    }

    /// Who says what; `None` for a packet that is none of these.
    pub fn decode(packet: &[u8]) -> Option<(u32, Self)> {
        let (worker, rest) = packet.split_first_chunk()?;
        let (word, value) = rest.split_first()?;
        let value = u64::from_ne_bytes(value.try_into().ok()?);
        let notice = match word {
            b'R' => Self::Ready { logs: false },
            b'L' => Self::Ready { logs: true },
            b'M' => Self::MaxRequests,
            b'T' => Self::Told,
            b'F' | b'X' => Self::Finding {
                finding: u8::try_from(value).ok()?,
                misfit: *word == b'X',
            },
            b'S' => Self::SourceChanged(value),
            b'C' => Self::Calls(value),
            b'K' => Self::Stacks(value),
            _ => return None,
        };
        Some((u32::from_ne_bytes(*worker), notice))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrives_as_it_was_sent_and_nothing_else_does() {
        for notice in [
            Notice::Ready { logs: false },
            Notice::Ready { logs: true },
            Notice::MaxRequests,
            Notice::Told,
            Notice::Finding {
                finding: 2,
                misfit: false,
            },
            Notice::Finding {
                finding: 1,
                misfit: true,
            },
            Notice::SourceChanged(u64::MAX - 1),
            Notice::Calls(3),
            Notice::Stacks(u64::MAX),
        ] {
            let packet = notice.encode(7);
            assert_eq!(Notice::decode(&packet), Some((7, notice)));
            assert_eq!(Notice::decode(&packet[..PACKET - 1]), None);
        }
        assert_eq!(Notice::decode(&[0; PACKET]), None);
        assert_eq!(Notice::decode(&[]), None);
    }
}
