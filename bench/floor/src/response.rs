//! Calls the application and writes its answer.
//!
//! A list or tuple goes out in one write together with the head, counted by us where the application did not. Anything
//! else is iterated and each piece written as it comes (PEP 3333 forbids holding pieces back), chunked where it has no
//! length.

use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};

use crate::connection::{Outcome, Request, Writer};

const FAILED: &[u8] =
    b"HTTP/1.1 500 Internal Server Error\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

/// The `start_response` of one request, and what the application told it.
#[pyclass]
struct StartResponse {
    head: Option<(Py<PyString>, Py<PyList>)>,
    written: Vec<u8>,
}

#[pymethods]
impl StartResponse {
    #[pyo3(signature = (status, headers, exc_info=None))]
    fn __call__<'py>(
        slf: &Bound<'py, Self>,
        status: Py<PyString>,
        headers: Py<PyList>,
        exc_info: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let mut this = slf.borrow_mut();
        if this.head.is_some() && exc_info.is_none() {
            return Err(PyRuntimeError::new_err(
                "start_response called twice without exc_info",
            ));
        }
        this.head = Some((status, headers));
        drop(this);
        slf.getattr(intern!(slf.py(), "write"))
    }

    fn write(&mut self, data: &[u8]) {
        self.written.extend_from_slice(data);
    }
}

/// Reused from request to request: the output buffer and the current date line.
#[derive(Default)]
pub(crate) struct Responder {
    output: Vec<u8>,
    date: DateLine,
}

impl Responder {
    /// Answers one request. A failure of the application or of the peer ends the connection, never the program.
    pub(crate) fn answer(
        &mut self,
        application: &Bound<'_, PyAny>,
        environ: Bound<'_, PyDict>,
        request: &Request<'_>,
        writer: &Writer,
    ) -> Outcome {
        self.output.clear();
        match self.try_answer(application, environ, request, writer) {
            Ok(outcome) => outcome,
            Err(error) => {
                error.print(application.py());
                let _ = writer.write_all(FAILED);
                Outcome::Close
            }
        }
    }

    fn try_answer(
        &mut self,
        application: &Bound<'_, PyAny>,
        environ: Bound<'_, PyDict>,
        request: &Request<'_>,
        writer: &Writer,
    ) -> PyResult<Outcome> {
        let start = Bound::new(
            application.py(),
            StartResponse {
                head: None,
                written: Vec::new(),
            },
        )?;
        let iterable = application.call1((environ, &start))?;
        if iterable.is_exact_instance_of::<PyList>() || iterable.is_exact_instance_of::<PyTuple>() {
            return self.answer_whole(&iterable, &start, request, writer);
        }
        let outcome = self.answer_pieces(&iterable, &start, request, writer);
        if let Some(close) = iterable.getattr_opt(intern!(iterable.py(), "close"))? {
            close.call0()?;
        }
        outcome
    }

    fn answer_whole(
        &mut self,
        iterable: &Bound<'_, PyAny>,
        start: &Bound<'_, StartResponse>,
        request: &Request<'_>,
        writer: &Writer,
    ) -> PyResult<Outcome> {
        let pieces = iterable
            .try_iter()?
            .map(|piece| Ok(piece?.cast_into::<PyBytes>()?))
            .collect::<PyResult<Vec<_>>>()?;
        let len = start.borrow().written.len()
            + pieces
                .iter()
                .map(|piece| piece.as_bytes().len())
                .sum::<usize>();
        self.encode_head(start, request, Some(len))?;
        if request.method != "HEAD" {
            self.output.extend_from_slice(&start.borrow().written);
            for piece in &pieces {
                self.output.extend_from_slice(piece.as_bytes());
            }
        }
        Ok(self.flush(writer, outcome_of(request)))
    }

    fn answer_pieces(
        &mut self,
        iterable: &Bound<'_, PyAny>,
        start: &Bound<'_, StartResponse>,
        request: &Request<'_>,
        writer: &Writer,
    ) -> PyResult<Outcome> {
        let mut framing = None;
        for piece in iterable.try_iter()? {
            let piece = piece?.cast_into::<PyBytes>()?;
            if piece.as_bytes().is_empty() {
                continue;
            }
            let framing = match framing {
                Some(known) => known,
                None => *framing.insert(self.start_pieces(start, request)?),
            };
            self.encode_piece(framing, piece.as_bytes());
            if self.flush(writer, Outcome::KeepAlive) == Outcome::Close {
                return Ok(Outcome::Close);
            }
        }
        let framing = match framing {
            Some(known) => known,
            None => self.start_pieces(start, request)?,
        };
        if framing == Framing::Chunked {
            self.output.extend_from_slice(b"0\r\n\r\n");
        }
        let outcome = if framing == Framing::Close {
            Outcome::Close
        } else {
            outcome_of(request)
        };
        Ok(self.flush(writer, outcome))
    }

    /// The head and what the application gave to `write`.
    fn start_pieces(
        &mut self,
        start: &Bound<'_, StartResponse>,
        request: &Request<'_>,
    ) -> PyResult<Framing> {
        let framing = self.encode_head(start, request, None)?;
        let written = std::mem::take(&mut start.borrow_mut().written);
        if !written.is_empty() {
            self.encode_piece(framing, &written);
        }
        Ok(framing)
    }

    fn encode_piece(&mut self, framing: Framing, piece: &[u8]) {
        match framing {
            Framing::None => {}
            Framing::Length | Framing::Close => self.output.extend_from_slice(piece),
            Framing::Chunked => {
                write!(self.output, "{:x}\r\n", piece.len()).expect("a Vec takes everything");
                self.output.extend_from_slice(piece);
                self.output.extend_from_slice(b"\r\n");
            }
        }
    }

    fn flush(&mut self, writer: &Writer, outcome: Outcome) -> Outcome {
        let written = writer.write_all(&self.output);
        self.output.clear();
        if written.is_ok() {
            outcome
        } else {
            Outcome::Close
        }
    }

    /// `known_len`: the body's length, where it is known without the application's word.
    fn encode_head(
        &mut self,
        start: &Bound<'_, StartResponse>,
        request: &Request<'_>,
        known_len: Option<usize>,
    ) -> PyResult<Framing> {
        let py = start.py();
        let start = start.borrow();
        let (status, headers) = start
            .head
            .as_ref()
            .ok_or_else(|| PyRuntimeError::new_err("start_response was not called"))?;
        self.output.extend_from_slice(b"HTTP/1.1 ");
        self.encode_checked(status.bind(py))?;
        self.output.extend_from_slice(b"\r\nServer: floor\r\n");
        self.output.extend_from_slice(self.date.current());
        let persistence = if request.keep_alive {
            "Connection: keep-alive\r\n"
        } else {
            "Connection: close\r\n"
        };
        self.output.extend_from_slice(persistence.as_bytes());
        let counted = self.encode_headers(headers.bind(py))?;
        let framing = match known_len {
            _ if request.method == "HEAD" => Framing::None,
            _ if counted => Framing::Length,
            Some(len) => {
                write!(self.output, "Content-Length: {len}\r\n").expect("a Vec takes everything");
                Framing::Length
            }
            None if request.minor_version == 0 => Framing::Close,
            None => {
                self.output
                    .extend_from_slice(b"Transfer-Encoding: chunked\r\n");
                Framing::Chunked
            }
        };
        self.output.extend_from_slice(b"\r\n");
        Ok(framing)
    }

    /// Returns whether the application counted the body.
    fn encode_headers(&mut self, headers: &Bound<'_, PyList>) -> PyResult<bool> {
        let mut counted = false;
        for header in headers {
            let header = header.cast_into::<PyTuple>()?;
            let name = header.get_item(0)?.cast_into::<PyString>()?;
            counted |= name.to_str()?.eq_ignore_ascii_case("content-length");
            self.encode_checked(&name)?;
            self.output.extend_from_slice(b": ");
            self.encode_checked(&header.get_item(1)?.cast_into::<PyString>()?)?;
            self.output.extend_from_slice(b"\r\n");
        }
        Ok(counted)
    }

    /// Latin-1, and nothing that could end the line early.
    fn encode_checked(&mut self, text: &Bound<'_, PyString>) -> PyResult<()> {
        let text = text.to_str()?;
        if memchr::memchr3(b'\r', b'\n', 0, text.as_bytes()).is_some() {
            return Err(PyValueError::new_err(
                "control character in the response head",
            ));
        }
        if text.is_ascii() {
            self.output.extend_from_slice(text.as_bytes());
            return Ok(());
        }
        for character in text.chars() {
            let byte = u8::try_from(character)
                .map_err(|_| PyValueError::new_err("header is not latin-1"))?;
            self.output.push(byte);
        }
        Ok(())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Framing {
    None,
    Length,
    Chunked,
    Close,
}

fn outcome_of(request: &Request<'_>) -> Outcome {
    if request.keep_alive {
        Outcome::KeepAlive
    } else {
        Outcome::Close
    }
}

/// The Date line, made anew when the second changes.
#[derive(Default)]
struct DateLine {
    second: u64,
    line: Vec<u8>,
}

impl DateLine {
    fn current(&mut self) -> &[u8] {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        if now != self.second || self.line.is_empty() {
            self.second = now;
            self.line = format!("Date: {}\r\n", http_date(now)).into_bytes();
        }
        &self.line
    }
}

/// RFC 9110 section 5.6.7. The days are counted from 0000-03-01, which puts the leap day at the end of the year.
fn http_date(seconds: u64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = [
        "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec", "Jan", "Feb",
    ];
    const DAYS_BEFORE_1970: u64 = 719_468;
    let days = seconds / 86_400;
    let since = days + DAYS_BEFORE_1970;
    let (era, day_of_era) = (since / 146_097, since % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let year = era * 400 + year_of_era + u64::from(month >= 10);
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    let weekday = DAYS[usize::try_from(days % 7).unwrap_or(0)];
    let month = MONTHS[usize::try_from(month).unwrap_or(0)];
    format!("{weekday}, {day:02} {month} {year} {hour:02}:{minute:02}:{second:02} GMT")
}
