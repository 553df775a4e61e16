//! What a worker process holds: the object `oxicorn.workers.base.Worker` drives.
//!
//! Made in the child right after the fork; the Python class calls it in the order init, ready, and in between makes a
//! server of it (`WsgiServer`, `GeventServer`, `AsgiServer`), which takes from it whatever it needs.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use oxicorn_arbiter::messages::Notice;
use oxicorn_link::scoreboard::{Slot, WaitKind, WorkerState};
use oxicorn_link::{LinkParts, WorkerEnd};
use oxicorn_os::channel::{Blocking, Channel};
use oxicorn_os::eventfd::EventFd;
use oxicorn_os::signals::Blocked;
use oxicorn_os::time;
use pyo3::exceptions::{PyOSError, PyRuntimeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::calls::Described;
use super::engine::{Engine, WorkerKind};
use super::leaving::Leaving;
use super::loop_link::LoopLink;
use super::observer::Observer;
use super::pool::Pool;
use super::responder::Responder;
use super::sentinel::{Beats, Sentinel};
use crate::forked;
use crate::request::AccessLogging;

/// How often it is looked whether a class that gives no signs of life serves.
const READY_LOOK: Duration = Duration::from_millis(500);

/// What the arbiter leaves to a new worker process.
#[derive(Debug)]
pub(crate) struct WorkerSetup {
    pub(crate) id: u32,
    pub(crate) link: LinkParts,
    /// The workers' end of the notice channel.
    pub(crate) notices: Channel,
    /// Rings when this worker may exit.
    pub(crate) release: EventFd,
    /// Where the stacks go when they are asked for.
    pub(crate) stack_dump: OwnedFd,
    /// What the arbiter has to say to this worker.
    pub(crate) messages: Channel,
    pub(crate) slot: Option<Slot>,
    pub(crate) kind: WorkerKind,
    /// How long requests may be finished after arbiter and gateway are gone.
    pub(crate) graceful_timeout: Duration,
    /// Between two heartbeats.
    pub(crate) beat: Duration,
    /// Signals wait until the worker's handlers stand.
    pub(crate) signals: Blocked,
}

/// See the head of this file.
#[pyclass(frozen, module = "oxicorn._native")]
pub(crate) struct WorkerContext {
    engine: Engine,
    id: u32,
    notices: Arc<Channel>,
    signals: Mutex<Option<Blocked>>,
    stack_dump: OwnedFd,
    worker: OnceLock<Py<PyAny>>,
    max_requests: AtomicU64,
    /// It was told to stop: it serves what it is still given.
    told: AtomicBool,
    /// The arbiter knows that it serves.
    is_ready: AtomicBool,
    sentinel: Mutex<Option<Sentinel>>,
    observer: Mutex<Option<Observer>>,
    slot: Option<Slot>,
    /// Who writes the access lines.
    access: Arc<AccessLogging>,
    /// Python's C-level signal handler writes here; the sentinel reads the other end.
    wakeup: UnixStream,
}

impl WorkerContext {
    /// Attaches to the link; the threads are started later, by [`Self::init`]. `listeners`: of a class that accepts
    /// connections itself.
    pub(crate) fn new<'fd>(
        setup: WorkerSetup,
        listeners: impl Iterator<Item = BorrowedFd<'fd>>,
    ) -> PyResult<Self> {
        let LinkParts {
            memory,
            gateway_doorbell,
            worker_doorbell,
            gateway_side,
            worker_side,
        } = setup.link;
        // Only then does its end of file say that the arbiter and the gateway are gone.
        drop(gateway_side);
        let watched = worker_side.try_clone()?;
        let doorbell = EventFd::from(worker_doorbell.try_clone()?);
        let end = WorkerEnd::attach(
            memory,
            gateway_doorbell,
            worker_doorbell,
            worker_side,
            setup.kind.wait_mode(),
        )
        .map_err(|error| PyOSError::new_err(error.to_string()))?;
        end.keep_from_children()?;
        let engine = Engine::new(setup.kind, end.split())?;
        let (wakeup, signalled) = UnixStream::pair()?;
        wakeup.set_nonblocking(true)?;
        signalled.set_nonblocking(true)?;
        let notices = Arc::new(setup.notices);
        let slot = setup.slot;
        if let Some(slot) = &slot {
            slot.keep_from_children()?;
        }
        forked::keep_from_children(&*notices);
        forked::keep_from_children(&watched);
        forked::keep_from_children(&wakeup);
        forked::keep_from_children(&signalled);
        let sentinel = Sentinel::new(
            engine.serving(),
            Beats {
                slot: slot.clone(),
                interval: setup.beat,
            },
            signalled,
            Arc::clone(&notices),
            setup.release,
            watched,
            setup.graceful_timeout,
        )
        .naming_calls(
            engine.responder().cloned(),
            engine.threads().is_ok().then_some(doorbell),
        );
        forked::keep_from_children(&setup.messages);
        let leaving = matches!(engine, Engine::Direct(_))
            .then(|| Leaving::new(listeners, engine.serving(), setup.graceful_timeout))
            .transpose()?;
        let observer = Observer::new(
            setup.messages,
            Arc::clone(&notices),
            setup.id,
            engine.responder().cloned(),
            leaving,
        );
        Ok(Self {
            engine,
            id: setup.id,
            notices,
            signals: Mutex::new(Some(setup.signals)),
            stack_dump: setup.stack_dump,
            worker: OnceLock::new(),
            max_requests: AtomicU64::new(u64::MAX),
            told: AtomicBool::new(false),
            is_ready: AtomicBool::new(false),
            sentinel: Mutex::new(Some(sentinel)),
            observer: Mutex::new(Some(observer)),
            slot,
            access: Arc::default(),
            wakeup,
        })
    }

    /// Who writes the access lines.
    pub(crate) fn access(&self) -> &Arc<AccessLogging> {
        &self.access
    }

    /// The pool of threads and what they answer with, if threads take the requests.
    pub(crate) fn threads(&self) -> PyResult<(&Arc<Pool>, &Arc<Responder>)> {
        self.engine.threads()
    }

    /// The link's end of a hub and what its greenlets answer with, if there is one.
    pub(crate) fn hub(&self) -> PyResult<(&Arc<LoopLink>, &Arc<Responder>)> {
        self.engine.hub()
    }

    /// The link's end of an event loop, if there is one.
    pub(crate) fn event_loop(&self) -> PyResult<&Arc<LoopLink>> {
        self.engine.event_loop()
    }

    fn send_notice(&self, notice: Notice) {
        if forked::is_forked() {
            return;
        }
        // It fails if the arbiter is gone, which the sentinel notices by itself.
        let _ = self
            .notices
            .send(&notice.encode(self.id), &[], Blocking::Yes);
    }

    /// It was told to stop.
    pub(crate) fn is_told(&self) -> bool {
        self.told.load(Ordering::Relaxed)
    }

    /// A request was claimed at `now`.
    pub(crate) fn begin_request(&self, now: Duration) {
        if let Some(slot) = &self.slot {
            slot.begin_request(now);
        }
    }

    /// It had to wait for so long.
    pub(crate) fn record_wait(&self, kind: WaitKind, waited: Duration) {
        if let Some(slot) = &self.slot {
            slot.record_wait(kind, waited);
        }
    }

    /// It is over.
    pub(crate) fn end_request(&self, now: Duration) {
        if let Some(slot) = &self.slot {
            slot.end_request(now);
        }
    }

    /// `max_requests`: at the limit, once, a successor is asked for. This worker serves until the
    /// arbiter tells it to stop.
    pub(crate) fn count(&self, py: Python<'_>) -> PyResult<()> {
        let limit = self.max_requests.load(Ordering::Relaxed);
        if self.engine.claimed() < limit
            || self.max_requests.swap(u64::MAX, Ordering::Relaxed) != limit
        {
            return Ok(());
        }
        self.send_notice(Notice::MaxRequests);
        self.worker()?
            .bind(py)
            .call_method0(intern!(py, "autorestart"))
            .map(drop)
    }

    pub(crate) fn worker(&self) -> PyResult<&Py<PyAny>> {
        self.worker.get().ok_or_else(not_initialised)
    }

    /// A process that the application forked ends where it comes back from the application.
    pub(crate) fn end_if_forked(&self, py: Python<'_>, error: Option<&PyErr>) -> PyResult<()> {
        forked::end_if_forked(self.worker()?.bind(py), error);
        Ok(())
    }

    /// Who waits natively is woken by signals; a class that waits by itself may want Python's means for its own loop.
    fn have_signals_written(&self, py: Python<'_>) -> PyResult<()> {
        if matches!(self.engine, Engine::Direct(_)) {
            return Ok(());
        }
        let kwargs = PyDict::new(py);
        kwargs.set_item("warn_on_full_buffer", false)?;
        let wakeup = (self.wakeup.as_raw_fd(),);
        py.import("signal")?
            .call_method("set_wakeup_fd", wakeup, Some(&kwargs))
            .map(drop)
    }

    /// What its class says of itself.
    fn ready_if_booted(&self, py: Python<'_>) {
        let Some(worker) = self.worker.get() else {
            return;
        };
        let worker = worker.bind(py);
        let tell = || -> PyResult<()> {
            if worker.getattr(intern!(py, "booted"))?.is_truthy()? {
                self.ready(py)?;
            }
            Ok(())
        };
        if let Err(error) = tell() {
            error.write_unraisable(py, Some(worker));
        }
    }

    fn start_sentinel(&self, py: Python<'_>) -> PyResult<()> {
        let sentinel = self
            .sentinel
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(sentinel) = sentinel {
            let worker = self.worker()?.clone_ref(py);
            sentinel.start(Box::new(move || tell_orphaned(&worker)))?;
        }
        let observer = self
            .observer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(observer) = observer {
            observer.start(self.worker()?.clone_ref(py))?;
        }
        if let Engine::Threads { pool, .. } = &self.engine
            && pool.threads() > 1
        {
            let pool = Arc::clone(pool);
            oxicorn_os::signals::spawn_without_signals("oxicorn-watcher", move || pool.watch())?;
        }
        Ok(())
    }
}

#[pymethods]
impl WorkerContext {
    /// First call: the native threads, the wake-up by signals, the stack dump.
    fn init(&self, py: Python<'_>, worker: Bound<'_, PyAny>) -> PyResult<()> {
        self.have_signals_written(py)?;
        worker.call_method1("stack_dump_signal", (self.stack_dump.as_raw_fd(),))?;
        let max_requests: u64 = worker.getattr("max_requests")?.extract()?;
        self.max_requests.store(max_requests, Ordering::Relaxed);
        let _ = self.worker.set(worker.unbind());
        self.start_sentinel(py)
    }

    /// The worker's signal handlers stand.
    fn unblock_signals(&self) {
        self.signals
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }

    /// Hooks have run: requests may come.
    fn ready(&self, py: Python<'_>) -> PyResult<()> {
        self.end_if_forked(py, None)?;
        if self.is_ready.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        let logs = self.access.decide(self.worker()?.bind(py))?;
        if let Some(slot) = &self.slot {
            slot.set_state(WorkerState::Ready);
        }
        self.send_notice(Notice::Ready { logs });
        // Before, the arbiter had no use for it.
        if self.is_told() {
            self.send_notice(Notice::Told);
        }
        Ok(())
    }

    /// A class that accepts connections itself begins to: it is ready with its first sign of life, or, where it gives
    /// none, a moment later; in either case only while it says that it is booted, which some take back until they listen.
    fn ready_when_serving(slf: Py<Self>) -> PyResult<()> {
        let look = move || {
            let is_waited_for = || {
                Python::try_attach(|py| {
                    let context = slf.get();
                    if !forked::is_forked() {
                        context.ready_if_booted(py);
                    }
                    !context.is_ready.load(Ordering::Relaxed)
                })
            };
            loop {
                thread::sleep(READY_LOOK);
                // The interpreter may be at its end.
                if is_waited_for() != Some(true) {
                    break;
                }
            }
        };
        Ok(oxicorn_os::signals::spawn_without_signals(
            "oxicorn-ready",
            look,
        )?)
    }

    /// What the application is; `misfit`: another worker class serves it, and this worker exits.
    fn application_found(&self, finding: u8, misfit: bool) {
        self.send_notice(Notice::Finding { finding, misfit });
    }

    /// A file of the application changed; whoever sees this change gives the same number.
    fn source_changed(&self, change: u64) {
        self.send_notice(Notice::SourceChanged(change));
    }

    /// A sign of life of a class that accepts connections itself.
    fn notify(&self, py: Python<'_>) {
        let Engine::Direct(direct) = &self.engine else {
            return;
        };
        if forked::is_forked() {
            return;
        }
        direct.notify();
        if !self.is_ready.load(Ordering::Relaxed) {
            self.ready_if_booted(py);
        }
        if let Some(slot) = &self.slot {
            slot.beat(time::monotonic());
        }
    }

    /// Neither told to stop nor stopped.
    fn alive(&self) -> bool {
        !self.is_told() && self.engine.is_alive()
    }

    /// Whether requests are still taken.
    fn serving(&self) -> bool {
        self.engine.is_alive()
    }

    /// The worker was told to stop. It takes what the gateway still gives it until the arbiter, which hears
    /// of this, releases it: then nobody waits for it any more.
    fn retire(&self) {
        let is_news = !self.told.swap(true, Ordering::Relaxed);
        // A child that the application forked has the worker's handlers and speaks only for itself.
        if is_news && !forked::is_forked() {
            self.send_notice(Notice::Told);
            self.engine.serving().interrupt();
        }
    }

    /// Takes no more requests.
    fn stop(&self) {
        if forked::is_forked() {
            return;
        }
        self.engine.serving().stop();
    }

    /// The calls in hand of threads and greenlets: stream, identity of the thread, seconds since it began, seconds it had waited for the
    /// interpreter before, greenlet.
    fn calls(&self, py: Python<'_>) -> Vec<Described> {
        let responder = self.engine.responder();
        responder.map_or_else(Vec::new, |responder| responder.calls().describe(py))
    }

    /// Several calls share a thread, each in a greenlet of its own: `current` gives the one that runs.
    fn name_greenlets(&self, current: Py<PyAny>) -> PyResult<()> {
        let (_, responder) = self.engine.hub()?;
        responder.calls().name_greenlets(current);
        Ok(())
    }

    /// Requests started so far.
    fn requests(&self) -> u64 {
        self.engine.claimed()
    }
}

/// See [`oxicorn_os::signals::mark_end_of_dumps`].
#[pyfunction]
pub(crate) fn mark_end_of_dumps(signal: i32, descriptor: i32) -> PyResult<()> {
    Ok(oxicorn_os::signals::mark_end_of_dumps(signal, descriptor)?)
}

/// The log's line about the arbiter's death.
fn tell_orphaned(worker: &Py<PyAny>) {
    Python::attach(|py| {
        let worker = worker.bind(py);
        if let Err(error) = worker.call_method0("parent_changed") {
            error.write_unraisable(py, Some(worker));
        }
    });
}

fn not_initialised() -> PyErr {
    PyRuntimeError::new_err("the worker is not initialised")
}
