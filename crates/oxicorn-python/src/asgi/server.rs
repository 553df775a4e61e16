//! What the event loop calls: reads the rings, starts calls of the application, sees to their ends.
//!
//! A turn that has started something asks the loop for another turn right behind it, without telling the
//! gateway that this end sleeps: under load the two ends never pay for a wake-up. Only a turn that finds
//! nothing lets the doorbell be rung.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use oxicorn_link::wire::{
    AbortReason, BodyPlace, EventKind, HeaderList, RequestView, ResponseKind, Scheme, flags,
};
use oxicorn_link::{ClaimedRequest, EventHeader, StreamId, wire};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyList, PyType};

use super::call::Call;
use super::exchange::{HttpExchange, Receive, Sending, Sent, Verdict};
use super::link::Link;
use super::request_body::RequestBody;
use super::response::Response;
use super::scope::ScopeFactory;
use super::waiting::Waiters;
use super::websocket::WebSocketExchange;
use crate::latin1;
use crate::request_headers::takes_trailers;
use crate::worker::WorkerContext;
use crate::wsgi::{Hooks, make_request, make_response, set_trailers};

/// Requests started in one turn before other callbacks of the loop have theirs.
const CLAIMS_PER_TURN: usize = 64;

/// Status in the access log of a request whose client left before there was one.
const CLIENT_LEFT: u16 = 499;

/// What exchanges need of the worker.
pub(crate) struct Shared {
    pub(crate) link: Arc<Link>,
    pub(crate) worker: Py<PyAny>,
    pub(crate) event_loop: Py<PyAny>,
    pub(crate) create_future: Py<PyAny>,
    /// Seconds between a disconnect and the cancellation.
    pub(crate) grace: f64,
    /// Hooks want to see `http.response.start`.
    pub(crate) keeps_start: bool,
    call_soon: Py<PyAny>,
    /// `AsgiServer.flush`
    flush: OnceLock<Py<PyAny>>,
    /// Exchanges with something held back.
    listed: Mutex<Vec<Py<HttpExchange>>>,
    /// A `send()` that is done.
    done: Py<Sending>,
    /// `{"type": "http.request", "body": b"", "more_body": False}`
    request_message: Py<PyDict>,
}

impl Shared {
    /// Enters an exchange whose held back pieces shall leave when the loop turns.
    pub(crate) fn list(&self, exchange: &Bound<'_, HttpExchange>) -> PyResult<()> {
        let py = exchange.py();
        let mut listed = lock(&self.listed);
        listed.push(exchange.clone().unbind());
        let first = listed.len() == 1;
        drop(listed);
        if first && let Some(flush) = self.flush.get() {
            self.call_soon.bind(py).call1((flush,))?;
        }
        Ok(())
    }

    pub(crate) fn done<'py>(&self, py: Python<'py>) -> Bound<'py, Sending> {
        self.done.bind(py).clone()
    }

    pub(crate) fn request_message<'py>(
        &self,
        py: Python<'py>,
        body: &Bound<'py, PyBytes>,
        more: bool,
    ) -> PyResult<Bound<'py, PyDict>> {
        let message = self.request_message.bind(py).copy()?;
        message.set_item(intern!(py, "body"), body)?;
        if more {
            message.set_item(intern!(py, "more_body"), true)?;
        }
        Ok(message)
    }

    #[expect(clippy::unused_self, reason = "one place for the messages")]
    pub(crate) fn disconnect_message<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let message = PyDict::new(py);
        message.set_item(intern!(py, "type"), intern!(py, "http.disconnect"))?;
        Ok(message)
    }
}

/// One exchange of any kind.
pub(crate) enum Exchange {
    Http(Py<HttpExchange>),
    WebSocket(Py<WebSocketExchange>),
}

impl Exchange {
    fn clone_ref(&self, py: Python<'_>) -> Self {
        match self {
            Self::Http(exchange) => Self::Http(exchange.clone_ref(py)),
            Self::WebSocket(exchange) => Self::WebSocket(exchange.clone_ref(py)),
        }
    }

    fn handle(&self, py: Python<'_>, kind: EventKind, bits: u8, payload: &[u8]) -> PyResult<()> {
        match self {
            Self::Http(exchange) => HttpExchange::handle(exchange.bind(py), kind, bits, payload),
            Self::WebSocket(exchange) => {
                WebSocketExchange::handle(exchange.bind(py), kind, bits, payload)
            }
        }
    }

    fn cancel(&self, py: Python<'_>) -> PyResult<()> {
        match self {
            Self::Http(exchange) => HttpExchange::cancel(exchange.bind(py)),
            Self::WebSocket(exchange) => WebSocketExchange::cancel(exchange.bind(py)),
        }
    }

    fn check_gateway(&self, py: Python<'_>) -> PyResult<()> {
        match self {
            Self::Http(exchange) => HttpExchange::check_gateway(exchange.bind(py)),
            Self::WebSocket(exchange) => WebSocketExchange::check_gateway(exchange.bind(py)),
        }
    }

    fn stream(&self, py: Python<'_>) -> PyResult<StreamId> {
        match self {
            Self::Http(exchange) => Ok(exchange.bind(py).try_borrow()?.stream()),
            Self::WebSocket(exchange) => Ok(exchange.bind(py).try_borrow()?.stream()),
        }
    }

    /// The call has returned and nothing waits here any more.
    fn is_over(&self, py: Python<'_>) -> PyResult<bool> {
        match self {
            Self::Http(exchange) => Ok(exchange.bind(py).try_borrow()?.is_over()),
            Self::WebSocket(exchange) => Ok(exchange.bind(py).try_borrow()?.is_over()),
        }
    }

    /// Whether it was not the application that ended the exchange.
    fn is_gone(&self, py: Python<'_>) -> PyResult<bool> {
        match self {
            Self::Http(exchange) => Ok(exchange.bind(py).try_borrow()?.is_gone()),
            Self::WebSocket(exchange) => Ok(exchange.bind(py).try_borrow()?.is_gone()),
        }
    }

    fn set_task(&self, py: Python<'_>, task: Py<PyAny>) -> PyResult<()> {
        match self {
            Self::Http(exchange) => exchange.bind(py).try_borrow_mut()?.set_task(task),
            Self::WebSocket(exchange) => exchange.bind(py).try_borrow_mut()?.set_task(task),
        }
        Ok(())
    }

    fn handle_returned(&self, py: Python<'_>) -> PyResult<(Verdict, Waiters)> {
        match self {
            Self::Http(exchange) => exchange.bind(py).try_borrow_mut()?.handle_returned(py),
            Self::WebSocket(exchange) => exchange.bind(py).try_borrow_mut()?.handle_returned(py),
        }
    }

    fn handle_raised(&self, py: Python<'_>) -> PyResult<Waiters> {
        match self {
            Self::Http(exchange) => exchange.bind(py).try_borrow_mut()?.handle_raised(py),
            Self::WebSocket(exchange) => exchange.bind(py).try_borrow_mut()?.handle_raised(py),
        }
    }

    /// A message of `receive()`, or a future that is done when it is worth looking again.
    pub(crate) fn poll_receive<'py>(
        &self,
        py: Python<'py>,
    ) -> PyResult<Result<Bound<'py, PyDict>, Py<PyAny>>> {
        match self {
            Self::Http(exchange) => exchange.bind(py).try_borrow_mut()?.poll_receive(py),
            Self::WebSocket(exchange) => exchange.bind(py).try_borrow_mut()?.poll_receive(py),
        }
    }

    /// `None` if all of a `send()` has left, or a future that is done when it is worth looking again.
    pub(crate) fn poll_sent(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        match self {
            Self::Http(exchange) => exchange.bind(py).try_borrow_mut()?.poll_sent(py),
            Self::WebSocket(exchange) => exchange.bind(py).try_borrow_mut()?.poll_sent(py),
        }
    }

    /// The object whose methods are `receive` and `send`.
    fn face<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        match self {
            Self::Http(exchange) => exchange.bind(py).clone().into_any(),
            Self::WebSocket(exchange) => exchange.bind(py).clone().into_any(),
        }
    }
}

/// Ids are well mixed where it matters: in their lowest bits.
#[derive(Default)]
struct StreamHasher(u64);

impl Hasher for StreamHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        // Fibonacci hashing: the table looks at the upper bits too.
        self.0 = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

type Book = HashMap<StreamId, Exchange, BuildHasherDefault<StreamHasher>>;

/// See the head of this file.
#[pyclass(frozen, module = "oxicorn._native")]
pub(crate) struct AsgiServer {
    context: Py<WorkerContext>,
    shared: Arc<Shared>,
    application: Py<PyAny>,
    scopes: ScopeFactory,
    hooks: Hooks,
    task_class: Py<PyAny>,
    task_options: Py<PyDict>,
    book: Mutex<Book>,
    payload: Mutex<Vec<u8>>,
    /// Called when the worker is told to stop, and when nothing is left to do then.
    notify: OnceLock<Py<PyAny>>,
    /// `self.turn`
    turn: OnceLock<Py<PyAny>>,
    told: AtomicBool,
    /// The stream claimed last: of the gateway that is there, as far as is known.
    newest: AtomicU64,
    /// Another gateway has placed requests since the book was looked through.
    succeeded: AtomicBool,
}

impl AsgiServer {
    pub(crate) fn new(
        context: &Bound<'_, WorkerContext>,
        link: Arc<Link>,
        application: &Bound<'_, PyAny>,
        event_loop: &Bound<'_, PyAny>,
        state: &Bound<'_, PyDict>,
    ) -> PyResult<Self> {
        let py = context.py();
        register_coroutines(py)?;
        let worker = context.get().worker()?.bind(py);
        let cfg = worker.getattr("cfg")?;
        let hooks = Hooks::of(worker)?;
        let request_message = PyDict::new(py);
        request_message.set_item("type", intern!(py, "http.request"))?;
        request_message.set_item("body", PyBytes::new(py, b""))?;
        request_message.set_item("more_body", false)?;
        let shared = Shared {
            link,
            worker: worker.clone().unbind(),
            event_loop: event_loop.clone().unbind(),
            create_future: event_loop.getattr("create_future")?.unbind(),
            grace: cfg.getattr("asgi_disconnect_grace_period")?.extract()?,
            keeps_start: hooks.want_response(),
            call_soon: event_loop.getattr("call_soon")?.unbind(),
            flush: OnceLock::new(),
            listed: Mutex::default(),
            done: Py::new(py, Sending(Sent::Done))?,
            request_message: request_message.unbind(),
        };
        let task_options = PyDict::new(py);
        task_options.set_item("loop", event_loop)?;
        Ok(Self {
            context: context.clone().unbind(),
            shared: Arc::new(shared),
            application: application.clone().unbind(),
            scopes: ScopeFactory::new(py, &cfg.getattr("root_path")?, state)?,
            hooks,
            task_class: py.import("asyncio")?.getattr("Task")?.unbind(),
            task_options: task_options.unbind(),
            book: Mutex::default(),
            payload: Mutex::default(),
            notify: OnceLock::new(),
            turn: OnceLock::new(),
            told: AtomicBool::new(false),
            newest: AtomicU64::new(0),
            succeeded: AtomicBool::new(false),
        })
    }

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
        let exchange = lock(&self.book)
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
        this.note_gateway(stream);
        if claimed.flags & flags::SPILLED != 0 {
            *payload = link.read_spilled(stream)?;
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
        this.context.get().begin_request();
        let shared = Arc::clone(&this.shared);
        let worker = this.context.get().worker()?;
        // Of a WebSocket the gateway tells.
        let is_request = matches!(view.head.scheme, Scheme::Http | Scheme::Https);
        let logs = is_request && this.context.get().logs_access();
        let (entry, scope, request) = match view.head.scheme {
            Scheme::Http | Scheme::Https => {
                let to_head = view.head.method == b"HEAD";
                let response = Response::new(stream, to_head, takes_trailers(&view), logs);
                let exchange = HttpExchange::new(shared, response, logs, body);
                let request = this.hooks.before(py, worker, &view, py.None().bind(py));
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
        let face = entry.face(py);
        lock(&this.book).insert(stream, entry.clone_ref(py));
        let arguments = (
            &scope,
            face.getattr(intern!(py, "receive"))?,
            face.getattr(intern!(py, "send"))?,
        );
        let called = request.and_then(|request| {
            // The access line needs one even where no hook does.
            let request = match request {
                None if logs => Some(make_request(py, &view, py.None().bind(py))?),
                other => other,
            };
            let awaitable = this.application.bind(py).call1(arguments)?;
            let scope = scope.clone().unbind();
            let request = request.map(Bound::unbind);
            let entry = entry.clone_ref(py);
            Call::new(slf.clone().unbind(), awaitable, entry, scope, request)
        });
        match called {
            Ok(call) => {
                let task = this.task(py, call)?;
                entry.set_task(py, task)
            }
            Err(error) => this.finish(py, &entry, &scope, None, Err(error)),
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
        self.context.get().end_request();
        self.strike_out_if_over(py, exchange)?;
        told.and(logged).and(hooked)?;
        match result {
            Err(error) if self.is_for_the_task(py, &error)? => Err(error),
            _ => Ok(()),
        }
    }

    /// Cancellation belongs to the task; and who ends the process with a signal means it.
    fn is_for_the_task(&self, py: Python<'_>, error: &PyErr) -> PyResult<bool> {
        if error.is_instance(py, cancelled_error(py)?) {
            return Ok(true);
        }
        let aborted = self.context.get().worker()?.bind(py).getattr("aborted")?;
        aborted.is_truthy()
    }

    fn tell_failure(
        &self,
        py: Python<'_>,
        scope: &Bound<'_, PyDict>,
        error: &PyErr,
        gone: bool,
    ) -> PyResult<()> {
        // What an application raises because its client left, or it was cancelled for that, is no news.
        if gone {
            return Ok(());
        }
        let stopping = !self.shared.link.is_alive();
        if stopping && error.is_instance(py, cancelled_error(py)?) {
            return Ok(());
        }
        self.log_error(py, scope, "Error handling request", Some(error))
    }

    fn log_error(
        &self,
        py: Python<'_>,
        scope: &Bound<'_, PyDict>,
        what: &str,
        error: Option<&PyErr>,
    ) -> PyResult<()> {
        let text = |key: &str| -> Option<String> {
            let value = scope.get_item(key).ok()??;
            Some(match value.cast::<PyBytes>() {
                Ok(bytes) => String::from_utf8_lossy(bytes.as_bytes()).into_owned(),
                Err(_) => value.to_string(),
            })
        };
        let method = text("method").unwrap_or_else(|| "WebSocket".into());
        let path = text("raw_path").unwrap_or_default();
        let query = text("query_string").filter(|query| !query.is_empty());
        let query = query.map_or(String::new(), |query| format!("?{query}"));
        let what = format!("{what} {method} {path}{query}");
        let error = error.map(|error| error.clone_ref(py).into_value(py));
        let worker = self.context.get().worker()?.bind(py);
        worker.call_method1(intern!(py, "handle_error"), (what, error))?;
        Ok(())
    }

    fn run_post_request(
        &self,
        py: Python<'_>,
        exchange: &Bound<'_, HttpExchange>,
        scope: &Bound<'_, PyDict>,
        request: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let Some(request) = request.filter(|_| self.hooks.want_response()) else {
            return Ok(());
        };
        let trailers = exchange.try_borrow()?.trailers().to_vec();
        if let Ok(trailers) = HeaderList::decode(&trailers) {
            set_trailers(request, &trailers)?;
        }
        let response = response_of(py, exchange)?;
        let worker = self.context.get().worker()?;
        self.hooks.run_after(py, worker, request, scope, &response)
    }

    /// Has the access line written, where this worker does that.
    fn log_access(
        &self,
        py: Python<'_>,
        exchange: &Bound<'_, HttpExchange>,
        request: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let since = exchange.try_borrow_mut()?.take_log();
        let (Some(since), Some(request)) = (since, request) else {
            return Ok(());
        };
        let response = response_of(py, exchange)?;
        let failed = {
            let exchange = exchange.try_borrow()?;
            match exchange.response() {
                response if response.has_failed() => Some(500),
                response if response.status() == 0 => Some(CLIENT_LEFT),
                _ => None,
            }
        };
        let elapsed = oxicorn_os::time::monotonic().saturating_sub(since);
        let microseconds = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        let arguments = (response, request, py.None(), failed, microseconds);
        let worker = self.context.get().worker()?.bind(py);
        worker
            .call_method1(intern!(py, "log_access"), arguments)
            .map(drop)
    }

    /// An exchange leaves the book when its call has returned and its response has left.
    fn strike_out_if_over(&self, py: Python<'_>, exchange: &Exchange) -> PyResult<()> {
        if !exchange.is_over(py)? {
            return Ok(());
        }
        let stream = exchange.stream(py)?;
        let mut book = lock(&self.book);
        let struck_out = book.remove(&stream);
        let idle = book.is_empty();
        drop(book);
        drop(struck_out);
        if idle && self.told.load(Ordering::Relaxed) {
            self.notify(py)?;
        }
        Ok(())
    }

    fn notify(&self, py: Python<'_>) -> PyResult<()> {
        match self.notify.get() {
            Some(notify) => notify.bind(py).call0().map(drop),
            None => Ok(()),
        }
    }

    /// A request was claimed: from the gateway that is there now.
    fn note_gateway(&self, stream: StreamId) {
        let before = StreamId(self.newest.swap(stream.0, Ordering::Relaxed));
        if before.epoch() != stream.epoch() {
            self.succeeded.store(true, Ordering::Relaxed);
        }
    }

    /// Whether exchanges of a gateway that is gone may be in the book. One look tells, so that many that
    /// rest cost nothing when the loop turns.
    fn has_lost_gateway(&self) -> bool {
        let newest = StreamId(self.newest.load(Ordering::Relaxed));
        let succeeded = self.succeeded.swap(false, Ordering::Relaxed);
        succeeded || !self.shared.link.is_current(newest)
    }

    fn all_exchanges(&self, py: Python<'_>) -> Vec<Exchange> {
        lock(&self.book)
            .values()
            .map(|exchange| exchange.clone_ref(py))
            .collect()
    }
}

#[pymethods]
impl AsgiServer {
    /// The descriptor that is readable when `wake` is to be called.
    fn fileno(&self) -> i32 {
        self.shared.link.doorbell_number()
    }

    /// Begins to serve; `notify` is called when the worker is told to stop, and when nothing is left
    /// to do after that.
    fn begin(slf: &Bound<'_, Self>, notify: Py<PyAny>) -> PyResult<()> {
        let this = slf.get();
        let _ = this.notify.set(notify);
        let _ = this.turn.set(slf.getattr("turn")?.unbind());
        let _ = this.shared.flush.set(slf.getattr("flush")?.unbind());
        this.shared.link.set_running(true);
        Self::turn(slf)
    }

    /// The loop does not turn any more: nobody shall wait for that.
    fn end(&self) {
        self.shared.link.set_running(false);
    }

    /// The doorbell has rung.
    fn wake(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.get().shared.link.sleep_end();
        Self::turn(slf)
    }

    /// Does what there is to do, and sees to it that this is called again when there is more.
    fn turn(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        py.check_signals()?;
        let mut payload = std::mem::take(&mut *lock(&this.payload));
        let events = this.take_events(py, &mut payload)?;
        let requests = Self::take_requests(slf, &mut payload)?;
        *lock(&this.payload) = payload;
        let link = &this.shared.link;
        if !link.is_alive() && !this.told.swap(true, Ordering::Relaxed) {
            this.notify(py)?;
        }
        if events + requests == 0 && this.has_lost_gateway() {
            // With each beat of the sentinel at least.
            for exchange in this.all_exchanges(py) {
                exchange.check_gateway(py)?;
            }
        }
        if (requests > 0 || !link.sleep_begin())
            && let Some(turn) = this.turn.get()
        {
            this.shared.call_soon.bind(py).call1((turn,))?;
        }
        Ok(())
    }

    /// Sends what was held back since the loop turned last.
    fn flush(&self, py: Python<'_>) -> PyResult<()> {
        let listed = std::mem::take(&mut *lock(&self.shared.listed));
        for exchange in listed {
            let exchange = exchange.bind(py);
            exchange.try_borrow_mut()?.flush(py)?;
        }
        Ok(())
    }

    /// Exchanges that are not over.
    fn active(&self) -> usize {
        lock(&self.book).len()
    }

    /// Cancels every call that runs.
    fn cancel_all(&self, py: Python<'_>) -> PyResult<()> {
        for exchange in self.all_exchanges(py) {
            exchange.cancel(py)?;
        }
        Ok(())
    }
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

fn cancelled_error(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let class = CLASS.import(py, "asyncio", "CancelledError")?;
    Ok(class.as_any())
}

/// Held for moments, by the loop's thread alone; nothing panics meanwhile.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `resp`, as hooks and the access log get it.
fn response_of<'py>(
    py: Python<'py>,
    exchange: &Bound<'py, HttpExchange>,
) -> PyResult<Bound<'py, PyAny>> {
    let (status, sent, start) = {
        let exchange = exchange.try_borrow()?;
        let response = exchange.response();
        (response.status(), response.given(), exchange.start(py))
    };
    let headers = match start.as_ref().map(|start| start.get_item("headers")) {
        Some(headers) => headers?,
        None => None,
    };
    let headers = texts_of(py, headers.as_ref())?;
    let reason = super::head::reason_phrase(status);
    let status = (status != 0).then(|| {
        let line = format!("{status} {reason}");
        pyo3::types::PyString::new(py, line.trim_end()).into_any()
    });
    let has_head = status.is_some();
    make_response(py, status, headers.as_any(), has_head, sent)
}

/// ASGI's headers, which are bytes, as hooks and the access log have them. What is no pair of bytes was
/// refused when it was sent.
fn texts_of<'py>(
    py: Python<'py>,
    headers: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyList>> {
    let texts = PyList::empty(py);
    let Some(headers) = headers else {
        return Ok(texts);
    };
    for header in headers.try_iter()? {
        let pair: PyResult<(Vec<u8>, Vec<u8>)> = header?.extract();
        if let Ok((name, value)) = pair {
            texts.append((latin1::to_string(py, &name), latin1::to_string(py, &value)))?;
        }
    }
    Ok(texts)
}
