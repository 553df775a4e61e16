//! The arbiter process: performs what `oxicorn-arbiter` decides.
//!
//! One loop: wait for signals, the workers' notices and the gateway's messages; turn them into events;
//! do the actions that come back. It starts no thread, because a fork from a threaded process is a
//! trap, and it waits detached from the interpreter, because hooks may have started threads all the
//! same. A forked child leaves the loop with an [`Outcome`], so that everything of the arbiter's has
//! been let go of before the child begins its own life.

mod actions;
mod binding;
mod certificates;
mod control;
mod dashboard;
mod fork;
mod gateway;
mod gateway_messages;
mod generation;
mod heartbeat;
mod inquiry;
mod listeners;
mod log;
mod monitoring;
mod notices;
mod orders;
mod pool;
mod python;
mod reaping;
mod slow_requests;
mod stacks;
mod successor;
mod supervisor;
mod template;
mod templates;
mod unbound;
mod without_python;
mod workers;

pub(crate) use gateway::{holds_temporary_files, temporary_directory_choices};

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use pyo3::prelude::*;

pub(crate) use self::heartbeat::Heartbeat;
use self::listeners::Listener;
use self::python::PyArbiter;
use self::supervisor::Supervisor;
use self::template::TemplateChild;
use crate::pool::{DirtyContext, DirtySetup};
use crate::worker::{WorkerContext, WorkerSetup};

/// How the arbiter's loop ends in this process.
pub(crate) enum Outcome {
    /// In the arbiter: with the server's exit code.
    Exit(i32),
    /// In a forked child: as a worker.
    Worker(Box<WorkerChild>),
    /// In a forked child: as the template.
    Template(Box<TemplateChild>),
    /// In a forked child: as the gateway.
    Gateway(Box<GatewayChild>),
    /// In a forked child: as the broker of the pool.
    PoolBroker(Box<PoolBrokerChild>),
    /// In a forked child: as a worker of the pool.
    DirtyWorker(Box<DirtyChild>),
    /// In a forked child: as the successor, on these listeners.
    Successor(SuccessorChild),
}

/// What a worker process begins with.
pub(crate) struct WorkerChild {
    py_worker: Py<PyAny>,
    /// What it enters first of all; nothing where the template that forked it has.
    generation: Option<Py<PyAny>>,
    setup: WorkerSetup,
    /// For a worker that accepts connections itself.
    listeners: Vec<Listener>,
}

/// What a gateway process begins with.
pub(crate) struct GatewayChild {
    title: String,
    setup: oxicorn_gateway::Setup,
    signals: oxicorn_os::signals::Blocked,
}

/// What the broker of the pool begins with.
pub(crate) struct PoolBrokerChild {
    title: String,
    setup: oxicorn_pool::Setup,
    signals: oxicorn_os::signals::Blocked,
}

/// What a worker of the pool begins with.
pub(crate) struct DirtyChild {
    py_worker: Py<PyAny>,
    title: String,
    setup: DirtySetup,
}

/// What the start of a successor begins with.
pub(crate) struct SuccessorChild {
    listeners: Vec<OwnedFd>,
    monitoring: Option<OwnedFd>,
    signals: oxicorn_os::signals::Blocked,
}

/// Runs the server described by `server` (an `oxicorn.arbiter.Arbiter`); returns the exit code of the
/// process this returns in, which is the arbiter, a template or a worker. The gateway never returns.
#[pyfunction]
pub(crate) fn serve(server: &Bound<'_, PyAny>) -> PyResult<i32> {
    let (py, server) = (server.py(), &PyArbiter::from(server));
    crate::forked::end_if_forked(server, None);
    let outcome = Supervisor::start(server)?.run(py)?;
    match outcome {
        Outcome::Exit(code) => Ok(code),
        Outcome::Worker(child) => run_worker(server, *child),
        Outcome::Template(child) => match template::run(server, *child)? {
            template::End::Exit(code) => Ok(code),
            template::End::Worker(child) => run_worker(server, *child),
        },
        Outcome::Gateway(child) => run_gateway(py, *child),
        Outcome::Successor(child) => run_successor(server, child),
        Outcome::PoolBroker(child) => pool::run_broker(py, *child),
        Outcome::DirtyWorker(child) => run_dirty_worker(server, *child),
    }
}

fn run_dirty_worker(server: &PyArbiter<'_>, child: DirtyChild) -> PyResult<i32> {
    let _ = oxicorn_os::title::set(&child.title);
    let context = DirtyContext::new(child.setup)?;
    server.run_dirty_worker(child.py_worker, context)
}

fn run_worker(server: &PyArbiter<'_>, child: WorkerChild) -> PyResult<i32> {
    if let Some(generation) = child.generation {
        server.enter_generation(&generation)?;
    }
    // A title is a help for people: that it cannot be set is no reason not to serve.
    let _ = oxicorn_os::title::set(&actions::title(server, "worker"));
    let sockets = child
        .listeners
        .iter()
        .map(|listener| listener.socket.as_fd());
    let context = WorkerContext::new(child.setup, sockets)?;
    // Python has them from here on.
    let listeners = std::mem::ManuallyDrop::new(child.listeners);
    let listeners = binding::described(server.py(), &listeners)?;
    server.run_worker(child.py_worker, context, listeners)
}

/// Becomes the server as it is installed now; returns only if that fails.
fn run_successor(server: &PyArbiter<'_>, child: SuccessorChild) -> PyResult<i32> {
    let mut numbers = Vec::with_capacity(child.listeners.len());
    for listener in &child.listeners {
        oxicorn_os::sockets::set_inheritable(listener, true)?;
        numbers.push(listener.as_raw_fd());
    }
    if let Some(listener) = &child.monitoring {
        oxicorn_os::sockets::set_inheritable(listener, true)?;
    }
    let monitoring = child.monitoring.as_ref().map(AsRawFd::as_raw_fd);
    // A mask is inherited by the program it turns into.
    drop(child.signals);
    server.execute(numbers, monitoring)
}

fn run_gateway(py: Python<'_>, child: GatewayChild) -> ! {
    let _ = oxicorn_os::title::set(&child.title);
    for signal in gateway::IGNORED_SIGNALS {
        // Only numbers that name no signal could fail.
        let _ = oxicorn_os::signals::ignore(signal);
    }
    drop(child.signals);
    without_python::run(py, || oxicorn_gateway::run(child.setup))
}
