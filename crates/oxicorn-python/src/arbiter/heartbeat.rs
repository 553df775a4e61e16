//! `worker.tmp` as hooks of the arbiter see it: when a worker gave its last sign of life.

use oxicorn_link::scoreboard::Slot;
use pyo3::prelude::*;

/// A worker's place on the scoreboard.
#[derive(Debug)]
#[pyclass(module = "oxicorn._native", frozen)]
pub(crate) struct Heartbeat {
    slot: Slot,
}

impl Heartbeat {
    pub(crate) fn of(slot: Slot) -> Self {
        Self { slot }
    }
}

#[pymethods]
impl Heartbeat {
    /// The last sign of life of the process `pid`, in seconds of the monotonic clock; `None` if the place is
    /// somebody else's, or nobody's.
    fn last(&self, pid: i32) -> Option<f64> {
        let reading = self.slot.read().filter(|reading| reading.pid == pid)?;
        Some(reading.heartbeat.as_secs_f64())
    }
}
