//! Python's values as values of a frame.

use std::os::fd::AsFd;

use oxicorn_proto::pool::{DEPTH_MAX, ITEMS_MAX, PAYLOAD_MAX, tag};
use pyo3::buffer::PyUntypedBuffer;
use pyo3::exceptions::PyException;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{
    PyBool, PyByteArray, PyBytes, PyDict, PyFloat, PyInt, PyList, PyMemoryView, PyString, PyTuple,
};

use super::limit::Limit;
use super::outside::Parts;
use super::{EXTERNAL_MAX, EXTERNAL_MIN, protocol_error};

/// Which values may be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// Gunicorn's: tuples are lists, keys are made texts, everything lies in the frame.
    Gunicorn,
    /// oxicorn's own as well.
    Extended,
    /// The same, but everything lies in the frame.
    Inline,
}

/// Bytes that are to lie in the memory file. Whoever has them keeps them alive.
enum Source {
    Object(Py<PyAny>, *const u8, usize),
    Buffer(PyUntypedBuffer),
}

/// A payload, and what belongs into the memory file that goes with it.
pub(crate) struct Encoder<'py> {
    py: Python<'py>,
    dialect: Dialect,
    pub(crate) payload: Vec<u8>,
    external: Vec<(u64, Source)>,
    external_end: u64,
    depth: usize,
    limit: Limit,
}

/// Why a value cannot be sent.
enum Fault {
    /// What is wrong, and where: the innermost step first.
    Value(String, Vec<String>),
    Python(PyErr),
}

impl From<PyErr> for Fault {
    fn from(error: PyErr) -> Self {
        Self::Python(error)
    }
}

fn fault<T>(text: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Value(text.into(), Vec::new()))
}

/// Says where in a container it was.
fn at(result: Result<(), Fault>, step: impl FnOnce() -> String) -> Result<(), Fault> {
    result.map_err(|error| match error {
        Fault::Value(text, mut steps) => {
            steps.push(step());
            Fault::Value(text, steps)
        }
        error @ Fault::Python(_) => error,
    })
}

impl<'py> Encoder<'py> {
    pub(crate) fn new(py: Python<'py>, dialect: Dialect, limit: Limit) -> Self {
        Self {
            py,
            dialect,
            payload: Vec::with_capacity(256),
            external: Vec::new(),
            external_end: 0,
            depth: 0,
            limit,
        }
    }

    /// For who keeps what it gets.
    pub(crate) fn inline(py: Python<'py>, limit: Limit) -> Self {
        Self::new(py, Dialect::Inline, limit)
    }

    /// The head of a dictionary whose fields follow.
    pub(crate) fn map(&mut self, pairs: u32) {
        self.payload.push(tag::MAP);
        self.payload.extend(pairs.to_be_bytes());
    }

    /// A text of ours.
    pub(crate) fn text(&mut self, text: &str) {
        self.counted(tag::TEXT, text.as_bytes());
    }

    /// A field of ours whose value is a text.
    pub(crate) fn text_field(&mut self, name: &str, value: &str) {
        self.text(name);
        self.text(value);
    }

    /// A field; `name` is what an error calls it.
    pub(crate) fn field(&mut self, name: &str, value: &Bound<'py, PyAny>) -> PyResult<()> {
        self.text(name);
        self.root(name, value)
    }

    /// A value by itself.
    pub(crate) fn root(&mut self, name: &str, value: &Bound<'py, PyAny>) -> PyResult<()> {
        let encoded = self.value(value);
        self.checked(name, encoded)
    }

    /// The same, pickled.
    pub(crate) fn pickled(&mut self, name: &str, value: &Bound<'py, PyAny>) -> PyResult<()> {
        self.text(name);
        let buffers = PyList::empty(self.py);
        let append = buffers.getattr(intern!(self.py, "append"))?;
        let module = self.py.import(intern!(self.py, "oxicorn.dirty.tensors"))?;
        let data = module
            .call_method1(intern!(self.py, "dumps"), (value, append))
            .map_err(|error| self.not_pickled(name, error))?;
        self.limit.check(self.py)?;
        self.payload.push(tag::PICKLE);
        let mut encoded = self.value(&data);
        if encoded.is_ok() {
            encoded = self.head(tag::LIST, buffers.len());
        }
        for buffer in buffers {
            if encoded.is_err() {
                break;
            }
            let raw = buffer.call_method0(intern!(self.py, "raw"))?;
            let raw = PyUntypedBuffer::get(&raw)?;
            encoded = self.raw_buffer(tag::BYTE_ARRAY, raw);
        }
        self.checked(name, encoded)
    }

    /// Pickling runs code of the values: what it raises, and be it an `OSError`, says nothing about the connection.
    fn not_pickled(&self, name: &str, error: PyErr) -> PyErr {
        if !error.is_instance_of::<PyException>(self.py) {
            return error;
        }
        let refusal = protocol_error(self.py, &format!("Cannot send {name}: {error}"));
        refusal.set_cause(self.py, Some(error));
        refusal
    }

    fn checked(&self, name: &str, encoded: Result<(), Fault>) -> PyResult<()> {
        match encoded {
            Ok(()) if self.payload.len() > PAYLOAD_MAX => {
                let text = format!(
                    "{name} takes {} bytes, more than the {PAYLOAD_MAX} of a message",
                    self.payload.len()
                );
                Err(protocol_error(self.py, &text))
            }
            Ok(()) if self.external_end > EXTERNAL_MAX => {
                let text = format!(
                    "{name} takes {} bytes, more than the {EXTERNAL_MAX} of a message",
                    self.external_end
                );
                Err(protocol_error(self.py, &text))
            }
            Ok(()) => Ok(()),
            Err(Fault::Python(error)) => Err(error),
            Err(Fault::Value(text, steps)) => {
                let steps: String = steps.into_iter().rev().collect();
                let text = format!("Cannot send {name}{steps}: {text}");
                Err(protocol_error(self.py, &text))
            }
        }
    }

    fn counted(&mut self, tag: u8, bytes: &[u8]) {
        self.payload.push(tag);
        // Whoever has more is refused before.
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.payload.extend(length.to_be_bytes());
        self.payload.extend_from_slice(bytes);
    }

    fn head(&mut self, tag: u8, count: usize) -> Result<(), Fault> {
        if count > ITEMS_MAX {
            return fault(format!(
                "{count} items are more than the {ITEMS_MAX} of one container"
            ));
        }
        self.payload.push(tag);
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.payload.extend(count.to_be_bytes());
        Ok(())
    }

    fn value(&mut self, value: &Bound<'py, PyAny>) -> Result<(), Fault> {
        self.limit.count(self.py)?;
        if value.is_none() {
            self.payload.push(tag::NONE);
        } else if let Ok(text) = value.cast::<PyString>() {
            return self.string(text);
        } else if let Ok(flag) = value.cast::<PyBool>() {
            self.payload.extend([tag::BOOL, u8::from(flag.is_true())]);
        } else if let Ok(number) = value.cast::<PyInt>() {
            return self.int(number);
        } else if let Ok(number) = value.cast::<PyFloat>() {
            self.payload.push(tag::FLOAT);
            self.payload.extend(number.value().to_be_bytes());
        } else if let Ok(bytes) = value.cast::<PyBytes>() {
            let content = bytes.as_bytes();
            return self.bytes(tag::BYTES, value, content);
        } else if let Ok(items) = value.cast::<PyDict>() {
            return self.dict(items);
        } else if let Ok(items) = value.cast::<PyList>() {
            return self.nested(|this| {
                this.head(tag::LIST, items.len())?;
                this.items(items.iter())
            });
        } else if let Ok(items) = value.cast::<PyTuple>() {
            let tag = match self.dialect {
                Dialect::Gunicorn => tag::LIST,
                Dialect::Extended | Dialect::Inline => tag::TUPLE,
            };
            return self.nested(|this| {
                this.head(tag, items.len())?;
                this.items(items.iter())
            });
        } else {
            return self.buffer(value);
        }
        Ok(())
    }

    fn nested(&mut self, body: impl FnOnce(&mut Self) -> Result<(), Fault>) -> Result<(), Fault> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return fault(format!(
                "more than {DEPTH_MAX} containers lie in each other"
            ));
        }
        body(self)?;
        self.depth -= 1;
        Ok(())
    }

    fn items(&mut self, items: impl Iterator<Item = Bound<'py, PyAny>>) -> Result<(), Fault> {
        for (place, item) in items.enumerate() {
            let encoded = self.value(&item);
            at(encoded, || format!("[{place}]"))?;
        }
        Ok(())
    }

    fn dict(&mut self, items: &Bound<'py, PyDict>) -> Result<(), Fault> {
        let all_texts = || {
            items
                .keys()
                .iter()
                .all(|key| key.is_instance_of::<PyString>())
        };
        let is_extended = self.dialect != Dialect::Gunicorn && !all_texts();
        self.nested(|this| {
            this.head(if is_extended { tag::PAIRS } else { tag::MAP }, items.len())?;
            for (key, value) in items {
                let encoded = if is_extended || key.is_instance_of::<PyString>() {
                    this.value(&key)
                } else {
                    this.string(&key.str()?)
                };
                let step = || format!(".key({})", shown(&key));
                at(encoded, step)?;
                let encoded = this.value(&value);
                at(encoded, || format!("[{}]", shown(&key)))?;
            }
            Ok(())
        })
    }

    fn string(&mut self, text: &Bound<'py, PyString>) -> Result<(), Fault> {
        match text.to_str() {
            Ok(content) => self.bytes(tag::TEXT, text.as_any(), content.as_bytes()),
            Err(_) => fault("the text has a lone surrogate, which UTF-8 has not"),
        }
    }

    fn int(&mut self, number: &Bound<'py, PyInt>) -> Result<(), Fault> {
        if let Ok(small) = number.extract::<i64>() {
            self.payload.push(tag::INT);
            self.payload.extend(small.to_be_bytes());
            return Ok(());
        }
        if self.dialect == Dialect::Gunicorn {
            return fault("an integer of more than 64 bits");
        }
        let bits: usize = number
            .call_method0(intern!(self.py, "bit_length"))?
            .extract()?;
        let keywords = PyDict::new(self.py);
        keywords.set_item(intern!(self.py, "signed"), true)?;
        let bytes = number.call_method(
            intern!(self.py, "to_bytes"),
            (bits / 8 + 1, intern!(self.py, "little")),
            Some(&keywords),
        )?;
        let bytes = bytes.cast::<PyBytes>().map_err(PyErr::from)?;
        self.counted(tag::BIG_INT, bytes.as_bytes());
        Ok(())
    }

    fn bytes(&mut self, tag: u8, owner: &Bound<'py, PyAny>, content: &[u8]) -> Result<(), Fault> {
        if self.dialect == Dialect::Extended && content.len() >= EXTERNAL_MIN {
            let source = Source::Object(owner.clone().unbind(), content.as_ptr(), content.len());
            self.outside(tag, content.len(), source);
        } else if content.len() > PAYLOAD_MAX {
            return fault(format!("{} bytes are too many", content.len()));
        } else {
            self.counted(tag, content);
        }
        Ok(())
    }

    fn outside(&mut self, tag: u8, length: usize, source: Source) {
        let offset = self.external_end.next_multiple_of(64);
        self.payload.extend([tag::EXTERNAL, tag]);
        self.payload.extend(offset.to_be_bytes());
        self.payload.extend((length as u64).to_be_bytes());
        self.external.push((offset, source));
        self.external_end = offset + length as u64;
    }

    fn buffer(&mut self, value: &Bound<'py, PyAny>) -> Result<(), Fault> {
        // SAFETY: a live object is asked whether it has a buffer.
        let has_buffer = unsafe { ffi::PyObject_CheckBuffer(value.as_ptr()) } != 0;
        if !has_buffer && self.dialect != Dialect::Gunicorn && self.tensor(value)? {
            return Ok(());
        }
        if !has_buffer || self.dialect == Dialect::Gunicorn {
            let name = value.get_type().fully_qualified_name()?;
            return fault(format!("a value of type {name}"));
        }
        let buffer = PyUntypedBuffer::get(value)?;
        if value.is_instance_of::<PyByteArray>() {
            return self.raw_buffer(tag::BYTE_ARRAY, buffer);
        }
        let view = PyMemoryView::from(value)?;
        let format: String = view.getattr(intern!(self.py, "format"))?.extract()?;
        let native = format.strip_prefix(['@', '=', '<']).unwrap_or(&format);
        if native.len() != 1 || !"cbB?hHiIlLqQfde".contains(native) {
            return fault(format!("a buffer of items of format {format:?}"));
        }
        let shape = view.getattr(intern!(self.py, "shape"))?;
        self.payload.push(tag::BUFFER);
        self.text(native);
        self.value(&PyList::new(self.py, shape.extract::<Vec<usize>>()?)?.into_any())?;
        if buffer.is_c_contiguous() {
            return self.raw_buffer(tag::BYTE_ARRAY, buffer);
        }
        let bytes = view.call_method0(intern!(self.py, "tobytes"))?;
        let bytes = bytes.cast_into::<PyBytes>().map_err(PyErr::from)?;
        let content = bytes.as_bytes();
        self.bytes(tag::BYTE_ARRAY, bytes.as_any(), content)
    }

    /// `false`: the value is no `torch.Tensor`.
    fn tensor(&mut self, value: &Bound<'py, PyAny>) -> Result<bool, Fault> {
        let module = self.py.import(intern!(self.py, "oxicorn.dirty.tensors"))?;
        let parts = module.call_method1(intern!(self.py, "taken_apart"), (value,))?;
        if parts.is_none() {
            return Ok(false);
        }
        if let Ok(refusal) = parts.extract::<String>() {
            return fault(refusal);
        }
        let (name, shape, content): (String, Bound<'py, PyAny>, Bound<'py, PyAny>) =
            parts.extract()?;
        self.payload.push(tag::TENSOR);
        self.text(&name);
        self.value(&shape)?;
        self.raw_buffer(tag::BYTE_ARRAY, PyUntypedBuffer::get(&content)?)?;
        Ok(true)
    }

    fn raw_buffer(&mut self, tag: u8, buffer: PyUntypedBuffer) -> Result<(), Fault> {
        let length = buffer.len_bytes();
        if !buffer.is_c_contiguous() {
            return fault("a buffer whose bytes do not lie together");
        }
        if self.dialect == Dialect::Extended && length >= EXTERNAL_MIN {
            self.outside(tag, length, Source::Buffer(buffer));
            return Ok(());
        }
        if length > PAYLOAD_MAX {
            return fault(format!("{length} bytes are too many"));
        }
        // SAFETY: the export keeps so many bytes at this place, one after the other; they are copied while attached.
        let content = unsafe { slice(buffer.buf_ptr().cast(), length) };
        self.counted(tag, content);
        Ok(())
    }

    pub(crate) fn has_external(&self) -> bool {
        !self.external.is_empty()
    }

    /// What belongs into the memory file, each with its place there.
    pub(crate) fn parts(&self) -> Parts<'py> {
        let parts = self.external.iter();
        parts
            .map(|(offset, source)| (*offset, source.object(self.py)))
            .collect()
    }

    /// Writes what does not lie in the frame into `file`. Others may run meanwhile.
    pub(crate) fn write_external<F: AsFd + Sync>(&self, file: &F) -> PyResult<()> {
        for (offset, source) in &self.external {
            let (begin, length) = source.place();
            // SAFETY: `self.external` keeps the objects, or their exports, which keep the bytes; what somebody writes into a
            // buffer meanwhile is copied by the kernel as it is at that moment.
            let content = unsafe { slice(begin, length) };
            self.limit.write(self.py, file, content, *offset)?;
        }
        Ok(())
    }
}

impl Source {
    /// An object that has these bytes and no others.
    fn object<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        let owner = match self {
            Self::Object(owner, ..) => {
                Some(owner.bind(py)).filter(|it| it.is_instance_of::<PyBytes>())
            }
            Self::Buffer(buffer) => buffer.obj(py),
        };
        if let Some(owner) = owner {
            return owner.clone();
        }
        // A text has no buffer.
        let (begin, length) = self.place();
        // SAFETY: whoever has the source keeps the bytes.
        let content = unsafe { slice(begin, length) };
        PyBytes::new(py, content).into_any()
    }

    /// Where its bytes lie, and how many they are.
    fn place(&self) -> (*const u8, usize) {
        match self {
            Self::Object(_owner, begin, length) => (*begin, *length),
            Self::Buffer(buffer) => (buffer.buf_ptr().cast_const().cast(), buffer.len_bytes()),
        }
    }
}

/// The bytes at an address; nothing for a length of 0, whatever the address.
///
/// # Safety
/// So many bytes must be there as long as the slice is used.
pub(super) unsafe fn slice<'a>(begin: *const u8, length: usize) -> &'a [u8] {
    if length == 0 {
        return &[];
    }
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts(begin, length) }
}

fn shown(key: &Bound<'_, PyAny>) -> String {
    let text = key.repr().map(|text| text.to_string());
    let mut text = text.unwrap_or_else(|_| "?".to_owned());
    text.truncate(text.floor_char_boundary(60));
    text
}
