//! The environ: PEP 3333's dictionary with Gunicorn's additions, built from the parsed head.
//!
//! What is the same for every request, and what most of them have, stands in a template that is copied (one
//! pass over a table of known size): only what is not as usual is set. Every key is an interned string made
//! once. Headers' keys (`HTTP_USER_AGENT`) are remembered by the bytes of the name, with the value that came
//! last; the texts of addresses likewise.

use std::sync::{Mutex, OnceLock};

use oxicorn_link::wire::{self, Address, RequestView, Version};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString};

use super::Input;
use super::known_addresses::KnownAddresses;
use crate::latin1;
use crate::locks::lock;
use crate::request::headers::{KnownHeaders, takes_trailers};
use crate::request::is_https;

/// What every environ of this worker has in common.
pub(crate) struct EnvironFactory {
    template: Py<PyDict>,
    /// The listener that was asked first, and the template with its name in it: mostly there is but one.
    listener: OnceLock<Listener>,
    /// `wsgi.input` of the template.
    empty_input: Py<Input>,
    keys: Keys,
    values: Values,
    headers: Mutex<KnownHeaders<PyString, PyString>>,
    addresses: Mutex<KnownAddresses>,
    /// From the variable `SCRIPT_NAME`; a trusted forwarder's header overrides it.
    script_name: Vec<u8>,
}

struct Listener {
    host: Vec<u8>,
    port: u16,
    template: Py<PyDict>,
}

impl Listener {
    fn is(&self, server: &Address<'_>) -> bool {
        matches!(*server, Address::Ip { host, port } if port == self.port && *host == *self.host)
    }
}

/// What the worker's settings put into every environ.
pub(crate) struct Constants<'py> {
    pub(crate) sendfile: bool,
    pub(crate) errors: Bound<'py, PyAny>,
    pub(crate) file_wrapper: Bound<'py, PyAny>,
    pub(crate) multithread: bool,
    pub(crate) multiprocess: bool,
    pub(crate) server_software: Bound<'py, PyAny>,
    pub(crate) script_name: Vec<u8>,
}

impl<'py> Constants<'py> {
    /// From the settings and the environment of a worker.
    pub(crate) fn of(worker: &Bound<'py, PyAny>, multithread: bool) -> PyResult<Self> {
        let py = worker.py();
        let cfg = worker.getattr("cfg")?;
        let wsgi = py.import("oxicorn.http.wsgi")?;
        let variables = py.import("os")?.getattr("environ")?;
        let script_name: String = variables
            .call_method1("get", ("SCRIPT_NAME", ""))?
            .extract()?;
        Ok(Self {
            sendfile: cfg.getattr("native")?.call_method0("sendfile")?.extract()?,
            errors: wsgi.call_method1("ErrorsStream", (worker.getattr("log")?,))?,
            file_wrapper: wsgi.getattr("FileWrapper")?,
            multithread,
            multiprocess: cfg.getattr("workers")?.extract::<u32>()? > 1,
            server_software: py.import("oxicorn")?.getattr("SERVER_SOFTWARE")?,
            script_name: script_name.into_bytes(),
        })
    }
}

/// Sets what came beside the head (of a web server in front, of TLS); returns what is said of `SCRIPT_NAME`.
fn set_variables<'v>(
    py: Python<'_>,
    environ: &Bound<'_, PyDict>,
    view: &RequestView<'v>,
) -> PyResult<Option<&'v [u8]>> {
    let mut script_name = None;
    for (name, value) in &view.variables {
        if name == b"SCRIPT_NAME" {
            script_name = Some(value);
        } else if !name.starts_with(OWN_VARIABLES) {
            environ.set_item(latin1::to_string(py, name), latin1::to_string(py, value))?;
        }
    }
    Ok(script_name)
}

/// What the names of variables begin with that are between the gateway and the worker.
const OWN_VARIABLES: &[u8] = b"oxicorn.";

/// The path of a request does not start with its `SCRIPT_NAME`.
#[derive(Debug)]
pub(crate) struct ScriptNameMismatch;

macro_rules! interned_strings {
    ($(#[$meta:meta])* $name:ident { $($field:ident = $text:literal),* $(,)? }) => {
        $(#[$meta])*
        struct $name { $($field: Py<PyString>),* }
        impl $name {
            fn new(py: Python<'_>) -> Self {
                Self { $($field: PyString::intern(py, $text).unbind()),* }
            }
        }
    };
}

interned_strings! {
    /// The keys that differ from request to request.
    Keys {
        request_method = "REQUEST_METHOD", raw_uri = "RAW_URI", path_info = "PATH_INFO",
        script_name = "SCRIPT_NAME", query_string = "QUERY_STRING",
        server_protocol = "SERVER_PROTOCOL", url_scheme = "wsgi.url_scheme", input = "wsgi.input",
        early_hints = "wsgi.early_hints", trailers = "oxicorn.trailers",
        send_trailers = "oxicorn.send_trailers", http2_trailers = "gunicorn.http2.send_trailers",
        http_version = "HTTP_VERSION", priority_weight = "gunicorn.http2.priority_weight",
        priority_depends_on = "gunicorn.http2.priority_depends_on", socket = "gunicorn.socket",
        remote_addr = "REMOTE_ADDR", remote_port = "REMOTE_PORT",
        server_name = "SERVER_NAME", server_port = "SERVER_PORT",
        proxy_protocol = "PROXY_PROTOCOL", proxy_addr = "PROXY_ADDR", proxy_port = "PROXY_PORT",
    }
}

interned_strings! {
    /// Values that come again and again.
    Values {
        get = "GET", head = "HEAD", post = "POST", put = "PUT", delete = "DELETE",
        options = "OPTIONS", patch = "PATCH",
        http10 = "HTTP/1.0", http11 = "HTTP/1.1", http2 = "HTTP/2.0", two = "2", http3 = "HTTP/3.0", http = "http", https = "https",
    }
}

impl EnvironFactory {
    /// `empty_input` is `wsgi.input` of requests without a body.
    pub(crate) fn new(
        py: Python<'_>,
        constants: Constants<'_>,
        empty_input: Py<Input>,
    ) -> PyResult<Self> {
        let (keys, values) = (Keys::new(py), Values::new(py));
        let template = PyDict::new(py);
        template.set_item("wsgi.version", (1, 0))?;
        template.set_item("wsgi.errors", constants.errors)?;
        template.set_item("wsgi.multithread", constants.multithread)?;
        template.set_item("wsgi.multiprocess", constants.multiprocess)?;
        template.set_item("wsgi.run_once", false)?;
        template.set_item("wsgi.file_wrapper", constants.file_wrapper)?;
        template.set_item("wsgi.input_terminated", true)?;
        template.set_item("SERVER_SOFTWARE", constants.server_software)?;
        // Places for what every request sets. A copy keeps the size of the table, and a table that has
        // once grown beyond 21 entries has room for 42: some twenty headers find theirs without
        // another growth, which would cost more than setting them.
        for key in keys.always_set() {
            template.set_item(key.bind(py), py.None())?;
        }
        let script_name = latin1::to_string(py, &constants.script_name);
        template.set_item(keys.script_name.bind(py), script_name)?;
        template.set_item(keys.request_method.bind(py), values.get.bind(py))?;
        template.set_item(keys.query_string.bind(py), latin1::to_string(py, b""))?;
        template.set_item(keys.server_protocol.bind(py), values.http11.bind(py))?;
        template.set_item(keys.url_scheme.bind(py), values.http.bind(py))?;
        template.set_item(keys.input.bind(py), empty_input.bind(py))?;
        Ok(Self {
            template: template.unbind(),
            listener: OnceLock::new(),
            empty_input,
            keys,
            values,
            headers: Mutex::default(),
            addresses: Mutex::default(),
            script_name: constants.script_name,
        })
    }

    /// `wsgi.input` of a request without a body.
    pub(crate) fn empty_input<'py>(&self, py: Python<'py>) -> Bound<'py, Input> {
        self.empty_input.bind(py).clone()
    }

    /// A copy of the template with what is not as usual in the first line of the request.
    fn begin<'py>(&self, py: Python<'py>, view: &RequestView<'_>) -> PyResult<Bound<'py, PyDict>> {
        let head = &view.head;
        let keys = &self.keys;
        let environ = self.template_for(py, &head.server)?.copy()?;
        let set = |key: &Py<PyString>, value: &Bound<'py, PyString>| {
            environ.set_item(key.bind(py), value)
        };
        if head.method != b"GET" {
            set(&keys.request_method, &self.method(py, head.method))?;
        }
        if !head.query_string.is_empty() {
            let query_string = latin1::to_string(py, head.query_string);
            set(&keys.query_string, &query_string)?;
        }
        if head.version != Version::Http11 {
            set(&keys.server_protocol, self.protocol(py, head.version))?;
        }
        if is_https(view) {
            set(&keys.url_scheme, self.values.https.bind(py))?;
        }
        Ok(environ)
    }

    /// Whether the name of this listener stands in a template.
    fn has_named(&self, server: &Address<'_>) -> bool {
        (self.listener.get()).is_some_and(|listener| listener.is(server))
    }

    /// The template with the name of the listener, where that is known.
    fn template_for<'a, 'py>(
        &'a self,
        py: Python<'py>,
        server: &Address<'_>,
    ) -> PyResult<&'a Bound<'py, PyDict>> {
        if let (None, Address::Ip { host, port }) = (self.listener.get(), *server) {
            let template = self.template.bind(py).copy()?;
            let keys = &self.keys;
            template.set_item(keys.server_name.bind(py), latin1::to_string(py, host))?;
            template.set_item(keys.server_port.bind(py), port_string(py, port))?;
            let _ = self.listener.set(Listener {
                host: host.to_vec(),
                port,
                template: template.unbind(),
            });
        }
        let known = self.listener.get().filter(|listener| listener.is(server));
        Ok(known
            .map_or(&self.template, |listener| &listener.template)
            .bind(py))
    }

    /// The environ of one request.
    pub(crate) fn build<'py>(
        &self,
        py: Python<'py>,
        view: &RequestView<'_>,
        request: &PerRequest<'_, 'py>,
    ) -> PyResult<Result<Bound<'py, PyDict>, ScriptNameMismatch>> {
        let environ = self.begin(py, view)?;
        let head = &view.head;
        let keys = &self.keys;
        let set =
            |key: &Py<PyString>, value: &Bound<'py, PyAny>| environ.set_item(key.bind(py), value);
        if !request.input.is(&self.empty_input) {
            set(&keys.input, request.input)?;
        }
        set(&keys.socket, request.socket)?;
        set(&keys.early_hints, request.early_hints)?;
        let raw_uri = latin1::to_string(py, head.request_target);
        set(&keys.raw_uri, &raw_uri)?;
        self.set_addresses(py, &environ, view)?;
        let header_script_name = self.set_headers(py, &environ, view)?;
        if let Ok(trailers) = view.trailers()
            && !trailers.is_empty()
        {
            let pairs = trailers
                .iter()
                .map(|(name, value)| (latin1::to_string(py, name), latin1::to_string(py, value)));
            set(&keys.trailers, PyList::new(py, pairs)?.as_any())?;
        }
        for (name, value) in view.variables {
            if !wire::is_for_the_worker(name) {
                environ.set_item(latin1::to_string(py, name), latin1::to_string(py, value))?;
            }
        }
        if takes_trailers(view) {
            let send = request.exchange.getattr(intern!(py, "send_trailers"))?;
            set(&keys.send_trailers, &send)?;
            if head.version == Version::Http2 {
                set(&keys.http2_trailers, &send)?;
            }
        }
        if head.version == Version::Http2 {
            set(&keys.http_version, self.values.two.bind(py))?;
            // What a client has that says nothing of it (RFC 9113 section 5.3.2 has no more).
            environ.set_item(keys.priority_weight.bind(py), 16)?;
            environ.set_item(keys.priority_depends_on.bind(py), 0)?;
        }
        let said = set_variables(py, &environ, view)?.or(header_script_name);
        let script_name = said.unwrap_or(&self.script_name);
        let Some(path) = head.path.strip_prefix(script_name) else {
            return Ok(Err(ScriptNameMismatch));
        };
        if said.is_some() {
            set(&keys.script_name, &latin1::to_string(py, script_name))?;
        }
        if path == head.request_target {
            set(&keys.path_info, &raw_uri)?;
        } else {
            set(&keys.path_info, &latin1::to_string(py, path))?;
        }
        Ok(Ok(environ))
    }

    fn method<'py>(&self, py: Python<'py>, method: &[u8]) -> Bound<'py, PyString> {
        let values = &self.values;
        let known = match method {
            b"GET" => &values.get,
            b"HEAD" => &values.head,
            b"POST" => &values.post,
            b"PUT" => &values.put,
            b"DELETE" => &values.delete,
            b"OPTIONS" => &values.options,
            b"PATCH" => &values.patch,
            other => return latin1::to_string(py, other),
        };
        known.bind(py).clone()
    }

    fn protocol<'a, 'py>(&'a self, py: Python<'py>, version: Version) -> &'a Bound<'py, PyString> {
        let values = &self.values;
        let protocol = match version {
            Version::Http10 => &values.http10,
            Version::Http11 => &values.http11,
            Version::Http2 => &values.http2,
            Version::Http3 => &values.http3,
        };
        protocol.bind(py)
    }

    fn set_addresses<'py>(
        &self,
        py: Python<'py>,
        environ: &Bound<'py, PyDict>,
        view: &RequestView<'_>,
    ) -> PyResult<()> {
        let keys = &self.keys;
        let set = |key: &Py<PyString>, value: &[u8]| {
            environ.set_item(key.bind(py), latin1::to_string(py, value))
        };
        let set_port =
            |key: &Py<PyString>, port| environ.set_item(key.bind(py), port_string(py, port));
        match view.head.client {
            Address::Ip { host, port } => {
                let (host, port) = lock(&self.addresses).texts(py, host, port);
                environ.set_item(keys.remote_addr.bind(py), host)?;
                environ.set_item(keys.remote_port.bind(py), port)?;
            }
            Address::Unix { .. } => {
                set(&keys.remote_addr, b"")?;
                environ.del_item(keys.remote_port.bind(py))?;
            }
        }
        match view.head.server {
            // In the template already.
            Address::Ip { .. } if self.has_named(&view.head.server) => {}
            Address::Ip { host, port } => {
                set(&keys.server_name, host)?;
                set_port(&keys.server_port, port)?;
            }
            // No address: the server's name is what the client believes it to be.
            Address::Unix { path } => {
                let (name, port) = split_host(host_header(view), is_https(view));
                set(&keys.server_name, first_of(name, path))?;
                set(&keys.server_port, port)?;
            }
        }
        if let Some(proxy) = view.head.proxy {
            set(&keys.proxy_protocol, proxy.protocol)?;
            set(&keys.proxy_addr, proxy.destination)?;
            set_port(&keys.proxy_port, proxy.destination_port)?;
        }
        Ok(())
    }

    /// Sets the header keys; returns what a trusted forwarder said about `SCRIPT_NAME`.
    fn set_headers<'a>(
        &self,
        py: Python<'_>,
        environ: &Bound<'_, PyDict>,
        view: &RequestView<'a>,
    ) -> PyResult<Option<&'a [u8]>> {
        let mut script_name = None;
        let mut headers = lock(&self.headers);
        let before = environ.len();
        let mut set = 0;
        for (name, value) in view.headers {
            let (key, text) = headers.get(
                py,
                (name, value),
                || PyString::intern(py, &key_text(name)),
                |_| latin1::to_string(py, value),
            );
            if name.len() == 11 && name.eq_ignore_ascii_case(b"SCRIPT_NAME") {
                script_name = Some(value);
            }
            environ.set_item(key, text)?;
            set += 1;
            if environ.len() != before + set {
                // The key was there: a repeated header, whose values are joined in order.
                set -= 1;
                join_repeated(py, environ, view, key)?;
            }
        }
        Ok(script_name)
    }
}

/// The objects that belong to one request.
pub(crate) struct PerRequest<'a, 'py> {
    pub(crate) input: &'a Bound<'py, PyAny>,
    pub(crate) socket: &'a Bound<'py, PyAny>,
    pub(crate) early_hints: &'a Bound<'py, PyAny>,
    pub(crate) exchange: &'a Bound<'py, PyAny>,
}

impl Keys {
    fn always_set(&self) -> [&Py<PyString>; 14] {
        [
            &self.request_method,
            &self.raw_uri,
            &self.path_info,
            &self.script_name,
            &self.query_string,
            &self.server_protocol,
            &self.url_scheme,
            &self.input,
            &self.early_hints,
            &self.socket,
            &self.remote_addr,
            &self.remote_port,
            &self.server_name,
            &self.server_port,
        ]
    }
}

/// RFC 9110 section 5.2: the values of all lines of that name, in order. Gunicorn joins with ",".
fn join_repeated(
    py: Python<'_>,
    environ: &Bound<'_, PyDict>,
    view: &RequestView<'_>,
    key: &Bound<'_, PyString>,
) -> PyResult<()> {
    let mut joined = Vec::new();
    for (name, value) in view.headers {
        if key.to_cow()? == key_text(name) {
            if !joined.is_empty() {
                joined.push(b',');
            }
            joined.extend_from_slice(value);
        }
    }
    environ.set_item(key, latin1::to_string(py, &joined))
}

fn host_header<'a>(view: &RequestView<'a>) -> &'a [u8] {
    let mut headers = view.headers.iter();
    let host = headers.find(|(name, _)| name.eq_ignore_ascii_case(b"host"));
    host.map_or(b"", |(_, value)| value)
}

/// PEP 3333 wants a name that is not empty: without one from the client the socket's, as in Gunicorn.
fn first_of<'a>(name: &'a [u8], path: &'a [u8]) -> &'a [u8] {
    // An abstract one begins with a zero byte.
    let path = path.strip_prefix(b"\0").unwrap_or(path);
    [name, path, b"localhost"]
        .into_iter()
        .find(|name| !name.is_empty())
        .unwrap_or_default()
}

/// Host and port of a `Host` header; brackets of an IPv6 address stay with it. The port is never empty.
fn split_host(host: &[u8], https: bool) -> (&[u8], &[u8]) {
    let default: &[u8] = if https { b"443" } else { b"80" };
    let after_address = host
        .iter()
        .rposition(|&byte| byte == b']')
        .map_or(0, |at| at + 1);
    match host[after_address..].iter().position(|&byte| byte == b':') {
        Some(at) => {
            let port = &host[after_address + at + 1..];
            let port = if port.is_empty() { default } else { port };
            (&host[..after_address + at], port)
        }
        None => (host, default),
    }
}

pub(super) fn port_string(py: Python<'_>, port: u16) -> Bound<'_, PyString> {
    let mut digits = [0; 5];
    let mut at = digits.len();
    let mut rest = port;
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(rest % 10).expect("a digit");
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    latin1::to_string(py, &digits[at..])
}

fn key_text(name: &[u8]) -> String {
    let upper = name.iter().map(|&byte| match byte {
        b'-' => '_',
        other => char::from(other.to_ascii_uppercase()),
    });
    if name.eq_ignore_ascii_case(b"content-type") || name.eq_ignore_ascii_case(b"content-length") {
        upper.collect()
    } else {
        "HTTP_".chars().chain(upper).collect()
    }
}
