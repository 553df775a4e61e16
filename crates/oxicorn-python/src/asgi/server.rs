//! What the event loop calls: reads the rings, starts calls of the application, sees to their ends.
//!
//! A turn that has started something asks the loop for another turn right behind it, without telling the
//! gateway that this end sleeps: under load the two ends never pay for a wake-up. Only a turn that finds
//! nothing lets the doorbell be rung.

use std::os::fd::IntoRawFd as _;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use oxicorn_link::wire::{AbortReason, BodyPlace, RequestView, ResponseKind, Scheme, flags};
use oxicorn_link::{ClaimedRequest, EventHeader, wire};
use oxicorn_os::time;
use oxicorn_proto::trust::AddressSet;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use pyo3::{ffi, intern};

use super::call::Call;
use super::exchange::{HttpExchange, Receive, Sending, Verdict};
use super::exchange_table::{Exchange, ExchangeTable};
use super::request_body::RequestBody;
use super::response::Response;
use super::scope::{ScopeFactory, ScopeSettings};
use super::shared::Shared;
use super::websocket::WebSocketExchange;
use crate::forked;
use crate::locks::lock;
use crate::request::headers::takes_trailers;
use crate::request::{Hooks, Waits, make_request};
use crate::settings::with_settings;
use crate::worker::{Standing, WorkerContext};

/// Requests started in one turn before other callbacks of the loop have theirs. Few enough that what they are made of
/// sets off no garbage collection, which looks after 700 new containers: with 64 at a time it took a twelfth of a
/// worker's time for short requests, to find that all of them were in use.
const CLAIMS_PER_TURN: usize = 16;

/// A call for Python: stream, task, seconds since it began (where that is known), the object that stands for it in its
/// context.
type CallInHand<'py> = (u64, Option<Py<PyAny>>, Option<f64>, Bound<'py, PyAny>);

/// See the head of this file.
#[pyclass(frozen, module = "oxicorn._native")]
pub(crate) struct AsgiServer {
    pub(super) context: Py<WorkerContext>,
    pub(super) shared: Arc<Shared>,
    application: Py<PyAny>,
    scopes: ScopeFactory,
    pub(super) hooks: Hooks,
    task_class: Py<PyAny>,
    task_options: Py<PyDict>,
    /// `oxicorn.workers.executor_calls.current_call`
    current_call: Py<PyAny>,
    exchanges: Mutex<ExchangeTable>,
    payload: Mutex<Vec<u8>>,
    /// Called when the worker is told to stop, when it is released, and when nothing is left to do then.
    notify: OnceLock<Py<PyAny>>,
    /// `self.turn`
    turn: OnceLock<Py<PyAny>>,
    /// What `notify` was last called for.
    seen: AtomicU8,
}

impl AsgiServer {
    /// Events of exchanges under way.
    fn take_events(&self, py: Python<'_>, payload: &mut Vec<u8>) -> PyResult<usize> {
        let mut count = 0;
        while let Some(event) = self.shared.link.next_event(payload) {
            count += 1;
            self.route(py, event, payload)?;
        }
        Ok(count)
    }

    fn route(&self, py: Python<'_>, event: EventHeader, payload: &[u8]) -> PyResult<()> {
        let exchange = lock(&self.exchanges)
            .get(&event.stream)
            .map(|exchange| exchange.clone_ref(py));
        // Of an exchange that is over: nobody wants to know.
        let Some(exchange) = exchange else {
            return Ok(());
        };
        exchange.handle(py, event.kind, event.flags, payload)?;
        self.strike_out_if_over(py, &exchange)
    }

    fn take_requests(slf: &Bound<'_, Self>, payload: &mut Vec<u8>) -> PyResult<usize> {
        let py = slf.py();
        let this = slf.get();
        let link = &this.shared.link;
        for count in 0..CLAIMS_PER_TURN {
            if !link.is_alive() {
                return Ok(count);
            }
            let Some(claimed) = link.claim(payload) else {
                return Ok(count);
            };
            Self::start(slf, claimed, payload)?;
            this.context.get().count(py)?;
        }
        Ok(CLAIMS_PER_TURN)
    }

    /// Starts the call for a request.
    fn start(
        slf: &Bound<'_, Self>,
        claimed: ClaimedRequest,
        payload: &mut Vec<u8>,
    ) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let link = &this.shared.link;
        let stream = claimed.stream;
        if claimed.flags & flags::SPILLED != 0 {
            *payload = link.read_spilled(py, stream)?;
        }
        let Ok(view) = RequestView::decode(payload) else {
            let reason = wire::encode_abort(AbortReason::Declined);
            return link.send(py, ResponseKind::Abort, stream, 0, &reason, &[]);
        };
        let body = match view.head.body {
            BodyPlace::None => RequestBody::Whole(PyBytes::new(py, b"").unbind()),
            BodyPlace::Inline => RequestBody::Whole(PyBytes::new(py, view.body).unbind()),
            BodyPlace::Descriptor { len } => {
                RequestBody::from_file(link.take_descriptor(stream)?, len)
            }
            BodyPlace::Streamed { .. } => RequestBody::streamed(),
        };
        this.context.get().begin_request(time::monotonic());
        let shared = Arc::clone(&this.shared);
        let worker = this.context.get().worker()?;
        // Of a WebSocket the gateway tells.
        let is_request = matches!(view.head.scheme, Scheme::Http | Scheme::Https);
        let logs = is_request && this.context.get().access().by_worker();
        let (entry, scope, request) = match view.head.scheme {
            Scheme::Http | Scheme::Https => {
                let to_head = view.head.method == b"HEAD";
                let response = Response::new(stream, to_head, takes_trailers(&view), logs);
                let exchange = HttpExchange::new(shared, response, logs, Waits::of(&view), body);
                let request = this
                    .hooks
                    .before(py, worker, &view, py.None().bind(py), None);
                let entry = Exchange::Http(Py::new(py, exchange)?);
                (entry, this.scopes.http(py, &view)?, request)
            }
            // The hooks are about requests and responses; Gunicorn calls none here.
            Scheme::Ws | Scheme::Wss => {
                let exchange = WebSocketExchange::new(shared, stream);
                let entry = Exchange::WebSocket(Py::new(py, exchange)?);
                (entry, this.scopes.websocket(py, &view)?, Ok(None))
            }
        };
        let py_object = entry.py_object(py);
        lock(&this.exchanges).insert(stream, entry.clone_ref(py));
        // What the call starts inherits it with its context.
        this.set_current_call(py, py_object.as_ptr())?;
        let arguments = (
            &scope,
            py_object.getattr(intern!(py, "receive"))?,
            py_object.getattr(intern!(py, "send"))?,
        );
        let called = request.and_then(|request| {
            // The access line needs one even where no hook does.
            let request = match request {
                None if logs => Some(make_request(py, &view, py.None().bind(py))?),
                other => other,
            };
            let called = this.application.bind(py).call1(arguments);
            this.end_if_forked(py, called.as_ref().err())?;
            let awaitable = called?;
            let scope = scope.clone().unbind();
            let request = request.map(Bound::unbind);
            let entry = entry.clone_ref(py);
            Call::new(slf.clone().unbind(), awaitable, entry, scope, request)
        });
        let task = called.map(|call| this.task(py, call));
        this.set_current_call(py, py.None().as_ptr())?;
        match task {
            Ok(task) => entry.set_task(py, task?),
            Err(error) => this.finish(py, &entry, &scope, None, Err(error)),
        }
    }

    /// Sets the variable by which `oxicorn.workers.executor_calls` knows whose call it is in.
    fn set_current_call(&self, py: Python<'_>, value: *mut ffi::PyObject) -> PyResult<()> {
        // SAFETY: attached; the variable is a context variable and the value is alive. What is returned is a new
        // reference, or null with an error set.
        unsafe {
            let token = ffi::PyContextVar_Set(self.current_call.as_ptr(), value);
            Bound::from_owned_ptr_or_err(py, token).map(drop)
        }
    }

    /// A task of the loop, by the application's own factory if it has set one.
    fn task(&self, py: Python<'_>, call: Call) -> PyResult<Py<PyAny>> {
        let event_loop = self.shared.event_loop.bind(py);
        let factory = event_loop.call_method0(intern!(py, "get_task_factory"))?;
        let task = if factory.is_none() {
            let options = self.task_options.bind(py);
            self.task_class.bind(py).call((call,), Some(options))?
        } else {
            event_loop.call_method1(intern!(py, "create_task"), (call,))?
        };
        Ok(task.unbind())
    }

    /// A process that the application forked has no event loop to go back to: it is the parent's, down to
    /// what it waits for.
    pub(crate) fn end_if_forked(&self, py: Python<'_>, error: Option<&PyErr>) -> PyResult<()> {
        let worker = self.context.get().worker()?.bind(py);
        forked::end_if_forked(worker, error);
        Ok(())
    }

    /// A call of the application has ended. What is returned is for the task.
    pub(crate) fn finish(
        &self,
        py: Python<'_>,
        exchange: &Exchange,
        scope: &Bound<'_, PyDict>,
        request: Option<&Bound<'_, PyAny>>,
        result: PyResult<()>,
    ) -> PyResult<()> {
        let (told, waiters) = match &result {
            Ok(()) => {
                let (verdict, waiters) = exchange.handle_returned(py)?;
                let told = match verdict {
                    Verdict::Fine => Ok(()),
                    Verdict::Broke(rule) => self.log_error(py, scope, rule, None),
                };
                (told, waiters)
            }
            Err(error) => {
                let gone = exchange.is_gone(py)?;
                let waiters = exchange.handle_raised(py)?;
                (self.tell_failure(py, scope, error, gone), waiters)
            }
        };
        waiters.wake(py)?;
        let (logged, hooked) = match exchange {
            Exchange::Http(http) => (
                self.log_access(py, http.bind(py), request),
                self.run_post_request(py, http.bind(py), scope, request),
            ),
            Exchange::WebSocket(_) => (Ok(()), Ok(())),
        };
        self.context.get().end_request(time::monotonic());
        self.strike_out_if_over(py, exchange)?;
        told.and(logged).and(hooked)?;
        match result {
            Err(error) if self.is_for_the_task(py, &error)? => Err(error),
            _ => Ok(()),
        }
    }

    /// An exchange leaves the table when its call has returned and its response has left.
    fn strike_out_if_over(&self, py: Python<'_>, exchange: &Exchange) -> PyResult<()> {
        if !exchange.is_over(py)? {
            return Ok(());
        }
        let stream = exchange.stream(py)?;
        let mut exchanges = lock(&self.exchanges);
        let struck_out = exchanges.remove(&stream);
        let idle = exchanges.is_empty();
        drop(exchanges);
        drop(struck_out);
        if idle && self.standing() != Standing::Serving {
            self.notify(py)?;
        }
        Ok(())
    }

    fn standing(&self) -> Standing {
        let told = self.context.get().is_told();
        self.shared.link.standing(told)
    }

    fn notify(&self, py: Python<'_>) -> PyResult<()> {
        match self.notify.get() {
            Some(notify) => notify.bind(py).call0().map(drop),
            None => Ok(()),
        }
    }

    fn all_exchanges(&self, py: Python<'_>) -> Vec<Exchange> {
        lock(&self.exchanges)
            .values()
            .map(|exchange| exchange.clone_ref(py))
            .collect()
    }
}

#[pymethods]
impl AsgiServer {
    /// Serves the ASGI `application` in the worker of `context`, on `event_loop`; `state` is what its lifespan left for
    /// the requests.
    #[new]
    fn new(
        context: &Bound<'_, WorkerContext>,
        application: &Bound<'_, PyAny>,
        event_loop: &Bound<'_, PyAny>,
        state: &Bound<'_, PyDict>,
    ) -> PyResult<Self> {
        let py = context.py();
        register_coroutines(py)?;
        let worker = context.get().worker()?.bind(py);
        let cfg = worker.getattr("cfg")?;
        let hooks = Hooks::of(worker)?;
        let settings = scope_settings(&cfg)?;
        let offers_files = settings.file_extensions;
        let shared = Shared::new(
            Arc::clone(context.get().event_loop()?),
            worker,
            event_loop,
            hooks.want_response(),
            offers_files,
        )?;
        let task_options = PyDict::new(py);
        task_options.set_item("loop", event_loop)?;
        Ok(Self {
            context: context.clone().unbind(),
            shared: Arc::new(shared),
            application: application.clone().unbind(),
            scopes: ScopeFactory::new(py, settings, state)?,
            hooks,
            task_class: py.import("asyncio")?.getattr("Task")?.unbind(),
            task_options: task_options.unbind(),
            current_call: current_call(py)?,
            exchanges: Mutex::default(),
            payload: Mutex::default(),
            notify: OnceLock::new(),
            turn: OnceLock::new(),
            seen: AtomicU8::new(Standing::Serving as u8),
        })
    }

    /// The descriptor that is readable when `wake` is to be called.
    fn fileno(&self) -> i32 {
        self.shared.link.doorbell_number()
    }

    /// Begins to serve; `notify` is called when the worker is told to stop, when it is released, and when
    /// nothing is left to do after that.
    fn begin(slf: &Bound<'_, Self>, notify: Py<PyAny>) -> PyResult<()> {
        let this = slf.get();
        let _ = this.notify.set(notify);
        let _ = this.turn.set(slf.getattr("turn")?.unbind());
        this.shared.begin(slf.getattr("flush")?.unbind());
        this.shared.link.set_running(true);
        Self::turn(slf)
    }

    /// The loop does not turn any more: nobody shall wait for that.
    fn end(&self) {
        self.shared.link.set_running(false);
    }

    /// The doorbell has rung.
    fn wake(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.get().end_if_forked(slf.py(), None)?;
        slf.get().shared.link.sleep_end();
        Self::turn(slf)
    }

    /// Does what there is to do, and sees to it that this is called again when there is more.
    fn turn(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        this.shared.begin_turn(py)?;
        let handled = py.check_signals();
        this.end_if_forked(py, handled.as_ref().err())?;
        handled?;
        let mut payload = std::mem::take(&mut *lock(&this.payload));
        let events = this.take_events(py, &mut payload)?;
        let requests = Self::take_requests(slf, &mut payload)?;
        *lock(&this.payload) = payload;
        let link = &this.shared.link;
        let standing = this.standing() as u8;
        if this.seen.swap(standing, Ordering::Relaxed) != standing {
            this.notify(py)?;
        }
        if events + requests == 0 && this.shared.link.has_lost_gateway(py) {
            // With each beat of the sentinel at least.
            for exchange in this.all_exchanges(py) {
                exchange.check_gateway(py)?;
            }
        }
        if (requests > 0 || !link.sleep_begin())
            && let Some(turn) = this.turn.get()
        {
            this.shared.turn_soon(py, turn)?;
        }
        Ok(())
    }

    /// Sends what was held back since the loop turned last.
    fn flush(&self, py: Python<'_>) -> PyResult<()> {
        self.end_if_forked(py, None)?;
        for exchange in self.shared.begin_flush() {
            let exchange = exchange.bind(py);
            exchange.try_borrow_mut()?.flush(py)?;
        }
        Ok(())
    }

    /// Takes a client's socket over from the gateway: its descriptor, and what was read of it already. The
    /// loop stands still meanwhile; the gateway waits for nobody before it answers.
    fn take_socket<'py>(
        slf: &Bound<'py, Self>,
        exchange: &Bound<'py, HttpExchange>,
    ) -> PyResult<(i32, Bound<'py, PyBytes>)> {
        let py = slf.py();
        let this = slf.get();
        exchange.try_borrow_mut()?.ask_for_socket(py)?;
        let mut payload = Vec::new();
        let (descriptor, unread, waiters) = loop {
            this.take_events(py, &mut payload)?;
            if let Some(taken) = exchange.try_borrow_mut()?.take_socket(py)? {
                break taken;
            }
            this.shared.link.wait(py);
            py.check_signals()?;
        };
        waiters.wake(py)?;
        if let Some(turn) = this.turn.get() {
            this.shared.turn_soon(py, turn)?;
        }
        Ok((descriptor.into_raw_fd(), PyBytes::new(py, &unread)))
    }

    /// The calls in hand.
    fn calls<'py>(&self, py: Python<'py>) -> Vec<CallInHand<'py>> {
        let exchanges = lock(&self.exchanges);
        let described = exchanges.iter().map(|(stream, exchange)| {
            let (task, age) = exchange.task(py).unzip();
            (stream.0, task, age.flatten(), exchange.py_object(py))
        });
        described.collect()
    }

    /// Exchanges that are not over.
    fn active(&self) -> usize {
        lock(&self.exchanges).len()
    }

    /// Cancels every call that runs, because the worker ends.
    fn cancel_all(&self, py: Python<'_>) -> PyResult<()> {
        self.shared.stop();
        for exchange in self.all_exchanges(py) {
            exchange.cancel(py)?;
        }
        Ok(())
    }
}

/// What the settings say of scopes.
fn scope_settings<'py>(cfg: &Bound<'py, PyAny>) -> PyResult<ScopeSettings<'py>> {
    let py = cfg.py();
    let (file_extensions, forwarders) = with_settings(cfg, |settings| {
        let settings = &settings.inner;
        let offered = settings.get("asgi_file_extensions").is_true() && settings.sendfile();
        let forwarders = settings
            .believes_forwarded_clients()
            .then(|| AddressSet::new(settings.list("forwarded_allow_ips")));
        (offered, forwarders)
    })?;
    Ok(ScopeSettings {
        root_path: cfg.getattr(intern!(py, "root_path"))?,
        file_extensions,
        forwarders,
    })
}

/// The context variable of `oxicorn.workers.executor_calls`.
fn current_call(py: Python<'_>) -> PyResult<Py<PyAny>> {
    let variable = py
        .import("oxicorn.workers.executor_calls")?
        .getattr("current_call")?;
    // It is handed to C code that believes it.
    let class = py.import("contextvars")?.getattr("ContextVar")?;
    if !variable.is_instance(&class)? {
        return Err(PyTypeError::new_err("current_call must be a ContextVar"));
    }
    Ok(variable.unbind())
}

/// asyncio takes for a coroutine what is registered as one: `create_task(receive())` works.
fn register_coroutines(py: Python<'_>) -> PyResult<()> {
    let coroutine = py.import("collections.abc")?.getattr("Coroutine")?;
    for class in [
        py.get_type::<Receive>(),
        py.get_type::<Sending>(),
        py.get_type::<Call>(),
    ] {
        coroutine.call_method1("register", (class,))?;
    }
    Ok(())
}
