//! What a worker process holds: the object `oxicorn.workers.base.Worker` drives.
//!
//! Made in the child right after the fork; the Python class calls it in the order init,
//! `set_application`, ready, serve. With an event loop `serve_asgi` takes the place of
//! `set_application` and serve: the loop is Python's, and calls what it gives. With a hub `serve_gevent`
//! takes the place of serve.

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Duration;

use oxicorn_link::scoreboard::{Slot, WaitKind, WorkerState};
use oxicorn_link::wire::flags;
use oxicorn_link::{LinkParts, StreamId, WaitMode, WorkerEnd, WorkerParts};
use oxicorn_os::channel::{Blocking, Channel};
use oxicorn_os::eventfd::EventFd;
use oxicorn_os::signals::Blocked;
use oxicorn_os::time;
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::Serving;
use super::calls::{Beginning, Described};
use super::direct::Direct;
use super::handed::HandedRequest;
use super::lane::Lane;
use super::link::WorkerLink;
use super::loop_link::LoopLink;
use super::observer::Observer;
use super::pool::{Claim, Errand, Pool};
use super::sentinel::{Beats, Sentinel};
use super::wait;
use crate::asgi::AsgiServer;
use crate::forked;
use crate::gevent::{GeventServer, Greenlets};
use crate::wsgi::{AccessLogging, Application, Constants};
use oxicorn_arbiter::messages::Notice;

/// How a worker takes its requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WorkerKind {
    /// Threads that wait for them, so many.
    Threads(usize),
    /// An event loop.
    Loop,
    /// A hub of greenlets.
    Hub,
    /// Not at all: the class accepts connections itself.
    Direct,
}

/// Who takes the requests.
enum Engine {
    Threads(Box<Threads>),
    Loop(Arc<LoopLink>),
    Hub(Box<Hub>),
    Direct(Arc<Direct>),
}

/// The WSGI application, and what it is answered with.
struct Wsgi {
    lane: Arc<Lane>,
    application: OnceLock<Application>,
    /// Several requests are served at a time.
    multithread: bool,
}

/// What threads need to serve.
struct Threads {
    pool: Arc<Pool>,
    count: usize,
    wsgi: Wsgi,
}

/// What greenlets need to serve.
struct Hub {
    link: Arc<LoopLink>,
    greenlets: Arc<Greenlets>,
    wsgi: Wsgi,
}

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
    sentinel: Mutex<Option<Sentinel>>,
    observer: Mutex<Option<Observer>>,
    slot: Option<Slot>,
    /// Who writes the access lines.
    access: Arc<AccessLogging>,
    /// `_hand_request` of a class that overrides `handle_request`.
    handler: OnceLock<Py<PyAny>>,
    /// `notify` of a class that overrides it, and the thread that calls it: the main one.
    beat: OnceLock<(Py<PyAny>, ThreadId)>,
    /// Python's C-level signal handler writes here; the sentinel reads the other end.
    wakeup: UnixStream,
}

impl WorkerContext {
    /// Attaches to the link; the threads are started later, by [`Self::init`].
    pub(crate) fn new(setup: WorkerSetup) -> PyResult<Self> {
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
            match setup.kind {
                WorkerKind::Threads(_) | WorkerKind::Direct => WaitMode::Futex,
                WorkerKind::Loop | WorkerKind::Hub => WaitMode::Doorbell,
            },
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
        .naming_calls(engine.lane().map(|lane| (lane, doorbell)));
        forked::keep_from_children(&setup.messages);
        let observer = Observer::new(
            setup.messages,
            Arc::clone(&notices),
            setup.id,
            engine.lane(),
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
            sentinel: Mutex::new(Some(sentinel)),
            observer: Mutex::new(Some(observer)),
            slot,
            access: Arc::default(),
            handler: OnceLock::new(),
            beat: OnceLock::new(),
            wakeup,
        })
    }

    /// Whether this worker writes the access lines.
    pub(crate) fn logs_access(&self) -> bool {
        self.access.by_worker()
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

    /// What threads serve with.
    fn threads(&self) -> PyResult<&Threads> {
        match &self.engine {
            Engine::Threads(threads) => Ok(threads),
            Engine::Loop(_) | Engine::Hub(_) => Err(PyRuntimeError::new_err(
                "requests are served by the event loop",
            )),
            Engine::Direct(_) => Err(PyRuntimeError::new_err(
                "the worker accepts connections itself",
            )),
        }
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

    /// It is over.
    pub(crate) fn end_request(&self, now: Duration) {
        if let Some(slot) = &self.slot {
            slot.end_request(now);
        }
    }

    /// The WSGI application of threads and greenlets.
    fn wsgi(&self) -> PyResult<&Wsgi> {
        match &self.engine {
            Engine::Threads(threads) => Ok(&threads.wsgi),
            Engine::Hub(hub) => Ok(&hub.wsgi),
            Engine::Loop(_) | Engine::Direct(_) => Err(PyRuntimeError::new_err(
                "the worker serves no WSGI application",
            )),
        }
    }

    /// Serves a request that was claimed with `payload`.
    pub(crate) fn serve_claimed(
        slf: &Bound<'_, Self>,
        claim: &Claim,
        payload: &[u8],
    ) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        let spilled;
        let payload = if claim.flags & flags::SPILLED == 0 {
            payload
        } else {
            spilled = this.wsgi()?.lane.read_spilled(py, claim.stream)?;
            &spilled
        };
        let beginning = Beginning {
            since: claim.since,
            waited: claim.waited,
        };
        let result = match this.handler.get() {
            None => this.call_application(py, claim.stream, beginning, payload, None),
            Some(handler) => {
                let request = HandedRequest::new(slf, claim.stream, beginning, payload);
                Self::hand_over(slf, &Bound::new(py, request)?, handler.bind(py))
            }
        };
        this.end_if_forked(py, result.as_ref().err())?;
        result
    }

    /// `request`: the object that stands for it already, if one does.
    pub(super) fn call_application(
        &self,
        py: Python<'_>,
        stream: StreamId,
        beginning: Beginning,
        payload: &[u8],
        request: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let wsgi = self.wsgi()?;
        let application = wsgi.application.get().ok_or_else(not_initialised)?;
        application.serve(py, &wsgi.lane, stream, beginning, payload, request)
    }

    /// Gives a request to the class, which overrides how one is handled.
    fn hand_over(
        slf: &Bound<'_, Self>,
        handed: &Bound<'_, HandedRequest>,
        handler: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        let given = HandedRequest::give_to(handed, handler);
        this.end_if_forked(py, given.as_ref().err())?;
        let wsgi = this.wsgi()?;
        let application = wsgi.application.get().ok_or_else(not_initialised)?;
        match handed.get().take() {
            Some(payload) => {
                application.refuse(py, &wsgi.lane, handed.get().stream, &payload, given)
            }
            None => application.tell(py, given),
        }
    }

    /// Serves one request on this thread.
    fn handle(slf: &Bound<'_, Self>, claim: &Claim, payload: &[u8]) -> PyResult<()> {
        let this = slf.get();
        this.begin_request(claim.since);
        if let Some(slot) = &this.slot {
            slot.record_wait(WaitKind::Interpreter, claim.waited);
        }
        let result = Self::serve_claimed(slf, claim, payload);
        let now = time::monotonic();
        this.end_request(now);
        this.threads()?.pool.done(claim, now);
        result
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

    /// Calls the class's own `notify`, if it has one and this is the thread for it.
    fn beat(&self, py: Python<'_>) -> PyResult<()> {
        match self.beat.get() {
            Some((notify, thread)) if *thread == thread::current().id() => {
                notify.bind(py).call0().map(drop)
            }
            _ => Ok(()),
        }
    }

    /// An application that ends its thread (`sys.exit()`) must not cost the pool that thread.
    fn stay_in_pool(&self, py: Python<'_>, handled: PyResult<()>) -> PyResult<()> {
        match handled {
            Err(error) if self.threads()?.count > 1 => {
                let arguments = ("Application tried to end its thread", error.into_value(py));
                self.worker()?
                    .bind(py)
                    .call_method1(intern!(py, "log_failure"), arguments)
                    .map(drop)
            }
            other => other,
        }
    }

    pub(crate) fn worker(&self) -> PyResult<&Py<PyAny>> {
        self.worker.get().ok_or_else(not_initialised)
    }

    /// A process that the application forked ends where it comes back from the application.
    fn end_if_forked(&self, py: Python<'_>, error: Option<&PyErr>) -> PyResult<()> {
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
        if let Engine::Threads(threads) = &self.engine
            && threads.count > 1
        {
            let pool = Arc::clone(&threads.pool);
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

    /// The application is loaded.
    fn set_application(&self, callable: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = callable.py();
        let worker = self.worker()?.bind(py);
        let wsgi = self.wsgi()?;
        let constants = Constants::of(worker, wsgi.multithread)?;
        let access = Arc::clone(&self.access);
        let application = Application::new(callable, worker, constants, access)?;
        let _ = wsgi.application.set(application);
        Ok(())
    }

    /// What the event loop `asyncio_loop` serves the ASGI application `callable` with; `state` is what
    /// its lifespan left for the requests.
    fn serve_asgi(
        slf: &Bound<'_, Self>,
        callable: &Bound<'_, PyAny>,
        asyncio_loop: &Bound<'_, PyAny>,
        state: &Bound<'_, PyDict>,
    ) -> PyResult<AsgiServer> {
        let Engine::Loop(link) = &slf.get().engine else {
            return Err(PyRuntimeError::new_err("this worker has no event loop"));
        };
        AsgiServer::new(slf, Arc::clone(link), callable, asyncio_loop, state)
    }

    /// What gevent's `hub` serves the WSGI application with.
    fn serve_gevent(slf: &Bound<'_, Self>, hub: &Bound<'_, PyAny>) -> PyResult<GeventServer> {
        let Engine::Hub(engine) = &slf.get().engine else {
            return Err(PyRuntimeError::new_err("this worker has no hub"));
        };
        let (link, lane) = (Arc::clone(&engine.link), Arc::clone(&engine.wsgi.lane));
        GeventServer::new(slf, link, lane, Arc::clone(&engine.greenlets), hub)
    }

    /// Hooks have run: requests may come.
    fn ready(&self, py: Python<'_>) -> PyResult<()> {
        self.end_if_forked(py, None)?;
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

    /// What the application is; `misfit`: another worker class serves it, and this worker exits.
    fn application_found(&self, finding: u8, misfit: bool) {
        self.send_notice(Notice::Finding { finding, misfit });
    }

    /// A file of the application changed; whoever sees this change gives the same number.
    fn source_changed(&self, change: u64) {
        self.send_notice(Notice::SourceChanged(change));
    }

    /// The class overrides `handle_request`: `handler` is called with each request instead.
    fn hand_requests_to(&self, handler: Py<PyAny>) {
        let _ = self.handler.set(handler);
    }

    /// The class overrides `notify`: it is called on the main thread, between requests and at least every `period`
    /// seconds while there are none.
    fn call_while_waiting(&self, notify: Py<PyAny>, period: f64) -> PyResult<()> {
        let period = Duration::try_from_secs_f64(period)
            .map_err(|error| PyValueError::new_err(error.to_string()))?;
        self.threads()?.pool.wait_no_longer_than(period);
        let _ = self.beat.set((notify, thread::current().id()));
        Ok(())
    }

    /// Serves on this thread until the worker is stopped.
    fn serve(slf: &Bound<'_, Self>) -> PyResult<()> {
        let (py, this) = (slf.py(), slf.get());
        let mut payload = Vec::new();
        let pool = &this.threads()?.pool;
        pool.enter();
        let mut waiter = pool.waiter();
        let beat = || this.beat(py);
        loop {
            let next = pool.next(py, &mut waiter, &mut payload, &beat);
            // A signal handler may have forked.
            this.end_if_forked(py, next.as_ref().err())?;
            let Some(claim) = next? else {
                return Ok(());
            };
            let handled = Self::handle(slf, &claim, &payload);
            this.stay_in_pool(py, handled)?;
            this.count(py)?;
        }
    }

    /// Waits on the main thread, where Python runs signal handlers, until one more thread is wanted; `False`: the worker
    /// is stopped.
    fn wait_for_thread(&self, py: Python<'_>) -> PyResult<bool> {
        let pool = &self.threads()?.pool;
        let mut seen = 0;
        while pool.is_alive() {
            self.beat(py)?;
            let errand = py.detach(|| pool.wait_for_news(&mut seen));
            let handled = py.check_signals();
            self.end_if_forked(py, handled.as_ref().err())?;
            handled?;
            if errand == Errand::StartThread && pool.is_alive() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The system gives no more threads: the worker stays with those it has; how many.
    fn settle_for_fewer_threads(&self) -> PyResult<usize> {
        Ok(self.threads()?.pool.settle_for_fewer())
    }

    /// A sign of life of a class that accepts connections itself.
    fn notify(&self) {
        let Engine::Direct(direct) = &self.engine else {
            return;
        };
        if forked::is_forked() {
            return;
        }
        direct.notify();
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
        let lane = self.engine.lane();
        lane.map_or_else(Vec::new, |lane| lane.calls().describe(py))
    }

    /// Several calls share a thread, each in a greenlet of its own: `current` gives the one that runs.
    fn name_greenlets(&self, current: Py<PyAny>) -> PyResult<()> {
        self.wsgi()?.lane.calls().name_greenlets(current);
        Ok(())
    }

    /// Requests started so far.
    fn requests(&self) -> u64 {
        self.engine.claimed()
    }
}

impl Wsgi {
    fn new(lane: Lane, multithread: bool) -> Self {
        Self {
            lane: Arc::new(lane),
            application: OnceLock::new(),
            multithread,
        }
    }
}

impl Engine {
    fn new(kind: WorkerKind, parts: WorkerParts) -> PyResult<Self> {
        Ok(match kind {
            WorkerKind::Loop => Self::Loop(Arc::new(LoopLink::new(parts)?)),
            WorkerKind::Direct => Self::Direct(Arc::new(Direct::new(parts))),
            WorkerKind::Hub => {
                let link = LoopLink::new(parts)?;
                let greenlets = Arc::new(Greenlets::default());
                let lane = Lane::new(link.shared(), Arc::clone(&greenlets) as _);
                Self::Hub(Box::new(Hub {
                    link: Arc::new(link),
                    greenlets,
                    wsgi: Wsgi::new(lane, true),
                }))
            }
            WorkerKind::Threads(count) => {
                let link = WorkerLink::new(parts.events, parts.responses, parts.descriptors);
                let lane = Lane::new(Arc::new(link), Arc::new(wait::Blocking));
                Self::Threads(Box::new(Threads {
                    pool: Arc::new(Pool::new(parts.requests, parts.waker, count)),
                    count,
                    wsgi: Wsgi::new(lane, count > 1),
                }))
            }
        })
    }

    fn serving(&self) -> Arc<dyn Serving> {
        match self {
            Self::Threads(threads) => Arc::clone(&threads.pool) as _,
            Self::Loop(link) => Arc::clone(link) as _,
            Self::Hub(hub) => Arc::clone(&hub.link) as _,
            Self::Direct(direct) => Arc::clone(direct) as _,
        }
    }

    /// What threads and greenlets answer with.
    fn lane(&self) -> Option<Arc<Lane>> {
        match self {
            Self::Threads(threads) => Some(Arc::clone(&threads.wsgi.lane)),
            Self::Hub(hub) => Some(Arc::clone(&hub.wsgi.lane)),
            Self::Loop(_) | Self::Direct(_) => None,
        }
    }

    fn is_alive(&self) -> bool {
        match self {
            Self::Threads(threads) => threads.pool.is_alive(),
            Self::Loop(link) => link.is_alive(),
            Self::Hub(hub) => hub.link.is_alive(),
            Self::Direct(direct) => direct.is_alive(),
        }
    }

    fn claimed(&self) -> u64 {
        match self {
            Self::Threads(threads) => threads.pool.claimed(),
            Self::Loop(link) => link.claimed(),
            Self::Hub(hub) => hub.link.claimed(),
            Self::Direct(_) => 0,
        }
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
