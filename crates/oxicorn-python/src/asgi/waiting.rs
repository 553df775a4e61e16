//! Waiting in the event loop: futures that coroutines wait for, and the steps of ours that yield them.
//!
//! Whoever must wait makes a future of the loop, enters it here and yields it to its task, as
//! `Future.__await__` does. What it waits for is looked at anew when the future is done, so a wake-up
//! too many does no harm, and a task that was cancelled just leaves a done future behind.

use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyType;

/// Futures of those who wait for the same thing.
#[derive(Debug, Default)]
pub(crate) struct Waiters(Vec<Py<PyAny>>);

impl Waiters {
    /// A future of the loop to be yielded; it is done at the next [`Self::wake`].
    pub(crate) fn enter(
        &mut self,
        py: Python<'_>,
        create_future: &Py<PyAny>,
    ) -> PyResult<Py<PyAny>> {
        let future = create_future.bind(py).call0()?;
        // What tells a task that the future was yielded by an `await`.
        future.setattr(intern!(py, "_asyncio_future_blocking"), true)?;
        self.0.push(future.clone().unbind());
        Ok(future.unbind())
    }

    /// Takes everybody out, to be woken once nothing is borrowed any more.
    pub(crate) fn take(&mut self) -> Self {
        Self(std::mem::take(&mut self.0))
    }

    /// Lets those taken out look again.
    pub(crate) fn wake(self, py: Python<'_>) -> PyResult<()> {
        for future in self.0 {
            let future = future.bind(py);
            if !future.call_method0(intern!(py, "done"))?.is_truthy()? {
                future.call_method1(intern!(py, "set_result"), (py.None(),))?;
            }
        }
        Ok(())
    }
}

/// The exception that `throw(type, value, traceback)` of a coroutine is called with, in both forms: an
/// exception alone, or the three parts of old.
pub(crate) fn thrown(kind: &Bound<'_, PyAny>, value: Option<&Bound<'_, PyAny>>) -> PyErr {
    let value = value.filter(|value| !value.is_none());
    match (kind.cast::<PyType>(), value) {
        (Err(_), _) => PyErr::from_value(kind.clone()),
        (Ok(_), Some(value)) if !value.is_instance(kind).unwrap_or(false) => {
            match kind.call1((value,)) {
                Ok(made) => PyErr::from_value(made),
                Err(error) => error,
            }
        }
        (Ok(_), Some(value)) => PyErr::from_value(value.clone()),
        (Ok(kind), None) => match kind.call0() {
            Ok(made) => PyErr::from_value(made),
            Err(_) => PyTypeError::new_err("exceptions must derive from BaseException"),
        },
    }
}
