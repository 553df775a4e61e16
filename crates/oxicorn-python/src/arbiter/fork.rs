//! The one place that forks.
//!
//! Through the interpreter (`os.fork`), so that its locks, its at-fork hooks and its idea of which
//! thread it runs on are right in the child. With all signals blocked: the child has the arbiter's
//! handlers until it has its own, and a signal sent to it meanwhile must neither be lost nor be taken
//! for one sent to the arbiter.
//!
//! What hooks and applications fork is no business of this file: see `crate::forked`.

use oxicorn_os::signals::{self, Blocked};
use pyo3::prelude::*;

use crate::forked;

/// Which side of the fork this is.
pub(crate) enum Side {
    /// The arbiter; the child's pid.
    Parent(i32),
    /// The child, with signals blocked until this is dropped, and with their default effects.
    Child(Blocked),
}

/// Forks; an error means that there is no child. `server` is the arbiter's face: a process that a hook
/// forked makes no workers.
pub(crate) fn fork(server: &Bound<'_, PyAny>) -> PyResult<Side> {
    let py = server.py();
    forked::end_if_forked(server, None);
    let blocked = signals::block_all()?;
    let pid = forked::for_us(|| py.import("os")?.call_method0("fork")?.extract())?;
    if pid == 0 {
        signals::reset_all_caught();
        return Ok(Side::Child(blocked));
    }
    Ok(Side::Parent(pid))
}
