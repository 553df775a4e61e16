//! What an application passes to `send` on a WebSocket: taken apart and checked.

use oxicorn_proto::http1::check_field_name;
use oxicorn_proto::websocket::{CloseCode, REASON_MAX};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyMemoryView, PyString};

use crate::asgi::event::HttpEvent;
use crate::asgi::head::Head;

/// What precedes the type of an event of the HTTP part in a denial.
const DENIAL: &str = "websocket.";

/// An event of the WebSocket part.
pub(crate) enum WebSocketEvent<'py> {
    /// `websocket.accept`: the 101, encoded.
    Accept(Vec<u8>),
    /// `websocket.send`
    Send(Data),
    /// `websocket.close`
    Close { code: u16, reason: String },
    /// `websocket.http.response.start` and `.body`
    Denial(HttpEvent<'py>),
}

/// A message, whole.
pub(crate) enum Data {
    Text(Py<PyString>),
    Binary(Py<PyBytes>),
}

impl Data {
    /// What goes over the wire.
    pub(crate) fn bytes<'a>(&'a self, py: Python<'a>) -> PyResult<&'a [u8]> {
        Ok(match self {
            Self::Text(text) => text.bind(py).to_str()?.as_bytes(),
            Self::Binary(bytes) => bytes.bind(py).as_bytes(),
        })
    }

    pub(crate) const fn is_binary(&self) -> bool {
        matches!(self, Self::Binary(_))
    }
}

impl<'py> WebSocketEvent<'py> {
    /// `None`: the type is not one of the WebSocket part.
    pub(crate) fn parse(
        dict: &Bound<'py, PyDict>,
        kind: &Bound<'py, PyString>,
    ) -> PyResult<Option<Self>> {
        Ok(Some(match kind.to_str()? {
            "websocket.send" => Self::Send(data(dict)?),
            "websocket.accept" => Self::Accept(accept(dict)?),
            "websocket.close" => close(dict)?,
            denial @ ("websocket.http.response.start" | "websocket.http.response.body") => {
                let kind = PyString::new(dict.py(), denial.trim_start_matches(DENIAL));
                return Ok(HttpEvent::parse(dict, &kind)?.map(Self::Denial));
            }
            _ => return Ok(None),
        }))
    }
}

fn given<'py>(
    dict: &Bound<'py, PyDict>,
    key: &Bound<'py, PyString>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    Ok(dict.get_item(key)?.filter(|value| !value.is_none()))
}

/// Exactly one of `bytes` and `text`.
fn data(dict: &Bound<'_, PyDict>) -> PyResult<Data> {
    let py = dict.py();
    let text = given(dict, intern!(py, "text"))?;
    let bytes = given(dict, intern!(py, "bytes"))?;
    match (text, bytes) {
        (Some(text), None) => {
            let text = text.cast_into::<PyString>().map_err(|error| {
                let kind = kind_of(&error.into_inner());
                PyTypeError::new_err(format!("'text' of websocket.send must be str, not {kind}"))
            })?;
            // What cannot be UTF-8 is said here, where the application sees it.
            text.to_str()?;
            Ok(Data::Text(text.unbind()))
        }
        (None, Some(bytes)) => Ok(Data::Binary(bytes_of(bytes)?.unbind())),
        _ => Err(PyValueError::new_err(
            "websocket.send needs exactly one of 'bytes' and 'text'",
        )),
    }
}

fn bytes_of(bytes: Bound<'_, PyAny>) -> PyResult<Bound<'_, PyBytes>> {
    let py = bytes.py();
    let bytes = match bytes.cast_into::<PyBytes>() {
        Ok(bytes) => return Ok(bytes),
        Err(error) => error.into_inner(),
    };
    // What changes or belongs to somebody else is copied.
    if bytes.is_instance_of::<PyByteArray>() || bytes.is_instance_of::<PyMemoryView>() {
        return Ok(py.get_type::<PyBytes>().call1((bytes,))?.cast_into()?);
    }
    let kind = kind_of(&bytes);
    let text = format!("'bytes' of websocket.send must be bytes, not {kind}");
    Err(PyTypeError::new_err(text))
}

fn kind_of(value: &Bound<'_, PyAny>) -> String {
    value
        .get_type()
        .name()
        .map_or_else(|_| "?".into(), |name| name.to_string())
}

fn accept(dict: &Bound<'_, PyDict>) -> PyResult<Vec<u8>> {
    let py = dict.py();
    let headers = given(dict, intern!(py, "headers"))?;
    let mut head = Head::new(101, headers.as_ref())?;
    if head.names(b"sec-websocket-protocol") {
        return Err(PyValueError::new_err(
            "the subprotocol of websocket.accept is said by 'subprotocol', not by a header",
        ));
    }
    if let Some(subprotocol) = given(dict, intern!(py, "subprotocol"))? {
        let name = subprotocol.cast::<PyString>().map_err(|_| {
            PyTypeError::new_err(format!("'subprotocol' must be a str, not {subprotocol:?}"))
        })?;
        let name = name.to_str()?.as_bytes();
        check_field_name(name)
            .map_err(|_| PyValueError::new_err(format!("invalid subprotocol: {subprotocol:?}")))?;
        head.append(b"Sec-WebSocket-Protocol", name);
    }
    Ok(head.bytes)
}

fn close<'py>(dict: &Bound<'py, PyDict>) -> PyResult<WebSocketEvent<'py>> {
    let py = dict.py();
    let code = match given(dict, intern!(py, "code"))? {
        None => CloseCode::NORMAL.0,
        Some(code) => {
            let number: i64 = code.extract().map_err(|_| {
                PyTypeError::new_err(format!("'code' must be an int, not {code:?}"))
            })?;
            let sendable = u16::try_from(number)
                .ok()
                .filter(|number| CloseCode(*number).may_be_sent());
            sendable.ok_or_else(|| {
                PyValueError::new_err(format!(
                    "{number} is not a close code that may be sent (RFC 6455, 7.4)"
                ))
            })?
        }
    };
    let reason = match given(dict, intern!(py, "reason"))? {
        None => String::new(),
        Some(reason) => reason
            .extract()
            .map_err(|_| PyTypeError::new_err(format!("'reason' must be a str, not {reason:?}")))?,
    };
    if reason.len() > REASON_MAX {
        let text = format!("'reason' is longer than {REASON_MAX} bytes");
        return Err(PyValueError::new_err(text));
    }
    Ok(WebSocketEvent::Close { code, reason })
}
