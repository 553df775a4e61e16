//! The arbiter's lines in the error log, through the Python logger that the user may have configured.

use oxicorn_arbiter::Level;
use pyo3::intern;
use pyo3::prelude::*;

/// Writes one line. A logger that raises is the user's; the server goes on without that line.
pub(crate) fn write(server: &Bound<'_, PyAny>, level: Level, text: &str) {
    let method = match level {
        Level::Debug => "debug",
        Level::Info => "info",
        Level::Warning => "warning",
        Level::Error => "error",
        Level::Critical => "critical",
    };
    let py = server.py();
    let written = server
        .getattr(intern!(py, "log"))
        .and_then(|log| log.call_method1(method, ("%s", text)));
    if let Err(error) = written {
        error.write_unraisable(py, Some(server));
    }
}

/// Writes an exception with its traceback.
pub(crate) fn write_exception(server: &Bound<'_, PyAny>, what: &str, error: &PyErr) {
    let py = server.py();
    let written = server.call_method1("log_exception", (what, error.clone_ref(py).into_value(py)));
    if let Err(error) = written {
        error.write_unraisable(py, Some(server));
    }
}
