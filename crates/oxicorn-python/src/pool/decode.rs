//! Values of a frame as Python's.

use std::ffi::c_char;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use oxicorn_proto::pool::{DEPTH_MAX, ITEMS_MAX, tag};
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{
    PyBool, PyByteArray, PyBytes, PyDict, PyFloat, PyInt, PyList, PyMemoryView, PyString, PyTuple,
};

use super::limit::Limit;
use super::{EXTERNAL_MAX, protocol_error};

/// Makes an object of so many bytes, which hold nothing yet.
type Make = unsafe extern "C" fn(*const c_char, ffi::Py_ssize_t) -> *mut ffi::PyObject;
/// Where the bytes of such an object begin.
type BeginOf = unsafe extern "C" fn(*mut ffi::PyObject) -> *mut c_char;

const BYTES: (Make, BeginOf) = (ffi::PyBytes_FromStringAndSize, ffi::PyBytes_AsString);
const BYTE_ARRAY: (Make, BeginOf) = (
    ffi::PyByteArray_FromStringAndSize,
    ffi::PyByteArray_AsString,
);

/// Reads the values of a payload.
pub(crate) struct Decoder<'a, 'py> {
    py: Python<'py>,
    rest: &'a [u8],
    file: Option<&'a OwnedFd>,
    /// Whether values may be pickled.
    unpickles: bool,
    /// Whether one was.
    pub(crate) saw_pickle: bool,
    depth: usize,
    limit: Limit,
}

impl<'a, 'py> Decoder<'a, 'py> {
    pub(crate) fn new(
        py: Python<'py>,
        payload: &'a [u8],
        file: Option<&'a OwnedFd>,
        unpickles: bool,
        limit: Limit,
    ) -> Self {
        Self {
            py,
            rest: payload,
            file,
            unpickles,
            saw_pickle: false,
            depth: 0,
            limit,
        }
    }

    fn fault<T>(&self, text: &str) -> PyResult<T> {
        let text = format!("A message of the pool cannot be read: {text}");
        Err(protocol_error(self.py, &text))
    }

    fn take<const N: usize>(&mut self) -> PyResult<[u8; N]> {
        match self.rest.split_first_chunk() {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(*taken)
            }
            None => self.fault("it ends within a value"),
        }
    }

    fn counted(&mut self) -> PyResult<&'a [u8]> {
        let length = u32::from_be_bytes(self.take()?) as usize;
        match self.rest.split_at_checked(length) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => self.fault("it ends within a value"),
        }
    }

    fn count(&mut self) -> PyResult<usize> {
        let count = u32::from_be_bytes(self.take()?) as usize;
        if count > ITEMS_MAX {
            return self.fault("a container has too many items");
        }
        Ok(count)
    }

    /// How many fields the payload has.
    pub(crate) fn fields(&mut self) -> PyResult<usize> {
        if self.rest.is_empty() {
            return Ok(0);
        }
        match self.take()? {
            [tag::MAP] => self.count(),
            _ => self.fault("it is no dictionary"),
        }
    }

    /// The name of the next field.
    pub(crate) fn name(&mut self) -> PyResult<&'a str> {
        match self.take()? {
            [tag::TEXT] => {
                let bytes = self.counted()?;
                str::from_utf8(bytes).or_else(|_| self.fault("a text is not UTF-8"))
            }
            _ => self.fault("a key is no text"),
        }
    }

    pub(crate) fn value(&mut self) -> PyResult<Bound<'py, PyAny>> {
        let py = self.py;
        self.limit.count(py)?;
        let [kind] = self.take()?;
        Ok(match kind {
            tag::NONE => py.None().into_bound(py),
            tag::BOOL => PyBool::new(py, self.take::<1>()? != [0])
                .to_owned()
                .into_any(),
            tag::INT => i64::from_be_bytes(self.take()?)
                .into_pyobject(py)?
                .into_any(),
            tag::FLOAT => PyFloat::new(py, f64::from_be_bytes(self.take()?)).into_any(),
            tag::BYTES => PyBytes::new(py, self.counted()?).into_any(),
            tag::TEXT => self.text()?,
            tag::BIG_INT => self.big_int()?,
            tag::BYTE_ARRAY => PyByteArray::new(py, self.counted()?).into_any(),
            tag::LIST => self.nested(Self::list)?,
            tag::TUPLE => self.nested(Self::tuple)?,
            tag::MAP | tag::PAIRS => self.nested(Self::dict)?,
            tag::BUFFER => self.nested(Self::buffer)?,
            tag::TENSOR => self.nested(Self::tensor)?,
            tag::EXTERNAL => self.external()?,
            tag::PICKLE => self.nested(Self::pickle)?,
            _ => return self.fault("a value is of no known type"),
        })
    }

    fn nested(
        &mut self,
        body: impl FnOnce(&mut Self) -> PyResult<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return self.fault("containers lie in each other too deep");
        }
        let value = body(self)?;
        self.depth -= 1;
        Ok(value)
    }

    fn text(&mut self) -> PyResult<Bound<'py, PyAny>> {
        match str::from_utf8(self.counted()?) {
            Ok(text) => Ok(PyString::new(self.py, text).into_any()),
            Err(_) => self.fault("a text is not UTF-8"),
        }
    }

    fn big_int(&mut self) -> PyResult<Bound<'py, PyAny>> {
        let keywords = PyDict::new(self.py);
        keywords.set_item(intern!(self.py, "signed"), true)?;
        let bytes = PyBytes::new(self.py, self.counted()?);
        let class = self.py.get_type::<PyInt>();
        class.call_method(
            intern!(self.py, "from_bytes"),
            (bytes, intern!(self.py, "little")),
            Some(&keywords),
        )
    }

    /// As a list: what was announced may never come.
    fn items(&mut self) -> PyResult<Bound<'py, PyList>> {
        let count = self.count()?;
        let items = PyList::empty(self.py);
        for _ in 0..count {
            items.append(self.value()?)?;
        }
        Ok(items)
    }

    fn list(&mut self) -> PyResult<Bound<'py, PyAny>> {
        self.items().map(Bound::into_any)
    }

    fn tuple(&mut self) -> PyResult<Bound<'py, PyAny>> {
        Ok(self.items()?.to_tuple().into_any())
    }

    fn dict(&mut self) -> PyResult<Bound<'py, PyAny>> {
        let count = self.count()?;
        let items = PyDict::new(self.py);
        for _ in 0..count {
            let key = self.value()?;
            items.set_item(key, self.value()?)?;
        }
        Ok(items.into_any())
    }

    fn buffer(&mut self) -> PyResult<Bound<'py, PyAny>> {
        let format = self.value()?;
        let shape = self.value()?;
        let bytes = self.value()?;
        let view = PyMemoryView::from(&bytes)?;
        if shape.len()? == 0 || bytes.len()? == 0 {
            return view.call_method1(intern!(self.py, "cast"), (format,));
        }
        view.call_method1(intern!(self.py, "cast"), (format, shape))
    }

    /// What of a tensor (`torch.Tensor`) can be had here.
    fn tensor(&mut self) -> PyResult<Bound<'py, PyAny>> {
        let parts = (self.value()?, self.value()?, self.value()?);
        let module = self.py.import(intern!(self.py, "oxicorn.dirty.tensors"))?;
        module
            .call_method1(intern!(self.py, "made"), parts)
            .or_else(|error| self.fault(&error.value(self.py).to_string()))
    }

    /// Bytes that lie in the memory file.
    fn external(&mut self) -> PyResult<Bound<'py, PyAny>> {
        let [kind] = self.take()?;
        let offset = u64::from_be_bytes(self.take()?);
        let length = u64::from_be_bytes(self.take()?);
        let Some(file) = self.file else {
            return self.fault("it has no memory file");
        };
        let end = offset.checked_add(length);
        if end.is_none_or(|end| end > EXTERNAL_MAX + 64)
            || oxicorn_os::memfd::len(file)? < offset + length
        {
            return self.fault("a value reaches beyond its memory file");
        }
        let length = isize::try_from(length).unwrap_or(isize::MAX);
        match kind {
            tag::BYTES => self.external_object(BYTES, file, length, offset),
            tag::BYTE_ARRAY => self.external_object(BYTE_ARRAY, file, length, offset),
            tag::TEXT => {
                let mut bytes = Vec::new();
                let space = space_of(&mut bytes, length.unsigned_abs());
                self.limit.fill(self.py, file, space, offset)?;
                // SAFETY: so many bytes were just filled.
                unsafe { bytes.set_len(length.unsigned_abs()) };
                match str::from_utf8(&bytes) {
                    Ok(text) => Ok(PyString::new(self.py, text).into_any()),
                    Err(_) => self.fault("a text is not UTF-8"),
                }
            }
            _ => self.fault("a value in a memory file is of no known type"),
        }
    }

    /// A new bytes or bytearray object, filled from the file.
    fn external_object(
        &self,
        (make, begin_of): (Make, BeginOf),
        file: &OwnedFd,
        length: isize,
        offset: u64,
    ) -> PyResult<Bound<'py, PyAny>> {
        // SAFETY: a new object, which nobody else has, or an error that was set.
        let bytes = unsafe {
            let new = make(std::ptr::null(), length);
            Bound::from_owned_ptr_or_err(self.py, new)?
        };
        // SAFETY: an object of the type that the function is for, as every caller pairs them.
        let begin = unsafe { begin_of(bytes.as_ptr()) };
        // SAFETY: the object has so many bytes there, which hold nothing yet; nobody else knows of it.
        let space = unsafe { space_at(begin.cast(), length.unsigned_abs()) };
        self.limit.fill(self.py, file, space, offset)?;
        Ok(bytes)
    }

    fn pickle(&mut self) -> PyResult<Bound<'py, PyAny>> {
        if !self.unpickles {
            return self.fault(
                "it is pickled, and pickles are taken only where dirty_serializer is \"pickle\"",
            );
        }
        self.saw_pickle = true;
        let data = self.value()?;
        let buffers = self.value()?;
        let keywords = PyDict::new(self.py);
        keywords.set_item(
            intern!(self.py, "buffers"),
            PyTuple::new(self.py, buffers.try_iter()?.collect::<PyResult<Vec<_>>>()?)?,
        )?;
        let pickle = self.py.import(intern!(self.py, "pickle"))?;
        let value = pickle.call_method(intern!(self.py, "loads"), (data,), Some(&keywords))?;
        self.limit.check(self.py)?;
        Ok(value)
    }
}

/// Room for so many bytes behind those that are there.
fn space_of(bytes: &mut Vec<u8>, length: usize) -> &mut [MaybeUninit<u8>] {
    bytes.reserve_exact(length);
    &mut bytes.spare_capacity_mut()[..length]
}

/// Memory of an object that is being made.
///
/// # Safety
/// So many bytes must be there as long as the slice is used, and be nobody else's.
unsafe fn space_at<'a>(begin: *mut MaybeUninit<u8>, length: usize) -> &'a mut [MaybeUninit<u8>] {
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts_mut(begin, length) }
}
