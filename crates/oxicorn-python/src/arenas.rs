//! Where the interpreter's objects lie, for processes that never look at them again.
//!
//! Gateway and broker are forked off the arbiter, and run no Python. What the arbiter goes on to write to, which it does
//! by looking at an object (reference counts), is copied, and the old page would stay with them. The interpreter has no
//! list of its arenas, but can be made to tell of each one: since this module's import they are noted, and a process
//! that has done with Python gives them back. What there was before stays, and so does what lies elsewhere: larger objects,
//! all those of an interpreter without arenas (free-threaded, `PYTHONMALLOC=malloc`), and threads' frames, which are small
//! and come and go.

use std::ffi::c_void;
use std::sync::OnceLock;

use oxicorn_os::process;
use oxicorn_os::ranges::Ranges;
use pyo3::ffi;
use pyo3::prelude::*;

/// Arenas that can be noted: four gigabytes in 64-bit processes. What is beyond that is not given back.
const ROOM: usize = 4096;
/// Bytes of the smallest arena; pieces for threads' frames are smaller.
const LEAST: usize = 256 * 1024;

static ARENAS: Ranges<ROOM> = Ranges::new();

/// Who really allocates them: whoever did before [`watch`].
static BEFORE: OnceLock<Allocator> = OnceLock::new();

struct Allocator(ffi::PyObjectArenaAllocator);

// SAFETY: two functions, and what they are called with. The interpreter calls them on any of its threads.
unsafe impl Send for Allocator {}
// SAFETY: as above.
unsafe impl Sync for Allocator {}

/// From now on the interpreter tells of its arenas.
pub(crate) fn watch(_py: Python<'_>) {
    let before = allocator();
    if before.alloc.is_none() || before.free.is_none() || BEFORE.set(Allocator(before)).is_err() {
        return;
    }
    let mut ours = ffi::PyObjectArenaAllocator {
        ctx: before.ctx,
        alloc: Some(allocate),
        free: Some(free),
    };
    // SAFETY: on a thread that is attached. The two pass everything on to those they replace, with the same context, so
    // that both know each other's arenas; this library is never unloaded.
    unsafe { ffi::PyObject_SetArenaAllocator(&raw mut ours) };
}

fn allocator() -> ffi::PyObjectArenaAllocator {
    let mut found = ffi::PyObjectArenaAllocator {
        ctx: std::ptr::null_mut(),
        alloc: None,
        free: None,
    };
    // SAFETY: writes to the structure that it is given, and needs no thread state.
    unsafe { ffi::PyObject_GetArenaAllocator(&raw mut found) };
    found
}

extern "C" fn allocate(context: *mut c_void, len: usize) -> *mut c_void {
    let alloc = BEFORE.get().and_then(|before| before.0.alloc);
    let start = alloc.map_or(std::ptr::null_mut(), |alloc| alloc(context, len));
    if !start.is_null() && len >= LEAST {
        ARENAS.note(start, len);
    }
    start
}

extern "C" fn free(context: *mut c_void, start: *mut c_void, len: usize) {
    if len >= LEAST {
        ARENAS.forget(start, len);
    }
    if let Some(free) = BEFORE.get().and_then(|before| before.0.free) {
        free(context, start, len);
    }
}

/// Gives the arenas back, if this process can do without them: it has no thread but this one, which may be one of
/// Python's (a hook's `os.register_at_fork` starts some in each child).
///
/// # Safety
/// This thread was detached from the interpreter, is never attached again, does nothing with an object of Python's (not even
/// drop it), and ends the process without `exit`.
pub(crate) unsafe fn give_back() {
    if is_told() && process::threads() == Some(1) {
        // SAFETY: arenas belong to the interpreter's allocator, which has told of each one that it frees before it is
        // somebody else's. It hands their memory out for Python's objects, which only threads look at that are attached. By
        // the caller's promise this one is not, there is no other, and what it starts later has nothing of Python's. At-fork
        // handlers of the interpreter have run, none for exits will. Of signals' handlers only those of faults are left after
        // a fork (`faulthandler`), which say what they can and end the process: they know less of its stack now.
        unsafe { ARENAS.give_back() };
    }
}

/// Nobody has put an allocator in our place who might not tell of what becomes free.
fn is_told() -> bool {
    allocator().free.is_some_and(|current| {
        std::ptr::fn_addr_eq(
            current,
            free as extern "C" fn(*mut c_void, *mut c_void, usize),
        )
    })
}
