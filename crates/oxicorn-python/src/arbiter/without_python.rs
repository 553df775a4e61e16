//! Processes that run no Python: the gateway, and the broker of the pool.

use std::panic::{self, AssertUnwindSafe};

use oxicorn_os::process;
use pyo3::prelude::*;

use super::gateway::PANICKED;
use crate::arenas;

/// The rest of this process' life: runs `body` and ends with the exit code it gives. Python's objects are gone.
pub(super) fn run(py: Python<'_>, body: impl FnOnce() -> i32 + Send) -> ! {
    py.detach(|| {
        // SAFETY: `detach` has just detached this thread; it is not left, and so never attaches again. `body` is
        // Rust that knows no Python. The process ends by `_exit`.
        unsafe { arenas::give_back() };
        let code = panic::catch_unwind(AssertUnwindSafe(body)).unwrap_or(PANICKED);
        process::exit_now(code)
    })
}
