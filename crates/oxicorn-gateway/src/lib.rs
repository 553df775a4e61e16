//! The gateway: the one process that owns the client connections.
//!
//! It accepts, speaks HTTP with the clients, buffers, decides through `oxicorn-dispatch` which
//! worker gets which request, carries requests and answers over the links, and writes the access
//! log. It knows no Python, and it treats what a worker writes into a link as untrusted input.
//!
//! One thread, one tokio current-thread runtime, no locks (but for the logs' own threads), one
//! owner of all state, `gateway::Gateway`. What it owns lies in the folders below it, which do not know it;
//! what it does lies in its own. A module may use those above it in this table and none below (`cargo dev tidy`
//! looks):
//!
//! | concern | modules |
//! |---|---|
//! | the one clock | `time` |
//! | what clients may hold | `limits` |
//! | what is decided by | `config` |
//! | bytes in order, in memory and in files | `buffer` |
//! | bytes and descriptors: sockets, TLS | `transport` |
//! | what is told: logs, metrics, traces | `telemetry` |
//! | what the arbiter and the gateway say to each other | `control` |
//! | workers, and what they do for requests | `workers` |
//! | what clients speak, WebSockets with it | `session` |
//! | one request and its response, and what follows from an event | `exchange` |
//! | settings made ready for use | `active` |
//! | one client: its transport, its session, its exchange | `connection` |
//! | the owner, and everything that is done | `gateway` |
//! | the thread | `runtime` |

mod active;
mod buffer;
mod config;
mod connection;
pub mod control;
mod exchange;
mod gateway;
mod limits;
mod runtime;
mod session;
mod telemetry;
mod time;
mod transport;
mod workers;

pub use buffer::spool::can_be_used;
pub use config::settings::{
    AccessLog, ErrorLog, Http2, JsonAccessLog, Level, LogForwarding, ProxyProtocol, Queue,
    Settings, Statsd, StatsdAddress, TemporaryDirectory, Timeouts, Trust, WebSocket,
    WebSocketCompression,
};
pub use config::tracing::{Authorities, Export, RequestId, Sampler, TraceContext, Tracing};
pub use gateway::clients::admission::most_connections;
pub use gateway::monitoring::{DashboardSetup, application_metrics};
pub use telemetry::access_log::json::FIELDS as JSON_LOG_FIELDS;
pub use telemetry::access_log::{DEFAULT_FORMAT, FormatFault, check_format, shown_variables};
pub use telemetry::tracing::RequestIds;
pub use time::clock::TimeSource;

use std::os::fd::OwnedFd;

use oxicorn_os::privileges::Identity;

/// What is spoken at a listener.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ListenerSetup {
    /// Its address as the logs name it.
    pub name: String,
    /// Whether TLS is.
    pub tls: bool,
    /// Which protocol is, below it.
    pub protocol: Protocol,
}

/// A protocol that requests come by (`protocol`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Protocol {
    /// HTTP.
    #[default]
    Http,
    /// The uwsgi protocol, of nginx' `uwsgi_pass` and others.
    Uwsgi,
    /// FastCGI, in the role of a responder.
    FastCgi,
    /// SCGI.
    Scgi,
}

impl ListenerSetup {
    /// One that speaks no TLS.
    pub fn plain(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            tls: false,
            protocol: Protocol::Http,
        }
    }
}

/// What a gateway is started with.
#[derive(Debug)]
pub struct Setup {
    /// What to decide by.
    pub settings: Settings,
    /// Whom to become before anything is opened; `None`: stay who started it.
    pub identity: Option<Identity>,
    /// Where descriptors of log files lie that only the arbiter may open.
    pub log_files: Option<OwnedFd>,
    /// The gateway's end of the control channel (`SOCK_SEQPACKET`).
    pub control: OwnedFd,
    /// The listening sockets.
    pub listeners: Vec<(ListenerSetup, OwnedFd)>,
    /// Certificates and keys, for the listeners that speak TLS: a memory file with an encoded
    /// `oxicorn_tls::Material`.
    pub certificates: Option<OwnedFd>,
    /// The listening socket for metrics and probes (`metrics_bind`), if there is one.
    pub monitoring: Option<OwnedFd>,
    /// The dashboard on that listener, if it is switched on.
    pub dashboard: Option<DashboardSetup>,
    /// The scoreboard's memory file.
    pub scoreboard: OwnedFd,
    /// The memory file of the applications' own metrics (`oxicorn_link::metric_store`).
    pub metric_store: OwnedFd,
}

/// Exit code of a gateway that may not become who it is to be: Gunicorn's of a worker that cannot.
pub const CANNOT_CHANGE_USER: i32 = 3;

/// Serves until drained or stopped; returns the exit code of the process.
///
/// Called in the forked child. Of signals only PIPE is touched (ignored): the caller leaves TERM,
/// INT, QUIT, HUP and USR1 ignored or as it likes, since all that they mean reaches the gateway
/// over the control channel.
pub fn run(setup: Setup) -> i32 {
    run_by(setup, TimeSource::Kernel)
}

/// As [`run`], with deadlines measured by `time`: a test that holds the clock knows what is due,
/// however fast or slow the machine is. How often is looked for what is due stays the kernel's.
pub fn run_by(setup: Setup, time: TimeSource) -> i32 {
    runtime::run(setup, time)
}
