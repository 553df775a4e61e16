//! Exceptions that applications see.

use std::fmt::Display;

use pyo3::create_exception;
use pyo3::exceptions::PyBrokenPipeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

create_exception!(
    oxicorn._native,
    ClientGone,
    PyBrokenPipeError,
    "Nobody waits for this response any more."
);

/// `oxicorn.errors.ConfigError`: a setting that cannot be used.
pub(crate) fn config_error(py: Python<'_>, reason: &dyn Display) -> PyErr {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let made = CLASS
        .import(py, "oxicorn.errors", "ConfigError")
        .and_then(|class| class.call1((reason.to_string(),)));
    made.map_or_else(|error| error, PyErr::from_value)
}

/// `oxicorn.errors.HaltServer` for a reason that keeps the server from starting; other errors stay what they are.
pub(crate) fn halt(py: Python<'_>, error: PyErr) -> PyErr {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    static HALT: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let is_config_error = CLASS
        .import(py, "oxicorn.errors", "ConfigError")
        .is_ok_and(|class| error.is_instance(py, class));
    if !is_config_error {
        return error;
    }
    let made = HALT
        .import(py, "oxicorn.errors", "HaltServer")
        .and_then(|class| class.call1((error.value(py).to_string(),)));
    made.map_or_else(|error| error, PyErr::from_value)
}
