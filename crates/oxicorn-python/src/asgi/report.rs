//! What hooks and logs are told of a call that has ended.

use oxicorn_link::wire::HeaderList;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple, PyType};

use super::exchange::HttpExchange;
use super::head::reason_phrase;
use super::server::AsgiServer;
use crate::latin1;
use crate::request::{make_response, set_trailers};

/// Status in the access log of a request whose client left before there was one.
const CLIENT_LEFT: u16 = 499;

impl AsgiServer {
    /// Cancellation belongs to the task; and who ends the process with a signal means it.
    pub(super) fn is_for_the_task(&self, py: Python<'_>, error: &PyErr) -> PyResult<bool> {
        if error.is_instance(py, cancelled_error(py)?) {
            return Ok(true);
        }
        let aborted = self.context.get().worker()?.bind(py).getattr("aborted")?;
        aborted.is_truthy()
    }

    pub(super) fn tell_failure(
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
        if self.shared.is_stopping() && error.is_instance(py, cancelled_error(py)?) {
            return Ok(());
        }
        self.log_error(py, scope, "Error handling request", Some(error))
    }

    pub(super) fn log_error(
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
        let headers = scope.get_item("headers")?;
        let headers = headers.unwrap_or_else(|| PyTuple::empty(py).into_any());
        worker.call_method1(intern!(py, "log_failure"), (what, error, headers))?;
        Ok(())
    }

    pub(super) fn run_post_request(
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
        self.hooks.after(py, worker, request, scope, &response)
    }

    /// Has the access line written, where this worker does that.
    pub(super) fn log_access(
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
                response if response.has_failed() => Some(response.status()),
                response if response.status() == 0 => Some(CLIENT_LEFT),
                _ => None,
            }
        };
        let elapsed = oxicorn_os::time::monotonic().saturating_sub(since);
        let microseconds = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        let waits = exchange.try_borrow()?.waits().python();
        let arguments = (response, request, py.None(), failed, microseconds, waits);
        let worker = self.context.get().worker()?.bind(py);
        worker
            .call_method1(intern!(py, "log_access"), arguments)
            .map(drop)
    }
}

fn cancelled_error(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let class = CLASS.import(py, "asyncio", "CancelledError")?;
    Ok(class.as_any())
}

/// `resp`, as hooks and the access log get it.
fn response_of<'py>(
    py: Python<'py>,
    exchange: &Bound<'py, HttpExchange>,
) -> PyResult<Bound<'py, PyAny>> {
    let (status, sent, start) = {
        let exchange = exchange.try_borrow()?;
        let response = exchange.response();
        (response.status(), response.sent(), exchange.start(py))
    };
    let headers = match start.as_ref().map(|start| start.get_item("headers")) {
        Some(headers) => headers?,
        None => None,
    };
    let headers = texts_of(py, headers.as_ref())?;
    let reason = reason_phrase(status);
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
