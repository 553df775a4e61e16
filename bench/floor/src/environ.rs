//! Builds the environ: every key of PEP 3333 and of CGI that Gunicorn's environ has too, except its private objects.
//!
//! Values that never change stand in a template that is copied; names of headers are translated once and remembered,
//! as any server that cares for speed does.

use std::collections::HashMap;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};

use crate::connection::{Peer, Request};

/// Different header names remembered; a client that invents more pays for the translation each time.
const REMEMBERED_NAMES: usize = 256;

/// Makes one environ for each request.
pub(crate) struct EnvironMaker<'py> {
    py: Python<'py>,
    template: Bound<'py, PyDict>,
    bytes_io: Bound<'py, PyAny>,
    names: HashMap<Box<str>, Bound<'py, PyString>>,
}

impl<'py> EnvironMaker<'py> {
    pub(crate) fn new(
        py: Python<'py>,
        port: u16,
        multiprocess: bool,
        multithread: bool,
    ) -> PyResult<Self> {
        let template = PyDict::new(py);
        template.set_item("wsgi.version", (1, 0))?;
        template.set_item("wsgi.url_scheme", "http")?;
        template.set_item("wsgi.errors", py.import("sys")?.getattr("stderr")?)?;
        template.set_item("wsgi.multithread", multithread)?;
        template.set_item("wsgi.multiprocess", multiprocess)?;
        template.set_item("wsgi.run_once", false)?;
        template.set_item("wsgi.input_terminated", true)?;
        template.set_item(
            "wsgi.file_wrapper",
            py.import("wsgiref.util")?.getattr("FileWrapper")?,
        )?;
        template.set_item("SERVER_SOFTWARE", "floor")?;
        template.set_item("SERVER_NAME", "127.0.0.1")?;
        template.set_item("SERVER_PORT", port.to_string())?;
        template.set_item("SCRIPT_NAME", "")?;
        let bytes_io = py.import("io")?.getattr("BytesIO")?;
        Ok(Self {
            py,
            template,
            bytes_io,
            names: HashMap::new(),
        })
    }

    /// From now on clients speak TLS.
    pub(crate) fn set_https(&self) -> PyResult<()> {
        self.template.set_item("wsgi.url_scheme", "https")
    }

    pub(crate) fn make(
        &mut self,
        request: &Request<'_>,
        peer: &Peer,
    ) -> PyResult<Bound<'py, PyDict>> {
        let py = self.py;
        let environ = self.template.copy()?;
        let (path, query) = request
            .target
            .split_once('?')
            .unwrap_or((request.target, ""));
        environ.set_item(intern!(py, "REQUEST_METHOD"), method(py, request.method))?;
        environ.set_item(intern!(py, "RAW_URI"), request.target)?;
        environ.set_item(
            intern!(py, "PATH_INFO"),
            native_string(py, &percent_decode(path)),
        )?;
        environ.set_item(intern!(py, "QUERY_STRING"), query)?;
        environ.set_item(
            intern!(py, "SERVER_PROTOCOL"),
            protocol(py, request.minor_version),
        )?;
        environ.set_item(intern!(py, "REMOTE_ADDR"), &peer.host)?;
        environ.set_item(intern!(py, "REMOTE_PORT"), &peer.port)?;
        let input = self.bytes_io.call1((PyBytes::new(py, request.body),))?;
        environ.set_item(intern!(py, "wsgi.input"), input)?;
        self.add_headers(&environ, request.headers)?;
        Ok(environ)
    }

    fn add_headers(
        &mut self,
        environ: &Bound<'py, PyDict>,
        headers: &[httparse::Header<'_>],
    ) -> PyResult<()> {
        for header in headers {
            let name = self.environ_name(header.name);
            let value = native_string(self.py, header.value);
            match environ.get_item(&name)? {
                None => environ.set_item(name, value)?,
                Some(earlier) => environ.set_item(name, format!("{earlier},{value}"))?,
            }
        }
        Ok(())
    }

    fn environ_name(&mut self, header_name: &str) -> Bound<'py, PyString> {
        if let Some(name) = self.names.get(header_name) {
            return name.clone();
        }
        let upper = header_name.to_ascii_uppercase().replace('-', "_");
        let name = match upper.as_str() {
            "CONTENT_TYPE" | "CONTENT_LENGTH" => upper,
            _ => format!("HTTP_{upper}"),
        };
        let name = PyString::intern(self.py, &name);
        if self.names.len() < REMEMBERED_NAMES {
            self.names.insert(header_name.into(), name.clone());
        }
        name
    }
}

fn method<'py>(py: Python<'py>, method: &str) -> Bound<'py, PyString> {
    match method {
        "GET" => intern!(py, "GET").clone(),
        "POST" => intern!(py, "POST").clone(),
        other => PyString::new(py, other),
    }
}

fn protocol(py: Python<'_>, minor_version: u8) -> Bound<'_, PyString> {
    match minor_version {
        0 => intern!(py, "HTTP/1.0").clone(),
        _ => intern!(py, "HTTP/1.1").clone(),
    }
}

/// PEP 3333 wants bytes as a string of code points up to 255; for ASCII, nearly always, that is the same as UTF-8.
fn native_string<'py>(py: Python<'py>, bytes: &[u8]) -> Bound<'py, PyString> {
    match std::str::from_utf8(bytes) {
        Ok(text) if text.is_ascii() => PyString::new(py, text),
        _ => PyString::new(
            py,
            &bytes.iter().copied().map(char::from).collect::<String>(),
        ),
    }
}

fn percent_decode(path: &str) -> std::borrow::Cow<'_, [u8]> {
    let bytes = path.as_bytes();
    if memchr::memchr(b'%', bytes).is_none() {
        return bytes.into();
    }
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&first, after)) = rest.split_first() {
        let pair = after
            .get(..2)
            .and_then(|pair| std::str::from_utf8(pair).ok());
        match pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
            Some(byte) if first == b'%' => {
                decoded.push(byte);
                rest = &after[2..];
            }
            _ => {
                decoded.push(first);
                rest = after;
            }
        }
    }
    decoded.into()
}
