//! How long it may take to write or to read the values of a message: until its caller's time is over, or until nobody wants
//! the call any more. Large values are copied piece by piece, detached from the interpreter, and many small ones are counted;
//! in between it is looked.

use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use oxicorn_os::{memfd, time};
use pyo3::exceptions::PyTimeoutError;
use pyo3::prelude::*;

use super::error_class;
use super::worker::LaneState;

/// Bytes that are copied between two looks.
const PIECE: usize = 4 << 20;
/// Values that are written or read between two looks.
const VALUES: u32 = 1024;

/// See the head of this file. The default is none.
#[derive(Debug, Default)]
pub(crate) struct Limit {
    until: Option<Duration>,
    lane: Option<Arc<LaneState>>,
    values: u32,
}

impl Limit {
    /// A caller's: this moment of the monotonic clock.
    pub(crate) fn until(until: Option<Duration>) -> Self {
        Self {
            until,
            ..Self::default()
        }
    }

    /// A worker's: as long as the call of this lane is wanted.
    pub(crate) fn of_call(lane: &Arc<LaneState>) -> Self {
        Self {
            lane: Some(Arc::clone(lane)),
            ..Self::default()
        }
    }

    /// `TimeoutError`: its time is over. `CallCancelled`: it is not wanted any more.
    pub(crate) fn check(&self, py: Python<'_>) -> PyResult<()> {
        if self.until.is_some_and(|until| time::monotonic() >= until) {
            return Err(PyTimeoutError::new_err("no answer in time"));
        }
        if self.lane.as_ref().is_some_and(|lane| lane.is_cancelled()) {
            return Err(PyErr::from_type(error_class(py, "CallCancelled")?, ()));
        }
        Ok(())
    }

    /// One value more; [`check`](Self::check), now and then.
    pub(crate) fn count(&mut self, py: Python<'_>) -> PyResult<()> {
        self.values = self.values.wrapping_add(1);
        if self.values.is_multiple_of(VALUES) {
            return self.check(py);
        }
        Ok(())
    }

    /// Writes all of `content` at `offset`. Others may run meanwhile.
    pub(crate) fn write<F: AsFd + Sync>(
        &self,
        py: Python<'_>,
        file: &F,
        content: &[u8],
        mut offset: u64,
    ) -> PyResult<()> {
        for piece in content.chunks(PIECE) {
            self.look(py)?;
            py.detach(|| memfd::write_at(file, piece, offset))?;
            offset += piece.len() as u64;
        }
        Ok(())
    }

    /// Fills all of `into` from `offset` on, unless it is an error. Others may run meanwhile.
    pub(crate) fn fill<F: AsFd + Sync>(
        &self,
        py: Python<'_>,
        file: &F,
        into: &mut [MaybeUninit<u8>],
        mut offset: u64,
    ) -> PyResult<()> {
        for piece in into.chunks_mut(PIECE) {
            self.look(py)?;
            let length = piece.len() as u64;
            py.detach(|| memfd::fill_exact_at(file, piece, offset))?;
            offset += length;
        }
        Ok(())
    }

    /// Copies all of `content` to where nothing is yet, unless it is an error.
    pub(crate) fn copy(
        &self,
        py: Python<'_>,
        content: &[u8],
        into: &mut [MaybeUninit<u8>],
    ) -> PyResult<()> {
        for (piece, place) in content.chunks(PIECE).zip(into.chunks_mut(PIECE)) {
            self.look(py)?;
            place.write_copy_of_slice(piece);
        }
        Ok(())
    }

    fn look(&self, py: Python<'_>) -> PyResult<()> {
        py.check_signals()?;
        self.check(py)
    }
}
