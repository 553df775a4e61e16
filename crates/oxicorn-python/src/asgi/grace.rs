//! The time a call is given between the disconnect of its client and its cancellation.

use pyo3::intern;
use pyo3::prelude::*;

use super::shared::Shared;

/// A timer of the loop, if one runs.
#[derive(Debug, Default)]
pub(crate) struct Grace(Option<Py<PyAny>>);

impl Grace {
    /// `cancel` is called when the time is over.
    pub(crate) fn begin(shared: &Shared, cancel: &Bound<'_, PyAny>) -> PyResult<Self> {
        let event_loop = shared.event_loop.bind(cancel.py());
        let timer =
            event_loop.call_method1(intern!(cancel.py(), "call_later"), (shared.grace, cancel))?;
        Ok(Self(Some(timer.unbind())))
    }

    /// The call has ended: nothing of it stays in the loop until the time is over.
    pub(crate) fn end(&mut self, py: Python<'_>) -> PyResult<()> {
        match self.0.take() {
            Some(timer) => timer.bind(py).call_method0(intern!(py, "cancel")).map(drop),
            None => Ok(()),
        }
    }
}
