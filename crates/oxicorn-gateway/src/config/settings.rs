//! What the gateway must be told: plain values, resolved by whoever composes the server.
//!
//! Nothing is read from files or the environment here, and no setting is known by its Gunicorn
//! name; `oxicorn-settings` has the table, the composition root fills this in. The defaults are
//! Gunicorn's where Gunicorn has the setting, else generous enough that no honest client notices
//! and small enough that no dishonest one can hold anything for ever.

use std::path::PathBuf;
use std::time::Duration;

use oxicorn_proto::http1::Rules;
use serde::{Deserialize, Serialize};

use crate::config::tracing::Tracing;
use crate::limits::min_rate::MinRate;

/// Everything the gateway decides by. Sent whole at start and on reload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub struct Settings {
    /// Bounds on what a client may send, and the tolerance of the HTTP/1 grammar.
    pub rules: Rules,
    /// Deadlines.
    pub timeouts: Timeouts,
    /// The one request queue and its prefetch.
    pub queue: Queue,
    /// Whom to believe about the client's scheme and address.
    pub trust: Trust,
    /// The access log, if there is one.
    pub access_log: Option<AccessLog>,
    /// The access log as JSON, if there is one.
    pub json_access_log: Option<JsonAccessLog>,
    /// The error log.
    pub error_log: ErrorLog,
    /// What the arbiter writes into the logs, because the user has a say in how.
    pub log_forwarding: LogForwarding,
    /// Where the metrics of requests go, if anywhere.
    pub statsd: Option<Statsd>,
    /// Value of the `Server` header; empty: none is sent.
    pub server_header: String,
    /// Whether the connections of this server are TLS'd by somebody in front, so that the scheme is
    /// https from the start.
    pub https: bool,
    /// Bytes of a request body kept in memory; what is longer goes to an unlinked temporary file.
    pub body_memory: usize,
    /// Where those files are made: in the first of these that can be used.
    pub temporary_directories: Vec<TemporaryDirectory>,
    /// Bytes of one response that are taken from the worker before the client has read them; less
    /// than a link's window (1 MiB) counts as that.
    pub response_buffer: usize,
    /// Bytes of one response that go to a file where its client is slow and its worker would wait; 0: none.
    pub response_spool: u64,
    /// `gateway_threads`: how many threads there are, with the one that owns everything.
    pub threads: usize,
    /// `limit_connections`: connections open at once.
    pub connection_limit: usize,
    /// Whether somebody else has the listeners too (systemd, another server that takes over): closed, they are left as
    /// they are, and who waits in their backlog is left to the others.
    pub listeners_are_shared: bool,
    /// The server was taken out of rotation: it serves whoever comes, but is not ready and keeps no connection.
    pub out_of_rotation: bool,
    /// `monitoring_path`: what stands before `/metrics` and the probes on the listeners of the clients; none: they are
    /// not there.
    pub monitoring_path: Option<String>,
    /// `monitoring_allow_ips`: who is answered there.
    pub monitoring_allow_ips: Vec<String>,
    /// `limit_client_connections`: connections of one client address at once; 0: any number.
    pub client_connection_limit: u32,
    /// `keepalive_requests`: requests one connection may bring; 0: any number.
    pub requests_per_connection: u64,
    /// `buffer_limit`: bytes held for all clients together.
    pub buffer_limit: usize,
    /// `TCP_NODELAY` on accepted connections.
    pub tcp_nodelay: bool,
    /// What several clients get is sent by one system call, where the kernel allows it.
    pub io_uring: bool,
    /// `sendfile(2)` for file responses; off: read and write.
    pub sendfile: bool,
    /// Requests go to a worker before their bodies are complete, and the worker is told when a client
    /// leaves.
    pub stream_requests: bool,
    /// `https_redirect`: requests without TLS are sent to https at this port.
    pub https_redirect: Option<u16>,
    /// `suppress_ragged_eofs`: a client that ends without the goodbye of TLS has ended, and not failed.
    pub suppress_ragged_eofs: bool,
    /// Ids and traces of requests.
    pub tracing: Tracing,
    /// HTTP/2, if it is spoken.
    pub http2: Option<Http2>,
    /// WebSockets; none: the workers do not speak it, and a request for one is an ordinary request.
    pub websocket: Option<WebSocket>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            rules: Rules::default(),
            timeouts: Timeouts::default(),
            queue: Queue::default(),
            trust: Trust::default(),
            access_log: None,
            json_access_log: None,
            error_log: ErrorLog::default(),
            log_forwarding: LogForwarding::default(),
            statsd: None,
            server_header: "oxicorn".into(),
            https: false,
            body_memory: 128 * 1024,
            temporary_directories: vec![TemporaryDirectory::system("/tmp")],
            response_buffer: 1024 * 1024,
            response_spool: 1024 * 1024 * 1024,
            threads: 1,
            connection_limit: 65_536,
            listeners_are_shared: false,
            out_of_rotation: false,
            monitoring_path: None,
            monitoring_allow_ips: Vec::new(),
            client_connection_limit: 0,
            requests_per_connection: 0,
            buffer_limit: 512 << 20,
            tcp_nodelay: true,
            io_uring: true,
            sendfile: true,
            stream_requests: false,
            https_redirect: None,
            suppress_ragged_eofs: true,
            tracing: Tracing::default(),
            http2: None,
            websocket: None,
        }
    }
}

/// HTTP/2.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Http2 {
    /// Clients may speak it without TLS from the first byte on: those that are trusted.
    pub prior_knowledge: bool,
    /// They may ask for it in a request without TLS.
    pub upgrade: bool,
    /// `http_protocols` has HTTP/1, too: who speaks that without TLS is served.
    pub http1: bool,
    /// `http2_max_concurrent_streams`
    pub max_concurrent_streams: u32,
    /// `http2_initial_window_size`
    pub initial_window_size: u32,
    /// `http2_max_frame_size`
    pub max_frame_size: u32,
    /// `http2_max_header_list_size`; 0: no bound is told.
    pub max_header_list_size: u32,
}

impl Default for Http2 {
    fn default() -> Self {
        Self {
            prior_knowledge: false,
            upgrade: false,
            http1: true,
            max_concurrent_streams: 100,
            initial_window_size: 65_535,
            max_frame_size: 16_384,
            max_header_list_size: 65_536,
        }
    }
}

/// A directory for temporary files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemporaryDirectory {
    /// The directory.
    pub path: PathBuf,
    /// Who names it: a setting, a variable of the environment, the system.
    pub source: String,
    /// It is a setting: that it cannot be used is worth a word.
    pub is_setting: bool,
}

impl TemporaryDirectory {
    /// One that systems have.
    pub fn system(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            source: "system".into(),
            is_setting: false,
        }
    }
}

/// Deadlines. Zero switches one off, save for `keep_alive` where it means that no connection is
/// kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Timeouts {
    /// `keepalive`: how long a connection may wait for its next request.
    pub keep_alive: Duration,
    /// `keepalive_drain`: how long one is still answered after the end has begun.
    pub kept_in_drain: Duration,
    /// From the first byte of a request (or the accept) to the end of its head.
    pub head: Duration,
    /// The span over which the rate of a request body is measured.
    pub body: Duration,
    /// Bytes of a request body that must come in a second of such a span.
    pub body_rate: u32,
    /// The span over which is measured how fast a client takes what waits for it.
    pub write: Duration,
    /// Bytes it must take in a second of such a span.
    pub write_rate: u32,
    /// `timeout`: how long a worker may work on a request.
    pub request: Duration,
    /// `slow_request_time`: after how long in a worker a request is told of, once.
    pub slow: Duration,
    /// `graceful_timeout`: used when the arbiter dies and nobody gives a deadline.
    pub graceful: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            keep_alive: Duration::from_secs(75),
            kept_in_drain: Duration::from_secs(2),
            head: Duration::from_secs(30),
            body: Duration::from_secs(30),
            body_rate: 240,
            write: Duration::from_secs(30),
            write_rate: 240,
            request: Duration::from_secs(30),
            slow: Duration::ZERO,
            graceful: Duration::from_secs(30),
        }
    }
}

/// WebSockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WebSocket {
    /// Bytes of a message; none: no bound.
    pub max_message_size: Option<u64>,
    /// How long a client may be silent before it is asked whether it is there. Zero: it is not asked.
    pub ping_interval: Duration,
    /// How long it may take to answer. Zero: it may be silent.
    pub ping_timeout: Duration,
    /// permessage-deflate.
    pub compression: WebSocketCompression,
    /// How long a client may take to answer our close, once it has read it.
    pub close_timeout: Duration,
    /// How long a client's close waits for what the application has to say to the messages before it.
    pub answer_timeout: Duration,
}

impl Default for WebSocket {
    fn default() -> Self {
        Self {
            max_message_size: Some(16 * 1024 * 1024),
            ping_interval: Duration::from_secs(20),
            ping_timeout: Duration::from_secs(20),
            compression: WebSocketCompression::Shared,
            close_timeout: Duration::from_secs(10),
            answer_timeout: Duration::from_secs(5),
        }
    }
}

impl Timeouts {
    /// What a client must send of a body.
    pub(crate) fn demand_on_body(&self) -> MinRate {
        MinRate {
            span: self.body,
            rate: self.body_rate,
        }
    }

    /// What a client must take of a response.
    pub(crate) fn demand_on_reader(&self) -> MinRate {
        MinRate {
            span: self.write,
            rate: self.write_rate,
        }
    }
}

/// Whether and how messages are compressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WebSocketCompression {
    /// Not at all.
    Off,
    /// Each message by itself, with compressors that all connections share.
    #[default]
    Shared,
    /// With what a connection has sent and received before as context, which costs memory for each.
    Dedicated,
}

/// The queue; see `oxicorn_dispatch::Policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Queue {
    /// Requests that wait for a worker at once; the next is answered with 503.
    pub limit: usize,
    /// How long one waits at most before it is answered with 503.
    pub timeout: Duration,
    /// Requests placed ahead in a worker's ring, at most.
    pub prefetch_limit: u32,
    /// How much measured work may be placed ahead.
    pub prefetch_budget: Duration,
    /// A worker that is this long in one request gives back what it was given ahead.
    pub stall_after: Duration,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            limit: 2048,
            timeout: Duration::from_secs(30),
            prefetch_limit: 64,
            prefetch_budget: Duration::from_millis(1),
            stall_after: Duration::from_millis(1),
        }
    }
}

/// The PROXY protocol in front of a connection (`proxy_protocol`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProxyProtocol {
    /// Not looked for.
    #[default]
    Off,
    /// Version 1, the line of text.
    V1,
    /// Version 2, the binary header.
    V2,
    /// Either.
    Auto,
}

/// Whom to believe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Trust {
    /// `forwarded_allow_ips`: addresses, networks in CIDR notation, or `*`.
    pub forwarded_allow_ips: Vec<String>,
    /// `secure_scheme_headers`: header name and the value that means https.
    pub secure_scheme_headers: Vec<(String, String)>,
    /// `proxy_protocol`
    pub proxy_protocol: ProxyProtocol,
    /// `proxy_allow_ips`
    pub proxy_allow_ips: Vec<String>,
    /// `uwsgi_allow_ips`
    pub uwsgi_allow_ips: Vec<String>,
}

impl Default for Trust {
    fn default() -> Self {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        Self {
            forwarded_allow_ips: vec!["127.0.0.1".into(), "::1".into()],
            secure_scheme_headers: vec![
                pair("X-FORWARDED-PROTOCOL", "ssl"),
                pair("X-FORWARDED-PROTO", "https"),
                pair("X-FORWARDED-SSL", "on"),
            ],
            proxy_protocol: ProxyProtocol::Off,
            proxy_allow_ips: vec!["127.0.0.1".into(), "::1".into()],
            uwsgi_allow_ips: vec!["127.0.0.1".into(), "::1".into()],
        }
    }
}

/// Where the lines of the JSON access log go and what they have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JsonAccessLog {
    /// A file, or `-` for standard output.
    pub path: String,
    /// Names of fields, `{NAME}i` and `{NAME}o` for headers; none: every field that has a name.
    pub fields: Vec<String>,
}

/// Where access log lines go and what they look like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessLog {
    /// A file, or `-` for standard output.
    pub path: String,
    /// `access_log_format`, Gunicorn's atoms.
    pub format: String,
}

/// Lines that are sent to the arbiter instead of being written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogForwarding {
    /// Requests that no worker writes a line for.
    pub access: bool,
    /// The error log.
    pub errors: bool,
}

/// A `StatsD` server and how metrics are called there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statsd {
    /// Where it listens.
    pub address: StatsdAddress,
    /// In front of each name, with its dot.
    pub prefix: String,
    /// `dogstatsd_tags`
    pub tags: String,
}

/// Where a `StatsD` server listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StatsdAddress {
    /// A host, by name or address, and a port.
    Udp(String, u16),
    /// The path of a datagram socket.
    Unix(PathBuf),
}

/// Gunicorn's log levels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Details for whoever looks for a bug.
    Debug,
    /// The usual.
    #[default]
    Info,
    /// A client did wrong, or something was refused.
    Warning,
    /// Something failed.
    Error,
    /// The server is in danger.
    Critical,
}

impl Level {
    /// As Python's `logging` counts it.
    pub const fn number(self) -> u8 {
        match self {
            Self::Debug => 10,
            Self::Info => 20,
            Self::Warning => 30,
            Self::Error => 40,
            Self::Critical => 50,
        }
    }

    /// As Python's `logging` writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warning => "WARNING",
            Self::Error => "ERROR",
            Self::Critical => "CRITICAL",
        }
    }
}

/// Where error log lines go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorLog {
    /// A file, or `-` for standard error.
    pub path: String,
    /// Lines below are left out.
    pub level: Level,
}

impl Default for ErrorLog {
    fn default() -> Self {
        Self {
            path: "-".into(),
            level: Level::Info,
        }
    }
}
