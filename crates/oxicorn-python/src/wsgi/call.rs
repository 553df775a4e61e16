//! Calling the application and turning what it returns into a response.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use oxicorn_link::StreamId;
use oxicorn_link::wire::{AbortReason, BodyPlace, FilePart, RequestView};
use oxicorn_os::time;
use pyo3::exceptions::{PyException, PyStopIteration, PySystemExit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple};

use super::environ::{Constants, EnvironFactory, PerRequest};
use super::exchange::{Exchange, Phase, body_piece};
use super::handles::{Handles, Shelf};
use super::plain_file::PlainFile;
use super::{Input, report};
use crate::errors::ClientGone;
use crate::forked;
use crate::request::{AccessLogging, Hooks, make_request};
use crate::worker::calls::Beginning;
use crate::worker::responder::{Responder, Stream};

/// The application of this worker with everything that is the same for all its requests.
pub(crate) struct Application {
    callable: Py<PyAny>,
    environ: EnvironFactory,
    hooks: Hooks,
    worker: Py<PyAny>,
    file_wrapper: Py<PyAny>,
    handles: Shelf,
    sendfile: bool,
    access: Arc<AccessLogging>,
    /// The worker class overrides `handle_error`.
    hands_errors: bool,
}

impl Application {
    pub(crate) fn new(
        callable: &Bound<'_, PyAny>,
        worker: &Bound<'_, PyAny>,
        constants: Constants<'_>,
        access: Arc<AccessLogging>,
    ) -> PyResult<Self> {
        let py = callable.py();
        let sendfile = constants.sendfile;
        let file_wrapper = constants.file_wrapper.clone().unbind();
        let empty_input = Py::new(py, Input::from_memory(Vec::new()))?;
        Ok(Self {
            callable: callable.clone().unbind(),
            environ: EnvironFactory::new(py, constants, empty_input)?,
            hooks: Hooks::of(worker)?,
            worker: worker.clone().unbind(),
            file_wrapper,
            handles: Shelf::new(py)?,
            sendfile,
            access,
            hands_errors: worker.getattr("hands_errors")?.is_truthy()?,
        })
    }

    /// Serves one claimed request. An error is a wish of the application to end the process
    /// (`SystemExit`, `KeyboardInterrupt`); everything else has been answered and logged.
    pub(crate) fn serve(
        &self,
        py: Python<'_>,
        responder: &Arc<Responder>,
        stream: StreamId,
        beginning: Beginning,
        payload: &[u8],
        request: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let Ok(view) = RequestView::decode(payload) else {
            return responder.send_abort(py, &mut Stream::new(stream), AbortReason::Declined, 0);
        };
        let _entered = responder.calls().enter(py, stream, beginning, &view);
        let handles = self.handles(py, responder, stream, &view)?;
        let exchange = handles.exchange.bind(py);
        let mut objects = RequestObjects::since(self.since(beginning));
        objects.request = request.cloned();
        let result = self.respond(py, responder, stream, &view, &handles, &mut objects);
        forked::end_if_forked(self.worker.bind(py), result.as_ref().err());
        let ended = result.or_else(|error| self.handle_error(py, exchange, &view, error));
        let concluded = self.conclude(py, exchange, &view, &mut objects, ended);
        drop(objects);
        self.handles.put(handles);
        concluded
    }

    /// When a call begins, for its access line; where none can come to be written, nobody looks at the clock.
    fn since(&self, beginning: Beginning) -> Duration {
        if self.access.is_possible() {
            time::monotonic()
        } else {
            beginning.since
        }
    }

    /// Answers a request that the worker class has not gone on with; `result` is what its method came to.
    pub(crate) fn refuse(
        &self,
        py: Python<'_>,
        responder: &Arc<Responder>,
        stream: StreamId,
        payload: &[u8],
        result: PyResult<()>,
    ) -> PyResult<()> {
        let Ok(view) = RequestView::decode(payload) else {
            return responder.send_abort(py, &mut Stream::new(stream), AbortReason::Declined, 0);
        };
        let handles = self.handles(py, responder, stream, &view)?;
        let exchange = handles.exchange.bind(py);
        let ended = if let Err(error) = result {
            self.handle_error(py, exchange, &view, error)
        } else {
            self.log_error(
                py,
                "handle_request of the worker class left a request",
                None,
                Some(&view),
            )?;
            exchange.try_borrow_mut()?.fail(py, 500)
        };
        let mut objects = RequestObjects::since(time::monotonic());
        self.conclude(py, exchange, &view, &mut objects, ended)
    }

    /// Tells what the worker class raised behind a response.
    pub(crate) fn tell(&self, py: Python<'_>, result: PyResult<()>) -> PyResult<()> {
        match result {
            Err(error) if error.is_instance_of::<PyException>(py) => {
                self.log_error(py, "Error in handle_request", Some(&error), None)
            }
            other => other,
        }
    }

    fn handles(
        &self,
        py: Python<'_>,
        responder: &Arc<Responder>,
        stream: StreamId,
        view: &RequestView<'_>,
    ) -> PyResult<Handles> {
        let to_head = view.head.method == b"HEAD";
        let about = (stream, to_head, self.hooks.want_response());
        self.handles.take(py, responder, &self.access, about)
    }

    /// What follows from a call that came to `ended`: access line, hook, the end for the gateway.
    fn conclude<'py>(
        &self,
        py: Python<'py>,
        exchange: &Bound<'py, Exchange>,
        view: &RequestView<'_>,
        objects: &mut RequestObjects<'py>,
        ended: PyResult<()>,
    ) -> PyResult<()> {
        let logged = self.log_access(py, exchange, view, objects);
        let hooked = report::run_post_request(&self.hooks, py, &self.worker, exchange, objects);
        let concluded = exchange.try_borrow_mut()?.conclude(py);
        ended.and(logged).and(hooked).and(concluded)
    }

    fn respond<'py>(
        &self,
        py: Python<'py>,
        responder: &Arc<Responder>,
        stream: StreamId,
        view: &RequestView<'_>,
        handles: &Handles,
        objects: &mut RequestObjects<'py>,
    ) -> PyResult<()> {
        let input = self.input(py, responder, stream, view)?;
        let exchange = handles.exchange.bind(py);
        let request = PerRequest {
            input: input.as_any(),
            socket: handles.socket.bind(py).as_any(),
            early_hints: handles.early_hints.bind(py),
            exchange: exchange.as_any(),
        };
        objects.input = Some(input.clone());
        let handed = objects.request.take();
        objects.request = self
            .hooks
            .before(py, &self.worker, view, input.as_any(), handed)?;
        let Ok(environ) = self.environ.build(py, view, &request)? else {
            self.log_error(
                py,
                "Request path does not start with SCRIPT_NAME",
                None,
                Some(view),
            )?;
            return exchange.borrow_mut().fail(py, 500);
        };
        objects.environ = Some(environ.clone());
        exchange.try_borrow_mut()?.watch(&environ)?;
        let start_response = handles.start_response.bind(py);
        let called = self.callable.bind(py).call1((environ, start_response));
        forked::end_if_forked(self.worker.bind(py), called.as_ref().err());
        let iterable = called?;
        self.send_iterable(py, exchange, &iterable, view, objects)
    }

    /// Writes the access line where this worker does that. Called as soon as the response is made, so
    /// before `close()` and the hook `post_request`, as in Gunicorn.
    fn log_access<'py>(
        &self,
        py: Python<'py>,
        exchange: &Bound<'py, Exchange>,
        view: &RequestView<'_>,
        objects: &mut RequestObjects<'py>,
    ) -> PyResult<()> {
        report::log_access(py, &self.worker, exchange, view, objects)
    }

    fn input<'py>(
        &self,
        py: Python<'py>,
        responder: &Responder,
        stream: StreamId,
        view: &RequestView<'_>,
    ) -> PyResult<Bound<'py, Input>> {
        match view.head.body {
            BodyPlace::None => Ok(self.environ.empty_input(py)),
            BodyPlace::Inline => Bound::new(py, Input::from_memory(view.body.to_vec())),
            BodyPlace::Descriptor { len } => {
                let descriptor = responder.take_descriptor(stream)?;
                Bound::new(py, Input::from_file(descriptor.into(), len))
            }
            BodyPlace::Streamed { .. } => Err(pyo3::exceptions::PyRuntimeError::new_err(
                "a streamed request body was given to a WSGI worker",
            )),
        }
    }

    /// Sends what the application returned; `close()` is called whatever happens.
    fn send_iterable<'py>(
        &self,
        py: Python<'py>,
        exchange: &Bound<'py, Exchange>,
        iterable: &Bound<'py, PyAny>,
        view: &RequestView<'_>,
        objects: &mut RequestObjects<'py>,
    ) -> PyResult<()> {
        // The common case: a list of one. It has no close().
        if let Some(body) = only_item(iterable) {
            let followed = self.hooks.want_response();
            return exchange.try_borrow_mut()?.send_whole(
                py,
                body_piece(&body)?.as_bytes(),
                followed,
            );
        }
        let sent = self
            .send_pieces(py, exchange, iterable)
            .and_then(|()| self.log_access(py, exchange, view, objects));
        // What a response leaves to be closed is the parent's.
        forked::end_if_forked(self.worker.bind(py), sent.as_ref().err());
        let closed = close(iterable);
        sent.and(closed)
    }

    fn send_pieces<'py>(
        &self,
        py: Python<'py>,
        exchange: &Bound<'py, Exchange>,
        iterable: &Bound<'py, PyAny>,
    ) -> PyResult<()> {
        if self.send_file(py, exchange, iterable)? {
            return Ok(());
        }
        for item in iterable.try_iter()? {
            let item = item?;
            let piece = body_piece(&item)?.as_bytes();
            let mut exchange = exchange.try_borrow_mut()?;
            if exchange.phase() == Phase::Complete && !piece.is_empty() {
                // PEP 3333: the server stops iterating when enough has been sent. One piece more was asked
                // for, because code behind the last one runs only then.
                break;
            }
            exchange.send(py, piece)?;
        }
        exchange.try_borrow_mut()?.finish(py)
    }

    /// Whether the response is a file that can be sent without being read by its `read`.
    fn send_file<'py>(
        &self,
        py: Python<'py>,
        exchange: &Bound<'py, Exchange>,
        iterable: &Bound<'py, PyAny>,
    ) -> PyResult<bool> {
        if !self.sendfile || !iterable.get_type().is(&self.file_wrapper) {
            return Ok(false);
        }
        let filelike = iterable.getattr(intern!(py, "filelike"))?;
        let Some(file) = PlainFile::of(&filelike) else {
            return Ok(false);
        };
        let mut exchange = exchange.try_borrow_mut()?;
        if exchange.has_trailers() {
            // They need chunks, and what the gateway sends by itself has a length.
            return Ok(false);
        }
        let length = exchange
            .announced_length()
            .map_or(file.rest, |length| length.min(file.rest));
        let part = FilePart {
            offset: file.offset,
            len: length,
        };
        // SAFETY: the application's file object owns it, and is held for the time of this call.
        let descriptor = unsafe { BorrowedFd::borrow_raw(file.descriptor) };
        exchange.send_file(py, descriptor, part)?;
        Ok(true)
    }

    fn handle_error<'py>(
        &self,
        py: Python<'py>,
        exchange: &Bound<'py, Exchange>,
        view: &RequestView<'_>,
        error: PyErr,
    ) -> PyResult<()> {
        let mut exchange = exchange.try_borrow_mut()?;
        if error.is_instance_of::<ClientGone>(py) || exchange.was_ended(py, &error)? {
            return exchange.interrupt(py);
        }
        // Libraries that took the socket over end with StopIteration: nothing is left to answer.
        if error.is_instance_of::<PyStopIteration>(py) || exchange.phase() == Phase::Hijacked {
            return exchange.abort(py, AbortReason::Silent);
        }
        let what = if matches!(exchange.phase(), Phase::Streaming | Phase::Complete) {
            "Error handling request".to_owned()
        } else {
            let method = String::from_utf8_lossy(view.head.method);
            let target = String::from_utf8_lossy(view.head.request_target);
            format!("Error handling request {method} {target}")
        };
        exchange.fail(py, 500)?;
        drop(exchange);
        if error.is_instance_of::<PySystemExit>(py) {
            // A signal handler of the worker, or the application, ends the process.
            return Err(error);
        }
        if self.hands_errors {
            let request = make_request(py, view, py.None().bind(py))?;
            let arguments = (request, error.clone_ref(py).into_value(py));
            let worker = self.worker.bind(py);
            worker.call_method1(intern!(py, "_hand_error"), arguments)?;
        } else {
            self.log_error(py, &what, Some(&error), Some(view))?;
        }
        if error.is_instance_of::<PyException>(py) {
            Ok(())
        } else {
            Err(error)
        }
    }

    fn log_error(
        &self,
        py: Python<'_>,
        what: &str,
        error: Option<&PyErr>,
        view: Option<&RequestView<'_>>,
    ) -> PyResult<()> {
        // With its traceback, which `value` alone does not carry on every version.
        let error = error.map(|error| error.clone_ref(py).into_value(py));
        let pair = |(name, value)| (PyBytes::new(py, name), PyBytes::new(py, value));
        let headers: Vec<_> = view
            .iter()
            .flat_map(|view| &view.headers)
            .map(pair)
            .collect();
        self.worker
            .bind(py)
            .call_method1(intern!(py, "log_failure"), (what, error, headers))?;
        Ok(())
    }
}

/// Objects made on the way that hooks and the access log get afterwards.
pub(crate) struct RequestObjects<'py> {
    /// When the worker began with the request.
    pub(crate) since: Duration,
    pub(crate) input: Option<Bound<'py, Input>>,
    pub(crate) request: Option<Bound<'py, PyAny>>,
    pub(crate) environ: Option<Bound<'py, PyDict>>,
}

impl RequestObjects<'_> {
    fn since(since: Duration) -> Self {
        Self {
            since,
            input: None,
            request: None,
            environ: None,
        }
    }
}

/// The item of a list or tuple of one.
fn only_item<'py>(iterable: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    if let Ok(list) = iterable.cast_exact::<PyList>() {
        return (list.len() == 1).then(|| list.get_item(0).ok()).flatten();
    }
    let tuple = iterable.cast_exact::<PyTuple>().ok()?;
    (tuple.len() == 1).then(|| tuple.get_item(0).ok()).flatten()
}

fn close(iterable: &Bound<'_, PyAny>) -> PyResult<()> {
    if iterable.is_exact_instance_of::<PyList>() || iterable.is_exact_instance_of::<PyBytes>() {
        return Ok(());
    }
    match iterable.getattr_opt(intern!(iterable.py(), "close"))? {
        Some(close) => close.call0().map(drop),
        None => Ok(()),
    }
}
