//! What a process sees of the stash without asking the broker.

use std::time::Duration;

use oxicorn_os::time;
use oxicorn_pool::shared_stash::{Put, Sought, View, is_whole};
use pyo3::exceptions::PyException;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};

use super::encode::Encoder;
use super::limit::Limit;
use super::pool_decode;
use super::wire::Arrived;

/// The stash in memory that is shared with the broker. Threads may share it; nothing here ever waits.
#[pyclass(frozen, module = "oxicorn._native")]
pub(crate) struct StashView {
    view: View,
}

impl StashView {
    /// The view that came with an answer of the broker's; None: it gives none, or this process cannot map it.
    pub(super) fn of_answer<'py>(py: Python<'py>, answer: &Arrived) -> PyResult<Bound<'py, PyAny>> {
        let view = answer.file.as_ref().map(View::attach);
        match view.and_then(Result::ok) {
            Some(view) => Ok(Bound::new(py, Self { view })?.into_any()),
            None => Ok(py.None().into_bound(py)),
        }
    }
}

#[pymethods]
impl StashView {
    /// Whether nothing will be seen here any more.
    fn is_over(&self) -> bool {
        self.view.is_over()
    }

    /// The value, or `default` if there is none; `NotImplemented` where the broker has to be asked.
    fn get<'py>(
        &self,
        py: Python<'py>,
        table: &Bound<'py, PyAny>,
        key: &Bound<'py, PyAny>,
        default: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let sought = match (text_of(table), encoded_key(py, key)?) {
            (Some(table), Some(key)) => self.view.get(table, &key, time::monotonic()),
            _ => Sought::Ask,
        };
        match sought {
            Sought::Value(value) => pool_decode(py, &value),
            Sought::Missing => Ok(default),
            Sought::Ask => Ok(py.NotImplemented().into_bound(py)),
        }
    }

    /// Stores a value, for `ttl` seconds or for good. False: nothing was done, the broker has to be asked.
    #[pyo3(signature = (table, key, value, ttl=None))]
    fn put<'py>(
        &self,
        py: Python<'py>,
        table: &Bound<'py, PyAny>,
        key: &Bound<'py, PyAny>,
        value: &Bound<'py, PyAny>,
        ttl: Option<f64>,
    ) -> PyResult<bool> {
        let Some(table) = text_of(table) else {
            return Ok(false);
        };
        if is_long(value) {
            return Ok(false);
        }
        let (Some(key), Some(value)) = (encoded_key(py, key)?, encoded(py, value)?) else {
            return Ok(false);
        };
        let now = time::monotonic();
        let expires = match ttl {
            None => None,
            Some(seconds) => {
                let ttl = Duration::try_from_secs_f64(seconds).ok();
                let ttl = ttl.filter(|ttl| !ttl.is_zero());
                match ttl.and_then(|ttl| now.checked_add(ttl)) {
                    Some(end) => Some(end),
                    None => return Ok(false),
                }
            }
        };
        let put = self.view.put(table, &key, &value, expires, now);
        Ok(put == Put::Done)
    }
}

fn text_of<'a>(name: &'a Bound<'_, PyAny>) -> Option<&'a str> {
    name.cast::<PyString>().ok()?.to_str().ok()
}

/// Whether it is clear, before it is encoded, that it goes by the broker.
fn is_long(value: &Bound<'_, PyAny>) -> bool {
    let is_flat = value.is_instance_of::<PyBytes>()
        || value.is_instance_of::<PyByteArray>()
        || value.is_instance_of::<PyString>();
    if is_flat {
        return value.len().is_ok_and(|length| length > View::VALUE_MAX);
    }
    let is_other = value.is_none()
        || value.is_instance_of::<PyInt>()
        || value.is_instance_of::<PyFloat>()
        || value.is_instance_of::<PyList>()
        || value.is_instance_of::<PyDict>()
        || value.is_instance_of::<PyTuple>();
    if is_other {
        return false;
    }
    // Arrays, tensors and views of memory tell it.
    let bytes = value.getattr(intern!(value.py(), "nbytes"));
    let bytes = bytes.and_then(|bytes| bytes.extract::<usize>());
    bytes.is_ok_and(|bytes| bytes > View::VALUE_MAX)
}

/// A key's bytes; `None`: it can be none, which the broker says.
fn encoded_key(py: Python<'_>, key: &Bound<'_, PyAny>) -> PyResult<Option<Vec<u8>>> {
    if key.is_none() {
        return Ok(None);
    }
    encoded(py, key)
}

/// A value's bytes; `None`: it has none, which is said where it is asked for.
fn encoded(py: Python<'_>, value: &Bound<'_, PyAny>) -> PyResult<Option<Vec<u8>>> {
    let mut encoder = Encoder::inline(py, Limit::default());
    match encoder.root("value", value) {
        // Of what the broker would refuse it can say why.
        Ok(()) => Ok(Some(encoder.payload).filter(|bytes| is_whole(bytes))),
        Err(error) if error.is_instance_of::<PyException>(py) => Ok(None),
        Err(error) => Err(error),
    }
}
