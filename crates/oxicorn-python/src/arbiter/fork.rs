//! The one place that forks: [`fork`] for this process, [`fork_for_parent`] for the one that this is a child of.
//!
//! Through the interpreter (`os.fork`), so that its locks, its at-fork hooks and its idea of which
//! thread it runs on are right in the child. With all signals blocked: the child has the arbiter's
//! handlers until it has its own, and a signal sent to it meanwhile must neither be lost nor be taken
//! for one sent to the arbiter.
//!
//! What hooks and applications fork is no business of this file: see `crate::forked`.

use std::io::{Read as _, Write as _};

use oxicorn_os::process::{self, Exit};
use oxicorn_os::signals::{self, Blocked};
use pyo3::ffi;
use pyo3::prelude::*;

use super::python::PyArbiter;
use crate::forked;

/// Which side of the fork this is.
pub(crate) enum Side {
    /// The arbiter; the child's pid.
    Parent(i32),
    /// The child, with signals blocked until this is dropped, and with their default effects.
    Child(Blocked),
}

/// Forks; an error means that there is no child. `server` is Python's arbiter: a process that a hook
/// forked makes no workers.
pub(crate) fn fork(server: &PyArbiter<'_>) -> PyResult<Side> {
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

/// What became of a fork on somebody else's behalf.
pub(crate) enum Given {
    /// In the process that forked: the child is its parent's, who was told the pid. Or there is none.
    Done(bool),
    /// The child, with signals blocked until this is dropped. Its parent is the parent of the process that forked.
    Child(Blocked),
}

/// What the process between the two ends with if there is no child, or nobody can be told of it.
const NO_CHILD: i32 = 1;

/// Forks a child for this process's parent, which must adopt orphans ([`process::adopt_orphans`]).
///
/// There is a process between the two. It forks the child, has `announce` tell the parent the pid, and ends; the kernel
/// then gives the child to the parent. `clone(CLONE_PARENT)` would do without it, but it passes the C library by, whose
/// locks and at-fork handlers are needed where the application has started threads.
///
/// The child begins (and what Python runs in it after a fork) when its pid was announced and its parent is the right
/// one. If the process between dies before it has said anything, the child ends without having begun: a child that
/// nobody knows of cannot be. To the interpreter it is one fork: what runs before and after forks runs once. (A function
/// put in the place of `os.fork` is not called: it would have to be called twice.)
pub(crate) fn fork_for_parent(
    server: &PyArbiter<'_>,
    announce: impl FnOnce(i32) -> bool,
) -> PyResult<Given> {
    forked::end_if_forked(server, None);
    let blocked = signals::block_all()?;
    // An application may have asked for orphans; this one is not for it.
    process::adopt_orphans(false)?;
    let between = forked::for_us(|| fork_twice(announce))?;
    if between == 0 {
        return Ok(Given::Child(blocked));
    }
    // Reaped by somebody else (a thread of the application that waits for any child): it has said what it could.
    let exit = process::wait_until_ended(between)?;
    Ok(Given::Done(matches!(exit, None | Some(Exit::Code(0)))))
}

/// Gives 0 in the child, and the process between in the one that forked.
fn fork_twice(announce: impl FnOnce(i32) -> bool) -> PyResult<i32> {
    // SAFETY: the caller is attached to the interpreter, and each way on calls the other half, but for those that end
    // the process.
    unsafe { ffi::PyOS_BeforeFork() };
    // SAFETY: the interpreter has just made itself ready for a fork.
    let forked = unsafe { process::fork() };
    if let Ok(0) = forked {
        run_between(announce);
        // SAFETY: in the child, on the thread that forked.
        unsafe { ffi::PyOS_AfterFork_Child() };
    } else {
        // SAFETY: in the process that called the other half, with a child or without.
        unsafe { ffi::PyOS_AfterFork_Parent() };
    }
    Ok(forked?)
}

/// The process between the two; returns in the child only. No Python runs here.
fn run_between(announce: impl FnOnce(i32) -> bool) {
    let between = process::id();
    let Ok((mut told, mut tell)) = std::io::pipe() else {
        process::exit_now(NO_CHILD);
    };
    // SAFETY: a process that has just been forked has one thread.
    match unsafe { process::fork() } {
        Ok(0) => {
            drop(tell);
            // Nothing comes if the pid could not be announced.
            if told.read_exact(&mut [0]).is_err() {
                process::exit_now(NO_CHILD);
            }
            process::wait_for_new_parent(between);
        }
        Ok(pid) => {
            drop(told);
            let announced = announce(pid) && tell.write_all(&[1]).is_ok();
            process::exit_now(if announced { 0 } else { NO_CHILD });
        }
        Err(_) => process::exit_now(NO_CHILD),
    }
}
