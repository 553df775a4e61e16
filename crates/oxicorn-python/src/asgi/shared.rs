//! What all exchanges of a worker have in common: the link, the loop, and who has something held back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use super::exchange::{HttpExchange, Sending, Sent};
use crate::locks::lock;
use crate::worker::LoopLink;

/// Who has something held back, and who will see to it that it leaves.
#[derive(Default)]
struct HeldBack {
    exchanges: Vec<Py<HttpExchange>>,
    /// The loop was asked to call `AsgiServer.flush`, and has not yet.
    flush_is_due: bool,
    /// The same of `AsgiServer.turn`.
    turn_is_due: bool,
    /// A call takes a step; at its end it is looked whether something is held back.
    in_step: bool,
}

/// What exchanges need of the worker.
pub(crate) struct Shared {
    pub(crate) link: Arc<LoopLink>,
    pub(crate) worker: Py<PyAny>,
    pub(crate) event_loop: Py<PyAny>,
    pub(crate) create_future: Py<PyAny>,
    /// Seconds between a disconnect and the cancellation.
    pub(crate) grace: f64,
    /// Hooks want to see `http.response.start`.
    pub(crate) keeps_start: bool,
    /// The scope offers the extensions that send files.
    pub(crate) offers_files: bool,
    /// The worker ends and has cancelled every call.
    is_stopping: AtomicBool,
    call_soon: Py<PyAny>,
    /// `AsgiServer.flush`
    flush: OnceLock<Py<PyAny>>,
    held_back: Mutex<HeldBack>,
    /// A `send()` that is done.
    done: Py<Sending>,
    /// `{"type": "http.request", "body": b"", "more_body": False}`
    request_message: Py<PyDict>,
}

impl Shared {
    /// `keeps_start`: hooks want to see `http.response.start`; `offers_files`: the scope offers the extensions.
    pub(crate) fn new(
        link: Arc<LoopLink>,
        worker: &Bound<'_, PyAny>,
        event_loop: &Bound<'_, PyAny>,
        keeps_start: bool,
        offers_files: bool,
    ) -> PyResult<Self> {
        let py = worker.py();
        let request_message = PyDict::new(py);
        request_message.set_item("type", intern!(py, "http.request"))?;
        request_message.set_item("body", PyBytes::new(py, b""))?;
        request_message.set_item("more_body", false)?;
        let grace = worker
            .getattr("cfg")?
            .getattr("asgi_disconnect_grace_period")?;
        Ok(Self {
            link,
            worker: worker.clone().unbind(),
            event_loop: event_loop.clone().unbind(),
            create_future: event_loop.getattr("create_future")?.unbind(),
            grace: grace.extract()?,
            keeps_start,
            offers_files,
            is_stopping: AtomicBool::new(false),
            call_soon: event_loop.getattr("call_soon")?.unbind(),
            flush: OnceLock::new(),
            held_back: Mutex::default(),
            done: Py::new(py, Sending(Sent::Done))?,
            request_message: request_message.unbind(),
        })
    }

    /// From now on calls end because they were cancelled.
    pub(crate) fn stop(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
    }

    /// Whether a call that ends now does so because the worker ends.
    pub(crate) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Relaxed)
    }

    /// `flush` is what the loop shall call when something is held back.
    pub(crate) fn begin(&self, flush: Py<PyAny>) {
        let _ = self.flush.set(flush);
    }

    /// Has the loop call something in its next turn.
    fn call_soon(&self, py: Python<'_>, what: &Py<PyAny>) -> PyResult<()> {
        self.call_soon.bind(py).call1((what,)).map(drop)
    }

    /// Has the loop call `turn`, which is `AsgiServer.turn`, in its next turn.
    pub(crate) fn turn_soon(&self, py: Python<'_>, turn: &Py<PyAny>) -> PyResult<()> {
        self.call_soon(py, turn)?;
        lock(&self.held_back).turn_is_due = true;
        Ok(())
    }

    /// `AsgiServer.turn` is called. What a step left to its end and has not ended yet (it runs the loop itself, or
    /// waits in another stack) leaves as soon as if it had not.
    pub(crate) fn begin_turn(&self, py: Python<'_>) -> PyResult<()> {
        let mut held_back = lock(&self.held_back);
        held_back.turn_is_due = false;
        if held_back.exchanges.is_empty() {
            return Ok(());
        }
        self.flush_soon(py, held_back)
    }

    /// The exchanges that were entered by [`Self::list`] since this was called last, for `AsgiServer.flush`.
    pub(crate) fn begin_flush(&self) -> Vec<Py<HttpExchange>> {
        let mut held_back = lock(&self.held_back);
        held_back.flush_is_due = false;
        std::mem::take(&mut held_back.exchanges)
    }

    /// Enters an exchange whose held back pieces shall leave when the loop turns.
    ///
    /// Most responses are complete at the end of the step that began them: they need no call of the loop, and the loop
    /// no turn for it. So in a step that is left to its end, if the loop is going to look in any case.
    pub(crate) fn list(&self, exchange: &Bound<'_, HttpExchange>) -> PyResult<()> {
        let mut held_back = lock(&self.held_back);
        held_back.exchanges.push(exchange.clone().unbind());
        if held_back.in_step && held_back.turn_is_due {
            return Ok(());
        }
        self.flush_soon(exchange.py(), held_back)
    }

    /// A call takes a step. What is returned is for [`Self::end_step`].
    pub(crate) fn begin_step(&self) -> bool {
        std::mem::replace(&mut lock(&self.held_back).in_step, true)
    }

    /// The step has ended, and its task has not yet asked the loop for the next: what it left held back leaves before
    /// that.
    pub(crate) fn end_step(&self, py: Python<'_>, outer: bool) -> PyResult<()> {
        let mut held_back = lock(&self.held_back);
        held_back.in_step = outer;
        if held_back.flush_is_due || held_back.exchanges.is_empty() {
            return Ok(());
        }
        let mut entered = std::mem::take(&mut held_back.exchanges);
        drop(held_back);
        // Not under the lock: whose last reference is dropped may call anything.
        entered.retain(|exchange| {
            let exchange = exchange.bind(py).try_borrow_mut();
            exchange.map_or(true, |mut exchange| !exchange.leave_list_if_over())
        });
        let is_needed = !entered.is_empty();
        let mut held_back = lock(&self.held_back);
        // The same memory serves the next step.
        entered.append(&mut held_back.exchanges);
        held_back.exchanges = entered;
        if is_needed {
            self.flush_soon(py, held_back)?;
        }
        Ok(())
    }

    /// Has the loop call `AsgiServer.flush` in its next turn, if it was not asked yet.
    fn flush_soon(&self, py: Python<'_>, mut held_back: MutexGuard<'_, HeldBack>) -> PyResult<()> {
        let Some(flush) = self.flush.get() else {
            return Ok(());
        };
        if std::mem::replace(&mut held_back.flush_is_due, true) {
            return Ok(());
        }
        drop(held_back);
        self.call_soon(py, flush)
            .inspect_err(|_| lock(&self.held_back).flush_is_due = false)
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
