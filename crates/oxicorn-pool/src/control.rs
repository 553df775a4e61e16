//! The control channel: what the arbiter tells the broker and what it hears back.
//!
//! JSON, one message per packet of a `SOCK_SEQPACKET` socketpair; descriptors come with the packet that speaks of them.
//! These messages are about workers and settings, never about single calls that go well. The end of file of this channel is
//! the arbiter's, or the broker's, end.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Arbiter to broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToBroker {
    /// From now on these hold.
    Settings(Settings),
    /// A worker was forked. With it come as many descriptors as it has lanes (the broker's ends of its streams), and one
    /// more: the broker's end of the channel by which the worker is told of cancellations. It gets no calls yet.
    AddWorker(AddWorker),
    /// It gets calls from now on, of these applications: those of its that could be loaded.
    WorkerReady {
        /// Which worker.
        worker: u32,
        /// By their paths.
        applications: Vec<String>,
    },
    /// It gets no more, and is released when it has none.
    RetireWorker(u32),
    /// The pool ends: workers that are retired from now on get what waits, and what calls that run there call. All of them
    /// are released when there is nothing more.
    Drain,
    /// Its process is gone; what ran there fails with this reason.
    WorkerGone {
        /// Which worker.
        worker: u32,
        /// A sentence for the callers.
        reason: String,
    },
    /// Every application there is.
    Applications(Vec<Application>),
    /// Exit.
    Stop,
}

/// What there is to know of an application.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Application {
    /// `module:Class`
    pub path: String,
    /// Whether it has workers, or will have.
    pub expected: bool,
    /// Why it could not be loaded, if it could not.
    pub failure: Option<String>,
}

/// A new worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddWorker {
    /// Its number.
    pub worker: u32,
    /// Its process.
    pub pid: i32,
    /// Which worker it is, counted from the first.
    pub age: u64,
    /// Of which load of the settings it is.
    pub generation: u32,
    /// The applications it has, by their paths.
    pub applications: Vec<String>,
    /// How many calls of each it may run at once.
    pub calls_each: Vec<usize>,
}

/// What the settings say about calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// What one call may take from when it begins (setting `dirty_timeout`); `None`: as long as it likes.
    pub timeout: Option<Duration>,
    /// How many calls may wait for one application (setting `dirty_queue_limit`); 0: as many as come.
    pub queue_limit: usize,
    /// After how long without a call a worker is to end, until it is wanted (setting `dirty_idle_timeout`); `None`: never.
    pub idle_timeout: Option<Duration>,
    /// How many bytes the stash may hold (setting `dirty_stash_size`); 0: as many as come.
    pub stash_limit: usize,
}

/// Broker to arbiter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromBroker {
    /// It serves its callers.
    Ready,
    /// A call is over its time, was cancelled and has not ended: the worker does not come back by itself.
    Stuck {
        /// Which worker.
        worker: u32,
        /// What runs there, in words.
        call: String,
    },
    /// A worker has not been called for `idle_timeout`.
    Idle(u32),
    /// A call waits for this application, and nobody who has it is about to be ready.
    Wanted(String),
    /// Somebody sent the broker a signal that is an order.
    Signal(i32),
    /// A caller wants more workers (or fewer, with a negative number).
    Manage(i32),
    /// For the error log.
    Warning(String),
}

/// The packet of a message.
pub fn encode<M: Serialize>(message: &M) -> Option<Vec<u8>> {
    serde_json::to_vec(message).ok()
}

/// The message in a packet; the ends are of one build, so one that cannot be read is a fault.
pub fn decode<M: DeserializeOwned>(packet: &[u8]) -> Option<M> {
    serde_json::from_slice(packet).ok()
}

/// What the broker tells a worker, beside calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToWorker {
    /// The call with this id shall end: nobody waits for it.
    Cancel(u64),
    /// It gets nothing more and may exit.
    Release,
}

impl ToWorker {
    /// Its packet.
    pub fn encode(self) -> Vec<u8> {
        match self {
            Self::Cancel(id) => [b"C", &id.to_ne_bytes()[..]].concat(),
            Self::Release => b"R".to_vec(),
        }
    }

    /// The word in a packet.
    pub fn decode(packet: &[u8]) -> Option<Self> {
        match packet.split_first()? {
            (b'C', id) => Some(Self::Cancel(u64::from_ne_bytes(id.try_into().ok()?))),
            (b'R', []) => Some(Self::Release),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_their_packets() {
        let add = ToBroker::AddWorker(AddWorker {
            worker: 3,
            pid: 77,
            age: 3,
            generation: 1,
            applications: vec!["app:Model".into()],
            calls_each: vec![2],
        });
        let packet = encode(&add).expect("it is plain");
        assert_eq!(decode::<ToBroker>(&packet), Some(add));
        for word in [ToWorker::Cancel(u64::MAX - 1), ToWorker::Release] {
            assert_eq!(ToWorker::decode(&word.encode()), Some(word));
        }
        assert_eq!(ToWorker::decode(b"C1"), None);
    }
}
