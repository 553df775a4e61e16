//! Exceptions that applications see.

use pyo3::create_exception;
use pyo3::exceptions::PyBrokenPipeError;

create_exception!(
    oxicorn._native,
    ClientGone,
    PyBrokenPipeError,
    "Nobody waits for this response any more."
);
