//! A request on its way through a worker class that overrides `handle_request`.
//!
//! The class gets the request and goes on to the original's method when it wants it served. What it does not go on with
//! is answered like what an application fails at.

use std::sync::{Arc, Mutex};

use oxicorn_link::StreamId;
use oxicorn_link::wire::RequestView;
use pyo3::intern;
use pyo3::prelude::*;

use super::bridge::Bridge;
use crate::locks::lock;
use crate::request::{make_request, server_of};
use crate::worker::calls::Beginning;

/// See the head of this file.
#[pyclass(frozen, module = "oxicorn._native")]
pub(crate) struct HandedRequest {
    bridge: Arc<Bridge>,
    pub(super) stream: StreamId,
    beginning: Beginning,
    /// The message; nothing once it is served.
    payload: Mutex<Option<Vec<u8>>>,
}

impl HandedRequest {
    pub(super) fn new(
        bridge: Arc<Bridge>,
        stream: StreamId,
        beginning: Beginning,
        payload: &[u8],
    ) -> Self {
        Self {
            bridge,
            stream,
            beginning,
            payload: Mutex::new(Some(payload.to_vec())),
        }
    }

    /// Gives the request to the class: `handler` is `_hand_request` of the worker. An error is what the class raised.
    pub(super) fn give_to(slf: &Bound<'_, Self>, handler: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let request = match &*lock(&slf.get().payload) {
            Some(payload) => match RequestView::decode(payload) {
                Ok(view) => {
                    let request = make_request(py, &view, py.None().bind(py))?;
                    let server = server_of(py, &view)?;
                    request.setattr(intern!(py, "_server"), server)?;
                    request
                }
                // Serving it says so.
                Err(_) => return Ok(()),
            },
            None => return Ok(()),
        };
        request.setattr(intern!(py, "_handed"), slf)?;
        handler.call1((request,)).map(drop)
    }

    /// What was not served.
    pub(super) fn take(&self) -> Option<Vec<u8>> {
        lock(&self.payload).take()
    }
}

#[pymethods]
impl HandedRequest {
    /// Serves the request, once: environ, application, response, hooks.
    fn serve(&self, py: Python<'_>, request: &Bound<'_, PyAny>) -> PyResult<()> {
        match self.take() {
            Some(payload) => {
                let (stream, beginning) = (self.stream, self.beginning);
                self.bridge
                    .call(py, stream, beginning, &payload, Some(request))
            }
            None => Ok(()),
        }
    }
}
