//! What hooks and logs are told of a call that has ended.

use oxicorn_link::wire::RequestView;
use oxicorn_os::time;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use super::call::RequestObjects;
use super::exchange::{Exchange, Phase};
use crate::request::{Hooks, Waits, make_request, make_response};

/// Runs `post_request`.
pub(super) fn run_post_request<'py>(
    hooks: &Hooks,
    py: Python<'py>,
    worker: &Py<PyAny>,
    exchange: &Bound<'py, Exchange>,
    objects: &RequestObjects<'py>,
) -> PyResult<()> {
    let Some(request) = objects.request.as_ref().filter(|_| hooks.want_response()) else {
        return Ok(());
    };
    let environ = objects.environ.clone().unwrap_or_else(|| PyDict::new(py));
    let response = response_of(py, exchange)?;
    hooks.after(py, worker, request, &environ, &response)
}

/// Has the line written, if this worker said that it would be, and has not been yet.
pub(super) fn log_access<'py>(
    py: Python<'py>,
    worker: &Py<PyAny>,
    exchange: &Bound<'py, Exchange>,
    view: &RequestView<'_>,
    objects: &mut RequestObjects<'py>,
) -> PyResult<()> {
    if !exchange.try_borrow_mut()?.take_logged() {
        return Ok(());
    }
    let elapsed = time::monotonic().saturating_sub(objects.since);
    let request = match (&objects.request, &objects.input) {
        (Some(request), _) => request.clone(),
        (None, Some(input)) => make_request(py, view, input.as_any())?,
        // Not even its body could be taken: nothing of it was answered by the application.
        (None, None) => return Ok(()),
    };
    let response = response_of(py, exchange)?;
    let failed = exchange.try_borrow()?.failed();
    let arguments = (
        response,
        request,
        &objects.environ,
        failed,
        u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX),
        Waits::of(view).python(),
    );
    worker
        .bind(py)
        .call_method1(intern!(py, "log_access"), arguments)
        .map(drop)
}

/// `resp`; its status is `None` if the application never called `start_response`.
fn response_of<'py>(
    py: Python<'py>,
    exchange: &Bound<'py, Exchange>,
) -> PyResult<Bound<'py, PyAny>> {
    let exchange = exchange.try_borrow()?;
    let headers_sent = matches!(
        exchange.phase(),
        Phase::Streaming | Phase::Complete | Phase::Done
    );
    let (status, headers) = match exchange.called_with() {
        Some((status, headers)) => (Some(status.bind(py)), headers.bind(py).clone()),
        None => (None, PyList::empty(py)),
    };
    let status = status.map(|status| status.clone().into_any());
    make_response(py, status, headers.as_any(), headers_sent, exchange.sent())
}
