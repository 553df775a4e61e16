//! What `send()` returns where the event is refused: the exception comes out when it is awaited, as it
//! does out of a coroutine, so that `create_task(send(...))` and `gather` see it where they look for it.

use pyo3::prelude::*;

use super::waiting::thrown;

/// See the head of this file.
#[pyclass(frozen, module = "oxicorn._native")]
pub(crate) struct Raising(PyErr);

impl Raising {
    /// An awaitable that raises `error`.
    pub(crate) fn awaitable(py: Python<'_>, error: PyErr) -> PyResult<Bound<'_, PyAny>> {
        Ok(Bound::new(py, Self(error))?.into_any())
    }
}

#[pymethods]
impl Raising {
    fn __await__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Err(self.0.clone_ref(py))
    }

    fn send(&self, py: Python<'_>, _value: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.__next__(py)
    }

    #[pyo3(signature = (kind, value = None, _traceback = None))]
    #[expect(clippy::unused_self, reason = "a method of coroutines")]
    fn throw(
        &self,
        kind: &Bound<'_, PyAny>,
        value: Option<&Bound<'_, PyAny>>,
        _traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        Err(thrown(kind, value))
    }

    #[expect(clippy::unused_self, reason = "a method of coroutines")]
    fn close(&self) {}
}
