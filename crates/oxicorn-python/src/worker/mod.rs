//! A worker process: pulls requests from its link, calls the application, writes responses back.
//!
//! Threads: the main thread (Python's; it serves with `sync`, waits for signals with `gthread`, runs
//! the event loop with `asgi`, the hub with `gevent`), the pool's threads (Python's, `gthread`), the *sentinel* (native:
//! heartbeat, signals, the arbiter's death), the *observer* (native: answers the arbiter) and the *watcher* (native,
//! `gthread`, see `pool`).

use std::time::Duration;

pub(crate) mod calls;
mod context;
mod direct;
mod engine;
mod leaving;
pub(crate) mod link;
mod loop_link;
mod observer;
mod pool;
pub(crate) mod responder;
mod sentinel;
pub(crate) mod wait;

pub(crate) use context::{WorkerContext, WorkerSetup, mark_end_of_dumps};
pub(crate) use engine::WorkerKind;
pub(crate) use loop_link::{LoopLink, Standing};
pub(crate) use pool::{Claim, Errand, Pool};

/// What the sentinel may ask of whatever takes the requests; from its own thread.
pub(crate) trait Serving: Send + Sync {
    /// Ends all waits once, so that signal handlers run.
    fn interrupt(&self);

    /// Takes no more requests.
    fn stop(&self);

    /// Whether there has been a sign of life since the last call. Threads cannot be asked without
    /// disturbing them: what they do too long is noticed by the request.
    fn is_responsive(&self) -> bool {
        true
    }

    /// How long an event loop took to turn when it was called for its last sign of life, if that is new.
    fn take_lag(&self) -> Option<Duration> {
        None
    }
}
