//! The arbiter's lines in the error log, through the Python logger that the user may have configured.

use oxicorn_arbiter::Level;
use oxicorn_gateway::control::AccessRecord;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::python::PyArbiter;

/// Writes one line. A logger that raises is the user's; the server goes on without that line.
pub(crate) fn write(server: &PyArbiter<'_>, level: Level, text: &str) {
    let method = match level {
        Level::Debug => "debug",
        Level::Info => "info",
        Level::Warning => "warning",
        Level::Error => "error",
        Level::Critical => "critical",
    };
    let (py, written) = (server.py(), server.log(method, text));
    if let Err(error) = written {
        error.write_unraisable(py, Some(server));
    }
}

/// The logger was given a figure.
pub(crate) fn report(server: &PyArbiter<'_>, told: PyResult<()>) {
    if let Err(error) = told {
        error.write_unraisable(server.py(), Some(server));
    }
}

/// Writes the access line of a request that no worker wrote one for.
pub(crate) fn write_access(server: &PyArbiter<'_>, record: &AccessRecord) {
    let written =
        access_arguments(server.py(), record).and_then(|fields| server.log_access(&fields));
    if let Err(error) = written {
        error.write_unraisable(server.py(), Some(server));
    }
}

fn access_arguments<'py>(py: Python<'py>, record: &AccessRecord) -> PyResult<Bound<'py, PyDict>> {
    let fields = PyDict::new(py);
    fields.set_item("method", &record.method)?;
    fields.set_item("target", &record.request_target)?;
    fields.set_item("path", &record.path)?;
    fields.set_item("query", &record.query_string)?;
    fields.set_item("protocol", &record.protocol)?;
    fields.set_item("headers", &record.headers)?;
    fields.set_item("client", (&record.client, record.client_port))?;
    fields.set_item("server", (&record.server, record.server_port))?;
    fields.set_item("https", record.https)?;
    fields.set_item("status", record.status)?;
    fields.set_item("sent", record.body_bytes)?;
    fields.set_item("microseconds", record.elapsed_us)?;
    fields.set_item("waits", (record.queue_us, record.proxy_us))?;
    Ok(fields)
}

/// Writes an exception with its traceback.
pub(crate) fn write_exception(server: &PyArbiter<'_>, what: &str, error: &PyErr) {
    if let Err(error) = server.log_exception(what, error) {
        error.write_unraisable(server.py(), Some(server));
    }
}
