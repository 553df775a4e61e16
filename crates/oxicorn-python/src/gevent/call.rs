//! A request that was claimed, as the function that a greenlet runs.

use oxicorn_link::wire::RequestView;
use oxicorn_os::time;
use pyo3::exceptions::{PyException, PySystemExit};
use pyo3::intern;
use pyo3::prelude::*;

use super::GeventServer;
use crate::errors::ClientGone;
use crate::worker::Claim;

/// See the head of this file.
#[pyclass(frozen, module = "oxicorn._native")]
pub(crate) struct HubCall {
    pub(super) server: Py<GeventServer>,
    pub(super) claim: Claim,
    pub(super) payload: Vec<u8>,
}

#[pymethods]
impl HubCall {
    /// What lists of greenlets show.
    fn __repr__(&self) -> String {
        let Ok(view) = RequestView::decode(&self.payload) else {
            return "<request>".into();
        };
        let method = String::from_utf8_lossy(view.head.method);
        let target = String::from_utf8_lossy(view.head.request_target);
        format!("<request {method} {target}>")
    }

    /// Serves the request. Whatever the application raises has an end here: it concerns no other greenlet.
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        let server = self.server.get();
        let stream = self.claim.stream;
        server.greenlets.note_start(stream);
        let outcome = server.bridge.serve(py, &self.claim, &self.payload);
        server.bridge.context().end_request(time::monotonic());
        server.end_call(py, stream)?;
        match outcome {
            Ok(()) => Ok(()),
            Err(error) => self.tell(py, error),
        }
    }
}

impl HubCall {
    /// Logs what ended a call, unless that has been done where it was answered.
    fn tell(&self, py: Python<'_>, error: PyErr) -> PyResult<()> {
        let what = if error.is_instance_of::<PySystemExit>(py) {
            "Application tried to end its greenlet"
        } else if error.is_instance_of::<PyException>(py) && !error.is_instance_of::<ClientGone>(py)
        {
            "Error handling request"
        } else {
            return Ok(());
        };
        let worker = self.server.get().bridge.context().worker()?.bind(py);
        let arguments = (what, error.into_value(py));
        worker
            .call_method1(intern!(py, "log_failure"), arguments)
            .map(drop)
    }
}
