//! The one place that forks.
//!
//! Through the interpreter (`os.fork`), so that its locks, its at-fork hooks and its idea of which
//! thread it runs on are right in the child. With all signals blocked: the child has the arbiter's
//! handlers until it has its own, and a signal sent to it meanwhile must neither be lost nor be taken
//! for one sent to the arbiter.

use oxicorn_os::signals::{self, Blocked};
use pyo3::prelude::*;

/// Which side of the fork this is.
pub(crate) enum Side {
    /// The arbiter; the child's pid.
    Parent(i32),
    /// The child, with signals blocked until this is dropped, and with their default effects.
    Child(Blocked),
}

/// Forks; an error means that there is no child.
pub(crate) fn fork(py: Python<'_>) -> PyResult<Side> {
    let blocked = signals::block_all()?;
    let pid: i32 = py.import("os")?.call_method0("fork")?.extract()?;
    if pid == 0 {
        signals::reset_all_caught();
        return Ok(Side::Child(blocked));
    }
    Ok(Side::Parent(pid))
}
