//! The gateway: the one process that owns the client connections.
//!
//! It accepts, speaks HTTP with the clients, buffers, decides through `oxicorn-dispatch` which worker gets which
//! request, carries requests and answers over the links, and writes the access log. It knows no Python, and it treats
//! what a worker writes into a link as untrusted input.
//!
//! One thread, one tokio current-thread runtime, no locks: all state is reached through `Rc<RefCell<..>>` and no borrow
//! is held across an await.

mod access_log;
mod body;
mod clock;
mod commands;
mod connection;
pub mod control;
mod control_end;
mod deadlines;
mod drain;
mod driver;
mod ending;
mod error_log;
mod exchange;
mod figures;
mod gateway;
mod hijack;
mod incoming;
mod input;
mod listener;
mod log_writer;
mod loss;
mod output;
mod peer;
mod placing;
mod pool;
mod receive;
mod refusal;
mod resolved;
mod respond;
mod runtime;
mod send;
mod settings;
mod socket;
mod trust;
mod watched;

pub use access_log::{DEFAULT_FORMAT, FormatFault, check_format};
pub use settings::{
    AccessLog, ErrorLog, HeaderMap, Level, Limits, ProxyProtocol, Queue, Settings, Strictness,
    Timeouts, Trust,
};

use std::os::fd::OwnedFd;

/// What a gateway is started with.
#[derive(Debug)]
pub struct Setup {
    /// What to decide by.
    pub settings: Settings,
    /// The gateway's end of the control channel (`SOCK_SEQPACKET`).
    pub control: OwnedFd,
    /// The listening sockets, each with its address as the logs name it.
    pub listeners: Vec<(String, OwnedFd)>,
    /// The scoreboard's memory file.
    pub scoreboard: OwnedFd,
}

/// Serves until drained or stopped; returns the exit code of the process.
///
/// Called in the forked child. Signals are not touched: the caller leaves TERM, INT, QUIT, HUP and USR1 ignored or at
/// the arbiter's choice, since all of these reach the gateway over the control channel.
pub fn run(setup: Setup) -> i32 {
    runtime::run(setup)
}
