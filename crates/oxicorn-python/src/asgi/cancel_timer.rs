//! The time a call is given between the disconnect of its client and its cancellation.
//!
//! A call that has a thread at work is not cancelled before the thread is done. Cancelling would not stop the
//! thread, only what takes its results: one that then waits for room in a queue would wait for ever (a2wsgi).
//! Work that still waits for a thread is no reason to wait; it is cancelled with the call.

use pyo3::intern;
use pyo3::prelude::*;

use super::shared::Shared;

/// A timer of the loop, if one runs, and what keeps the call from being cancelled when it is over.
#[derive(Debug, Default)]
pub(crate) struct CancelTimer {
    timer: Option<Py<PyAny>>,
    /// What the call has given to threads (`oxicorn.workers.executor_calls.Work`).
    works: Vec<Py<PyAny>>,
    /// The time is over.
    over: bool,
}

impl CancelTimer {
    /// `cancel` is called when the time is over.
    pub(crate) fn begin(&mut self, shared: &Shared, cancel: &Bound<'_, PyAny>) -> PyResult<()> {
        let event_loop = shared.event_loop.bind(cancel.py());
        let timer =
            event_loop.call_method1(intern!(cancel.py(), "call_later"), (shared.grace, cancel))?;
        self.timer = Some(timer.unbind());
        Ok(())
    }

    /// The time is over: whether the call is to be cancelled now.
    pub(crate) fn expire(&mut self, py: Python<'_>) -> PyResult<bool> {
        self.over = true;
        self.is_due(py)
    }

    /// A thread will work for the call.
    pub(crate) fn begin_work(&mut self, work: Py<PyAny>) {
        self.works.push(work);
    }

    /// It is done: whether the call is to be cancelled now.
    pub(crate) fn end_work(&mut self, work: &Bound<'_, PyAny>) -> PyResult<bool> {
        self.works.retain(|other| !other.is(work));
        self.is_due(work.py())
    }

    fn is_due(&self, py: Python<'_>) -> PyResult<bool> {
        for work in &self.works {
            if work.bind(py).getattr(intern!(py, "started"))?.is_truthy()? {
                return Ok(false);
            }
        }
        Ok(self.over)
    }

    /// The call has ended: nothing of it stays in the loop until the time is over.
    pub(crate) fn end(&mut self, py: Python<'_>) -> PyResult<()> {
        self.over = false;
        match self.timer.take() {
            Some(timer) => timer.bind(py).call_method0(intern!(py, "cancel")).map(drop),
            None => Ok(()),
        }
    }
}
