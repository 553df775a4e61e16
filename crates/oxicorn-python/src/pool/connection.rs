//! A caller's connection to the broker.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use oxicorn_os::stream::{Moved, Stream};
use oxicorn_os::{memfd, time};
use oxicorn_proto::pool::Kind;
use pyo3::exceptions::{
    PyBlockingIOError, PyConnectionError, PyException, PyTimeoutError, PyValueError,
};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

use super::decode::Decoder;
use super::encode::{Dialect, Encoder};
use super::limit::Limit;
use super::protocol_error;
use super::stash_view::StashView;
use super::wire::{Arrived, Waited, Wire, deadline};

/// Between two attempts at a listener whose backlog is full.
const CONNECT_PAUSE: Duration = Duration::from_millis(2);
/// Memory files that are kept for further calls, and the size up to which they are.
const FILES_KEPT: usize = 4;
const FILE_KEPT_MAX: u64 = 16 << 20;

/// In the place of a frame's kind: the frame could not be read, and the value is why, an exception.
const UNREADABLE: u8 = 0;

/// What came: kind of frame, id of the call, value.
type Came<'py> = (u8, u64, Bound<'py, PyAny>);

/// See the head of this file. One thread at a time uses it.
#[pyclass(frozen, module = "oxicorn._native")]
pub(crate) struct PoolConnection {
    inner: Mutex<Option<Inner>>,
}

struct Inner {
    wire: Wire,
    last_id: u64,
    /// Memory files that calls under way have.
    files: HashMap<u64, OwnedFd>,
    spare: Vec<OwnedFd>,
    /// Until when answers of calls that were posted may be read.
    deadlines: HashMap<u64, Duration>,
    unpickles: bool,
    /// Questions whose answer is a view of the stash.
    views: HashSet<u64>,
}

impl PoolConnection {
    /// Runs `body` on the connection, which must be open and not in use by another thread.
    fn with<T>(&self, body: impl FnOnce(&mut Inner) -> PyResult<T>) -> PyResult<T> {
        let Ok(mut inner) = self.inner.try_lock() else {
            return Err(PyBlockingIOError::new_err(
                "the connection is used by another thread",
            ));
        };
        match inner.as_mut() {
            Some(inner) => body(inner),
            None => Err(PyConnectionError::new_err("the connection is closed")),
        }
    }
}

#[pymethods]
impl PoolConnection {
    /// Connects to the broker at `path` within `timeout` seconds. `OSError`: it cannot be done.
    #[staticmethod]
    #[pyo3(signature = (path, timeout=None))]
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a new path is what Python's is turned into"
    )]
    fn connect(py: Python<'_>, path: PathBuf, timeout: Option<f64>) -> PyResult<Self> {
        let until = deadline(timeout);
        let stream = loop {
            match Stream::connect(&path) {
                Ok(stream) => break stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
            if until.is_some_and(|until| time::monotonic() >= until) {
                return Err(PyTimeoutError::new_err("the backlog is full"));
            }
            py.detach(|| std::thread::sleep(CONNECT_PAUSE));
            py.check_signals()?;
        };
        Ok(Self {
            inner: Mutex::new(Some(Inner {
                wire: Wire::new(stream),
                last_id: 0,
                files: HashMap::new(),
                spare: Vec::new(),
                deadlines: HashMap::new(),
                unpickles: false,
                views: HashSet::new(),
            })),
        })
    }

    /// The descriptor, for loops that wait for it.
    fn fileno(&self) -> PyResult<i32> {
        self.with(|inner| Ok(inner.wire.as_fd().as_raw_fd()))
    }

    /// Whether the pool is still at the other end.
    fn is_open(&self) -> PyResult<bool> {
        self.with(|inner| Ok(!inner.wire.is_over()))
    }

    /// Hangs up; calls under way are cancelled by that.
    fn close(&self) {
        if let Ok(mut inner) = self.inner.try_lock() {
            *inner = None;
        }
    }

    /// Makes a call and waits for its first answer: kind of frame and value. `TimeoutError`: none came in `timeout` seconds.
    #[pyo3(signature = (app_path, action, args, kwargs, pickled, timeout=None))]
    #[expect(
        clippy::too_many_arguments,
        reason = "one crossing into Rust for a call"
    )]
    fn execute<'py>(
        &self,
        py: Python<'py>,
        app_path: &Bound<'py, PyAny>,
        action: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: &Bound<'py, PyDict>,
        pickled: bool,
        timeout: Option<f64>,
    ) -> PyResult<Came<'py>> {
        let until = deadline(timeout);
        self.with(|inner| {
            let id = inner.put_call(py, app_path, action, args, kwargs, pickled, until)?;
            done(inner.wire.send_all(py, until)?)?;
            loop {
                let came = inner.receive(py, until)?;
                // An answer to a call that was given up before belongs to nobody.
                if came.1 == id {
                    return Ok(came);
                }
            }
        })
    }

    /// Asks for something that is no call (`kind` of frame with this payload) and waits for the answer.
    #[pyo3(signature = (kind, payload, timeout=None))]
    fn ask<'py>(
        &self,
        py: Python<'py>,
        kind: u8,
        payload: &Bound<'py, PyDict>,
        timeout: Option<f64>,
    ) -> PyResult<Came<'py>> {
        let until = deadline(timeout);
        self.with(|inner| {
            let id = inner.put_question(py, kind, payload, until)?;
            done(inner.wire.send_all(py, until)?)?;
            loop {
                let came = inner.receive(py, until)?;
                if came.1 == id {
                    return Ok(came);
                }
            }
        })
    }

    /// Puts a call behind what is to be sent and sends what there is room for. Gives its id. `timeout` is how many seconds
    /// it may take until its answer has been read, wherever that is cut short; who posts waits that long and no longer.
    #[pyo3(signature = (app_path, action, args, kwargs, pickled, timeout=None))]
    #[expect(
        clippy::too_many_arguments,
        reason = "one crossing into Rust for a call"
    )]
    fn post<'py>(
        &self,
        py: Python<'py>,
        app_path: &Bound<'py, PyAny>,
        action: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: &Bound<'py, PyDict>,
        pickled: bool,
        timeout: Option<f64>,
    ) -> PyResult<u64> {
        let until = deadline(timeout);
        self.with(|inner| {
            let id = inner.put_call(py, app_path, action, args, kwargs, pickled, until)?;
            inner.note_deadline(id, until);
            inner.flush()?;
            Ok(id)
        })
    }

    /// The same for what is no call.
    #[pyo3(signature = (kind, payload, timeout=None))]
    fn post_question(
        &self,
        py: Python<'_>,
        kind: u8,
        payload: &Bound<'_, PyDict>,
        timeout: Option<f64>,
    ) -> PyResult<u64> {
        let until = deadline(timeout);
        self.with(|inner| {
            let id = inner.put_question(py, kind, payload, until)?;
            inner.note_deadline(id, until);
            inner.flush()?;
            Ok(id)
        })
    }

    /// Says that the call's answer is not wanted any more.
    fn cancel(&self, id: u64) -> PyResult<()> {
        self.with(|inner| {
            // Whoever runs it may write into its file a while longer.
            inner.files.remove(&id);
            inner.deadlines.remove(&id);
            inner.wire.put(Kind::Cancel, id, &[], None)?;
            inner.flush()?;
            Ok(())
        })
    }

    /// Sends what there is room for; whether that was all.
    fn flush(&self) -> PyResult<bool> {
        self.with(Inner::flush)
    }

    /// Waits for the next answer to whatever was posted. `TimeoutError`: none came.
    #[pyo3(signature = (timeout=None))]
    fn receive<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Came<'py>> {
        let until = deadline(timeout);
        self.with(|inner| {
            done(inner.wire.send_all(py, until)?)?;
            inner.receive(py, until)
        })
    }

    /// The next answer that is there already, or None. One that cannot be read, or not in time, is of kind 0 and has the
    /// exception as its value: the other calls of the connection go on.
    fn take<'py>(&self, py: Python<'py>) -> PyResult<Option<Came<'py>>> {
        self.with(|inner| match inner.wire.take()? {
            Waited::Done(frame) => match inner.open(py, &frame, None) {
                Err(error) if error.is_instance_of::<PyException>(py) => {
                    let error = error.into_value(py).into_bound(py).into_any();
                    Ok(Some((UNREADABLE, frame.header.id, error)))
                }
                opened => opened.map(Some),
            },
            Waited::TimedOut => Ok(None),
            Waited::Closed => Err(closed()),
        })
    }
}

fn closed() -> PyErr {
    PyConnectionError::new_err("the pool has closed the connection")
}

/// A name of a call, which must be a text.
fn text_of<'a>(name: &str, value: &'a Bound<'_, PyAny>) -> PyResult<&'a str> {
    let py = value.py();
    let Ok(text) = value.cast::<PyString>() else {
        let kind = value.get_type().fully_qualified_name()?;
        return Err(protocol_error(
            py,
            &format!("{name} must be a str, not {kind}"),
        ));
    };
    let text = text.to_str();
    text.map_err(|_| {
        protocol_error(
            py,
            &format!("{name} has a lone surrogate, which UTF-8 has not"),
        )
    })
}

fn done<T>(waited: Waited<T>) -> PyResult<T> {
    match waited {
        Waited::Done(value) => Ok(value),
        Waited::TimedOut => Err(PyTimeoutError::new_err("no answer in time")),
        Waited::Closed => Err(closed()),
    }
}

impl Inner {
    #[expect(
        clippy::too_many_arguments,
        reason = "what a call consists of, and its limit"
    )]
    fn put_call<'py>(
        &mut self,
        py: Python<'py>,
        app_path: &Bound<'py, PyAny>,
        action: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        kwargs: &Bound<'py, PyDict>,
        pickled: bool,
        until: Option<Duration>,
    ) -> PyResult<u64> {
        let mut encoder = Encoder::new(py, Dialect::Extended, Limit::until(until));
        encoder.map(5);
        encoder.text_field("app_path", text_of("app_path", app_path)?);
        encoder.text_field("action", text_of("action", action)?);
        encoder.text("extended");
        encoder.root("extended", &true.into_pyobject(py)?.to_owned().into_any())?;
        if pickled {
            self.unpickles = true;
            encoder.pickled("args", args)?;
            encoder.pickled("kwargs", kwargs)?;
        } else {
            encoder.field("args", args)?;
            encoder.field("kwargs", kwargs)?;
        }
        self.put(Kind::Request, &encoder)
    }

    fn put_question(
        &mut self,
        py: Python<'_>,
        kind: u8,
        payload: &Bound<'_, PyDict>,
        until: Option<Duration>,
    ) -> PyResult<u64> {
        let kind = match kind {
            0x10 => Kind::Stash,
            0x11 => Kind::Status,
            0x12 => Kind::Manage,
            0x21 => Kind::View,
            _ => return Err(PyValueError::new_err("no kind of question")),
        };
        // What the broker keeps lies in its frame.
        let mut encoder = Encoder::inline(py, Limit::until(until));
        encoder.map(u32::try_from(payload.len()).unwrap_or(u32::MAX));
        for (name, value) in payload {
            let name: String = name.extract()?;
            encoder.field(&name, &value)?;
        }
        let id = self.put(kind, &encoder)?;
        if kind == Kind::View {
            self.views.insert(id);
        }
        Ok(id)
    }

    fn put(&mut self, kind: Kind, encoder: &Encoder<'_>) -> PyResult<u64> {
        let mut sent = None;
        let id = self.last_id + 1;
        if encoder.has_external() {
            let file = match self.spare.pop() {
                Some(file) => file,
                None => memfd::empty_file("oxicorn-call")?,
            };
            encoder.write_external(&file)?;
            sent = Some(file.try_clone()?);
            self.files.insert(id, file);
        }
        self.last_id = id;
        self.wire.put(kind, id, &encoder.payload, sent)?;
        Ok(id)
    }

    fn note_deadline(&mut self, id: u64, until: Option<Duration>) {
        if let Some(until) = until {
            self.deadlines.insert(id, until);
        }
    }

    fn flush(&mut self) -> PyResult<bool> {
        match self.wire.flush()? {
            Moved::Bytes(_) => Ok(true),
            Moved::WouldBlock => Ok(false),
            Moved::Closed | Moved::Reset => Err(closed()),
        }
    }

    fn receive<'py>(&mut self, py: Python<'py>, until: Option<Duration>) -> PyResult<Came<'py>> {
        let frame = done(self.wire.receive(py, until)?)?;
        self.open(py, &frame, until)
    }

    fn open<'py>(
        &mut self,
        py: Python<'py>,
        frame: &Arrived,
        until: Option<Duration>,
    ) -> PyResult<Came<'py>> {
        let id = frame.header.id;
        let kind = frame.header.kind;
        let is_last = kind != Kind::Chunk;
        let (own, noted) = if is_last {
            (self.files.remove(&id), self.deadlines.remove(&id))
        } else {
            (None, self.deadlines.get(&id).copied())
        };
        if self.views.remove(&id) && kind == Kind::Response {
            return Ok((kind as u8, id, StashView::of_answer(py, frame)?));
        }
        let until = until.into_iter().chain(noted).min();
        let mut decoder = Decoder::new(
            py,
            &frame.payload,
            frame.file.as_ref().or(own.as_ref()).into(),
            self.unpickles,
            Limit::until(until),
        );
        // Result, error and data are the only fields.
        let value = if decoder.fields()? == 0 {
            py.None().into_bound(py)
        } else {
            decoder.name()?;
            decoder.value()?
        };
        // A call that went well has left its file; after an error its worker may still be writing.
        if kind == Kind::Response
            && let Some(file) = own
            && self.spare.len() < FILES_KEPT
            && memfd::len(&file)? <= FILE_KEPT_MAX
        {
            self.spare.push(file);
        }
        Ok((kind as u8, id, value))
    }
}
