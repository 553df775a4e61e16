//! The body of a request on its way to `receive()`: all of it came with the request, or it follows in
//! events for which the application's asking gives credit.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;

use oxicorn_link::window::{REQUEST_WINDOW, ReceiveWindow};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// A body that lies in a file is read in pieces of this size.
const FILE_PIECE: u64 = 64 * 1024;

/// What of a body has come and was not given to the application.
#[derive(Debug)]
pub(crate) enum RequestBody {
    /// All of it.
    Whole(Py<PyBytes>),
    /// All of it, in a file.
    File { file: File, at: u64, len: u64 },
    /// The part that came.
    Streamed(Streamed),
    /// The application has all of it.
    Delivered,
}

/// A body that comes in events.
#[derive(Debug)]
pub(crate) struct Streamed {
    held: Vec<u8>,
    ended: bool,
    /// The application has asked for it, so that the gateway may send.
    wanted: bool,
    window: ReceiveWindow,
}

/// What `receive()` gives next.
pub(crate) enum Piece<'py> {
    /// A piece of the body, and whether more follows.
    Body(Bound<'py, PyBytes>, bool),
    /// Nothing has come yet.
    Wait,
    /// The body is over.
    Over,
}

impl RequestBody {
    pub(crate) fn from_file(file: OwnedFd, len: u64) -> Self {
        let file = file.into();
        Self::File { file, at: 0, len }
    }

    pub(crate) fn streamed() -> Self {
        Self::Streamed(Streamed {
            held: Vec::new(),
            ended: false,
            wanted: false,
            window: ReceiveWindow::new(REQUEST_WINDOW),
        })
    }

    /// The next piece; with it comes the credit that is due.
    pub(crate) fn next<'py>(&mut self, py: Python<'py>) -> PyResult<(Piece<'py>, Option<u32>)> {
        match self {
            Self::Delivered => Ok((Piece::Over, None)),
            Self::Whole(bytes) => {
                let bytes = bytes.bind(py).clone();
                *self = Self::Delivered;
                Ok((Piece::Body(bytes, false), None))
            }
            Self::File { file, at, len } => {
                let count = usize::try_from((*len - *at).min(FILE_PIECE)).unwrap_or(0);
                let offset = *at;
                let bytes = PyBytes::new_with(py, count, |buffer| {
                    file.read_exact_at(buffer, offset).map_err(PyErr::from)
                })?;
                *at += count as u64;
                let more = *at < *len;
                if !more {
                    *self = Self::Delivered;
                }
                Ok((Piece::Body(bytes, more), None))
            }
            Self::Streamed(streamed) => {
                let next = streamed.next(py);
                if matches!(next.0, Piece::Body(_, false)) {
                    *self = Self::Delivered;
                }
                Ok(next)
            }
        }
    }

    /// Whether there is no body; nothing more is said of it then.
    pub(crate) fn take_empty(&mut self, py: Python<'_>) -> bool {
        let is_empty = matches!(self, Self::Whole(bytes) if bytes.as_bytes(py).is_empty());
        if is_empty {
            *self = Self::Delivered;
        }
        is_empty
    }

    /// A piece came.
    pub(crate) fn push(&mut self, piece: &[u8], last: bool) {
        if let Self::Streamed(streamed) = self {
            // The gateway is trusted to keep to the window.
            let _ = streamed.window.receive(piece.len());
            streamed.held.extend_from_slice(piece);
            streamed.ended |= last;
        }
    }
}

impl Streamed {
    fn next<'py>(&mut self, py: Python<'py>) -> (Piece<'py>, Option<u32>) {
        if self.held.is_empty() && !self.ended {
            let first = !std::mem::replace(&mut self.wanted, true);
            return (Piece::Wait, first.then_some(REQUEST_WINDOW));
        }
        let bytes = PyBytes::new(py, &self.held);
        let credit = self.window.release(self.held.len());
        self.held.clear();
        (
            Piece::Body(bytes, !self.ended),
            credit.filter(|_| !self.ended),
        )
    }
}
