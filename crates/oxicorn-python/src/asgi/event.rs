//! What an application passes to `send`: an event dictionary taken apart and checked for types.
//!
//! Order is not looked at here (see `response`). Every error says which event and which key is wrong.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyMapping, PyMemoryView, PyString};

use super::head::{Head, append_trailers, early_hint};

/// An event of the HTTP part.
pub(crate) enum HttpEvent<'py> {
    /// `http.response.start`; `whole`: all of the body, and the end.
    Start {
        head: Head,
        trailers: bool,
        whole: Option<Bound<'py, PyBytes>>,
    },
    /// `http.response.body`
    Body {
        body: Option<Bound<'py, PyBytes>>,
        more: bool,
    },
    /// `http.response.trailers`
    Trailers { encoded: Vec<u8>, more: bool },
    /// `http.response.pathsend`, `http.response.zerocopysend`
    File(FilePiece),
    /// `http.response.early_hint`, `http.response.informational`: a 1xx head, encoded.
    Informational(Vec<u8>),
}

/// A piece of a file that is the next piece of the body.
pub(crate) struct FilePiece {
    pub(crate) file: OwnedFd,
    pub(crate) offset: u64,
    pub(crate) len: u64,
    pub(crate) more: bool,
}

/// The dictionary and its type.
pub(crate) fn typed<'py>(
    event: &Bound<'py, PyAny>,
) -> PyResult<(Bound<'py, PyDict>, Bound<'py, PyString>)> {
    let py = event.py();
    let dict = match event.cast::<PyDict>() {
        Ok(dict) => dict.clone(),
        Err(_) if event.cast::<PyMapping>().is_ok() => {
            py.get_type::<PyDict>().call1((event,))?.cast_into()?
        }
        Err(_) => {
            let text = format!("an ASGI event must be a dict, not {event:?}");
            return Err(PyTypeError::new_err(text));
        }
    };
    let Some(kind) = dict.get_item(intern!(py, "type"))? else {
        return Err(PyValueError::new_err("an ASGI event needs the key 'type'"));
    };
    let kind = kind.cast_into::<PyString>().map_err(|error| {
        PyTypeError::new_err(format!(
            "'type' must be a str, not {:?}",
            error.into_inner()
        ))
    })?;
    Ok((dict, kind))
}

impl<'py> HttpEvent<'py> {
    /// `None`: the type is not one of the HTTP part.
    pub(crate) fn parse(
        dict: &Bound<'py, PyDict>,
        kind: &Bound<'py, PyString>,
    ) -> PyResult<Option<Self>> {
        let py = dict.py();
        Ok(Some(match kind.to_str()? {
            "http.response.start" => Self::Start {
                head: start(dict)?,
                trailers: truth(dict, intern!(py, "trailers"))?,
                // ASGI has no place for it; Tornado's face of this class has.
                whole: optional(dict, intern!(py, "oxicorn.body"))?
                    .map(Bound::cast_into)
                    .transpose()?,
            },
            "http.response.body" => Self::Body {
                body: body(dict)?,
                more: truth(dict, intern!(py, "more_body"))?,
            },
            "http.response.trailers" => Self::Trailers {
                encoded: trailers(dict)?,
                more: truth(dict, intern!(py, "more_trailers"))?,
            },
            "http.response.pathsend" => Self::File(path_piece(dict)?),
            "http.response.zerocopysend" => Self::File(zero_copy_piece(dict)?),
            "http.response.early_hint" => {
                let links = required(dict, "http.response.early_hint", intern!(py, "links"))?;
                Self::Informational(early_hint(&links)?)
            }
            "http.response.informational" => Self::Informational(informational(dict)?),
            _ => return Ok(None),
        }))
    }
}

fn start(dict: &Bound<'_, PyDict>) -> PyResult<Head> {
    let py = dict.py();
    let status = required(dict, "http.response.start", intern!(py, "status"))?;
    let status = status_of(&status, 200..=999)?;
    // ASGI has no place for it; Tornado has.
    let reason = optional(dict, intern!(py, "oxicorn.reason"))?;
    let reason = reason.map(Bound::cast_into::<PyBytes>).transpose()?;
    let headers = dict.get_item(intern!(py, "headers"))?;
    match reason {
        Some(reason) => Head::with_reason(status, reason.as_bytes(), headers.as_ref()),
        None => Head::new(status, headers.as_ref()),
    }
}

fn informational(dict: &Bound<'_, PyDict>) -> PyResult<Vec<u8>> {
    let py = dict.py();
    let status = required(dict, "http.response.informational", intern!(py, "status"))?;
    // 101 would be another protocol, 100 is sent when the body is asked for.
    let status = status_of(&status, 102..=199)?;
    Ok(Head::new(status, dict.get_item(intern!(py, "headers"))?.as_ref())?.bytes)
}

fn status_of(status: &Bound<'_, PyAny>, range: std::ops::RangeInclusive<u16>) -> PyResult<u16> {
    // Through `__index__`, as `http.HTTPStatus` and other integers.
    let number = status
        .extract::<i64>()
        .map_err(|_| PyTypeError::new_err(format!("'status' must be an int, not {status:?}")))?;
    u16::try_from(number)
        .ok()
        .filter(|number| range.contains(number))
        .ok_or_else(|| {
            let (least, most) = (range.start(), range.end());
            PyValueError::new_err(format!("'status' must be {least} to {most}, not {number}"))
        })
}

fn body<'py>(dict: &Bound<'py, PyDict>) -> PyResult<Option<Bound<'py, PyBytes>>> {
    let Some(body) = dict.get_item(intern!(dict.py(), "body"))? else {
        return Ok(None);
    };
    let body = match body.cast_into::<PyBytes>() {
        Ok(body) => return Ok(Some(body)),
        Err(error) => error.into_inner(),
    };
    // What changes or belongs to somebody else is copied.
    if body.is_instance_of::<PyByteArray>() || body.is_instance_of::<PyMemoryView>() {
        let bytes = dict.py().get_type::<PyBytes>().call1((body,))?;
        return Ok(Some(bytes.cast_into()?));
    }
    let kind = body.get_type().name()?;
    let text = format!("'body' of http.response.body must be bytes, not {kind}");
    Err(PyTypeError::new_err(text))
}

fn trailers(dict: &Bound<'_, PyDict>) -> PyResult<Vec<u8>> {
    let mut encoded = Vec::new();
    if let Some(headers) = dict.get_item(intern!(dict.py(), "headers"))? {
        append_trailers(&mut encoded, &headers)?;
    }
    Ok(encoded)
}

/// The whole file at a path.
fn path_piece(dict: &Bound<'_, PyDict>) -> PyResult<FilePiece> {
    let path = required(dict, "http.response.pathsend", intern!(dict.py(), "path"))?;
    let path: std::path::PathBuf = path.extract()?;
    let file = std::fs::File::open(&path)?;
    let len = regular_length(file.as_fd())
        .ok_or_else(|| PyValueError::new_err(format!("not a regular file: {}", path.display())))?;
    Ok(FilePiece {
        file: file.into(),
        offset: 0,
        len,
        more: false,
    })
}

/// A part of an open file: from `offset`, or where it stands; `count` bytes, or the rest.
fn zero_copy_piece(dict: &Bound<'_, PyDict>) -> PyResult<FilePiece> {
    let py = dict.py();
    let event = "http.response.zerocopysend";
    let file = required(dict, event, intern!(py, "file"))?;
    let number: i32 = match file.extract() {
        Ok(number) => number,
        Err(_) => file.call_method0(intern!(py, "fileno"))?.extract()?,
    };
    if number < 0 {
        return Err(PyValueError::new_err("'file' is not an open file"));
    }
    // SAFETY: the application's file owns the descriptor and is held by its event during this call;
    // what leaves is a duplicate.
    let file = unsafe { BorrowedFd::borrow_raw(number) }.try_clone_to_owned()?;
    let Some(whole) = regular_length(file.as_fd()) else {
        let text = "'file' of http.response.zerocopysend must be a regular file";
        return Err(PyValueError::new_err(text));
    };
    let offset = match optional(dict, intern!(py, "offset"))? {
        Some(offset) => offset.extract()?,
        None => std::io::Seek::stream_position(&mut &std::fs::File::from(file.try_clone()?))?,
    };
    let rest = whole.saturating_sub(offset);
    let len = match optional(dict, intern!(py, "count"))? {
        Some(count) => count.extract::<u64>()?.min(rest),
        None => rest,
    };
    let more = truth(dict, intern!(py, "more_body"))?;
    Ok(FilePiece {
        file,
        offset,
        len,
        more,
    })
}

fn regular_length(file: BorrowedFd<'_>) -> Option<u64> {
    oxicorn_os::file::regular_length(std::os::fd::AsRawFd::as_raw_fd(&file))
}

fn truth(dict: &Bound<'_, PyDict>, key: &Bound<'_, PyString>) -> PyResult<bool> {
    match dict.get_item(key)? {
        Some(value) => value.is_truthy(),
        None => Ok(false),
    }
}

fn optional<'py>(
    dict: &Bound<'py, PyDict>,
    key: &Bound<'py, PyString>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    Ok(dict.get_item(key)?.filter(|value| !value.is_none()))
}

fn required<'py>(
    dict: &Bound<'py, PyDict>,
    event: &str,
    key: &Bound<'py, PyString>,
) -> PyResult<Bound<'py, PyAny>> {
    dict.get_item(key)?
        .ok_or_else(|| PyValueError::new_err(format!("{event} needs the key {key:?}")))
}
