//! The arbiter's lines in the error log, through the Python logger that the user may have configured.

use oxicorn_arbiter::Level;
use oxicorn_gateway::control::AccessRecord;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

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

/// Gives the logger a figure, by the server's method of that name.
pub(crate) fn report(server: &Bound<'_, PyAny>, method: &str, value: u64) {
    if let Err(error) = server.call_method1(method, (value,)) {
        error.write_unraisable(server.py(), Some(server));
    }
}

/// Writes the access line of a request that no worker wrote one for.
pub(crate) fn write_access(server: &Bound<'_, PyAny>, record: &AccessRecord) {
    let written = access_arguments(server.py(), record)
        .and_then(|fields| server.call_method("log_access", (), Some(&fields)));
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
pub(crate) fn write_exception(server: &Bound<'_, PyAny>, what: &str, error: &PyErr) {
    let py = server.py();
    let written = server.call_method1("log_exception", (what, error.clone_ref(py).into_value(py)));
    if let Err(error) = written {
        error.write_unraisable(py, Some(server));
    }
}
