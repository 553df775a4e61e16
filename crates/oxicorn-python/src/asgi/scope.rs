//! The scope: what ASGI tells an application about a connection, built from the parsed head.
//!
//! What is the same for every request, and what most of them have, stands in a template that is copied: only what
//! is not as usual is set. Keys and the usual values are interned strings made once; headers and clients that
//! came before are remembered as the pairs they became.

use std::sync::Mutex;

use oxicorn_link::wire::{Address, RequestView, Scheme, Version};
use oxicorn_proto::forwarded;
use oxicorn_proto::trust::AddressSet;
use oxicorn_proto::websocket::subprotocols;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};

use super::tls;
use crate::latin1;
use crate::request::headers::KnownHeaders;

/// The version of the interface.
const ASGI_VERSION: &str = "3.0";

/// The version of the HTTP part. From 2.4 on an application may rely on an `OSError` out of `send()` when its client
/// has left, and Starlette then no longer listens for the disconnect; here `send()` has no effect then.
const HTTP_VERSION: &str = "2.3";

/// Gunicorn's extension on HTTP/2.
const PRIORITY_EXTENSION: &str = "http.response.priority";

/// The version of the WebSocket part.
const WEBSOCKET_VERSION: &str = "2.5";

/// What `extensions` says where they are asked for. They are not offered unasked: middleware that does not know them
/// misses files.
const FILE_EXTENSIONS: [&str; 2] = ["http.response.pathsend", "http.response.zerocopysend"];

/// What `extensions` says of a WebSocket.
const DENIAL_EXTENSION: &str = "websocket.http.response";

/// What is added from HTTP/1.1 on; in HTTP/1.0 a response can have neither 1xx nor trailers. Nobody uses these but who
/// asks for them in the code of the application.
const LATER_EXTENSIONS: [&str; 3] = [
    "http.response.early_hint",
    "http.response.informational",
    "http.response.trailers",
];

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
        http_version = "http_version", method = "method", scheme = "scheme", path = "path",
        raw_path = "raw_path", query_string = "query_string", headers = "headers",
        client = "client", server = "server", state = "state", extensions = "extensions",
        asgi = "asgi", subprotocols = "subprotocols", root_path = "root_path",
    }
}

interned_strings! {
    /// Values that come again and again.
    Values {
        get = "GET", head = "HEAD", post = "POST", put = "PUT", delete = "DELETE",
        options = "OPTIONS", patch = "PATCH",
        http10 = "1.0", http11 = "1.1", http2 = "2", http3 = "3",
        http = "http", https = "https", ws = "ws", wss = "wss", root = "/",
    }
}

/// What the settings say of scopes.
pub(crate) struct ScopeSettings<'py> {
    pub(crate) root_path: Bound<'py, PyAny>,
    /// Files may be sent by name or descriptor.
    pub(crate) file_extensions: bool,
    /// Whose X-Forwarded-For is believed; `None`: nobody's, the client is who connected.
    pub(crate) forwarders: Option<AddressSet>,
}

/// Makes scopes.
pub(crate) struct ScopeFactory {
    http: Py<PyDict>,
    websocket: Py<PyDict>,
    extensions_of_http10: Py<PyDict>,
    extensions: Py<PyDict>,
    /// The versions; what an application does to its copy ends with the request.
    http_versions: Py<PyDict>,
    websocket_versions: Py<PyDict>,
    /// Of the lifespan; each scope gets a shallow copy.
    state: Py<PyDict>,
    keys: Keys,
    values: Values,
    root: Py<PyBytes>,
    known: Mutex<KnownHeaders<PyBytes, PyTuple>>,
    /// The listener asked last, and the tuple made of it: there are few of them.
    server: Mutex<Option<KnownAddress>>,
    /// Each port has one place: who keeps a connection open comes again and again.
    clients: Mutex<Vec<Option<KnownAddress>>>,
    forwarders: Option<AddressSet>,
}

/// Clients remembered. A power of two.
const CLIENTS: usize = 256;

/// An address and the pair made of it.
struct KnownAddress {
    text: Vec<u8>,
    port: u16,
    pair: Py<PyAny>,
}

impl ScopeFactory {
    pub(crate) fn new(
        py: Python<'_>,
        settings: ScopeSettings<'_>,
        state: &Bound<'_, PyDict>,
    ) -> PyResult<Self> {
        let keys = Keys::new(py);
        let root_path = &settings.root_path;
        let values = Values::new(py);
        let empty = PyBytes::new(py, b"");
        let http = template(py, "http", root_path, &keys.of_http())?;
        let websocket = template(py, "websocket", root_path, &keys.of_websocket())?;
        for (template, scheme) in [(&http, &values.http), (&websocket, &values.ws)] {
            template.set_item(keys.http_version.bind(py), values.http11.bind(py))?;
            template.set_item(keys.scheme.bind(py), scheme.bind(py))?;
            template.set_item(keys.query_string.bind(py), &empty)?;
        }
        http.set_item(keys.method.bind(py), values.get.bind(py))?;
        let extensions_of_http10 = PyDict::new(py);
        for name in FILE_EXTENSIONS.iter().filter(|_| settings.file_extensions) {
            extensions_of_http10.set_item(name, PyDict::new(py))?;
        }
        let extensions = extensions_of_http10.copy()?;
        for name in LATER_EXTENSIONS {
            extensions.set_item(name, PyDict::new(py))?;
        }
        Ok(Self {
            http: http.unbind(),
            websocket: websocket.unbind(),
            extensions_of_http10: extensions_of_http10.unbind(),
            extensions: extensions.unbind(),
            http_versions: versions(py, HTTP_VERSION)?.unbind(),
            websocket_versions: versions(py, WEBSOCKET_VERSION)?.unbind(),
            state: state.clone().unbind(),
            keys,
            values,
            root: PyBytes::new(py, b"/").unbind(),
            known: Mutex::new(KnownHeaders::default()),
            server: Mutex::new(None),
            clients: Mutex::new((0..CLIENTS).map(|_| None).collect()),
            forwarders: settings.forwarders,
        })
    }

    /// The scope of a request.
    pub(crate) fn http<'py>(
        &self,
        py: Python<'py>,
        view: &RequestView<'_>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let scope = self.http.bind(py).copy()?;
        self.fill(py, &scope, view, &self.http_versions)?;
        let extensions = match view.head.version {
            Version::Http10 => &self.extensions_of_http10,
            _ => &self.extensions,
        };
        let extensions = extensions.bind(py).copy()?;
        add_tls(&extensions, view)?;
        if view.head.version == Version::Http2 {
            extensions.set_item(PRIORITY_EXTENSION, priority(py)?)?;
        }
        scope.set_item(self.keys.extensions.bind(py), extensions)?;
        if view.head.method != b"GET" {
            scope.set_item(self.keys.method.bind(py), self.method(py, view.head.method))?;
        }
        Ok(scope)
    }

    /// The scope of a WebSocket.
    pub(crate) fn websocket<'py>(
        &self,
        py: Python<'py>,
        view: &RequestView<'_>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let scope = self.websocket.bind(py).copy()?;
        self.fill(py, &scope, view, &self.websocket_versions)?;
        let extensions = PyDict::new(py);
        extensions.set_item(DENIAL_EXTENSION, PyDict::new(py))?;
        add_tls(&extensions, view)?;
        scope.set_item(self.keys.extensions.bind(py), extensions)?;
        let offered = view.headers.iter().filter_map(|(name, value)| {
            name.eq_ignore_ascii_case(b"sec-websocket-protocol")
                .then_some(value)
        });
        let names = subprotocols(offered).map(|name| latin1::to_string(py, name));
        let names = PyList::new(py, names.collect::<Vec<_>>())?;
        scope.set_item(self.keys.subprotocols.bind(py), names)?;
        Ok(scope)
    }

    /// Sets what scopes of every type have.
    fn fill<'py>(
        &self,
        py: Python<'py>,
        scope: &Bound<'py, PyDict>,
        view: &RequestView<'_>,
        versions: &Py<PyDict>,
    ) -> PyResult<()> {
        let head = &view.head;
        let keys = &self.keys;
        let raw_path = raw_path(head.request_target);
        scope.set_item(keys.asgi.bind(py), versions.bind(py).copy()?)?;
        if head.version != Version::Http11 {
            scope.set_item(keys.http_version.bind(py), self.version(py, head.version))?;
        }
        if !matches!(head.scheme, Scheme::Http | Scheme::Ws) {
            scope.set_item(keys.scheme.bind(py), self.scheme(py, head.scheme))?;
        }
        if head.path == b"/" && raw_path == b"/" {
            scope.set_item(keys.path.bind(py), self.values.root.bind(py))?;
            scope.set_item(keys.raw_path.bind(py), self.root.bind(py))?;
        } else {
            let path = String::from_utf8_lossy(head.path);
            scope.set_item(keys.path.bind(py), PyString::new(py, &path))?;
            scope.set_item(keys.raw_path.bind(py), PyBytes::new(py, raw_path))?;
        }
        if !head.query_string.is_empty() {
            let query_string = PyBytes::new(py, head.query_string);
            scope.set_item(keys.query_string.bind(py), query_string)?;
        }
        scope.set_item(keys.headers.bind(py), self.headers(py, view)?)?;
        scope.set_item(keys.client.bind(py), self.client(py, &head.client)?)?;
        scope.set_item(keys.server.bind(py), self.server(py, &head.server)?)?;
        self.forward(py, scope, view)?;
        let mut variables = view.variables.iter();
        if let Some((_, mount)) = variables.find(|(name, _)| *name == b"SCRIPT_NAME") {
            let mount = String::from_utf8_lossy(mount);
            scope.set_item(keys.root_path.bind(py), PyString::new(py, &mount))?;
        }
        scope.set_item(keys.state.bind(py), self.state.bind(py).copy()?)
    }

    /// What a trusted peer's headers say of client and scheme takes the place of what is known of the peer.
    fn forward(
        &self,
        py: Python<'_>,
        scope: &Bound<'_, PyDict>,
        view: &RequestView<'_>,
    ) -> PyResult<()> {
        let Some(forwarders) = &self.forwarders else {
            return Ok(());
        };
        // Whoever may open a Unix socket is trusted, as everywhere.
        let trusted = match &view.head.client {
            Address::Unix { .. } => true,
            Address::Ip { host, .. } => std::str::from_utf8(host)
                .ok()
                .and_then(|host| host.parse().ok())
                .is_some_and(|peer| forwarders.contains(peer)),
        };
        if !trusted {
            return Ok(());
        }
        let mut list = Vec::new();
        for (name, value) in &view.headers {
            if name.eq_ignore_ascii_case(b"x-forwarded-for") {
                if !list.is_empty() {
                    list.push(b',');
                }
                list.extend_from_slice(value);
            } else if name.eq_ignore_ascii_case(b"x-forwarded-proto")
                && let Some(scheme) = forwarded_scheme(value, view.head.scheme)
            {
                scope.set_item(self.keys.scheme.bind(py), self.scheme(py, scheme))?;
            }
        }
        if let Some((host, port)) = forwarded::client(&list, forwarders) {
            let client = (latin1::to_string(py, host), port);
            scope.set_item(self.keys.client.bind(py), client)?;
        }
        Ok(())
    }

    fn headers<'py>(
        &self,
        py: Python<'py>,
        view: &RequestView<'_>,
    ) -> PyResult<Bound<'py, PyList>> {
        let mut known = self.known.lock().expect("nothing panics while it is held");
        let pairs = view.headers.iter().map(|(name, value)| {
            let lower = || PyBytes::new(py, &name.to_ascii_lowercase());
            let pair = |name: &Bound<'py, PyBytes>| {
                PyTuple::new(py, [name, &PyBytes::new(py, value)]).expect("two of them")
            };
            known.get(py, (name, value), lower, pair).1
        });
        PyList::new(py, pairs)
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
            other => return latin1::to_string(py, &other.to_ascii_uppercase()),
        };
        known.bind(py).clone()
    }

    fn version<'a, 'py>(&'a self, py: Python<'py>, version: Version) -> &'a Bound<'py, PyString> {
        let values = &self.values;
        let version = match version {
            Version::Http10 => &values.http10,
            Version::Http11 => &values.http11,
            Version::Http2 => &values.http2,
            Version::Http3 => &values.http3,
        };
        version.bind(py)
    }

    fn scheme<'a, 'py>(&'a self, py: Python<'py>, scheme: Scheme) -> &'a Bound<'py, PyString> {
        let values = &self.values;
        let scheme = match scheme {
            Scheme::Http => &values.http,
            Scheme::Https => &values.https,
            Scheme::Ws => &values.ws,
            Scheme::Wss => &values.wss,
        };
        scheme.bind(py)
    }

    /// `[host, port]`, or `[path, None]` for a Unix socket.
    fn server<'py>(&self, py: Python<'py>, server: &Address<'_>) -> PyResult<Bound<'py, PyAny>> {
        let (text, port) = match server {
            Address::Ip { host, port } => (*host, *port),
            Address::Unix { path } => (*path, 0),
        };
        let mut known = self.server.lock().expect("nothing panics while it is held");
        if let Some(server) = &*known
            && server.text == text
            && server.port == port
        {
            return Ok(server.pair.bind(py).clone());
        }
        let pair = match server {
            Address::Ip { host, port } => (latin1::to_string(py, host), *port).into_pyobject(py)?,
            Address::Unix { path } => {
                let path = PyString::new(py, &String::from_utf8_lossy(path));
                (path, py.None()).into_pyobject(py)?
            }
        };
        *known = Some(KnownAddress {
            text: text.to_vec(),
            port,
            pair: pair.clone().into_any().unbind(),
        });
        Ok(pair.into_any())
    }

    /// `[host, port]`; nothing for a client on a Unix socket.
    fn client<'py>(&self, py: Python<'py>, client: &Address<'_>) -> PyResult<Bound<'py, PyAny>> {
        let &Address::Ip { host, port } = client else {
            return Ok(py.None().into_bound(py));
        };
        let mut clients = self
            .clients
            .lock()
            .expect("nothing panics while it is held");
        let place = &mut clients[usize::from(port) % CLIENTS];
        if let Some(known) = place
            && known.port == port
            && known.text == host
        {
            return Ok(known.pair.bind(py).clone());
        }
        let pair = (latin1::to_string(py, host), port).into_pyobject(py)?;
        *place = Some(KnownAddress {
            text: host.to_vec(),
            port,
            pair: pair.clone().into_any().unbind(),
        });
        Ok(pair.into_any())
    }
}

impl Keys {
    fn of_http(&self) -> Vec<&Py<PyString>> {
        let mut keys = self.of_all();
        keys.push(&self.method);
        keys
    }

    fn of_websocket(&self) -> Vec<&Py<PyString>> {
        let mut keys = self.of_all();
        keys.push(&self.subprotocols);
        keys
    }

    fn of_all(&self) -> Vec<&Py<PyString>> {
        vec![
            &self.http_version,
            &self.scheme,
            &self.path,
            &self.raw_path,
            &self.query_string,
            &self.headers,
            &self.client,
            &self.server,
            &self.state,
            &self.extensions,
            &self.asgi,
        ]
    }
}

/// What Gunicorn says of the priority of a stream: here that of a client that says nothing of it, since RFC 9113
/// (section 5.3.2) has no more.
fn priority(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let priority = PyDict::new(py);
    priority.set_item("weight", 16)?;
    priority.set_item("depends_on", 0)?;
    Ok(priority)
}

fn add_tls(extensions: &Bound<'_, PyDict>, view: &RequestView<'_>) -> PyResult<()> {
    let py = extensions.py();
    match tls::extension(py, view)? {
        Some(tls) => extensions.set_item(intern!(py, "tls"), tls),
        None => Ok(()),
    }
}

/// What is the same in every scope of a type. Places for what every request sets are there already: a
/// copy keeps the size of the table.
fn template<'py>(
    py: Python<'py>,
    kind: &str,
    root_path: &Bound<'py, PyAny>,
    keys: &[&Py<PyString>],
) -> PyResult<Bound<'py, PyDict>> {
    let scope = PyDict::new(py);
    scope.set_item("type", kind)?;
    scope.set_item("root_path", root_path)?;
    for key in keys {
        scope.set_item(key.bind(py), py.None())?;
    }
    Ok(scope)
}

/// The value of `asgi` in every scope.
fn versions<'py>(py: Python<'py>, spec_version: &str) -> PyResult<Bound<'py, PyDict>> {
    let versions = PyDict::new(py);
    versions.set_item("version", ASGI_VERSION)?;
    versions.set_item("spec_version", spec_version)?;
    Ok(versions)
}

/// What X-Forwarded-Proto means for a request or a WebSocket; `None`: nothing.
fn forwarded_scheme(value: &[u8], found: Scheme) -> Option<Scheme> {
    let secure = match value.trim_ascii() {
        b"https" | b"wss" => true,
        b"http" | b"ws" => false,
        _ => return None,
    };
    Some(match (found, secure) {
        (Scheme::Http | Scheme::Https, false) => Scheme::Http,
        (Scheme::Http | Scheme::Https, true) => Scheme::Https,
        (Scheme::Ws | Scheme::Wss, false) => Scheme::Ws,
        (Scheme::Ws | Scheme::Wss, true) => Scheme::Wss,
    })
}

/// The path as the client wrote it: of an absolute target without scheme and authority, and always
/// without the query.
fn raw_path(target: &[u8]) -> &[u8] {
    let path = target.split(|&byte| byte == b'?').next().unwrap_or(target);
    if path.starts_with(b"/") {
        return path;
    }
    let scheme_end = path.windows(3).position(|window| window == b"://");
    let Some(authority) = scheme_end.map(|end| &path[end + 3..]) else {
        return path;
    };
    let start = authority.iter().position(|&byte| byte == b'/');
    start.map_or(b"/", |start| &authority[start..])
}
