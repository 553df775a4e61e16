//! The objects that Gunicorn's users expect of a request: `req` and `resp`.

use oxicorn_link::wire::{Address, HeaderList, RequestView, Scheme, Version};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyList};

use crate::latin1;

/// `req`, as hooks, logs and worker classes get it.
pub(crate) fn make_request<'py>(
    py: Python<'py>,
    view: &RequestView<'_>,
    input: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    static CLASS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let head = &view.head;
    let class = CLASS.import(py, "oxicorn.http.message", "Request")?;
    let text = |bytes: &[u8]| latin1::to_string(py, bytes);
    let headers = pairs_of(py, &view.headers)?;
    let peer = match head.client {
        Address::Unix { .. } => text(b"").into_any(),
        Address::Ip { host, port } => (text(host), port).into_pyobject(py)?.into_any(),
    };
    let target = head.request_target;
    let path = target.split(|&byte| byte == b'?').next().unwrap_or(target);
    let scheme = if is_https(view) { "https" } else { "http" };
    let request = class.call1((
        text(head.method),
        text(target),
        text(path),
        text(head.query_string),
        version_of(head.version),
        headers,
        scheme,
        peer,
        input,
        1,
    ))?;
    if let Ok(trailers) = view.trailers() {
        set_trailers(&request, &trailers)?;
    }
    Ok(request)
}

/// The address of the listener that the request came in by: host and port, or the bytes of a path.
pub(crate) fn server_of<'py>(
    py: Python<'py>,
    view: &RequestView<'_>,
) -> PyResult<Bound<'py, PyAny>> {
    Ok(match view.head.server {
        Address::Ip { host, port } => (latin1::to_string(py, host), port)
            .into_pyobject(py)?
            .into_any(),
        Address::Unix { path } => PyBytes::new(py, path).into_any(),
    })
}

/// `req.trailers`, where there are any.
pub(crate) fn set_trailers(request: &Bound<'_, PyAny>, trailers: &HeaderList<'_>) -> PyResult<()> {
    if trailers.is_empty() {
        return Ok(());
    }
    let py = request.py();
    request.setattr(intern!(py, "trailers"), pairs_of(py, trailers)?)
}

/// `(NAME, value)`, as Gunicorn has them.
fn pairs_of<'py>(py: Python<'py>, headers: &HeaderList<'_>) -> PyResult<Bound<'py, PyList>> {
    let pairs = PyList::empty(py);
    for (name, value) in headers {
        let name = latin1::to_string(py, &name.to_ascii_uppercase());
        pairs.append((name, latin1::to_string(py, value)))?;
    }
    Ok(pairs)
}

const fn version_of(version: Version) -> (u8, u8) {
    match version {
        Version::Http10 => (1, 0),
        Version::Http11 => (1, 1),
        Version::Http2 => (2, 0),
        Version::Http3 => (3, 0),
    }
}

/// The object hooks get as `resp`.
pub(crate) fn make_response<'py>(
    py: Python<'py>,
    status: Option<Bound<'py, PyAny>>,
    headers: &Bound<'py, PyAny>,
    headers_sent: bool,
    sent: u64,
) -> PyResult<Bound<'py, PyAny>> {
    static RESPONSE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let response = RESPONSE.import(py, "oxicorn.http.wsgi", "response")?;
    response.call1((status, headers, headers_sent, sent))
}

pub(crate) fn is_https(view: &RequestView<'_>) -> bool {
    matches!(view.head.scheme, Scheme::Https | Scheme::Wss)
}
