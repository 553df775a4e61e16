//! One call of the application: what the task of a request runs.
//!
//! It passes every step on to the application's coroutine, so to the application it is not there; and it
//! sees the end of the call where it happens, which a callback of the task would see a turn later.

use pyo3::exceptions::{PyRuntimeError, PyStopIteration};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use pyo3::{ffi, intern};

use super::exchange_table::Exchange;
use super::server::AsgiServer;
use crate::forked::is_forked;

/// See the head of this file.
#[pyclass(frozen, module = "oxicorn._native")]
pub(crate) struct Call {
    server: Py<AsgiServer>,
    coroutine: Py<PyAny>,
    exchange: Exchange,
    scope: Py<PyDict>,
    /// What the hooks get, if there are any.
    request: Option<Py<PyAny>>,
}

/// How a step of a coroutine ended.
enum Step {
    Yielded(Py<PyAny>),
    Returned,
}

impl Call {
    /// `awaitable` is what the application returned when it was called.
    pub(crate) fn new(
        server: Py<AsgiServer>,
        awaitable: Bound<'_, PyAny>,
        exchange: Exchange,
        scope: Py<PyDict>,
        request: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        let coroutine = steps_of(awaitable)?.unbind();
        Ok(Self {
            server,
            coroutine,
            exchange,
            scope,
            request,
        })
    }

    /// Sees to the consequences of a step.
    fn settle(&self, py: Python<'_>, step: PyResult<Step>) -> PyResult<Option<Py<PyAny>>> {
        self.end_if_forked(py, &step)?;
        let result = match step {
            Ok(Step::Yielded(what)) => return Ok(Some(what)),
            Ok(Step::Returned) => Ok(()),
            Err(error) => Err(error),
        };
        let scope = self.scope.bind(py);
        let request = self.request.as_ref().map(|request| request.bind(py));
        let server = self.server.get();
        server.finish(py, &self.exchange, scope, request, result)?;
        Ok(None)
    }

    /// A process that the application forked ends with the step in which it did. One that wants to wait
    /// cannot: what it would be woken by is its parent's.
    fn end_if_forked(&self, py: Python<'_>, step: &PyResult<Step>) -> PyResult<()> {
        if !is_forked() {
            return Ok(());
        }
        let error = match step {
            Ok(Step::Yielded(_)) => Some(PyRuntimeError::new_err(
                "a forked process cannot await: the event loop is its parent's",
            )),
            Ok(Step::Returned) => None,
            Err(error) => Some(error.clone_ref(py)),
        };
        self.server.get().end_if_forked(py, error.as_ref())
    }

    fn step(&self, py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<Step> {
        // Of another request than the one that forked.
        let server = self.server.get();
        server.end_if_forked(py, None)?;
        let outer = server.shared.begin_step();
        let step = self.send_value(value);
        server.shared.end_step(py, outer)?;
        step
    }

    /// Resumes the application's coroutine with a value.
    fn send_value(&self, value: &Bound<'_, PyAny>) -> PyResult<Step> {
        let py = value.py();
        let mut result = std::ptr::null_mut();
        // SAFETY: attached; both objects are alive, and `result` takes the reference that is returned.
        let status =
            unsafe { ffi::PyIter_Send(self.coroutine.as_ptr(), value.as_ptr(), &raw mut result) };
        match status {
            ffi::PySendResult::PYGEN_ERROR => Err(PyErr::fetch(py)),
            // SAFETY: not an error, so `result` is a new reference.
            status => unsafe {
                let result = Bound::from_owned_ptr(py, result);
                Ok(match status {
                    ffi::PySendResult::PYGEN_NEXT => Step::Yielded(result.unbind()),
                    _ => Step::Returned,
                })
            },
        }
    }
}

#[pymethods]
impl Call {
    fn __await__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        let step = self.step(py, py.None().bind(py));
        self.settle(py, step)
    }

    fn send(&self, py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let step = self.step(py, value);
        self.settle(py, step)?
            .ok_or_else(|| PyStopIteration::new_err(py.None()))
    }

    #[pyo3(signature = (*arguments))]
    fn throw(
        &self,
        py: Python<'_>,
        arguments: &Bound<'_, pyo3::types::PyTuple>,
    ) -> PyResult<Py<PyAny>> {
        self.server.get().end_if_forked(py, None)?;
        let thrown = self
            .coroutine
            .bind(py)
            .call_method1(intern!(py, "throw"), arguments);
        let step = match thrown {
            Ok(what) => Ok(Step::Yielded(what.unbind())),
            Err(error) if error.is_instance_of::<PyStopIteration>(py) => Ok(Step::Returned),
            Err(error) => Err(error),
        };
        self.settle(py, step)?
            .ok_or_else(|| PyStopIteration::new_err(py.None()))
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.coroutine
            .bind(py)
            .call_method0(intern!(py, "close"))
            .map(drop)
    }

    /// What debuggers and stack dumps look at, of the application's coroutine.
    #[getter]
    fn cr_frame<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.coroutine.bind(py).getattr(intern!(py, "cr_frame"))
    }

    #[getter]
    fn cr_code<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.coroutine.bind(py).getattr(intern!(py, "cr_code"))
    }

    #[getter]
    fn cr_await<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.coroutine.bind(py).getattr(intern!(py, "cr_await"))
    }

    #[getter]
    fn cr_running<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.coroutine.bind(py).getattr(intern!(py, "cr_running"))
    }

    #[getter]
    fn __name__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.coroutine.bind(py).getattr(intern!(py, "__name__"))
    }

    #[getter]
    fn __qualname__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.coroutine.bind(py).getattr(intern!(py, "__qualname__"))
    }
}

/// What can be stepped through: a coroutine itself, of other awaitables their iterator.
fn steps_of(awaitable: Bound<'_, PyAny>) -> PyResult<Bound<'_, PyAny>> {
    // SAFETY: attached, and the object is alive.
    let is_coroutine = unsafe { ffi::PyCoro_CheckExact(awaitable.as_ptr()) } != 0;
    if is_coroutine {
        return Ok(awaitable);
    }
    let py = awaitable.py();
    awaitable
        .call_method0(intern!(py, "__await__"))
        .map_err(|_| {
            pyo3::exceptions::PyTypeError::new_err(format!(
                "the ASGI application must return an awaitable, not {awaitable:?}"
            ))
        })
}
