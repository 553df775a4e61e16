//! What a web server says of a request in CGI variables (RFC 3875), as uwsgi, `FastCGI` and SCGI carry them.
//!
//! Decides which variable is what: a header, a fact about the client, something the application shall
//! find in its environ, or nothing. The request is then *written* as the head of an HTTP/1 request and
//! read by [`http1`](crate::http1), so that grammar, limits and refusals are the same for all carriers
//! and stand in one place. Whoever may speak such a protocol at all is believed in what it says of its
//! client; whom to let in is the caller's affair.
//!
//! # The path
//!
//! `REQUEST_URI` is what the client sent, in every web server; it becomes the request target. `PATH_INFO`
//! is decoded already and must not be decoded again. nginx puts the whole path there, also behind a
//! `SCRIPT_NAME`; Apache and lighttpd put the rest of it there. Where there is none, or it does not fit
//! (Apache's `FastCGI` and SCGI put the whole path into `SCRIPT_NAME`), the path is the target's, decoded once; dot
//! segments are refused then, because the web server has looked at another path than the application
//! would.

use std::cmp::Ordering;
use std::net::{IpAddr, SocketAddr};

use crate::fault::PeerFault;
use crate::http1::{check_field_name, check_field_value};
use crate::percent;

/// Most variables of one request (Gunicorn's bound).
pub const VARIABLES_MAX: usize = 1000;

/// Which variables reach the application that are neither headers nor facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// All that somebody has configured; uwsgi's parameters are named one by one.
    All,
    /// Those of RFC 3875 and what web servers usually add. Apache sends its own environment beside them, and
    /// `REMOTE_USER` of the usual `FastCGI` parameters is a name that nobody has checked.
    Usual,
}

/// Names that pass with [`Pass::Usual`].
const USUAL: [&[u8]; 9] = [
    b"DOCUMENT_ROOT",
    b"DOCUMENT_URI",
    b"GATEWAY_INTERFACE",
    b"REDIRECT_STATUS",
    b"REQUEST_SCHEME",
    b"SERVER_ADDR",
    b"SERVER_ADMIN",
    b"SERVER_NAME",
    b"SERVER_PORT",
];

/// Names that never pass: the server's own, and what web servers send by accident.
const NEVER: [&[u8]; 7] = [
    b"LD_LIBRARY_PATH",
    b"PATH",
    b"SCRIPT_FILENAME",
    b"PATH_TRANSLATED",
    b"SERVER_SOFTWARE",
    b"ap_trust_cgilike_cl",
    b"proxy-fcgi-pathinfo",
];

/// Headers of the web server's own connections, or that CGI says otherwise. `Proxy` is no header of
/// anybody's, and its variable means something to some clients of HTTP.
const HOP_BY_HOP: [&[u8]; 11] = [
    b"CONNECTION",
    b"CONTENT_LENGTH",
    b"CONTENT_TYPE",
    b"EXPECT",
    b"KEEP_ALIVE",
    b"PROXY",
    b"PROXY_CONNECTION",
    b"TE",
    b"TRAILER",
    b"TRANSFER_ENCODING",
    b"UPGRADE",
];

/// Name and value.
pub type Variable = (Box<[u8]>, Box<[u8]>);

/// A request that came in variables.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Its head as an HTTP/1 client would have sent it.
    pub head: Vec<u8>,
    /// Its path, decoded, with `script_name` in front.
    pub path: Vec<u8>,
    /// Where the application is mounted.
    pub script_name: Vec<u8>,
    /// Who sent it to the web server.
    pub client: Option<SocketAddr>,
    /// The web server was asked by https.
    pub https: bool,
    /// What the application shall find beside it.
    pub variables: Vec<Variable>,
}

/// The variables by their meaning, as they were found.
#[derive(Debug, Default)]
struct Found<'a> {
    method: Option<&'a [u8]>,
    uri: Option<&'a [u8]>,
    query: Option<&'a [u8]>,
    path_info: Option<&'a [u8]>,
    script_name: &'a [u8],
    protocol: Option<&'a [u8]>,
    server_name: Option<&'a [u8]>,
    server_port: Option<&'a [u8]>,
    content_type: Option<&'a [u8]>,
    content_length: Option<&'a [u8]>,
    remote_addr: Option<&'a [u8]>,
    remote_port: Option<&'a [u8]>,
    https: bool,
    host: bool,
    headers: Vec<(&'a [u8], &'a [u8])>,
    others: Vec<(&'a [u8], &'a [u8])>,
}

impl Request {
    /// Reads variables; of those that come twice, other than headers, the last holds.
    pub fn read<'a>(
        variables: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
        pass: Pass,
    ) -> Result<Self, PeerFault> {
        let mut found = Found::default();
        for (count, (name, value)) in variables.into_iter().enumerate() {
            if count >= VARIABLES_MAX {
                return Err(PeerFault::TooManyFields);
            }
            found.take(name, value, pass)?;
        }
        if pass == Pass::Usual && found.path_info.is_none() {
            // The whole path, where nobody has said where the application begins.
            found.script_name = b"";
        }
        let (target, path) = found.target_and_path()?;
        let mut request = Self {
            script_name: found.script_name.into(),
            client: found.client(),
            https: found.https,
            path,
            ..Self::default()
        };
        last_of_each(&mut found.others, |one, other| one.0.cmp(other.0));
        let own = |(name, value): &(&[u8], &[u8])| (Box::from(*name), Box::from(*value));
        request.variables = found.others.iter().map(own).collect();
        found.write_head(&target, &mut request.head)?;
        Ok(request)
    }
}

/// Leaves the last of those that compare as equal, and sorts. A thousand variables must not be compared each with
/// every other one: that would be milliseconds for a packet of 64 KiB.
fn last_of_each<T>(items: &mut Vec<T>, mut compare: impl FnMut(&T, &T) -> Ordering) {
    // The sort is stable: with the last in front, the first of its equals is the one to keep.
    items.reverse();
    items.sort_by(&mut compare);
    items.dedup_by(|later, kept| compare(later, kept).is_eq());
}

/// What is not there and what is empty mean the same.
fn some(value: &[u8]) -> Option<&[u8]> {
    (!value.is_empty()).then_some(value)
}

impl<'a> Found<'a> {
    fn take(&mut self, name: &'a [u8], value: &'a [u8], pass: Pass) -> Result<(), PeerFault> {
        match name {
            b"REQUEST_METHOD" => self.method = some(value),
            b"REQUEST_URI" => self.uri = some(value),
            b"QUERY_STRING" => self.query = some(value),
            b"PATH_INFO" => self.path_info = some(value),
            b"SCRIPT_NAME" if value != b"/" => self.script_name = value,
            b"SCRIPT_NAME" => {}
            b"SERVER_PROTOCOL" => self.protocol = some(value),
            b"CONTENT_TYPE" => self.content_type = some(value),
            b"CONTENT_LENGTH" => self.content_length = some(value),
            b"REMOTE_ADDR" => self.remote_addr = some(value),
            b"REMOTE_PORT" => self.remote_port = some(value),
            b"HTTPS" => self.https |= is_on(value),
            b"wsgi.url_scheme" | b"UWSGI_SCHEME" => {
                self.https |= value.eq_ignore_ascii_case(b"https");
            }
            _ if name.starts_with(b"HTTP_") => self.take_header(&name[5..], value)?,
            _ => self.take_other(name, value, pass)?,
        }
        Ok(())
    }

    fn take_header(&mut self, name: &'a [u8], value: &'a [u8]) -> Result<(), PeerFault> {
        check(name, value)?;
        if HOP_BY_HOP.contains(&name) || (name == b"HOST" && (value.is_empty() || self.host)) {
            return Ok(());
        }
        self.host |= name == b"HOST";
        self.headers.push((name, value));
        Ok(())
    }

    fn take_other(&mut self, name: &'a [u8], value: &'a [u8], pass: Pass) -> Result<(), PeerFault> {
        check(name, value)?;
        match name {
            b"REQUEST_SCHEME" => self.https |= value.eq_ignore_ascii_case(b"https"),
            // PEP 3333: never empty.
            b"SERVER_NAME" => self.server_name = some(value),
            b"SERVER_PORT" => self.server_port = some(value),
            _ => {}
        }
        // Names with a dot are the server's own (wsgi.input).
        let is_own = NEVER.contains(&name) || name.contains(&b'.');
        let passes = pass == Pass::All || USUAL.contains(&name);
        let nameless = value.is_empty() && name.starts_with(b"SERVER_");
        if passes && !is_own && !nameless {
            self.others.push((name, value));
        }
        Ok(())
    }

    fn client(&self) -> Option<SocketAddr> {
        let address: IpAddr = text(self.remote_addr?)?.parse().ok()?;
        let port = self.remote_port.and_then(text);
        let port = port.and_then(|port| port.parse().ok()).unwrap_or(0);
        Some(SocketAddr::new(address, port))
    }

    /// The request target, and the decoded path from the root of the server.
    fn target_and_path(&self) -> Result<(Vec<u8>, Vec<u8>), PeerFault> {
        let from_uri = self.uri.map(decoded_path);
        let path = match (&from_uri, self.path_info) {
            (Some(uri), Some(info)) => self.whole_path(uri, info).unwrap_or_else(|| uri.clone()),
            (Some(uri), None) => uri.clone(),
            (None, Some(info)) => {
                if self.starts_with_mount(info) {
                    info.to_vec()
                } else {
                    [self.script_name, info].concat()
                }
            }
            (None, None) => [self.script_name, b"/"].concat(),
        };
        if Some(&path) == from_uri.as_ref() && has_dot_segment(&path) {
            return Err(PeerFault::InvalidRequestTarget);
        }
        let target = self
            .uri
            .map_or_else(|| self.made_up_target(&path), <[u8]>::to_vec);
        Ok((target, path))
    }

    /// The path by `PATH_INFO`: all of it, or what follows `SCRIPT_NAME`. `None`: it does not fit.
    fn whole_path(&self, uri: &[u8], info: &[u8]) -> Option<Vec<u8>> {
        let joined = [self.script_name, info].concat();
        if self.script_name.is_empty() || joined == uri {
            return Some(joined);
        }
        self.starts_with_mount(info).then(|| info.to_vec())
    }

    fn starts_with_mount(&self, path: &[u8]) -> bool {
        let rest = path.strip_prefix(self.script_name);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
    }

    /// A target that decodes to `path`.
    fn made_up_target(&self, path: &[u8]) -> Vec<u8> {
        let mut target = Vec::with_capacity(path.len());
        for &byte in path {
            if byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@".contains(&byte) {
                target.push(byte);
            } else {
                target.push(b'%');
                target.extend(
                    [byte >> 4, byte & 15].map(|half| b"0123456789ABCDEF"[usize::from(half)]),
                );
            }
        }
        if let Some(query) = self.query {
            target.push(b'?');
            target.extend_from_slice(query);
        }
        target
    }

    fn write_head(&self, target: &[u8], out: &mut Vec<u8>) -> Result<(), PeerFault> {
        let method = self.method.unwrap_or(b"GET");
        if [method, target].concat().iter().any(|byte| *byte <= b' ') {
            return Err(PeerFault::InvalidRequestLine);
        }
        let version: &[u8] = match self.protocol {
            Some(b"HTTP/1.0") => b"HTTP/1.0",
            _ => b"HTTP/1.1",
        };
        for part in [method, b" ", target, b" ", version, b"\r\n"] {
            out.extend_from_slice(part);
        }
        if !self.host {
            self.write_host(out);
        }
        let content = [
            ("Content-Type", self.content_type),
            ("Content-Length", self.content_length),
        ];
        for (name, value) in content {
            if let Some(value) = value {
                check(name.as_bytes(), value)?;
                write_field(out, name.as_bytes(), value);
            }
        }
        let is_cookie = |name: &[u8]| name == b"COOKIE";
        for (name, value) in self.headers.iter().filter(|(name, _)| !is_cookie(name)) {
            write_field(out, name, value);
        }
        let cookies: Vec<&[u8]> = self
            .headers
            .iter()
            .filter(|(name, _)| is_cookie(name))
            .map(|(_, value)| *value)
            .collect();
        if !cookies.is_empty() {
            // RFC 9113 section 8.2.3: pieces of a cookie that came apart.
            write_field(out, b"COOKIE", &cookies.join(&b"; "[..]));
        }
        out.extend_from_slice(b"\r\n");
        Ok(())
    }

    /// Every request of HTTP/1.1 has a Host.
    fn write_host(&self, out: &mut Vec<u8>) {
        let name = self.server_name.unwrap_or(b"localhost");
        let host = match self.server_port {
            None | Some(b"80" | b"443") => name.to_vec(),
            Some(port) => [name, b":", port].concat(),
        };
        write_field(out, b"HOST", &host);
    }
}

/// One line; a name of CGI has underscores where that of a header had hyphens.
fn write_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend(
        name.iter()
            .map(|&byte| if byte == b'_' { b'-' } else { byte }),
    );
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Nothing that could end a line.
fn check(name: &[u8], value: &[u8]) -> Result<(), PeerFault> {
    check_field_name(name).map_err(|_| PeerFault::InvalidFieldName)?;
    check_field_value(value).map_err(|_| PeerFault::InvalidFieldValue)
}

fn is_on(value: &[u8]) -> bool {
    value == b"1" || value.eq_ignore_ascii_case(b"on") || value.eq_ignore_ascii_case(b"true")
}

fn text(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(value).ok()
}

/// The path of a target, decoded.
fn decoded_path(uri: &[u8]) -> Vec<u8> {
    let end = uri.iter().position(|byte| matches!(byte, b'?' | b'#'));
    let path = &uri[..end.unwrap_or(uri.len())];
    // An absolute target: the path begins behind the authority.
    let path = match path.windows(3).position(|part| part == b"://") {
        Some(at) if !path.starts_with(b"/") => {
            let authority = &path[at + 3..];
            let slash = authority.iter().position(|byte| *byte == b'/');
            slash.map_or(&b"/"[..], |slash| &authority[slash..])
        }
        _ => path,
    };
    let mut decoded = Vec::with_capacity(path.len());
    percent::decode(path, &mut decoded);
    decoded
}

fn has_dot_segment(path: &[u8]) -> bool {
    path.split(|byte| *byte == b'/')
        .any(|segment| matches!(segment, b"." | b".."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Request, PeerFault> {
        let pairs = variables
            .iter()
            .map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        Request::read(pairs, Pass::All)
    }

    fn head(variables: &[(&str, &str)]) -> String {
        String::from_utf8(read(variables).expect("good variables").head).expect("text")
    }

    fn path(variables: &[(&str, &str)]) -> (String, String) {
        let request = read(variables).expect("good variables");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        (text(request.script_name), text(request.path))
    }

    #[test]
    fn nginx_stock_parameters_become_a_head() {
        let request = read(&[
            ("QUERY_STRING", "a=1"),
            ("REQUEST_METHOD", "POST"),
            ("CONTENT_TYPE", "text/plain"),
            ("CONTENT_LENGTH", "3"),
            ("REQUEST_URI", "/a%20b?a=1"),
            ("PATH_INFO", "/a b"),
            ("DOCUMENT_ROOT", "/srv"),
            ("SERVER_PROTOCOL", "HTTP/1.1"),
            ("REQUEST_SCHEME", "http"),
            ("REMOTE_ADDR", "192.0.2.7"),
            ("REMOTE_PORT", "5000"),
            ("SERVER_PORT", "8080"),
            ("SERVER_NAME", "a.example"),
            ("HTTP_HOST", "a.example:8080"),
            ("HTTP_X_ONE", "1"),
            ("HTTP_CONNECTION", "keep-alive"),
            ("HTTP_COOKIE", "a=1"),
            ("HTTP_COOKIE", "b=2"),
        ])
        .expect("good variables");
        let text = String::from_utf8(request.head).expect("text");
        assert_eq!(
            text,
            "POST /a%20b?a=1 HTTP/1.1\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\
            HOST: a.example:8080\r\nX-ONE: 1\r\nCOOKIE: a=1; b=2\r\n\r\n"
        );
        assert_eq!(request.path, b"/a b");
        assert_eq!(
            request.client,
            Some("192.0.2.7:5000".parse().expect("an address"))
        );
        assert!(!request.https);
        let names: Vec<_> = request
            .variables
            .iter()
            .map(|(name, _)| &name[..])
            .collect();
        assert_eq!(
            names,
            [
                &b"DOCUMENT_ROOT"[..],
                b"REQUEST_SCHEME",
                b"SERVER_NAME",
                b"SERVER_PORT"
            ]
        );
    }

    #[test]
    fn a_decoded_path_is_not_decoded_again() {
        assert_eq!(
            path(&[("REQUEST_URI", "/a%2541"), ("PATH_INFO", "/a%41")]).1,
            "/a%41"
        );
        // Without what the client sent there is a target that decodes to it.
        let made_up = head(&[("PATH_INFO", "/a%41 ?"), ("QUERY_STRING", "q")]);
        assert!(
            made_up.starts_with("GET /a%2541%20%3F?q HTTP/1.1\r\n"),
            "{made_up}"
        );
    }

    #[test]
    fn a_mount_is_found_however_it_is_said() {
        let mounted = ("/app".to_owned(), "/app/x".to_owned());
        // nginx: the whole path.
        assert_eq!(
            path(&[
                ("REQUEST_URI", "/app/x"),
                ("SCRIPT_NAME", "/app"),
                ("PATH_INFO", "/app/x")
            ]),
            mounted
        );
        // Apache, lighttpd: the rest of it.
        assert_eq!(
            path(&[
                ("REQUEST_URI", "/app/x"),
                ("SCRIPT_NAME", "/app"),
                ("PATH_INFO", "/x")
            ]),
            mounted
        );
        assert_eq!(
            path(&[("SCRIPT_NAME", "/app"), ("PATH_INFO", "/x")]),
            mounted
        );
        // A rest that looks like a whole.
        let twice = path(&[
            ("REQUEST_URI", "/a/a/x"),
            ("SCRIPT_NAME", "/a"),
            ("PATH_INFO", "/a/x"),
        ]);
        assert_eq!(twice.1, "/a/a/x");
        // Nothing at all behind the mount.
        assert_eq!(
            path(&[("REQUEST_URI", "/app"), ("SCRIPT_NAME", "/app")]).1,
            "/app"
        );
        assert_eq!(path(&[("REQUEST_URI", "/x"), ("SCRIPT_NAME", "/")]).0, "");
    }

    #[test]
    fn what_stands_for_a_mount_without_a_rest_is_the_whole_path() {
        let variables = [
            (&b"REQUEST_URI"[..], &b"/a%20b?q"[..]),
            (b"SCRIPT_NAME", b"/a b"),
        ];
        let request = Request::read(variables, Pass::Usual).expect("good variables");
        assert_eq!(
            (&request.script_name[..], &request.path[..]),
            (&b""[..], &b"/a b"[..])
        );
    }

    #[test]
    fn a_path_nobody_has_cleaned_has_no_dot_segments() {
        for uri in ["/a/../b", "/%2e%2e/b", "/a/.", "//h/./x"] {
            assert_eq!(
                read(&[("REQUEST_URI", uri)]),
                Err(PeerFault::InvalidRequestTarget),
                "{uri}"
            );
        }
        assert!(read(&[("REQUEST_URI", "/a/../b"), ("PATH_INFO", "/b")]).is_ok());
    }

    #[test]
    fn nothing_ends_a_line() {
        for (name, value) in [
            ("HTTP_X", "a\r\nb: c"),
            ("HTTP_X\r\nY", "a"),
            ("CONTENT_TYPE", "a\nb"),
            ("X", "\0"),
        ] {
            assert!(
                read(&[("PATH_INFO", "/"), (name, value)]).is_err(),
                "{name:?}"
            );
        }
        for (name, value) in [
            ("REQUEST_METHOD", "GET /x"),
            ("REQUEST_URI", "/ HTTP/1.1\r\nA: b"),
        ] {
            assert_eq!(
                read(&[(name, value)]),
                Err(PeerFault::InvalidRequestLine),
                "{name:?}"
            );
        }
    }

    #[test]
    fn a_request_without_a_host_has_the_servers_name() {
        assert!(
            head(&[("SERVER_NAME", "b.example"), ("SERVER_PORT", "81")])
                .contains("\r\nHOST: b.example:81\r\n")
        );
        assert!(head(&[("SERVER_NAME", "")]).contains("\r\nHOST: localhost\r\n"));
    }

    #[test]
    fn https_is_said_in_many_ways() {
        for said in [
            ("HTTPS", "on"),
            ("HTTPS", "1"),
            ("REQUEST_SCHEME", "https"),
            ("UWSGI_SCHEME", "https"),
            ("wsgi.url_scheme", "https"),
        ] {
            assert!(read(&[said]).expect("good").https, "{said:?}");
        }
        assert!(
            !read(&[("HTTPS", "off"), ("REQUEST_SCHEME", "http")])
                .expect("good")
                .https
        );
    }

    #[test]
    fn the_applications_environ_is_its_own() {
        let request = read(&[
            ("PATH", "/bin"),
            ("wsgi.input", "x"),
            ("HTTP_PROXY", "http://evil"),
            ("MINE", "yes"),
            ("MINE", "last"),
        ])
        .expect("good");
        assert_eq!(
            request.variables,
            [(Box::from(&b"MINE"[..]), Box::from(&b"last"[..]))]
        );
        assert!(!request.head.windows(5).any(|part| part == b"PROXY"));
        let usual = Request::read(
            [(&b"MINE"[..], &b"1"[..]), (b"REMOTE_USER", b"anybody")],
            Pass::Usual,
        );
        assert!(usual.expect("good").variables.is_empty());
    }

    #[test]
    fn many_variables_are_not_compared_each_with_each() {
        let names: Vec<usize> = (0..VARIABLES_MAX).map(|place| place * 7 % 500).collect();
        let mut places: Vec<(usize, usize)> = names.iter().copied().zip(0..).collect();
        let mut comparisons = 0;
        last_of_each(&mut places, |one, other| {
            comparisons += 1;
            one.0.cmp(&other.0)
        });
        assert_eq!(places.len(), 500);
        assert!(places.iter().all(|&(_, place)| place >= 500), "{places:?}");
        assert!(comparisons < 20 * VARIABLES_MAX, "{comparisons}");
    }

    #[test]
    fn variables_are_bounded() {
        let one = (&b"X"[..], &b"1"[..]);
        let most = std::iter::repeat_n(one, VARIABLES_MAX);
        assert!(Request::read(most.clone(), Pass::All).is_ok());
        assert_eq!(
            Request::read(most.chain([one]), Pass::All),
            Err(PeerFault::TooManyFields)
        );
    }
}
