//! The pool of heavy applications on Python's side.
//!
//! * `encode`, `decode`: Python's values as the frames' values, and back
//! * `outside`: where large values of a payload are, and how they are had from there
//! * `limit`: how long that may take
//! * `call`: what a call consists of
//! * `sealed`: calls and answers that are passed on unread
//! * `wire`: frames of a blocking or an awaiting end
//! * `connection`: what `oxicorn.dirty`'s clients call with
//! * `stash_view`: the stash, as far as it is seen without the broker
//! * `worker`: what a pool worker serves with
//!
//! Bytes beyond [`EXTERNAL_MIN`] are not part of their frame. They lie in a memory file whose descriptor goes with it:
//! written once by who sends, read once by who receives, and neither copied nor seen by the broker between them. What
//! comes back lies in the same file if it had one, so that a file is made and filled with pages once for many calls.

mod call;
mod connection;
mod decode;
mod encode;
mod limit;
mod outside;
mod sealed;
mod stash_view;
mod wire;
mod worker;

use std::os::fd::OwnedFd;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyType};

use limit::Limit;
use outside::Outside;

pub(crate) use connection::PoolConnection;
pub(crate) use sealed::{pool_open, pool_seal};
pub(crate) use stash_view::StashView;
pub(crate) use worker::{DirtyContext, DirtyNotice, DirtySetup, Replacement};

/// Bytes of a value from which on it lies in a memory file.
pub(crate) const EXTERNAL_MIN: usize = 64 << 10;
/// Most bytes of all of them in one frame.
pub(crate) const EXTERNAL_MAX: u64 = 1 << 30;

/// A memory file that belongs to one call at a time.
pub(crate) type CallFile = OwnedFd;

/// The bytes of a value, as the stash keeps it; `name` is what an error calls it. `DirtyProtocolError`: it cannot be kept.
#[pyfunction]
pub(crate) fn pool_encode<'py>(
    py: Python<'py>,
    value: &Bound<'py, PyAny>,
    name: &str,
) -> PyResult<Bound<'py, PyBytes>> {
    let mut encoder = encode::Encoder::inline(py, Limit::default());
    encoder.root(name, value)?;
    Ok(PyBytes::new(py, &encoder.payload))
}

/// The value that such bytes are of. `DirtyProtocolError`: of none. Nothing is ever unpickled.
#[pyfunction]
pub(crate) fn pool_decode<'py>(py: Python<'py>, data: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    decode::Decoder::new(py, data, Outside::Nothing, false, Limit::default()).value()
}

/// A class of `oxicorn.dirty.errors`.
fn error_class<'py>(py: Python<'py>, name: &'static str) -> PyResult<Bound<'py, PyType>> {
    let module = py.import("oxicorn.dirty.errors")?;
    Ok(module.getattr(name)?.cast_into()?)
}

/// What cannot be sent, or was not sent as it should be: `DirtyProtocolError`.
pub(crate) fn protocol_error(py: Python<'_>, text: &str) -> PyErr {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let class = CLASS.get_or_try_init(py, || {
        error_class(py, "DirtyProtocolError").map(Bound::unbind)
    });
    match class {
        Ok(class) => PyErr::from_type(class.bind(py).clone(), (text.to_owned(),)),
        Err(error) => error,
    }
}
