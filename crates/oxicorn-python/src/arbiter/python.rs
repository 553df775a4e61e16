//! The Python half of the arbiter, `oxicorn.arbiter.Arbiter`: every method that is called of it, and every attribute that
//! is read, has its name here and nowhere else. That the class has them, `tests/process/test_arbiter_object.py` looks.

use std::ops::Deref;
use std::os::fd::RawFd;
use std::path::PathBuf;

use oxicorn_os::privileges::Identity;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use super::heartbeat::Heartbeat;
use crate::pool::DirtyContext;
use crate::worker::WorkerContext;

/// See the head of this file. What hooks get as `server`.
#[derive(Debug, Clone)]
pub(crate) struct PyArbiter<'py>(Bound<'py, PyAny>);

impl<'py> From<&Bound<'py, PyAny>> for PyArbiter<'py> {
    fn from(object: &Bound<'py, PyAny>) -> Self {
        Self(object.clone())
    }
}

/// The object itself: for who logs by it, or gives it to Python.
impl<'py> Deref for PyArbiter<'py> {
    type Target = Bound<'py, PyAny>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

/// What is in force in this process.
impl<'py> PyArbiter<'py> {
    /// The settings (`oxicorn.config.Config`).
    pub(crate) fn cfg(&self) -> PyResult<Bound<'py, PyAny>> {
        self.0.getattr("cfg")
    }

    /// The generation, as a value (`oxicorn.generation.Generation`).
    pub(crate) fn generation(&self) -> PyResult<Bound<'py, PyAny>> {
        self.0.call_method0("generation")
    }

    pub(crate) fn enter_generation(&self, generation: &Py<PyAny>) -> PyResult<()> {
        self.does("enter_generation", (generation,))
    }

    /// The name of the server in the list of processes.
    pub(crate) fn proc_name(&self) -> PyResult<String> {
        self.0.getattr("proc_name")?.extract()
    }

    /// Setting `timeout`, in seconds; hooks may change it.
    pub(crate) fn timeout(&self) -> Option<u64> {
        self.0.getattr("timeout").ok()?.extract().ok()
    }

    /// What is logged, where that was changed: a level of Python's.
    pub(crate) fn changed_log_level(&self) -> Option<u32> {
        self.0.getattr("changed_log_level").ok()?.extract().ok()
    }

    /// The signal that makes a worker write its stacks.
    pub(crate) fn stack_dump_signal(&self) -> Option<i32> {
        self.0.getattr("stack_dump_signal").ok()?.extract().ok()
    }

    pub(crate) fn out_of_rotation(&self) -> PyResult<bool> {
        self.0.getattr("out_of_rotation")?.extract()
    }

    /// Whom gateway and workers become; `None`: who we are.
    pub(crate) fn identity(&self) -> PyResult<Option<Identity>> {
        let identity: Option<(u32, u32, Option<Vec<u32>>)> =
            self.0.call_method0("identity")?.extract()?;
        Ok(identity.map(|(user, group, groups)| Identity {
            user,
            group,
            groups,
        }))
    }

    /// Where the gateway finds log files that it may not open.
    pub(crate) fn offered_logs(&self) -> PyResult<Option<RawFd>> {
        self.0.call_method0("offered_logs")?.extract()
    }

    /// Whether a subclass has a method of this name.
    pub(crate) fn overrides(&self, name: &str) -> PyResult<bool> {
        self.0.call_method1("overrides", (name,))?.extract()
    }

    /// The files of certificates that `cfg` names.
    pub(crate) fn certificate_files(&self, cfg: &Bound<'_, PyAny>) -> PyResult<Vec<PathBuf>> {
        self.0.call_method1("certificate_files", (cfg,))?.extract()
    }

    /// What is in them, encoded; notes, and the files that were read.
    pub(crate) fn read_certificates(
        &self,
        cfg: &Bound<'_, PyAny>,
    ) -> PyResult<(Vec<u8>, Vec<String>, Vec<String>)> {
        self.0.call_method1("read_certificates", (cfg,))?.extract()
    }
}

/// The life of the server.
impl<'py> PyArbiter<'py> {
    pub(crate) fn init_signals(&self) -> PyResult<()> {
        self.does("init_signals", ())
    }

    /// Descriptors this process was started with, and whether they are systemd's.
    pub(crate) fn inherited_listeners(&self) -> PyResult<(Vec<RawFd>, bool)> {
        self.0.call_method0("inherited_listeners")?.extract()
    }

    pub(crate) fn inherited_metrics_listener(&self) -> PyResult<Option<RawFd>> {
        self.0.call_method0("inherited_metrics_listener")?.extract()
    }

    /// The listeners are these: text, descriptor, address.
    pub(crate) fn listening(&self, listeners: Bound<'py, PyList>) -> PyResult<()> {
        self.does("listening", (listeners,))
    }

    /// The listeners are bound, nothing has been forked yet.
    pub(crate) fn bound(&self) -> PyResult<()> {
        self.does("bound", ())
    }

    /// The gateway is there. Hook `when_ready`.
    pub(crate) fn ready(&self) -> PyResult<()> {
        self.does("ready", ())
    }

    /// The first workers serve.
    pub(crate) fn booted(&self) -> PyResult<()> {
        self.does("booted", ())
    }

    pub(crate) fn handle_signal(&self, signal: i32) -> PyResult<()> {
        self.does("handle_signal", (signal,))
    }

    /// What signal handlers and hooks have asked for.
    pub(crate) fn next_order(&self) -> PyResult<Option<String>> {
        self.0.call_method0("next_order")?.extract()
    }

    pub(crate) fn reopen_logs(&self) -> PyResult<()> {
        self.does("reopen_logs", ())
    }

    /// The end has begun.
    pub(crate) fn stopping(&self) -> PyResult<()> {
        self.does("stopping", ())
    }

    /// Gunicorn's method of that name, where a subclass has its own.
    pub(crate) fn manage_workers(&self) -> PyResult<()> {
        self.does("manage_workers", ())
    }

    /// Gunicorn's method of that name, where a subclass has its own.
    pub(crate) fn kill_worker(&self, pid: i32, signal: i32) -> PyResult<()> {
        self.does("kill_worker", (pid, signal))
    }

    /// Everything else has ended. Hook `on_exit`.
    pub(crate) fn ended(&self) -> PyResult<()> {
        self.does("ended", ())
    }

    /// The number of workers has changed. Hook `nworkers_changed`.
    pub(crate) fn set_num_workers(&self, new: u32, old: Option<u32>) -> PyResult<()> {
        self.does("set_num_workers", (new, old))
    }

    pub(crate) fn control_desk(&self) -> PyResult<Bound<'py, PyAny>> {
        self.0.call_method0("control_desk")
    }
}

/// Reloads.
impl PyArbiter<'_> {
    pub(crate) fn reloading(&self) -> PyResult<()> {
        self.does("reloading", ())
    }

    /// Reads the settings again; raises, with everything as it was, if they are of no use.
    pub(crate) fn reload_settings(&self) -> PyResult<()> {
        self.does("reload_settings", ())
    }

    /// The new settings are in force. Hook `on_reload`.
    pub(crate) fn reloaded(&self) -> PyResult<()> {
        self.does("reloaded", ())
    }

    /// Logs why not; whether it was the hook.
    pub(crate) fn reload_refused(&self, error: PyErr) -> PyResult<bool> {
        let error = error.into_value(self.0.py());
        self.0.call_method1("reload_refused", (error,))?.is_truthy()
    }

    /// No reload is under way any more.
    pub(crate) fn settled(&self) -> PyResult<()> {
        self.does("settled", ())
    }
}

/// Workers and templates.
impl PyArbiter<'_> {
    /// The object for a worker of `generation`, before its fork. Hook `pre_fork`.
    pub(crate) fn make_worker(&self, age: u64, generation: &Py<PyAny>) -> PyResult<Py<PyAny>> {
        let made = self.0.call_method1("make_worker", (age, generation))?;
        Ok(made.unbind())
    }

    pub(crate) fn show_heartbeat(&self, worker: &Py<PyAny>, heartbeat: Heartbeat) -> PyResult<()> {
        self.does("show_heartbeat", (worker, heartbeat))
    }

    pub(crate) fn worker_started(&self, worker: &Py<PyAny>, pid: i32) -> PyResult<()> {
        self.does("worker_started", (worker, pid))
    }

    /// A worker has ended. Hook `child_exit`.
    pub(crate) fn worker_reaped(&self, worker: Py<PyAny>) -> PyResult<()> {
        self.does("worker_reaped", (worker,))
    }

    /// What a worker has found its application to be; whether the class of the workers to come has changed by that.
    pub(crate) fn application_found(&self, cfg: &Py<PyAny>, finding: u8) -> PyResult<bool> {
        self.0
            .call_method1("application_found", (cfg, finding))?
            .extract()
    }

    /// The life of a worker process; its exit code.
    pub(crate) fn run_worker(
        &self,
        worker: Py<PyAny>,
        context: WorkerContext,
        listeners: Bound<'_, PyList>,
    ) -> PyResult<i32> {
        self.0
            .call_method1("run_worker", (worker, context, listeners))?
            .extract()
    }

    /// The object for a worker that a template is to fork, and what the template must know.
    pub(crate) fn make_ordered(
        &self,
        age: u64,
        cfg: Bound<'_, PyAny>,
    ) -> PyResult<(Py<PyAny>, Vec<u8>)> {
        self.0.call_method1("make_ordered", (age, cfg))?.extract()
    }

    /// It is there; `left` is what `pre_fork` has changed.
    pub(crate) fn ordered_started(
        &self,
        worker: &Py<PyAny>,
        pid: i32,
        left: &[u8],
    ) -> PyResult<()> {
        self.does("ordered_started", (worker, pid, left))
    }

    /// In a new template, before anything else.
    pub(crate) fn enter_template(&self, generation: &Py<PyAny>, stack_dump: RawFd) -> PyResult<()> {
        self.does("enter_template", (generation, stack_dump))
    }

    /// Whether it could be loaded.
    pub(crate) fn load_in_template(&self) -> PyResult<bool> {
        self.0.call_method0("load_in_template")?.extract()
    }

    /// In a template: the worker to be forked, and what `pre_fork` has changed.
    pub(crate) fn prepare_fork(&self, age: u64, state: &[u8]) -> PyResult<(Py<PyAny>, Vec<u8>)> {
        self.0.call_method1("prepare_fork", (age, state))?.extract()
    }

    /// In a worker that a template has forked, before anything else.
    pub(crate) fn left_template(&self) -> PyResult<()> {
        self.does("left_template", ())
    }
}

/// The arbiter before this one, and the one after it.
impl PyArbiter<'_> {
    pub(crate) fn has_predecessor(&self) -> PyResult<bool> {
        self.0.call_method0("has_predecessor")?.extract()
    }

    pub(crate) fn is_abandoned(&self) -> PyResult<bool> {
        self.0.call_method0("is_abandoned")?.extract()
    }

    pub(crate) fn promote(&self) -> PyResult<()> {
        self.does("promote", ())
    }

    /// The process that takes over; 0: there is none.
    pub(crate) fn set_successor(&self, pid: i32) -> PyResult<()> {
        self.0.setattr("reexec_pid", pid)
    }

    /// Becomes the server as it is installed now; returns only if that fails.
    pub(crate) fn execute(
        &self,
        listeners: Vec<RawFd>,
        metrics_listener: Option<RawFd>,
    ) -> PyResult<i32> {
        self.0
            .call_method1("execute", (listeners, metrics_listener))?
            .extract()
    }
}

/// The pool of heavy applications.
impl<'py> PyArbiter<'py> {
    /// What `cfg` says of it.
    pub(crate) fn dirty_plan(&self, cfg: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.0.call_method1("dirty_plan", (cfg,))
    }

    /// The pool as its hooks see it.
    pub(crate) fn make_dirty_arbiter(&self, cfg: &Py<PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.0.call_method1("make_dirty_arbiter", (cfg,))
    }

    pub(crate) fn dirty_arbiter_ended(&self) -> PyResult<()> {
        self.does("dirty_arbiter_ended", ())
    }

    /// The broker's process; 0: there is none.
    pub(crate) fn set_broker(&self, pid: i32) -> PyResult<()> {
        self.0.setattr("dirty_arbiter_pid", pid)
    }

    /// The life of a worker of the pool; its exit code.
    pub(crate) fn run_dirty_worker(
        &self,
        worker: Py<PyAny>,
        context: DirtyContext,
    ) -> PyResult<i32> {
        self.0
            .call_method1("run_dirty_worker", (worker, context))?
            .extract()
    }
}

/// Logs.
impl<'py> PyArbiter<'py> {
    /// What the gateway may write by itself.
    pub(crate) fn gateway_logging(&self) -> PyResult<Bound<'py, PyAny>> {
        self.0.call_method0("gateway_logging")
    }

    /// A line of the error log, by a method of the logger.
    pub(crate) fn log(&self, method: &str, text: &str) -> PyResult<()> {
        let log = self.0.getattr(intern!(self.0.py(), "log"))?;
        log.call_method1(method, ("%s", text)).map(drop)
    }

    pub(crate) fn log_exception(&self, what: &str, error: &PyErr) -> PyResult<()> {
        let error = error.clone_ref(self.0.py()).into_value(self.0.py());
        self.does("log_exception", (what, error))
    }

    pub(crate) fn log_access(&self, fields: &Bound<'_, PyDict>) -> PyResult<()> {
        self.0.call_method("log_access", (), Some(fields)).map(drop)
    }

    pub(crate) fn log_slow_request(&self, fact: Bound<'_, PyDict>) -> PyResult<()> {
        self.does("log_slow_request", (fact,))
    }

    pub(crate) fn report_workers(&self, count: u64) -> PyResult<()> {
        self.does("report_workers", (count,))
    }

    pub(crate) fn report_backlog(&self, waiting: u64) -> PyResult<()> {
        self.does("report_backlog", (waiting,))
    }

    fn does<A>(&self, method: &str, arguments: A) -> PyResult<()>
    where
        A: pyo3::call::PyCallArgs<'py>,
    {
        self.0.call_method1(method, arguments).map(drop)
    }
}
