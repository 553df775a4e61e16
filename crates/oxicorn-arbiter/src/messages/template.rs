//! What the arbiter and a template say to each other: an order to fork a worker, and what became of it. The descriptors
//! that the worker gets travel beside the order.

/// The longest message either way, in bytes: what hooks keep in `server` and `worker` is not without end.
pub const LONGEST: usize = 64 << 10;

/// A template's word to the arbiter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// The application is loaded.
    Loaded,
    /// The worker that was ordered is there. What the hook `pre_fork` left follows.
    Forked {
        /// Its process.
        pid: i32,
    },
    /// It could not be forked; the log says why.
    NotForked,
    /// The hook `pre_fork` raised; the log says what.
    PreForkFailed,
}

impl Word {
    /// The message in which this is said, and behind it `rest`.
    pub fn encode(self, rest: &[u8]) -> Vec<u8> {
        let (letter, number) = match self {
            Self::Loaded => (b'L', 0),
            Self::Forked { pid } => (b'F', pid),
            Self::NotForked => (b'N', 0),
            Self::PreForkFailed => (b'P', 0),
        };
        let mut message = vec![letter];
        message.extend(number.to_ne_bytes());
        message.extend(rest);
        message
    }

    /// The word and what follows; `None` for what is none.
    pub fn decode(message: &[u8]) -> Option<(Self, &[u8])> {
        let (letter, rest) = message.split_first()?;
        let (number, rest) = rest.split_first_chunk()?;
        let word = match letter {
            b'L' => Self::Loaded,
            b'F' => Self::Forked {
                pid: i32::from_ne_bytes(*number),
            },
            b'N' => Self::NotForked,
            b'P' => Self::PreForkFailed,
            _ => return None,
        };
        Some((word, rest))
    }
}

/// The arbiter's order to fork a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The worker's number.
    pub worker: u32,
    /// Its age.
    pub age: u64,
    /// Its place on the scoreboard, if there was one left.
    pub slot: Option<usize>,
    /// What hooks keep in `server` and in workers, as Python packed it.
    pub state: Vec<u8>,
}

/// Bytes of an order before the state.
const ORDER: usize = 20;

/// Stands for no place on the scoreboard.
const NO_SLOT: u64 = u64::MAX;

impl Order {
    /// The message in which it is given.
    pub fn encode(&self) -> Vec<u8> {
        let mut message = Vec::with_capacity(ORDER + self.state.len());
        message.extend(self.worker.to_ne_bytes());
        message.extend(self.age.to_ne_bytes());
        let slot = self.slot.map_or(NO_SLOT, |slot| slot as u64);
        message.extend(slot.to_ne_bytes());
        message.extend(&self.state);
        message
    }

    /// `None` for a message that is none.
    pub fn decode(message: &[u8]) -> Option<Self> {
        let (worker, rest) = message.split_first_chunk()?;
        let (age, rest) = rest.split_first_chunk()?;
        let (slot, state) = rest.split_first_chunk()?;
        let slot = u64::from_ne_bytes(*slot);
        Some(Self {
            worker: u32::from_ne_bytes(*worker),
            age: u64::from_ne_bytes(*age),
            slot: usize::try_from(slot).ok().filter(|_| slot != NO_SLOT),
            state: state.to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_arrive_as_they_were_said() {
        for word in [
            Word::Loaded,
            Word::Forked { pid: 4711 },
            Word::NotForked,
            Word::PreForkFailed,
        ] {
            let message = word.encode(b"rest");
            assert_eq!(Word::decode(&message), Some((word, &b"rest"[..])));
            assert_eq!(Word::decode(&message[..4]), None);
        }
        assert_eq!(Word::decode(b"?1234"), None);
    }

    #[test]
    fn an_order_arrives_as_it_was_given() {
        for slot in [None, Some(7)] {
            let order = Order {
                worker: 3,
                age: 5,
                slot,
                state: b"state".to_vec(),
            };
            let message = order.encode();
            assert_eq!(Order::decode(&message), Some(order));
            assert_eq!(Order::decode(&message[..ORDER - 1]), None);
        }
    }
}
