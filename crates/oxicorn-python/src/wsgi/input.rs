//! `wsgi.input`: the body of a request, complete before the application is called.
//!
//! It is in memory, or a descriptor of a temporary file that the gateway filled. Reading never waits
//! for a client, only (in the second case) for the page cache, and then detached from the interpreter.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

/// How much of a file is looked at in one piece when lines are read from it.
const LINE_BLOCK: usize = 64 * 1024;

/// The file-like object of PEP 3333: `read`, `readline`, `readlines`, iteration.
#[pyclass(module = "oxicorn._native")]
pub(crate) struct Input {
    source: Source,
    position: u64,
    length: u64,
}

enum Source {
    Memory(Vec<u8>),
    File { file: File, block: Block },
}

/// A piece of the file that was read ahead for `readline`.
#[derive(Default)]
struct Block {
    start: u64,
    bytes: Vec<u8>,
}

impl Input {
    pub(crate) fn from_memory(bytes: Vec<u8>) -> Self {
        let length = bytes.len() as u64;
        Self {
            source: Source::Memory(bytes),
            position: 0,
            length,
        }
    }

    pub(crate) fn from_file(file: File, length: u64) -> Self {
        let block = Block::default();
        Self {
            source: Source::File { file, block },
            position: 0,
            length,
        }
    }

    fn remaining(&self) -> u64 {
        self.length - self.position
    }

    /// The next `wanted` bytes (less at the end).
    fn take<'py>(&mut self, py: Python<'py>, wanted: u64) -> PyResult<Bound<'py, PyBytes>> {
        let count = to_usize(wanted.min(self.remaining()));
        let start = self.position;
        let bytes = match &self.source {
            Source::Memory(bytes) => PyBytes::new(py, &bytes[to_usize(start)..][..count]),
            Source::File { file, .. } => PyBytes::new_with(py, count, |buffer| {
                py.detach(|| file.read_exact_at(buffer, start))
                    .map_err(PyErr::from)
            })?,
        };
        self.position += count as u64;
        Ok(bytes)
    }

    /// How long the next line is, its newline included, looking no further than `limit` bytes.
    fn line_length(&mut self, py: Python<'_>, limit: u64) -> io::Result<u64> {
        let limit = limit.min(self.remaining());
        let mut seen = 0;
        while seen < limit {
            let piece = self.peek(py, self.position + seen)?;
            let piece = &piece[..piece.len().min(to_usize(limit - seen))];
            if let Some(at) = piece.iter().position(|&byte| byte == b'\n') {
                return Ok(seen + at as u64 + 1);
            }
            seen += piece.len() as u64;
        }
        Ok(limit)
    }

    /// Some bytes from `at` on, without moving; never empty before the end.
    fn peek(&mut self, py: Python<'_>, at: u64) -> io::Result<&[u8]> {
        let length = self.length;
        match &mut self.source {
            Source::Memory(bytes) => Ok(&bytes[to_usize(at)..]),
            Source::File { file, block } => py.detach(|| block.at(file, at, length)),
        }
    }
}

impl Block {
    fn at(&mut self, file: &File, at: u64, length: u64) -> io::Result<&[u8]> {
        let end = self.start + self.bytes.len() as u64;
        if at < self.start || at >= end {
            self.bytes
                .resize(to_usize((length - at).min(LINE_BLOCK as u64)), 0);
            self.start = at;
            file.read_exact_at(&mut self.bytes, at)?;
        }
        Ok(&self.bytes[to_usize(at - self.start)..])
    }
}

#[pymethods]
impl Input {
    #[pyo3(signature = (size = None))]
    fn read<'py>(
        &mut self,
        py: Python<'py>,
        size: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let wanted = size_argument(size)?.unwrap_or(u64::MAX);
        self.take(py, wanted)
    }

    #[pyo3(signature = (size = None))]
    fn readline<'py>(
        &mut self,
        py: Python<'py>,
        size: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let limit = size_argument(size)?.unwrap_or(u64::MAX);
        let length = self.line_length(py, limit)?;
        self.take(py, length)
    }

    /// Lines until at least `hint` bytes are read; without a hint (or with 0, as in the standard
    /// library) all of them.
    #[pyo3(signature = (hint = None))]
    fn readlines<'py>(
        &mut self,
        py: Python<'py>,
        hint: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyList>> {
        let hint = size_argument(hint)?
            .filter(|&hint| hint > 0)
            .unwrap_or(u64::MAX);
        let lines = PyList::empty(py);
        let start = self.position;
        while self.remaining() > 0 && self.position - start < hint {
            lines.append(self.readline(py, None)?)?;
        }
        Ok(lines)
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__<'py>(&mut self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        if self.remaining() == 0 {
            return Ok(None);
        }
        self.readline(py, None).map(Some)
    }
}

/// `None` and negative numbers mean "no limit".
fn size_argument(size: Option<Bound<'_, PyAny>>) -> PyResult<Option<u64>> {
    let Some(size) = size.filter(|size| !size.is_none()) else {
        return Ok(None);
    };
    let py = size.py();
    let size: i128 = size
        .call_method0(pyo3::intern!(py, "__index__"))
        .and_then(|number| number.extract())
        .map_err(|_| PyTypeError::new_err("size must be an integral type"))?;
    Ok(u64::try_from(size).ok())
}

fn to_usize(value: u64) -> usize {
    usize::try_from(value).expect("bodies are addressed with 64 bits")
}
