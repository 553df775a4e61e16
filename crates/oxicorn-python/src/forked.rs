//! Processes that the application, or a hook, forks off a process of this server.
//!
//! Nothing of the server goes on in such a child: what it has of the link, the scoreboard and the
//! channels is dead, and where it comes back to code of ours it ends, as one of `multiprocessing` would
//! (`oxicorn.forked` has the words and the exit code). How it is known is `oxicorn_os::forked`'s.

use std::cell::Cell;

use oxicorn_os::signals::Blocked;
use oxicorn_os::{forked, process, signals};
use pyo3::prelude::*;

use crate::errors::ClientGone;

pub(crate) use oxicorn_os::forked::{is_forked, keep_from_children};

/// Exit code where not even the exit code could be found out.
const FAILED: i32 = 1;

thread_local! {
    /// This thread forks for the server.
    static FORKS_FOR_US: Cell<bool> = const { Cell::new(false) };

    /// It is between `before_fork` and `after_fork`.
    static BLOCKED: Cell<Option<Blocked>> = const { Cell::new(None) };
}

/// This process is one of the server's.
#[pyfunction]
pub(crate) fn own_process() {
    forked::own_process();
}

/// Whether this process was forked off one of the server's by somebody else.
#[pyfunction(name = "is_forked")]
pub(crate) fn is_forked_by_others() -> bool {
    is_forked()
}

/// Before each fork: a signal that comes before the child has its own handlers must not be lost in those
/// of its parent.
#[pyfunction]
pub(crate) fn before_fork() -> PyResult<()> {
    BLOCKED.set(Some(signals::block_all()?));
    Ok(())
}

/// In a child, first of all: whether somebody else forked it; then it holds nothing of the server now.
#[pyfunction]
pub(crate) fn let_go() -> bool {
    let by_others = !FORKS_FOR_US.get();
    if by_others {
        forked::let_go();
        signals::reset_own();
    }
    by_others
}

/// After each fork, on both sides: signals come as before.
#[pyfunction]
pub(crate) fn after_fork() {
    BLOCKED.take();
}

/// Runs `fork`, the server's own; a child of it is one of the server's.
pub(crate) fn for_us(fork: impl FnOnce() -> PyResult<i32>) -> PyResult<i32> {
    FORKS_FOR_US.set(true);
    let forked_pid = fork();
    FORKS_FOR_US.set(false);
    if let Ok(0) = forked_pid {
        forked::own_process();
    }
    forked_pid
}

/// What is raised where a forked process wants to use the link.
pub(crate) fn dead_link() -> PyErr {
    ClientGone::new_err("a process forked by the application has no part in the request")
}

/// Ends this process if it was forked by others. `py_object` is the worker or server, which has the log;
/// `error` is what the process was about to end with.
pub(crate) fn end_if_forked(py_object: &Bound<'_, PyAny>, error: Option<&PyErr>) {
    if is_forked() {
        end(py_object, error);
    }
}

#[cold]
fn end(py_object: &Bound<'_, PyAny>, error: Option<&PyErr>) -> ! {
    let py = py_object.py();
    let told = || {
        let error = error.filter(|error| !error.is_instance_of::<ClientGone>(py));
        let error = error.map(|error| error.clone_ref(py).into_value(py));
        let log = py_object.getattr("log")?;
        py.import("oxicorn.forked")?
            .call_method1("end", (log, error))
    };
    // It does not return; what it raises has nobody to hear it any more.
    let _ = told();
    process::exit_now(FAILED)
}
