//! The values of Gunicorn's atoms for one exchange, written straight into the line.
//!
//! Knows what each atom means; only those the format names are worked out.

use std::borrow::Cow;
use std::time::Duration;

use oxicorn_proto::message::{Header, RequestHead};
use oxicorn_proto::percent;

use super::basic_auth;
use super::escape::escape;
use super::format::{Atom, Format, Piece, Shape, Variable};
use crate::telemetry::tracing::RequestTrace;

/// What is known of an exchange when its line is written.
#[derive(Debug)]
pub(crate) struct Record<'a> {
    /// The request, if it could be read.
    pub(crate) request: Option<RequestHead<'a>>,
    /// What stands for the request line where it could not.
    pub(crate) first_line: &'a [u8],
    /// `REMOTE_ADDR`: an address, or nothing for a Unix socket.
    pub(crate) client: &'a [u8],
    pub(crate) client_port: Option<u16>,
    pub(crate) server: &'a [u8],
    pub(crate) server_port: Option<u16>,
    pub(crate) https: bool,
    pub(crate) status: u16,
    /// Bytes of the response's body.
    pub(crate) body_bytes: u64,
    pub(crate) elapsed: Duration,
    /// The process that served it.
    pub(crate) pid: u32,
    /// The response's head as it was sent, if the format asks for its headers.
    pub(crate) response_head: &'a [u8],
    /// `[dd/Mon/yyyy:HH:MM:SS +zzzz]`
    pub(crate) time: &'a [u8],
    /// Why the application's answer is not (or not all of) what the client got.
    pub(crate) reason: Option<&'static str>,
    /// How long it waited for its worker; `None`: it was given to none.
    pub(crate) queue_time: Option<Duration>,
    /// Its id and its trace, where it has any.
    pub(crate) trace: Option<&'a RequestTrace>,
}

/// Appends the line for `record`, with its line feed.
pub(crate) fn write_line(format: &Format, record: &Record<'_>, out: &mut Vec<u8>) {
    for piece in &format.pieces {
        match piece {
            Piece::Literal(text) => out.extend_from_slice(text),
            Piece::Value(atom, shape) => {
                let start = out.len();
                record.write(atom, out);
                fit(out, start, *shape);
            }
        }
    }
    out.push(b'\n');
}

/// Python's width, precision and flags for what was written from `start` on.
fn fit(out: &mut Vec<u8>, start: usize, shape: Shape) {
    if let Some(precision) = shape.precision {
        out.truncate(start + precision);
    }
    let missing = shape.width.saturating_sub(out.len() - start);
    if missing == 0 {
        return;
    }
    let fill = if shape.zeros && !shape.left {
        b'0'
    } else {
        b' '
    };
    out.extend(std::iter::repeat_n(fill, missing));
    if !shape.left {
        out[start..].rotate_right(missing);
    }
}

fn number(value: impl itoa::Integer, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

fn decimal_seconds(time: Duration, out: &mut Vec<u8>) {
    number(time.as_secs(), out);
    out.push(b'.');
    let start = out.len();
    number(time.subsec_micros(), out);
    let digits = Shape {
        zeros: true,
        width: 6,
        ..Shape::default()
    };
    fit(out, start, digits);
}

impl Record<'_> {
    fn write(&self, atom: &Atom, out: &mut Vec<u8>) {
        match atom {
            Atom::Client => escape(self.client, out),
            Atom::User => self.write_user(out),
            Atom::Time => out.extend_from_slice(self.time),
            Atom::RequestLine => self.write_request_line(out),
            Atom::Method => self.write_of_request(RequestHead::method, out),
            Atom::Path => self.write_text(&self.path(), out),
            Atom::QueryString => self.write_of_request(RequestHead::query_string, out),
            Atom::Protocol => self.write_of_request(RequestHead::protocol, out),
            Atom::Status => number(self.status, out),
            Atom::Bytes => number(self.body_bytes, out),
            Atom::Seconds => number(self.elapsed.as_secs(), out),
            Atom::Milliseconds => number(self.elapsed.as_millis(), out),
            Atom::Microseconds => number(self.elapsed.as_micros(), out),
            Atom::DecimalSeconds => decimal_seconds(self.elapsed, out),
            Atom::Process => {
                out.push(b'<');
                number(self.pid, out);
                out.push(b'>');
            }
            Atom::RequestHeader(name) => or_dash(self.request_header(name), out),
            Atom::ResponseHeader(name) => or_dash(self.response_header(name), out),
            Atom::Environ(variable) => self.write_variable(variable, out),
            Atom::RequestId => or_dash(self.request_id(), out),
            Atom::TraceId => or_dash(self.trace_id().as_ref().map(|id| &id[..]), out),
            Atom::ProxyTime => or_dash_seconds(self.proxy_time(), out),
            Atom::QueueTime => or_dash_seconds(self.queue_time, out),
            Atom::Foreign | Atom::Nothing => out.push(b'-'),
        }
    }

    /// The decoded path; empty where there was no readable request. Worked out only for those who show it.
    pub(crate) fn path(&self) -> Cow<'_, [u8]> {
        let raw = self.request.as_ref().map_or(&b""[..], RequestHead::path);
        if !raw.contains(&b'%') {
            return Cow::Borrowed(raw);
        }
        let mut decoded = Vec::with_capacity(raw.len());
        percent::decode(raw, &mut decoded);
        Cow::Owned(decoded)
    }

    /// A part of the request, or `-` where there was no readable one.
    fn write_of_request<'r>(
        &'r self,
        part: impl FnOnce(&RequestHead<'r>) -> &'r [u8],
        out: &mut Vec<u8>,
    ) {
        match &self.request {
            Some(request) => escape(part(request), out),
            None => out.push(b'-'),
        }
    }

    fn write_text(&self, text: &[u8], out: &mut Vec<u8>) {
        match &self.request {
            Some(_) => escape(text, out),
            None => out.push(b'-'),
        }
    }

    fn write_request_line(&self, out: &mut Vec<u8>) {
        match &self.request {
            Some(request) => {
                for part in [request.method(), request.request_target()] {
                    escape(part, out);
                    out.push(b' ');
                }
                escape(request.protocol(), out);
            }
            None => escape(self.first_line, out),
        }
    }

    fn write_user(&self, out: &mut Vec<u8>) {
        or_dash(self.user().as_deref(), out);
    }

    /// The name in an `Authorization: Basic` header.
    pub(crate) fn user(&self) -> Option<Vec<u8>> {
        let user = self
            .request_header(b"authorization")
            .and_then(basic_auth::user);
        user.filter(|user| !user.is_empty())
    }

    fn write_variable(&self, variable: &Variable, out: &mut Vec<u8>) {
        match variable {
            Variable::Header(name) => self.write_environ_header(name, out),
            Variable::RequestMethod => self.write_of_request(RequestHead::method, out),
            Variable::QueryString => self.write_of_request(RequestHead::query_string, out),
            Variable::RawUri => self.write_of_request(RequestHead::request_target, out),
            Variable::ServerProtocol => self.write_of_request(RequestHead::protocol, out),
            Variable::PathInfo => self.write_text(&self.path(), out),
            Variable::RemoteAddr => escape(self.client, out),
            Variable::RemotePort => or_dash_number(self.client_port, out),
            Variable::ServerName => escape(self.server, out),
            Variable::ServerPort => or_dash_number(self.server_port, out),
            Variable::UrlScheme if self.https => out.extend_from_slice(b"https"),
            Variable::UrlScheme => out.extend_from_slice(b"http"),
        }
    }

    /// The headers as the application was told them.
    pub(crate) fn request_headers(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let head = self.request.as_ref();
        let plain = head.filter(|_| self.trace.is_none());
        let told = head.zip(self.trace);
        let plain = plain.into_iter().flat_map(RequestHead::headers);
        plain.map(|Header { name, value }| (name, value)).chain(
            told.into_iter()
                .flat_map(|(head, trace)| trace.told_headers(head)),
        )
    }

    /// The last header of this (lower case) name, as in Gunicorn's dictionary of headers.
    pub(crate) fn request_header(&self, name: &[u8]) -> Option<&[u8]> {
        self.request_headers()
            .filter(|(header, _)| header.eq_ignore_ascii_case(name))
            .last()
            .map(|(_, value)| value)
    }

    /// The id that requests are given, else what the client or a proxy calls one.
    pub(crate) fn request_id(&self) -> Option<&[u8]> {
        let id = self.trace.and_then(RequestTrace::id);
        id.or_else(|| self.request_header(b"x-request-id"))
    }

    /// The trace, where traces are looked at.
    pub(crate) fn trace_id(&self) -> Option<[u8; 32]> {
        self.trace.and_then(RequestTrace::trace_id)
    }

    /// The time with proxies, where they say it.
    pub(crate) fn proxy_time(&self) -> Option<Duration> {
        self.trace.and_then(|trace| trace.proxy_time)
    }

    /// Repeated headers joined by commas, as in the environ.
    fn write_environ_header(&self, name: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        let headers = self.request_headers();
        for (_, value) in headers.filter(|(header, _)| is_environ_name(header, name)) {
            if out.len() > start {
                out.push(b',');
            }
            escape(value, out);
        }
        if out.len() == start {
            out.push(b'-');
        }
    }

    pub(crate) fn response_header(&self, name: &[u8]) -> Option<&[u8]> {
        let lines = self.response_head.split(|&byte| byte == b'\n').skip(1);
        let value = |line| {
            let line = <[u8]>::strip_suffix(line, b"\r")?;
            let (found, value) = line.split_at_checked(name.len())?;
            let value = value.strip_prefix(b":")?;
            found.eq_ignore_ascii_case(name).then(|| value.trim_ascii())
        };
        lines.filter_map(value).last()
    }
}

fn or_dash(value: Option<&[u8]>, out: &mut Vec<u8>) {
    escape(value.unwrap_or(b"-"), out);
}

fn or_dash_seconds(value: Option<Duration>, out: &mut Vec<u8>) {
    match value {
        Some(value) => decimal_seconds(value, out),
        None => out.push(b'-'),
    }
}

fn or_dash_number(value: Option<u16>, out: &mut Vec<u8>) {
    match value {
        Some(value) => number(value, out),
        None => out.push(b'-'),
    }
}

/// Whether a header's name becomes this (lower case) name in the environ.
fn is_environ_name(header: &[u8], name: &[u8]) -> bool {
    let as_environ = |byte: &u8| {
        if *byte == b'-' {
            b'_'
        } else {
            byte.to_ascii_lowercase()
        }
    };
    header.len() == name.len() && header.iter().map(as_environ).eq(name.iter().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record<'a>() -> Record<'a> {
        Record {
            request: None,
            first_line: b"GET /\x01 \"quoted\"",
            client: b"192.0.2.1",
            client_port: Some(5000),
            server: b"127.0.0.1",
            server_port: None,
            https: true,
            status: 400,
            body_bytes: 12,
            elapsed: Duration::from_micros(3_004_005),
            pid: 42,
            response_head: b"HTTP/1.1 400 Bad Request\r\nX-Id: a \r\nX-Id:b\r\nX-Ids: c\r\n\r\n",
            time: b"[01/Feb/2026:03:04:05 +0000]",
            reason: None,
            queue_time: None,
            trace: None,
        }
    }

    fn line(format: &str) -> String {
        let mut out = Vec::new();
        write_line(
            &Format::parse(format).expect("a good format"),
            &record(),
            &mut out,
        );
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn a_request_that_could_not_be_read_has_a_line_too() {
        assert_eq!(
            line(crate::DEFAULT_FORMAT),
            "192.0.2.1 - - [01/Feb/2026:03:04:05 +0000] \"GET /\\x01 \\\"quoted\\\"\" 400 12 \
             \"-\" \"-\"\n"
        );
    }

    #[test]
    fn times_have_gunicorns_units() {
        assert_eq!(
            line("%(T)s %(M)s %(D)s %(L)s %(p)s"),
            "3 3004 3004005 3.004005 <42>\n"
        );
        assert_eq!(
            line("%(D)012d|%(s)-6s|%(T)4s"),
            "000003004005|400   |   3\n"
        );
    }

    #[test]
    fn looks_at_the_response_and_the_environ() {
        assert_eq!(line("%({X-ID}o)s %({x-ids}o)s %({x}o)s"), "b c -\n");
        assert_eq!(
            line("%({wsgi.url_scheme}e)s %({SERVER_PORT}e)s %(nope)s"),
            "https - -\n"
        );
    }

    #[test]
    fn environ_names_ignore_case_and_hyphens() {
        assert!(is_environ_name(b"X-Forwarded-For", b"x_forwarded_for"));
        assert!(!is_environ_name(b"X-Forwarded-Fo", b"x_forwarded_for"));
    }
}
