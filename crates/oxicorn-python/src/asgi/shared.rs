//! What all exchanges of a worker have in common: the link, the loop, and who has something held back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use super::exchange::{HttpExchange, Sending, Sent};
use crate::locks::lock;
use crate::worker::LoopLink;

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
    /// Exchanges with something held back.
    listed: Mutex<Vec<Py<HttpExchange>>>,
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
            listed: Mutex::default(),
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
    pub(crate) fn call_soon(&self, py: Python<'_>, what: &Py<PyAny>) -> PyResult<()> {
        self.call_soon.bind(py).call1((what,)).map(drop)
    }

    /// The exchanges that were entered by [`Self::list`] since this was called last.
    pub(crate) fn take_listed(&self) -> Vec<Py<HttpExchange>> {
        std::mem::take(&mut *lock(&self.listed))
    }

    /// Enters an exchange whose held back pieces shall leave when the loop turns.
    pub(crate) fn list(&self, exchange: &Bound<'_, HttpExchange>) -> PyResult<()> {
        let py = exchange.py();
        let mut listed = lock(&self.listed);
        listed.push(exchange.clone().unbind());
        let first = listed.len() == 1;
        drop(listed);
        if first && let Some(flush) = self.flush.get() {
            self.call_soon(py, flush)?;
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
