//! A worker process: pulls requests from its link, calls the application, writes responses back.
//!
//! Threads: the main thread (Python's; it serves with `sync` and waits for signals with `gthread`), the
//! pool's threads (Python's, `gthread`), the *sentinel* (native: heartbeat, signals, the arbiter's
//! death) and the *watcher* (native, `gthread`, see `pool`).

mod context;
pub(crate) mod lane;
pub(crate) mod notice;
mod pool;
mod sentinel;

pub(crate) use context::{WorkerContext, WorkerSetup};
