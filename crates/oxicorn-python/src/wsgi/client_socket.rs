//! `environ["gunicorn.socket"]`: the client's socket, taken over from the gateway when it is used.
//!
//! Libraries that speak WebSocket over a WSGI server (simple-websocket, flask-sock) look here. The
//! worker holds no client connection, so the object is a promise: the first use of a socket attribute
//! asks the gateway to give the connection up.

use std::os::fd::IntoRawFd;

use pyo3::exceptions::PyAttributeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyString};

use super::exchange::Exchange;

/// Stands for the socket until it is used, then passes everything on to it.
#[pyclass(module = "oxicorn._native", name = "ClientSocket")]
pub(crate) struct LazySocket {
    exchange: Py<Exchange>,
    socket: Option<Py<PyAny>>,
}

impl LazySocket {
    pub(crate) fn new(exchange: Py<Exchange>) -> Self {
        Self {
            exchange,
            socket: None,
        }
    }

    /// Whether it has not been taken over.
    pub(crate) fn is_promise(&self) -> bool {
        self.socket.is_none()
    }

    /// The real socket (`oxicorn.client_socket.ClientSocket`), taken over now if it was not before.
    fn socket<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if let Some(socket) = &self.socket {
            return Ok(socket.bind(py).clone());
        }
        let (descriptor, unread) = self.exchange.bind(py).try_borrow_mut()?.hijack(py)?;
        let socket =
            socket_class(py)?.call1((descriptor.into_raw_fd(), PyBytes::new(py, &unread)))?;
        self.socket = Some(socket.clone().unbind());
        Ok(socket)
    }
}

#[pymethods]
impl LazySocket {
    fn __getattr__<'py>(
        &mut self,
        py: Python<'py>,
        name: &Bound<'py, PyString>,
    ) -> PyResult<Bound<'py, PyAny>> {
        // Probing for something no socket has (`hasattr`) must not cost the client its connection.
        if self.socket.is_none() && !socket_attributes(py)?.contains(name)? {
            return Err(PyAttributeError::new_err(format!(
                "socket has no attribute {name}"
            )));
        }
        self.socket(py)?.getattr(name)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        match &self.socket {
            Some(socket) => Ok(socket.bind(py).repr()?.to_string()),
            None => Ok("<client socket, not taken over>".into()),
        }
    }
}

fn socket_class(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    CLASS.import(py, "oxicorn.client_socket", "ClientSocket")
}

fn socket_attributes(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    static NAMES: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    NAMES.import(py, "oxicorn.client_socket", "attributes")
}
