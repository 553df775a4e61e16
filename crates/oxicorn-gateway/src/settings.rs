//! What the gateway must be told: plain values, resolved by whoever composes the server.
//!
//! Nothing is read from files or the environment here, and no setting is known by its Gunicorn
//! name; `oxicorn-settings` has the table, the composition root fills this in. The defaults are
//! Gunicorn's where Gunicorn has the setting, else generous enough that no honest client notices
//! and small enough that no dishonest one can hold anything for ever.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Everything the gateway decides by. Sent whole at start and on reload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub struct Settings {
    /// Bounds on what a client may send.
    pub limits: Limits,
    /// Tolerance of the HTTP/1 grammar.
    pub strictness: Strictness,
    /// Deadlines.
    pub timeouts: Timeouts,
    /// The one request queue and its prefetch.
    pub queue: Queue,
    /// Whom to believe about the client's scheme and address.
    pub trust: Trust,
    /// The access log, if there is one.
    pub access_log: Option<AccessLog>,
    /// The error log.
    pub error_log: ErrorLog,
    /// Value of the `Server` header; empty: none is sent.
    pub server_header: String,
    /// Whether the connections of this server are TLS'd by somebody in front, so that the scheme is
    /// https from the start.
    pub https: bool,
    /// Bytes of a request body kept in memory; what is longer goes to an unlinked temporary file.
    pub body_memory: usize,
    /// Where those files are made; none: `TMPDIR`, else `/tmp`.
    pub temporary_directory: Option<PathBuf>,
    /// Bytes of one response that are taken from the worker before the client has read them; less
    /// than a link's window (1 MiB) counts as that.
    pub response_buffer: usize,
    /// Connections open at once; more wait in the kernel's backlog.
    pub connection_limit: usize,
    /// Whether somebody else has the listeners too (systemd, another server that takes over): closed, they are left as
    /// they are, and who waits in their backlog is left to the others.
    pub listeners_are_shared: bool,
    /// `TCP_NODELAY` on accepted connections.
    pub tcp_nodelay: bool,
    /// `sendfile(2)` for file responses; off: read and write.
    pub sendfile: bool,
    /// WebSockets; none: the workers do not speak it, and a request for one is an ordinary request.
    pub websocket: Option<WebSocket>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            strictness: Strictness::default(),
            timeouts: Timeouts::default(),
            queue: Queue::default(),
            trust: Trust::default(),
            access_log: None,
            error_log: ErrorLog::default(),
            server_header: "oxicorn".into(),
            https: false,
            body_memory: 128 * 1024,
            temporary_directory: None,
            response_buffer: 1024 * 1024,
            connection_limit: 65_536,
            listeners_are_shared: false,
            tcp_nodelay: true,
            sendfile: true,
            websocket: None,
        }
    }
}

/// Bounds on a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// `limit_request_line`
    pub request_line: usize,
    /// `limit_request_fields`
    pub fields: usize,
    /// `limit_request_field_size`
    pub field_size: usize,
    /// Bytes of a request body; none: no bound, as Gunicorn.
    pub body: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_line: 4094,
            fields: 100,
            field_size: 8190,
            body: None,
        }
    }
}

/// What becomes of a header whose name has an underscore (`header_map`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeaderMap {
    /// It is left out.
    #[default]
    Drop,
    /// The request is refused.
    Refuse,
    /// It is passed on.
    Dangerous,
}

/// Gunicorn's switches of the HTTP/1 grammar, under their names there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "they mirror switches users know by these names"
)]
pub struct Strictness {
    /// `header_map`
    pub header_map: HeaderMap,
    /// `permit_obsolete_folding`
    pub permit_obsolete_folding: bool,
    /// `strip_header_spaces`
    pub strip_header_spaces: bool,
    /// `permit_unconventional_http_method`
    pub permit_unconventional_http_method: bool,
    /// `permit_unconventional_http_version`
    pub permit_unconventional_http_version: bool,
    /// `casefold_http_method`
    pub casefold_http_method: bool,
}

impl Default for Strictness {
    fn default() -> Self {
        Self {
            header_map: HeaderMap::Drop,
            permit_obsolete_folding: false,
            strip_header_spaces: false,
            permit_unconventional_http_method: false,
            permit_unconventional_http_version: false,
            casefold_http_method: false,
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
    /// From the first byte of a request (or the accept) to the end of its head.
    pub head: Duration,
    /// Between two pieces of a request body.
    pub body: Duration,
    /// How long a client may take nothing of what is waiting for it.
    pub write: Duration,
    /// `timeout`: how long a worker may work on a request.
    pub request: Duration,
    /// `graceful_timeout`: used when the arbiter dies and nobody gives a deadline.
    pub graceful: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            keep_alive: Duration::from_secs(2),
            head: Duration::from_mins(1),
            body: Duration::from_mins(1),
            write: Duration::from_mins(1),
            request: Duration::from_secs(30),
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
}

impl Default for WebSocket {
    fn default() -> Self {
        Self {
            max_message_size: Some(16 * 1024 * 1024),
            ping_interval: Duration::from_secs(20),
            ping_timeout: Duration::from_secs(20),
            compression: WebSocketCompression::Shared,
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
            prefetch_limit: 16,
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
    /// `forwarder_headers`: names with underscores a trusted peer may send.
    pub forwarder_headers: Vec<String>,
    /// `proxy_protocol`
    pub proxy_protocol: ProxyProtocol,
    /// `proxy_allow_ips`
    pub proxy_allow_ips: Vec<String>,
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
            forwarder_headers: vec!["SCRIPT_NAME".into(), "PATH_INFO".into()],
            proxy_protocol: ProxyProtocol::Off,
            proxy_allow_ips: vec!["127.0.0.1".into(), "::1".into()],
        }
    }
}

/// Where access log lines go and what they look like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessLog {
    /// A file, or `-` for standard output.
    pub path: String,
    /// `access_log_format`, Gunicorn's atoms.
    pub format: String,
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
