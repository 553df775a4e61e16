//! Shared libraries that the arbiter loads for its workers.

use pyo3::prelude::*;

/// Unmaps what was only read of libraries as they were loaded. Where the kernel does not tell what that is, all stays.
#[pyfunction]
pub(crate) fn unmap_libraries() {
    let _ = oxicorn_os::libraries::unmap_read();
}
