//! What the application gets of each request to hold the server by: the exchange, its `start_response` and
//! `wsgi.early_hints`, and `gunicorn.socket`.
//!
//! Most applications keep none of them. Then those of one request serve for the next one, which is cheaper than
//! four new objects. Whether any was kept is known by counting: a reference that is not one of ours is somebody's,
//! who shall go on with what he has, so these are left to him.

use std::sync::{Arc, Mutex};

use oxicorn_link::StreamId;
use pyo3::prelude::*;
use pyo3::{ffi, intern};

use super::client_socket::LazySocket;
use super::exchange::Exchange;
use crate::locks::lock;
use crate::request::AccessLogging;
use crate::worker::responder::Responder;

/// So many that nobody uses are kept at most; a hub may have a thousand requests at once.
const KEPT: usize = 64;

/// References to an exchange that are ours: of this struct, of the socket, of the two methods.
const OWN_REFERENCES: isize = 4;

/// See the head of this file.
pub(super) struct Handles {
    pub(super) exchange: Py<Exchange>,
    pub(super) socket: Py<LazySocket>,
    pub(super) start_response: Py<PyAny>,
    pub(super) early_hints: Py<PyAny>,
}

impl Handles {
    fn new(py: Python<'_>, exchange: Exchange) -> PyResult<Self> {
        let exchange = Bound::new(py, exchange)?;
        Ok(Self {
            socket: Py::new(py, LazySocket::new(exchange.clone().unbind()))?,
            start_response: exchange.getattr(intern!(py, "start_response"))?.unbind(),
            early_hints: exchange.getattr(intern!(py, "early_hints"))?.unbind(),
            exchange: exchange.unbind(),
        })
    }

    /// Whether nobody else has any of them, and the socket was not taken over.
    fn are_left(&self, py: Python<'_>) -> bool {
        count(&self.exchange) == OWN_REFERENCES
            && count(&self.socket) == 1
            && count(&self.start_response) == 1
            && count(&self.early_hints) == 1
            && self.socket.borrow(py).is_promise()
    }
}

/// References to `object`.
fn count<T>(object: &Py<T>) -> isize {
    // SAFETY: the object is alive; its count is only read. Nobody changes it meanwhile: both callers are attached, to an
    // interpreter with a lock (see `Shelf::new`).
    unsafe { ffi::Py_REFCNT(object.as_ptr()) }
}

/// Handles between two requests.
pub(super) struct Shelf {
    kept: Mutex<Vec<Handles>>,
    room: usize,
}

impl Shelf {
    pub(super) fn new(py: Python<'_>) -> PyResult<Self> {
        // Without the interpreter's lock a count says nothing of who has an object.
        let flags: String = py.import("sys")?.getattr("abiflags")?.extract()?;
        Ok(Self {
            kept: Mutex::default(),
            room: if flags.contains('t') { 0 } else { KEPT },
        })
    }

    /// Handles for a request.
    pub(super) fn take(
        &self,
        py: Python<'_>,
        responder: &Arc<Responder>,
        access: &Arc<AccessLogging>,
        (stream, to_head, keep_call): (StreamId, bool, bool),
    ) -> PyResult<Handles> {
        let kept = lock(&self.kept).pop();
        if let Some(handles) = kept.filter(|handles| handles.are_left(py)) {
            handles.exchange.borrow_mut(py).begin(stream, to_head);
            return Ok(handles);
        }
        let mut exchange = Exchange::new(Arc::clone(responder), Arc::clone(access), keep_call);
        exchange.begin(stream, to_head);
        Handles::new(py, exchange)
    }

    /// The request is over; whether somebody has kept something is seen when they are wanted again.
    pub(super) fn put(&self, handles: Handles) {
        let mut kept = lock(&self.kept);
        let returned = if kept.len() < self.room {
            kept.push(handles);
            None
        } else {
            Some(handles)
        };
        drop(kept);
        // Their end may run code of Python's.
        drop(returned);
    }
}
