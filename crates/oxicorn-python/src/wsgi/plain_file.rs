//! Which files can be sent by their descriptor: PEP 3333 wants the bytes that reading would give.
//!
//! A file object may give something else than its descriptor holds: what it decrypts, unpacks, cuts out.
//! So only those go by descriptor whose reading is known: `io.FileIO` itself, the buffers that `open()`
//! puts around it, and wrappers known to hand every read on to such a file (those of `tempfile` and of
//! Django). Everything else is read.

use std::ffi::c_int;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyType};

/// Wrappers around wrappers that are looked through.
const DEPTH: usize = 4;

/// A file that can be sent from its descriptor.
pub(super) struct PlainFile {
    pub(super) descriptor: c_int,
    /// Where the next read would begin.
    pub(super) offset: u64,
    /// Bytes from there to the end.
    pub(super) rest: u64,
}

impl PlainFile {
    /// `None`: it has to be read.
    pub(super) fn of(filelike: &Bound<'_, PyAny>) -> Option<Self> {
        let py = filelike.py();
        let file = innermost(filelike).ok()??;
        // What was written and not yet flushed is read as well.
        if file.is_exact_instance(BUFFERED_RANDOM.import(py, "io", "BufferedRandom").ok()?) {
            file.call_method0(intern!(py, "flush")).ok()?;
        }
        let is_readable = file.call_method0(intern!(py, "readable")).ok()?;
        if !is_readable.is_truthy().ok()? {
            return None;
        }
        let descriptor = file
            .call_method0(intern!(py, "fileno"))
            .ok()?
            .extract()
            .ok()?;
        // Not the descriptor's own position: a buffer has moved that ahead.
        let offset: u64 = file
            .call_method0(intern!(py, "tell"))
            .ok()?
            .extract()
            .ok()?;
        let length = oxicorn_os::file::stored_length(descriptor)?;
        Some(Self {
            descriptor,
            offset,
            rest: length.saturating_sub(offset),
        })
    }
}

static FILE_IO: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static BUFFERED_READER: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static BUFFERED_RANDOM: PyOnceLock<Py<PyType>> = PyOnceLock::new();

/// The file of `io` whose `read` is what reading `filelike` comes to.
fn innermost<'py>(filelike: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let mut file = filelike.clone();
    for _ in 0..DEPTH {
        if is_of_io(&file)? {
            return Ok(Some(file));
        }
        if !hands_reads_on(&file)? {
            return Ok(None);
        }
        file = file.getattr(intern!(file.py(), "file"))?;
    }
    Ok(None)
}

/// `FileIO`, or a buffer around one, as `open()` makes them.
fn is_of_io(file: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = file.py();
    let file_io = FILE_IO.import(py, "io", "FileIO")?;
    let is_buffer = file.is_exact_instance(BUFFERED_READER.import(py, "io", "BufferedReader")?)
        || file.is_exact_instance(BUFFERED_RANDOM.import(py, "io", "BufferedRandom")?);
    if is_buffer {
        let raw = file.getattr(intern!(py, "raw"))?;
        return Ok(raw.is_exact_instance(file_io) && !has_own_read(file)? && !has_own_read(&raw)?);
    }
    Ok(file.is_exact_instance(file_io) && !has_own_read(file)?)
}

/// Even of these classes an object can be given a `read` of its own.
fn has_own_read(file: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = file.py();
    let own = file.getattr(intern!(py, "__dict__"))?;
    let own = own.cast::<PyDict>()?;
    Ok(own.contains(intern!(py, "read"))? || own.contains(intern!(py, "readinto"))?)
}

/// Wrappers whose `read` is that of their attribute `file`. Their modules are only looked for where they
/// have been imported: nobody has an object of a class that was not.
fn hands_reads_on(file: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = file.py();
    if let Some(temporary) = imported_class(py, "tempfile", "_TemporaryFileWrapper")?
        && file.is_exact_instance(&temporary)
    {
        return Ok(true);
    }
    let Some(proxy) = imported_class(py, "django.core.files.utils", "FileProxyMixin")? else {
        return Ok(false);
    };
    let read = intern!(py, "read");
    // A subclass may have its own, and an object may have it instead of the class's property.
    Ok(file.is_instance(&proxy)? && file.get_type().getattr(read)?.is(&proxy.getattr(read)?))
}

fn imported_class<'py>(
    py: Python<'py>,
    module: &str,
    class: &str,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let modules = py
        .import(intern!(py, "sys"))?
        .getattr(intern!(py, "modules"))?;
    match modules.cast::<PyDict>()?.get_item(module)? {
        Some(module) => module.getattr_opt(class),
        None => Ok(None),
    }
}
