//! Threads in front of the WSGI bridge: each takes a request, serves it, and looks for the next one.

use std::sync::{Arc, OnceLock};
use std::thread::{self, ThreadId};
use std::time::Duration;

use oxicorn_link::scoreboard::WaitKind;
use oxicorn_os::time;
use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;

use super::bridge::Bridge;
use crate::worker::{Claim, Errand, Pool, WorkerContext};

/// See the head of this file.
#[pyclass(frozen, module = "oxicorn._native")]
pub(crate) struct WsgiServer {
    bridge: Arc<Bridge>,
    pool: Arc<Pool>,
    /// `notify` of a class that overrides it, and the thread that calls it: the main one.
    beat: OnceLock<(Py<PyAny>, ThreadId)>,
}

impl WsgiServer {
    /// Serves one request on this thread.
    fn handle(&self, py: Python<'_>, claim: &Claim, payload: &[u8]) -> PyResult<()> {
        let context = self.bridge.context();
        context.begin_request(claim.since);
        context.record_wait(WaitKind::Interpreter, claim.waited);
        let result = self.bridge.serve(py, claim, payload);
        let now = time::monotonic();
        context.end_request(now);
        self.pool.done(claim, now);
        result
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
            Err(error) if self.pool.threads() > 1 => {
                let arguments = ("Application tried to end its thread", error.into_value(py));
                let worker = self.bridge.context().worker()?.bind(py);
                worker
                    .call_method1(intern!(py, "log_failure"), arguments)
                    .map(drop)
            }
            other => other,
        }
    }
}

#[pymethods]
impl WsgiServer {
    /// Serves `application` in the worker of `context`.
    #[new]
    fn new(context: &Bound<'_, WorkerContext>, application: &Bound<'_, PyAny>) -> PyResult<Self> {
        let (pool, responder) = context.get().threads()?;
        let bridge = Bridge::new(context, responder, application, pool.threads() > 1)?;
        Ok(Self {
            bridge: Arc::new(bridge),
            pool: Arc::clone(pool),
            beat: OnceLock::new(),
        })
    }

    /// The class overrides `handle_request`: `handler` is called with each request instead.
    fn hand_requests_to(&self, handler: Py<PyAny>) {
        self.bridge.hand_requests_to(handler);
    }

    /// The class overrides `notify`: it is called on the main thread, between requests and at least every `period`
    /// seconds while there are none.
    fn call_while_waiting(&self, notify: Py<PyAny>, period: f64) -> PyResult<()> {
        let period = Duration::try_from_secs_f64(period)
            .map_err(|error| PyValueError::new_err(error.to_string()))?;
        self.pool.wait_no_longer_than(period);
        let _ = self.beat.set((notify, thread::current().id()));
        Ok(())
    }

    /// Serves on this thread until the worker is stopped.
    fn serve(&self, py: Python<'_>) -> PyResult<()> {
        let (pool, context) = (&self.pool, self.bridge.context());
        let mut payload = Vec::new();
        pool.enter();
        let mut waiter = pool.waiter();
        let beat = || self.beat(py);
        loop {
            let next = pool.next(py, &mut waiter, &mut payload, &beat);
            // A signal handler may have forked.
            context.end_if_forked(py, next.as_ref().err())?;
            let Some(claim) = next? else {
                return Ok(());
            };
            let handled = self.handle(py, &claim, &payload);
            self.stay_in_pool(py, handled)?;
            context.count(py)?;
        }
    }

    /// Waits on the main thread, where Python runs signal handlers, until one more thread is wanted; `False`: the worker
    /// is stopped.
    fn wait_for_thread(&self, py: Python<'_>) -> PyResult<bool> {
        let pool = &self.pool;
        let mut seen = 0;
        while pool.is_alive() {
            self.beat(py)?;
            let errand = py.detach(|| pool.wait_for_news(&mut seen));
            let handled = py.check_signals();
            self.bridge
                .context()
                .end_if_forked(py, handled.as_ref().err())?;
            handled?;
            if errand == Errand::StartThread && pool.is_alive() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The system gives no more threads: the worker stays with those it has; how many.
    fn settle_for_fewer_threads(&self) -> usize {
        self.pool.settle_for_fewer()
    }
}
