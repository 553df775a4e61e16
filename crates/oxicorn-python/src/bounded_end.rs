//! A process that is about to end does so in time.
//!
//! The interpreter waits at its end for threads that are no daemons, and runs what was registered with
//! `atexit`. Where an application failed half-way through its import, these may wait for ever for what will
//! not come. A native thread needs neither the interpreter nor modules that an application has patched.

use std::thread;
use std::time::Duration;

use oxicorn_os::process;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// Ends this process with `code` in `seconds`, unless it has ended by then.
///
/// `ValueError`: no such time; `OSError`: there may be no more threads.
#[pyfunction]
pub(crate) fn end_within(seconds: f64, code: i32) -> PyResult<()> {
    let patience = Duration::try_from_secs_f64(seconds)
        .map_err(|error| PyValueError::new_err(error.to_string()))?;
    thread::Builder::new()
        .name("oxicorn-end".into())
        .spawn(move || {
            thread::sleep(patience);
            process::exit_now(code)
        })?;
    Ok(())
}
