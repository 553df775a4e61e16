//! The head of a response: what `start_response` was given, checked and encoded for the gateway.

use oxicorn_link::wire::{HeaderList, ResponseEncoder, ResponseHead, append_header};
use oxicorn_proto::http1::{check_field_name, check_field_value, check_trailer_name};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString, PyTuple};

use crate::latin1;
use crate::request::error_page::{error_head, reason_phrase};

/// A checked head in the link's encoding.
#[derive(Debug, Default)]
pub(crate) struct Head {
    bytes: Vec<u8>,
    status: u16,
    /// `Content-Length` as the application gave it.
    length: Option<u64>,
    /// Memory for the next head: what `bytes` was before.
    spare: Vec<u8>,
}

/// Memory for heads that is kept from one request to the next.
const KEPT_MEMORY: usize = 2048;

impl Head {
    /// No head; small memory is kept.
    pub(crate) fn clear(&mut self) {
        self.status = 0;
        self.length = None;
        self.bytes.clear();
        for memory in [&mut self.bytes, &mut self.spare] {
            if memory.capacity() > KEPT_MEMORY {
                *memory = Vec::new();
            }
        }
    }

    /// Takes over `status` and `headers`; on error the old head stays.
    pub(crate) fn set(
        &mut self,
        status: &Bound<'_, PyString>,
        headers: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let (code, reason) = parse_status(status)?;
        let bytes = &mut self.spare;
        bytes.clear();
        bytes.reserve(256);
        let mut length = None;
        let mut encoder = ResponseEncoder::begin(
            bytes,
            &ResponseHead {
                status: code,
                reason,
            },
        );
        each_header(headers, |name, value| {
            if name.eq_ignore_ascii_case(b"content-length") {
                length = Some(parse_length(value)?);
            }
            encoder.header(name, value);
            Ok(())
        })?;
        encoder.finish();
        std::mem::swap(&mut self.bytes, &mut self.spare);
        self.status = code;
        self.length = length;
        Ok(())
    }

    /// A head of the server's own for an error page of `length` bytes.
    pub(crate) fn for_error(status: u16, length: usize) -> Self {
        Self {
            bytes: error_head(status, length),
            status,
            length: Some(length as u64),
            spare: Vec::new(),
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn length(&self) -> Option<u64> {
        self.length
    }

    /// RFC 9110 section 6.4.1: responses with these codes have no content.
    pub(crate) fn allows_body(&self) -> bool {
        !matches!(self.status, 100..=199 | 204 | 304)
    }

    /// PEP 3333, "Handling the Content-Length header": the server may add it when it knows the whole
    /// body.
    pub(crate) fn announce_length(&mut self, length: u64) {
        if self.length.is_none() {
            self.length = Some(length);
            let mut digits = itoa::Buffer::new();
            append_header(
                &mut self.bytes,
                b"Content-Length",
                digits.format(length).as_bytes(),
            );
        }
    }
}

/// A 1xx head with `headers`, for `wsgi.early_hints`.
pub(crate) fn encode_informational(status: u16, headers: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    let mut bytes = Vec::new();
    let reason = reason_phrase(status).as_bytes();
    let mut encoder = ResponseEncoder::begin(&mut bytes, &ResponseHead { status, reason });
    // Unlike those of a response these may be bytes, as with Gunicorn.
    for pair in headers.try_iter()? {
        let pair = pair?;
        let parts = pair.try_iter()?.map(|part| Ok(text_of(&part?)));
        let pair = PyTuple::new(pair.py(), parts.collect::<PyResult<Vec<_>>>()?)?;
        take_header(pair.as_any(), |name, value| {
            encoder.header(name, value);
            Ok(())
        })?;
    }
    encoder.finish();
    Ok(bytes)
}

/// Bytes as text; everything else as it is.
fn text_of<'py>(part: &Bound<'py, PyAny>) -> Bound<'py, PyAny> {
    match part.cast::<PyBytes>() {
        Ok(bytes) => latin1::to_string(part.py(), bytes.as_bytes()).into_any(),
        Err(_) => part.clone(),
    }
}

/// Trailers, for `oxicorn.send_trailers`.
pub(crate) fn encode_trailers(trailers: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    let mut bytes = Vec::new();
    each_header(trailers, |name, value| {
        if check_trailer_name(name).is_err() {
            let name = String::from_utf8_lossy(name);
            return Err(PyValueError::new_err(format!(
                "{name} cannot be a trailer: its meaning is needed before the body"
            )));
        }
        HeaderList::encode_entry(&mut bytes, name, value);
        Ok(())
    })?;
    Ok(bytes)
}

/// "200 OK": three digits, then nothing or a space and a phrase without control characters.
fn parse_status<'a>(status: &'a Bound<'_, PyString>) -> PyResult<(u16, &'a [u8])> {
    let invalid = || PyValueError::new_err(format!("invalid status: {status:?}"));
    let bytes = latin1::bytes_of(status).ok_or_else(invalid)?;
    let (digits, rest) = bytes.split_at_checked(3).ok_or_else(invalid)?;
    if !digits.iter().all(u8::is_ascii_digit) || digits[0] == b'0' {
        return Err(invalid());
    }
    let code = digits
        .iter()
        .fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
    let reason = match rest {
        [] => rest,
        [b' ', reason @ ..] if check_field_value(reason).is_ok() => reason.trim_ascii(),
        _ => return Err(invalid()),
    };
    Ok((code, reason))
}

/// Takes the application's headers apart, one after the other. PEP 3333 wants a list, for which there is
/// a short way; Gunicorn takes whatever can be iterated.
fn each_header(
    headers: &Bound<'_, PyAny>,
    mut take: impl FnMut(&[u8], &[u8]) -> PyResult<()>,
) -> PyResult<()> {
    if let Ok(list) = headers.cast_exact::<PyList>() {
        return list
            .iter()
            .try_for_each(|entry| take_header(&entry, &mut take));
    }
    headers
        .try_iter()?
        .try_for_each(|entry| take_header(&entry?, &mut take))
}

/// Takes one `(name, value)` of the application apart and checks it.
fn take_header(
    entry: &Bound<'_, PyAny>,
    take: impl FnOnce(&[u8], &[u8]) -> PyResult<()>,
) -> PyResult<()> {
    let not_a_pair = || PyTypeError::new_err(format!("header is not a (name, value): {entry:?}"));
    let pair = entry.cast::<PyTuple>().map_err(|_| not_a_pair())?;
    if pair.len() != 2 {
        return Err(not_a_pair());
    }
    let (name, value) = (pair.get_borrowed_item(0)?, pair.get_borrowed_item(1)?);
    let name = name
        .cast::<PyString>()
        .map_err(|_| not_a_string("name", &name))?;
    let value = value
        .cast::<PyString>()
        .map_err(|_| not_a_string("value", &value))?;
    let name_bytes = latin1::bytes_of(&name)
        .filter(|bytes| check_field_name(bytes).is_ok())
        .ok_or_else(|| PyValueError::new_err(format!("invalid header name: {name:?}")))?;
    let value_bytes = latin1::bytes_of(&value)
        .map(<[u8]>::trim_ascii)
        .filter(|bytes| check_field_value(bytes).is_ok())
        .ok_or_else(|| PyValueError::new_err(format!("invalid header value: {value:?}")))?;
    take(name_bytes, value_bytes)
}

fn not_a_string(what: &str, found: &Bound<'_, PyAny>) -> PyErr {
    PyTypeError::new_err(format!("header {what} is not a string: {found:?}"))
}

fn parse_length(value: &[u8]) -> PyResult<u64> {
    std::str::from_utf8(value)
        .ok()
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| PyValueError::new_err("invalid Content-Length"))
}
