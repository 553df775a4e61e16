//! The last warnings of all processes, from Python's side: `oxicorn.log_tail` writes what its logger is given.

use std::os::fd::OwnedFd;
use std::sync::OnceLock;
use std::time::Duration;

use oxicorn_link::log_tail::LogTail;
use oxicorn_os::process;
use pyo3::prelude::*;

/// Made before the arbiter forks; then everybody has it.
static TAIL: OnceLock<(LogTail, OwnedFd)> = OnceLock::new();

fn tail() -> std::io::Result<&'static (LogTail, OwnedFd)> {
    if let Some(tail) = TAIL.get() {
        return Ok(tail);
    }
    let made = LogTail::create()?;
    Ok(TAIL.get_or_init(|| made))
}

/// Its file, for the gateway.
pub(crate) fn file() -> std::io::Result<OwnedFd> {
    tail()?.1.try_clone()
}

/// Adds a line; `created` in seconds since 1970, `level` as Python counts them.
#[pyfunction]
pub(crate) fn write_log_tail(created: f64, level: u8, text: &str) -> std::io::Result<()> {
    let time = Duration::try_from_secs_f64(created).unwrap_or_default();
    let pid = process::id().cast_unsigned();
    tail()?.0.write(time, level, pid, text);
    Ok(())
}
