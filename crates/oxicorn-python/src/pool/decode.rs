//! Values of a frame as Python's.

use oxicorn_proto::pool::{DEPTH_MAX, ITEMS_MAX, tag};
use pyo3::exceptions::PyException;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{
    PyBool, PyByteArray, PyBytes, PyDict, PyFloat, PyInt, PyList, PyMemoryView, PyString, PyTuple,
};

use super::limit::Limit;
use super::outside::{BYTE_ARRAY, BYTES, Outside};
use super::protocol_error;

/// Reads the values of a payload.
pub(crate) struct Decoder<'a, 'py> {
    py: Python<'py>,
    rest: &'a [u8],
    outside: Outside<'a>,
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
        outside: Outside<'a>,
        unpickles: bool,
        limit: Limit,
    ) -> Self {
        Self {
            py,
            rest: payload,
            outside,
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
        if format.eq("e")? {
            let module = self.py.import(intern!(self.py, "oxicorn.dirty.tensors"))?;
            return module
                .call_method1(intern!(self.py, "viewed"), (format, shape, bytes))
                .or_else(|error| self.fault(&error.value(self.py).to_string()));
        }
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
        if matches!(self.outside, Outside::Nothing) {
            return self.fault("it has no memory file");
        }
        if !self.outside.has(offset, length)? {
            return self.fault("a value reaches beyond its memory file");
        }
        match kind {
            tag::BYTES => (self.outside).object(self.py, BYTES, &self.limit, offset, length),
            tag::BYTE_ARRAY => {
                (self.outside).object(self.py, BYTE_ARRAY, &self.limit, offset, length)
            }
            tag::TEXT => {
                let bytes = (self.outside).bytes(self.py, &self.limit, offset, length)?;
                match str::from_utf8(&bytes) {
                    Ok(text) => Ok(PyString::new(self.py, text).into_any()),
                    Err(_) => self.fault("a text is not UTF-8"),
                }
            }
            _ => self.fault("a value in a memory file is of no known type"),
        }
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
        let value = pickle
            .call_method(intern!(self.py, "loads"), (data,), Some(&keywords))
            .or_else(|error| self.not_unpickled(error))?;
        self.limit.check(self.py)?;
        Ok(value)
    }

    /// A pickle runs code: what that raises, and be it an `OSError`, says nothing about the connection.
    fn not_unpickled<T>(&self, error: PyErr) -> PyResult<T> {
        if !error.is_instance_of::<PyException>(self.py) {
            return Err(error);
        }
        let fault: PyResult<T> = self.fault(&format!("it cannot be unpickled: {error}"));
        fault.inspect_err(|fault| fault.set_cause(self.py, Some(error)))
    }
}
