//! Access lines that Python writes, in the worker that served the request.
//!
//! Decides per request who writes: the worker always, where `oxicorn.log_routing` says that only
//! Python's logging does what the user wants; else the gateway, until the application changes something
//! in the environ that the lines show (middleware that puts the forwarded client into `REMOTE_ADDR`).
//! Such an application does it again, so the worker stays with it from then on.
//!
//! The gateway is told with the head of each response (`flags::LOGGED`): a request whose head came
//! without the word, or never came, has its line written by the gateway. So each has exactly one.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use oxicorn_link::wire::RequestView;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

/// Who writes the access lines of this worker.
#[derive(Debug, Default)]
pub(crate) struct AccessLogging {
    by_worker: AtomicBool,
    watched: OnceLock<Vec<Py<PyString>>>,
}

impl AccessLogging {
    /// Asks Python, when application and hooks have had their say; whether it is this worker.
    pub(crate) fn decide(&self, worker: &Bound<'_, PyAny>) -> PyResult<bool> {
        let (by_worker, watched): (bool, Vec<Py<PyString>>) =
            worker.call_method0("access_logging")?.extract()?;
        self.by_worker.store(by_worker, Ordering::Relaxed);
        let _ = self.watched.set(watched);
        Ok(by_worker)
    }

    pub(crate) fn by_worker(&self) -> bool {
        self.by_worker.load(Ordering::Relaxed)
    }

    /// From now on it is this worker.
    pub(crate) fn take_over(&self) {
        self.by_worker.store(true, Ordering::Relaxed);
    }

    /// Whether the worker may come to write a line.
    pub(crate) fn is_possible(&self) -> bool {
        self.by_worker() || self.watched.get().is_some_and(|keys| !keys.is_empty())
    }

    /// What the lines show of an environ, before the application has it.
    pub(crate) fn watch(&self, environ: &Bound<'_, PyDict>) -> PyResult<Option<Watched>> {
        let keys = match self.watched.get() {
            Some(keys) if !keys.is_empty() && !self.by_worker() => keys,
            _ => return Ok(None),
        };
        let py = environ.py();
        let value = |key: &Py<PyString>| {
            let value = environ.get_item(key.bind(py))?;
            Ok((key.clone_ref(py), value.map(Bound::unbind)))
        };
        Ok(Some(Watched {
            environ: environ.clone().unbind(),
            values: keys.iter().map(value).collect::<PyResult<_>>()?,
        }))
    }
}

/// An environ that the application has, with values it had before.
#[derive(Debug)]
pub(crate) struct Watched {
    environ: Py<PyDict>,
    values: Vec<(Py<PyString>, Option<Py<PyAny>>)>,
}

impl Watched {
    /// Whether one of the values is another object now.
    pub(crate) fn is_changed(&self, py: Python<'_>) -> PyResult<bool> {
        let environ = self.environ.bind(py);
        for (key, before) in &self.values {
            let now = environ.get_item(key.bind(py))?;
            let same = match (&now, before) {
                (Some(now), Some(before)) => now.is(before),
                (None, None) => true,
                _ => false,
            };
            if !same {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// How long a request waited before a worker had it, in microseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waits {
    queue: u32,
    proxy: Option<u32>,
}

impl Waits {
    pub(crate) fn of(view: &RequestView<'_>) -> Self {
        Self {
            queue: view.head.queued_us,
            proxy: view.proxy_time_us(),
        }
    }

    /// As `log_access` takes it.
    pub(crate) fn python(self) -> (u32, Option<u32>) {
        (self.queue, self.proxy)
    }
}
