//! Heads and trailers as ASGI gives them (byte strings), checked and encoded for the gateway.

use oxicorn_link::wire::{HeaderList, ResponseEncoder, ResponseHead, ResponseView, append_header};
use oxicorn_proto::http1::{check_field_name, check_field_value};
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};

/// A checked head in the link's encoding.
#[derive(Debug, Default)]
pub(crate) struct Head {
    pub(crate) bytes: Vec<u8>,
    pub(crate) status: u16,
    /// `Content-Length` as the application gave it.
    pub(crate) length: Option<u64>,
}

impl Head {
    /// From a status and ASGI's headers.
    pub(crate) fn new(status: u16, headers: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        Self::with_reason(status, reason_phrase(status).as_bytes(), headers)
    }

    /// The same with a reason phrase of the application's.
    pub(crate) fn with_reason(
        status: u16,
        reason: &[u8],
        headers: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        check_field_value(reason)
            .map_err(|_| PyValueError::new_err("the reason phrase has control characters"))?;
        let mut bytes = Vec::with_capacity(256);
        let mut length = None;
        let mut encoder = ResponseEncoder::begin(&mut bytes, &ResponseHead { status, reason });
        if let Some(headers) = headers {
            each_header(headers, |name, value| {
                if name.eq_ignore_ascii_case(b"content-length") {
                    length = Some(parse_length(value)?);
                }
                encoder.header(name, value);
                Ok(())
            })?;
        }
        encoder.finish();
        Ok(Self {
            bytes,
            status,
            length,
        })
    }

    /// Whether there is a header of this name.
    pub(crate) fn names(&self, name: &[u8]) -> bool {
        let view = ResponseView::decode(&self.bytes);
        view.is_ok_and(|view| {
            let mut headers = view.headers.iter();
            headers.any(|(found, _)| found.eq_ignore_ascii_case(name))
        })
    }

    /// Adds a header, which must be sound.
    pub(crate) fn append(&mut self, name: &[u8], value: &[u8]) {
        append_header(&mut self.bytes, name, value);
    }

    /// RFC 9110 section 6.4.1: responses with these codes have no content.
    pub(crate) fn allows_body(&self) -> bool {
        !matches!(self.status, 100..=199 | 204 | 304)
    }
}

/// A 103 with a `Link` header for each of `links` (extension `http.response.early_hint`).
pub(crate) fn early_hint(links: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    let mut bytes = Vec::new();
    let reason = reason_phrase(103).as_bytes();
    let head = ResponseHead {
        status: 103,
        reason,
    };
    let mut encoder = ResponseEncoder::begin(&mut bytes, &head);
    for link in links.try_iter()? {
        let link = link?;
        encoder.header(b"Link", value_of(&link)?);
    }
    encoder.finish();
    Ok(bytes)
}

/// ASGI's headers as trailers.
pub(crate) fn append_trailers(out: &mut Vec<u8>, headers: &Bound<'_, PyAny>) -> PyResult<()> {
    each_header(headers, |name, value| {
        HeaderList::encode_entry(out, name, value);
        Ok(())
    })
}

/// Takes the application's headers apart, one after the other. The usual forms are lists of tuples and
/// lists of lists; the specification asks for any iterable.
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
        .try_iter()
        .map_err(|_| PyTypeError::new_err(format!("headers must be iterable, not {headers:?}")))?
        .try_for_each(|entry| take_header(&entry?, &mut take))
}

fn take_header(
    entry: &Bound<'_, PyAny>,
    take: impl FnOnce(&[u8], &[u8]) -> PyResult<()>,
) -> PyResult<()> {
    if let Ok(pair) = entry.cast::<PyTuple>()
        && let [name, value] = pair.as_slice()
    {
        return take(name_of(name)?, value_of(value)?);
    }
    let items: Vec<_> = match entry.try_iter() {
        Ok(items) => items.collect::<PyResult<_>>()?,
        Err(_) => return Err(not_a_pair(entry)),
    };
    let [name, value] = items.as_slice() else {
        return Err(not_a_pair(entry));
    };
    take(name_of(name)?, value_of(value)?)
}

fn name_of<'a>(name: &'a Bound<'_, PyAny>) -> PyResult<&'a [u8]> {
    let bytes = bytes_of("name", name)?;
    check_field_name(bytes)
        .map_err(|_| PyValueError::new_err(format!("invalid header name: {name:?}")))?;
    Ok(bytes)
}

fn value_of<'a>(value: &'a Bound<'_, PyAny>) -> PyResult<&'a [u8]> {
    let bytes = bytes_of("value", value)?.trim_ascii();
    check_field_value(bytes)
        .map_err(|_| PyValueError::new_err(format!("invalid header value: {value:?}")))?;
    Ok(bytes)
}

fn bytes_of<'a>(what: &str, found: &'a Bound<'_, PyAny>) -> PyResult<&'a [u8]> {
    let bytes = found.cast::<PyBytes>().map_err(|_| {
        PyTypeError::new_err(format!(
            "header {what} must be a byte string, not {found:?}"
        ))
    })?;
    Ok(bytes.as_bytes())
}

fn not_a_pair(entry: &Bound<'_, PyAny>) -> PyErr {
    PyTypeError::new_err(format!(
        "header must be a pair [name, value], not {entry:?}"
    ))
}

fn parse_length(value: &[u8]) -> PyResult<u64> {
    std::str::from_utf8(value)
        .ok()
        .filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| PyRuntimeError::new_err("invalid Content-Length"))
}

/// ASGI gives no reason phrase: the registered one (RFC 9110 section 15 and later documents), else none.
pub(crate) const fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        102 => "Processing",
        103 => "Early Hints",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        203 => "Non-Authoritative Information",
        204 => "No Content",
        205 => "Reset Content",
        206 => "Partial Content",
        207 => "Multi-Status",
        208 => "Already Reported",
        226 => "IM Used",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        305 => "Use Proxy",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        418 => "I'm a Teapot",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        423 => "Locked",
        424 => "Failed Dependency",
        425 => "Too Early",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        451 => "Unavailable For Legal Reasons",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        506 => "Variant Also Negotiates",
        507 => "Insufficient Storage",
        508 => "Loop Detected",
        510 => "Not Extended",
        511 => "Network Authentication Required",
        _ => "",
    }
}
