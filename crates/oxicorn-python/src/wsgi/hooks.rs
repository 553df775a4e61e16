//! The hooks around a request, and the objects Gunicorn's users expect in them.
//!
//! `req` and `resp` are only made where a hook is set: most servers have none, and pay nothing.

use oxicorn_link::wire::{Address, HeaderList, RequestView, Version};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyList};

use super::call::Made;
use super::environ::is_https;
use super::exchange::{Exchange, Phase};
use crate::forked;
use crate::latin1;

/// `pre_request` and `post_request`, where they are set.
pub(crate) struct Hooks {
    pre_request: Option<Py<PyAny>>,
    /// With how many arguments it wants to be called: 2, 3 or 4.
    post_request: Option<(Py<PyAny>, usize)>,
}

impl Hooks {
    pub(crate) fn of(worker: &Bound<'_, PyAny>) -> PyResult<Self> {
        let hook = |name: &str| -> PyResult<Option<(Py<PyAny>, usize)>> {
            let native = worker.getattr("cfg")?.getattr("native")?;
            let function = native.call_method1("get", (name,))?;
            if function.is_none() {
                return Ok(None);
            }
            let arity = worker
                .py()
                .import("oxicorn.util")?
                .call_method1("get_arity", (&function,))?;
            Ok(Some((function.unbind(), arity.extract().unwrap_or(4))))
        };
        let pre_request = match hook("pre_request")? {
            Some((function, _)) => Some(function),
            None => log_requests(worker)?,
        };
        Ok(Self {
            pre_request,
            post_request: hook("post_request")?,
        })
    }

    /// Whether the arguments of `start_response` must be kept for `resp`.
    pub(crate) fn want_response(&self) -> bool {
        self.post_request.is_some()
    }

    /// Runs `pre_request`; the request object, if there is one already or any hook wants one.
    pub(crate) fn before<'py>(
        &self,
        py: Python<'py>,
        worker: &Py<PyAny>,
        view: &RequestView<'_>,
        input: &Bound<'py, PyAny>,
        made: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let request = match made {
            Some(request) => {
                request.setattr(intern!(py, "body"), input)?;
                request
            }
            None if self.pre_request.is_none() && self.post_request.is_none() => return Ok(None),
            None => make_request(py, view, input)?,
        };
        if let Some(hook) = &self.pre_request {
            let ran = hook.bind(py).call1((worker, &request));
            forked::end_if_forked(worker.bind(py), ran.as_ref().err());
            ran?;
        }
        Ok(Some(request))
    }

    /// Runs `post_request`; what it raises is logged and harms nobody.
    pub(crate) fn after<'py>(
        &self,
        py: Python<'py>,
        worker: &Py<PyAny>,
        exchange: &Bound<'py, Exchange>,
        made: &Made<'py>,
    ) -> PyResult<()> {
        let Some(request) = made.request.as_ref().filter(|_| self.want_response()) else {
            return Ok(());
        };
        let environ = made.environ.clone().unwrap_or_else(|| PyDict::new(py));
        let response = response_of(py, exchange)?;
        self.run_after(py, worker, request, &environ, &response)
    }

    /// [`Self::after`] with the objects it hands over.
    pub(crate) fn run_after<'py>(
        &self,
        py: Python<'py>,
        worker: &Py<PyAny>,
        request: &Bound<'py, PyAny>,
        environ: &Bound<'py, PyDict>,
        response: &Bound<'py, PyAny>,
    ) -> PyResult<()> {
        let Some((hook, arity)) = &self.post_request else {
            return Ok(());
        };
        response.setattr(intern!(py, "req"), request)?;
        let hook = hook.bind(py);
        let result = match arity {
            2 => hook.call1((worker, request)),
            3 => hook.call1((worker, request, environ)),
            _ => hook.call1((worker, request, environ, response)),
        };
        forked::end_if_forked(worker.bind(py), result.as_ref().err());
        match result {
            Ok(_) => Ok(()),
            Err(error) => {
                let arguments = ("Exception in post_request hook", error.into_value(py));
                worker
                    .bind(py)
                    .call_method1(intern!(py, "log_failure"), arguments)?;
                Ok(())
            }
        }
    }
}

/// Gunicorn's own hook, where nobody sets another: at level debug each request is logged.
fn log_requests(worker: &Bound<'_, PyAny>) -> PyResult<Option<Py<PyAny>>> {
    let cfg = worker.getattr("cfg")?;
    if cfg.getattr("loglevel")?.extract::<String>()?.to_lowercase() != "debug" {
        return Ok(None);
    }
    let function = worker
        .py()
        .import("oxicorn.config")?
        .getattr("log_request")?;
    Ok(Some(function.unbind()))
}

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

/// `resp`; its status is `None` if the application never called `start_response`.
pub(crate) fn response_of<'py>(
    py: Python<'py>,
    exchange: &Bound<'py, Exchange>,
) -> PyResult<Bound<'py, PyAny>> {
    let exchange = exchange.try_borrow()?;
    let headers_sent = matches!(
        exchange.phase(),
        Phase::Streaming | Phase::Complete | Phase::Done
    );
    let (status, headers) = match exchange.called_with() {
        Some((status, headers)) => (Some(status.bind(py)), headers.bind(py).clone()),
        None => (None, PyList::empty(py)),
    };
    let status = status.map(|status| status.clone().into_any());
    make_response(py, status, headers.as_any(), headers_sent, exchange.sent())
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
