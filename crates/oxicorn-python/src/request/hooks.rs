//! The hooks around a request.
//!
//! `req` and `resp` are only made where a hook is set: most servers have none, and pay nothing.

use oxicorn_link::wire::RequestView;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::objects::make_request;
use crate::forked;

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
