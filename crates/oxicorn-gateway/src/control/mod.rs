//! The control channel: what the arbiter tells the gateway and what it hears back.
//!
//! Decides the form of the messages only: JSON, one message per packet of an `AF_UNIX`
//! `SOCK_SEQPACKET` socketpair, with the descriptors a message speaks of attached to the same
//! packet. Packets keep their borders, so there is no framing, and JSON costs nothing here: these
//! messages are rare (a worker's life, a reload, a request that went wrong), never one per request served.
//!
//! The end of file of this channel is a message too: the gateway takes it as the arbiter's death
//! and drains by itself, the arbiter as the gateway's death.
//!
//! The two ends are the same build of the same program, so a message that does not decode is a
//! fault to report, not a version to negotiate.

pub(crate) mod end;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ListenerSetup;
use crate::config::settings::{Level, Settings};
use crate::telemetry::tracing::RequestIds;

/// The most bytes one packet may have: what both ends make room for when they receive. Far below
/// the default socket buffer of 208 KiB; the largest message is [`ToGateway::Settings`] with long
/// trust lists.
pub const PACKET_LIMIT: usize = 128 * 1024;

/// The most descriptors in one packet (the kernel's `SCM_MAX_FD` is 253). More listeners than this
/// go in several [`ToGateway::Listeners`] messages.
pub const DESCRIPTOR_LIMIT: usize = 64;

/// Arbiter to gateway.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToGateway {
    /// A worker was forked (or lived before this gateway did): here is its link. Four descriptors,
    /// in the order of [`AttachWorker`]'s description. The worker gets nothing before
    /// [`ToGateway::WorkerReady`].
    AttachWorker(AttachWorker),
    /// The worker has loaded the application and run its hooks. Sent again, after its
    /// `AttachWorker`, to a gateway started later.
    WorkerReady {
        /// Which worker.
        worker: u32,
    },
    /// The worker writes the access log's lines of all its requests. Sent before
    /// [`ToGateway::WorkerReady`].
    WorkerLogs {
        /// Which worker.
        worker: u32,
    },
    /// From now on only workers of this generation get requests. Before the first of these nobody
    /// does.
    ServeGeneration {
        /// The generation, counted by the arbiter.
        generation: u32,
    },
    /// The worker gets nothing new; what it has not claimed goes to others. Answered by
    /// [`FromGateway::WorkerDrained`] when nothing of it is in flight.
    RetireWorker {
        /// Which worker.
        worker: u32,
    },
    /// The worker's process has ended (reaped): its claimed requests are answered with 502 or cut,
    /// the others given away, its link is dropped. The last message about this worker.
    WorkerGone {
        /// Which worker.
        worker: u32,
    },
    /// The listeners to serve from now on, one descriptor for each bind. They come on top of those
    /// the gateway has; the ones named again are kept as they are.
    Listeners {
        /// What they are, in the order of the descriptors.
        binds: Vec<ListenerSetup>,
        /// Whether listeners that are not named are closed (their backlog is served first).
        replace: bool,
    },
    /// Certificates and keys for new connections: one descriptor, as `Setup` has it. Sent before the listeners that need
    /// them.
    Certificates,
    /// New settings (reload). Log files are opened anew, connections that are open keep the limits
    /// they started with.
    Settings(Box<Settings>),
    /// USR1: open the log files again.
    ReopenLogs,
    /// TERM: serve the backlog, close the listeners, finish what is in flight, then say
    /// [`FromGateway::Drained`] and exit with 0. What is not finished at the deadline is cut.
    Drain {
        /// Milliseconds from now.
        deadline_ms: u64,
    },
    /// Which requests are there? Answered by [`FromGateway::Requests`] with the same token.
    ListRequests {
        /// Chosen by who asks.
        token: u64,
        /// So many of them at most.
        most: u32,
    },
    /// What has become of the requests that this follower follows? Answered by [`FromGateway::Followed`]. A follower that
    /// is not known begins to follow.
    Follow {
        /// Chosen by who asks, for this answer.
        token: u64,
        /// Chosen by the follower.
        follower: u64,
        /// Parts of request lines, with asterisks between them.
        pattern: String,
    },
    /// Answer to [`FromGateway::WantStacks`].
    Stacks {
        /// The question's.
        token: u64,
        /// The stacks, cut where they are long; empty: there are none.
        text: String,
    },
    /// QUIT, INT: cut everything and exit with 0.
    Stop,
}

/// A worker to attach. The descriptors in the packet, in this order: the link's `memory`,
/// `gateway_doorbell`, `worker_doorbell`, `gateway_side` (fields of `oxicorn_link::LinkParts`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachWorker {
    /// The arbiter's number of the worker, never used twice in the life of an arbiter.
    pub worker: u32,
    /// Its process.
    pub pid: u32,
    /// Gunicorn's `worker.age`.
    pub age: u64,
    /// The cohort it belongs to.
    pub generation: u32,
    /// How many requests it takes at once: sync 1, gthread `threads`, asgi and gevent `worker_connections`.
    pub capacity: u32,
    /// Whether it takes requests before their bodies are complete.
    pub streams: bool,
    /// Whether it goes on with others when one of its requests is given up, which it is told of.
    pub goes_on: bool,
}

/// How many descriptors an [`ToGateway::AttachWorker`] packet carries.
pub const ATTACH_DESCRIPTORS: usize = 4;

/// Gateway to arbiter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromGateway {
    /// The event loop runs and the listeners are watched. Requests may already wait for the first
    /// worker.
    Ready,
    /// After [`ToGateway::Drain`]: every connection has ended (or the deadline has passed). The
    /// process exits next.
    Drained,
    /// After [`ToGateway::RetireWorker`]: nothing of this worker is in flight any more.
    WorkerDrained {
        /// Which worker.
        worker: u32,
    },
    /// A claimed request is older than the `timeout` setting. The client has its 504 (or was cut).
    /// Dump the worker's stacks, replace it.
    RequestExpired(RequestExpired),
    /// The worker wrote something into its link that cannot be (or the link broke). The gateway has
    /// let go of it and treats it as gone; kill it.
    WorkerFault {
        /// Which worker.
        worker: u32,
        /// For the log.
        reason: String,
    },
    /// A control message could not be acted on (a descriptor missing, an address that cannot be
    /// watched).
    Refused {
        /// For the log.
        reason: String,
    },
    /// A request has been in its worker for longer than `slow_request_time`. Once for each.
    RequestSlow(RequestSlow),
    /// A part of the answer to [`ToGateway::ListRequests`].
    Requests(RequestList),
    /// Answer to [`ToGateway::Follow`].
    Followed(FollowedList),
    /// What is this worker doing? Answered by [`ToGateway::Stacks`] with the same token.
    WantStacks {
        /// Chosen by who asks.
        token: u64,
        /// The worker's process.
        pid: u32,
        /// The request that matters, as [`RequestShown::id`] calls it; empty: all of them.
        request: String,
    },
    /// Somebody at the dashboard, who has its token, wants something done.
    Dashboard(DashboardOrder),
    /// A line for the error log ([`crate::LogForwarding::errors`]).
    Log {
        /// How bad it is.
        level: Level,
        /// One line, with nothing in it that could forge another.
        text: String,
    },
    /// A request for the access log ([`crate::LogForwarding::access`]).
    Access(Box<AccessRecord>),
}

/// A request that no worker wrote a line for: refused, lost, timed out. Texts are as WSGI has them: each
/// character is a byte.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessRecord {
    /// `GET`; what stands for the whole line where it could not be understood.
    pub method: String,
    /// As it was sent.
    pub request_target: String,
    /// Decoded.
    pub path: String,
    /// Without the question mark.
    pub query_string: String,
    /// `HTTP/1.1`
    pub protocol: String,
    /// Name and value, as they came; not more than fit into a packet.
    pub headers: Vec<(String, String)>,
    /// The client's address; empty for a Unix socket.
    pub client: String,
    /// Its port.
    pub client_port: Option<u16>,
    /// Our end.
    pub server: String,
    /// Its port.
    pub server_port: Option<u16>,
    /// Whether the client's connection is secured.
    pub https: bool,
    /// Of the answer.
    pub status: u16,
    /// Of the answer's body.
    pub body_bytes: u64,
    /// From the request's first byte to the answer's last.
    pub elapsed_us: u64,
    /// In the queue, where it got that far.
    pub queue_us: Option<u64>,
    /// With proxies, where they said it.
    pub proxy_us: Option<u64>,
}

/// See [`FromGateway::Dashboard`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DashboardOrder {
    /// As HUP.
    Reload,
    /// As TERM to a worker: it is replaced.
    Recycle {
        /// The worker's process.
        pid: u32,
    },
}

/// See [`FromGateway::RequestSlow`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestSlow {
    /// Which worker has it.
    pub worker: u32,
    /// As in [`RequestShown::id`].
    pub id: String,
    /// `METHOD target HTTP/1.1`, escaped for a log line.
    pub request_line: String,
    /// The peer's address as in the access log.
    pub client: String,
    /// Its id and its trace's.
    pub ids: RequestIds,
    /// Since the worker was given it.
    pub age_ms: u64,
    /// How long it waited before.
    pub queued_ms: u64,
    /// How long its client took to send it.
    pub received_ms: u64,
}

/// See [`FromGateway::Requests`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestList {
    /// The question's.
    pub token: u64,
    /// How many there are.
    pub total: usize,
    /// The oldest of them, the oldest first; as many as fit into a packet.
    pub requests: Vec<RequestShown>,
    /// Another part follows.
    pub more: bool,
}

/// A request that a client waits for, or a worker works on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestShown {
    /// What it is called as long as it is there: the key and the generation of its stream.
    pub id: String,
    /// `METHOD target HTTP/1.1`, escaped, cut where it is long.
    pub request_line: String,
    /// The peer's address as in the access log.
    pub client: String,
    /// Its id and its trace's.
    pub ids: RequestIds,
    /// `queued`, `working`, `responding`, `hijacked`.
    pub state: String,
    /// The worker's process.
    pub pid: Option<u32>,
    /// Since it was complete.
    pub age_ms: u64,
    /// How much of that it waited for a worker.
    pub queued_ms: u64,
    /// How long its client took to send it, before.
    pub received_ms: u64,
}

/// See [`FromGateway::Followed`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FollowedList {
    /// The question's.
    pub token: u64,
    /// It follows from now on.
    pub begins: bool,
    /// It does not: there are too many followers.
    pub refused: bool,
    /// The oldest first.
    pub events: Vec<Followed>,
    /// There is more.
    pub more: bool,
    /// So many found no room since it was asked last.
    pub lost: u64,
}

/// What has become of a request that is followed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Followed {
    /// `begin`: it waits for a worker. `end`: its response has left, or there will be none.
    pub event: String,
    /// As in [`RequestShown::id`]; empty: no worker was to be given it.
    pub id: String,
    /// `METHOD target`, escaped, cut where it is long.
    pub request: String,
    /// The peer's address as in the access log.
    pub client: String,
    /// Its id and its trace's.
    #[serde(flatten)]
    pub ids: RequestIds,
    /// Of the response.
    pub status: u16,
    /// Of the response's body.
    pub bytes: u64,
    /// The worker's process.
    pub pid: Option<u32>,
    /// How long its client took to send it.
    pub received_ms: u64,
    /// How long it waited for a worker.
    pub queued_ms: u64,
    /// From then to the end of the response.
    pub worker_ms: Option<u64>,
    /// From its first byte to the response's last.
    pub total_ms: u64,
    /// Why there was no answer of the application's.
    pub reason: Option<String>,
    /// When that was.
    pub ago_ms: u64,
}

/// See [`FromGateway::RequestExpired`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestExpired {
    /// Which worker has it.
    pub worker: u32,
    /// `METHOD target HTTP/1.1`, escaped for a log line.
    pub request_line: String,
    /// The peer's address as in the access log.
    pub client: String,
    /// Its id and its trace's.
    pub ids: RequestIds,
    /// Since the worker took it.
    pub age_ms: u64,
    /// How many other requests the worker still works on.
    pub others_in_flight: u32,
    /// It need not be replaced: it was told to give this request up, and can do so.
    pub worker_goes_on: bool,
}

/// Why a packet is not a message.
#[derive(Debug)]
#[non_exhaustive]
pub enum ControlFault {
    /// Not the JSON of a message of this build.
    Undecodable(serde_json::Error),
    /// Longer than [`PACKET_LIMIT`].
    TooLong(usize),
}

impl fmt::Display for ControlFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Undecodable(error) => write!(f, "control message not understood: {error}"),
            Self::TooLong(length) => write!(
                f,
                "control message of {length} bytes is over {PACKET_LIMIT}"
            ),
        }
    }
}

impl std::error::Error for ControlFault {}

/// The bytes of a packet for `message`.
pub fn encode<M: Serialize>(message: &M) -> Result<Vec<u8>, ControlFault> {
    let bytes = serde_json::to_vec(message).map_err(ControlFault::Undecodable)?;
    if bytes.len() > PACKET_LIMIT {
        return Err(ControlFault::TooLong(bytes.len()));
    }
    Ok(bytes)
}

/// The message in a packet.
pub fn decode<M: for<'de> Deserialize<'de>>(packet: &[u8]) -> Result<M, ControlFault> {
    serde_json::from_slice(packet).map_err(ControlFault::Undecodable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_survives_a_packet() {
        let attach = AttachWorker {
            worker: 3,
            pid: 77,
            age: 4,
            generation: 2,
            capacity: 16,
            streams: true,
            goes_on: true,
        };
        let messages = [
            ToGateway::AttachWorker(attach),
            ToGateway::WorkerReady { worker: 3 },
            ToGateway::WorkerLogs { worker: 3 },
            ToGateway::ServeGeneration { generation: 2 },
            ToGateway::RetireWorker { worker: 3 },
            ToGateway::WorkerGone { worker: 3 },
            ToGateway::Listeners {
                binds: vec![
                    ListenerSetup::plain("127.0.0.1:8000"),
                    ListenerSetup::plain("unix:/tmp/s"),
                ],
                replace: true,
            },
            ToGateway::Certificates,
            ToGateway::Settings(Box::default()),
            ToGateway::ReopenLogs,
            ToGateway::ListRequests { token: 7, most: 9 },
            ToGateway::Follow {
                token: 7,
                follower: u64::MAX,
                pattern: "GET /a*b".into(),
            },
            ToGateway::Stacks {
                token: 7,
                text: "File \"a.py\"\n".into(),
            },
            ToGateway::Drain {
                deadline_ms: 30_000,
            },
            ToGateway::Stop,
        ];
        for message in messages {
            let packet = encode(&message).expect("short");
            assert_eq!(decode::<ToGateway>(&packet).expect("our own"), message);
        }
    }

    #[test]
    fn names_what_it_does_not_understand() {
        assert!(decode::<ToGateway>(b"{\"dance\":1}").is_err());
        assert!(decode::<FromGateway>(b"").is_err());
    }
}
