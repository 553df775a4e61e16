//! What the arbiter tells a single worker: small packets on a socketpair of its own.
//!
//! A word that the worker must hear whatever it does (its end) goes other ways: by a signal, and by the bell of its
//! release. Who has a server of its own hears it here first, on a thread that waits for nothing else.

/// Bytes of a packet: a letter, and what the letter needs.
pub const PACKET: usize = 9;

/// The arbiter's word to a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToWorker {
    /// What is each call doing? Answered by notices with this number.
    Stacks(u64),
    /// What is worth a line in the error log from now on, as a level of Python's logging.
    LogLevel(u32),
    /// To a worker that accepts connections itself, where others go on listening: take no more of them, and a little later
    /// the signal that its end has begun is its own to send.
    LeaveListeners,
}

impl ToWorker {
    /// The packet in which this is said.
    pub fn encode(self) -> [u8; PACKET] {
        let (letter, value) = match self {
            Self::Stacks(number) => (b'S', number),
            Self::LogLevel(level) => (b'L', level.into()),
            Self::LeaveListeners => (b'E', 0),
        };
        let mut packet = [letter; PACKET];
        packet[1..].copy_from_slice(&value.to_ne_bytes());
        packet
    }

    /// `None` for a packet that is none of these.
    pub fn decode(packet: &[u8]) -> Option<Self> {
        let (letter, value) = packet.split_first()?;
        let value = u64::from_ne_bytes(value.try_into().ok()?);
        match letter {
            b'S' => Some(Self::Stacks(value)),
            b'L' => Some(Self::LogLevel(u32::try_from(value).ok()?)),
            b'E' => Some(Self::LeaveListeners),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrives_as_it_was_sent_and_nothing_else_does() {
        for message in [
            ToWorker::Stacks(u64::MAX),
            ToWorker::LogLevel(30),
            ToWorker::LeaveListeners,
        ] {
            let packet = message.encode();
            assert_eq!(ToWorker::decode(&packet), Some(message));
            assert_eq!(ToWorker::decode(&packet[..PACKET - 1]), None);
        }
        assert_eq!(ToWorker::decode(&[0; PACKET]), None);
        assert_eq!(ToWorker::decode(&[]), None);
    }
}
