//! `oxicorn_os::inotify` for the reloader's thread.

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;

use oxicorn_os::inotify;
use oxicorn_os::poll::{self, Polled};
use pyo3::prelude::*;

/// A burst of changes (an editor saves, a checkout) is one: it is over when nothing came for so long.
const QUIET: Duration = Duration::from_millis(50);
/// However long it goes on, it is told after so many waits.
const LONGEST_BURST: u32 = 20;

/// Directories that are watched.
#[pyclass(frozen, module = "oxicorn._native")]
pub(crate) struct DirectoryWatch(inotify::DirectoryWatch);

#[pymethods]
impl DirectoryWatch {
    #[new]
    fn new() -> PyResult<Self> {
        Ok(Self(inotify::DirectoryWatch::new()?))
    }

    /// Watches one more directory.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a new path is what Python's is turned into"
    )]
    fn add(&self, directory: PathBuf) -> PyResult<()> {
        Ok(self.0.add(&directory)?)
    }

    /// Waits until something has changed and the burst is over, or the time is.
    fn wait(&self, py: Python<'_>, seconds: f64) -> PyResult<bool> {
        let timeout = Duration::try_from_secs_f64(seconds).unwrap_or_default();
        Ok(py.detach(|| self.wait_for_burst(timeout))?)
    }
}

impl DirectoryWatch {
    fn wait_for_burst(&self, timeout: Duration) -> std::io::Result<bool> {
        if !self.is_told(timeout)? {
            return Ok(false);
        }
        for _ in 0..LONGEST_BURST {
            if !self.is_told(QUIET)? {
                break;
            }
        }
        Ok(true)
    }

    fn is_told(&self, timeout: Duration) -> std::io::Result<bool> {
        match poll::wait_readable(&[self.0.as_fd()], Some(timeout))? {
            Polled::Ready(_) => self.0.drain(),
            Polled::TimedOut | Polled::Interrupted => Ok(false),
        }
    }
}
