//! The bytes of a payload's large values, which lie beside it: in the memory file of its call, or, where a payload has come
//! another way (see `sealed`), in buffers of Python's.

use std::ffi::c_char;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use oxicorn_os::memfd;
use pyo3::buffer::PyUntypedBuffer;
use pyo3::ffi;
use pyo3::prelude::*;

use super::EXTERNAL_MAX;
use super::encode::slice;
use super::limit::Limit;

/// Makes an object of so many bytes, which hold nothing yet.
type Make = unsafe extern "C" fn(*const c_char, ffi::Py_ssize_t) -> *mut ffi::PyObject;
/// Where the bytes of such an object begin.
type BeginOf = unsafe extern "C" fn(*mut ffi::PyObject) -> *mut c_char;

pub(super) const BYTES: (Make, BeginOf) = (ffi::PyBytes_FromStringAndSize, ffi::PyBytes_AsString);
pub(super) const BYTE_ARRAY: (Make, BeginOf) = (
    ffi::PyByteArray_FromStringAndSize,
    ffi::PyByteArray_AsString,
);

/// Objects with the bytes of values, each with the place that these have in a memory file.
pub(super) type Parts<'py> = Vec<(u64, Bound<'py, PyAny>)>;

/// The bytes of one value, with the place that they have in a memory file.
pub(super) struct Part {
    pub(super) offset: u64,
    buffer: PyUntypedBuffer,
}

impl Part {
    /// Of an object whose bytes lie together. `BufferError`: they do not.
    pub(super) fn of(offset: u64, object: &Bound<'_, PyAny>) -> PyResult<Self> {
        let buffer = PyUntypedBuffer::get(object)?;
        if !buffer.is_c_contiguous() {
            let text = "the bytes of a part do not lie together";
            return Err(pyo3::exceptions::PyBufferError::new_err(text));
        }
        Ok(Self { offset, buffer })
    }

    pub(super) fn content(&self) -> &[u8] {
        // SAFETY: the export keeps so many bytes at this place, one after the other, as was looked when it was made. Parts
        // are bytes, memory that Ray keeps read-only, or what Ray made for this process alone: nobody writes there.
        unsafe {
            slice(
                self.buffer.buf_ptr().cast_const().cast(),
                self.buffer.len_bytes(),
            )
        }
    }
}

/// See the head of this file.
#[derive(Clone, Copy)]
pub(super) enum Outside<'a> {
    Nothing,
    File(&'a OwnedFd),
    Parts(&'a [Part]),
}

impl<'a> From<Option<&'a OwnedFd>> for Outside<'a> {
    fn from(file: Option<&'a OwnedFd>) -> Self {
        file.map_or(Self::Nothing, Self::File)
    }
}

impl Outside<'_> {
    /// Whether so many bytes are there.
    pub(super) fn has(self, offset: u64, length: u64) -> PyResult<bool> {
        let Some(end) = offset.checked_add(length) else {
            return Ok(false);
        };
        Ok(end <= EXTERNAL_MAX + 64
            && match self {
                Self::Nothing => false,
                Self::File(file) => memfd::len(file)? >= end,
                Self::Parts(parts) => part(parts, offset, length).is_some(),
            })
    }

    /// Fills memory that holds nothing yet, unless it is an error.
    fn fill(
        self,
        py: Python<'_>,
        limit: &Limit,
        into: &mut [MaybeUninit<u8>],
        offset: u64,
    ) -> PyResult<()> {
        match self {
            Self::File(file) => limit.fill(py, file, into, offset),
            Self::Parts(parts) => match part(parts, offset, into.len() as u64) {
                Some(part) => limit.copy(py, part.content(), into),
                None => Err(missing()),
            },
            Self::Nothing => Err(missing()),
        }
    }

    /// A new bytes or bytearray object with these bytes, of which there [are](Self::has) so many.
    pub(super) fn object<'py>(
        self,
        py: Python<'py>,
        (make, begin_of): (Make, BeginOf),
        limit: &Limit,
        offset: u64,
        length: u64,
    ) -> PyResult<Bound<'py, PyAny>> {
        let length = isize::try_from(length).unwrap_or(isize::MAX);
        // SAFETY: a new object, which nobody else has, or an error that was set.
        let bytes = unsafe {
            let new = make(std::ptr::null(), length);
            Bound::from_owned_ptr_or_err(py, new)?
        };
        // SAFETY: an object of the type that the function is for, as every caller pairs them.
        let begin = unsafe { begin_of(bytes.as_ptr()) };
        // SAFETY: the object has so many bytes there, which hold nothing yet; nobody else knows of it.
        let space = unsafe { space_at(begin.cast(), length.unsigned_abs()) };
        self.fill(py, limit, space, offset)?;
        Ok(bytes)
    }

    /// The same as Rust's.
    pub(super) fn bytes(
        self,
        py: Python<'_>,
        limit: &Limit,
        offset: u64,
        length: u64,
    ) -> PyResult<Vec<u8>> {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let mut bytes = Vec::new();
        bytes.reserve_exact(length);
        let space = &mut bytes.spare_capacity_mut()[..length];
        self.fill(py, limit, space, offset)?;
        // SAFETY: so many bytes were just filled.
        unsafe { bytes.set_len(length) };
        Ok(bytes)
    }
}

/// The part at this offset, if it is as long as that.
fn part(parts: &[Part], offset: u64, length: u64) -> Option<&Part> {
    let place = parts
        .binary_search_by_key(&offset, |part| part.offset)
        .ok()?;
    let part = &parts[place];
    (part.buffer.len_bytes() as u64 == length).then_some(part)
}

/// For who has not asked whether it is there.
fn missing() -> PyErr {
    std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into()
}

/// Memory of an object that is being made.
///
/// # Safety
/// So many bytes must be there as long as the slice is used, and be nobody else's.
unsafe fn space_at<'a>(begin: *mut MaybeUninit<u8>, length: usize) -> &'a mut [MaybeUninit<u8>] {
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts_mut(begin, length) }
}
