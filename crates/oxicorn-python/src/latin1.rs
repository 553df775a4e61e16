//! Strings between Python and the wire: PEP 3333's "native strings" hold bytes as latin-1 code points.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyString;
use pyo3::types::string::PyStringData;

/// The native string whose code points are `bytes`.
pub(crate) fn to_string<'py>(py: Python<'py>, bytes: &[u8]) -> Bound<'py, PyString> {
    let length = isize::try_from(bytes.len()).expect("a slice is never longer than isize::MAX");
    // SAFETY: attached (`py`); pointer and length are those of a live slice, which is copied; every
    // byte is a latin-1 code point, so only memory can run out, and then `from_owned_ptr` panics.
    unsafe {
        let object = ffi::PyUnicode_DecodeLatin1(bytes.as_ptr().cast(), length, std::ptr::null());
        Bound::from_owned_ptr(py, object).cast_into_unchecked()
    }
}

/// The bytes of a native string; `None` if it has a code point above U+00FF and so is not one.
pub(crate) fn bytes_of<'a>(string: &'a Bound<'_, PyString>) -> Option<&'a [u8]> {
    // SAFETY: the string is immutable, fully built (it came from the application as an argument) and
    // outlives the borrow.
    match unsafe { string.data() } {
        Ok(PyStringData::Ucs1(bytes)) => Some(bytes),
        _ => None,
    }
}
