//! A request's span, as OTLP has it (`opentelemetry/proto/trace/v1/trace.proto`).
//!
//! Decides what a span says: OpenTelemetry's semantic conventions for HTTP servers, and what only we know, under our own
//! name. The query string is left out: it holds what must not lie in every system. Events mark when a request came to its
//! next station, so that what lies between two of them is how long it took there.

use std::time::Duration;

use oxicorn_proto::message::RequestHead;

use super::RequestTrace;
use super::protobuf::{bytes, double, fixed32, fixed64, message, number};
use crate::telemetry::access_log::Record;

/// Bytes of a value; what is longer is cut.
const LONGEST_VALUE: usize = 1024;

/// `SPAN_KIND_SERVER`
const SERVER: u64 = 2;

/// `STATUS_CODE_ERROR`
const ERROR: u64 = 2;

/// The flags know whether the parent is in another process, and it is.
const PARENT_IS_REMOTE: u32 = 0x300;

/// The time of a request, and what is told of it.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    /// When its head was read.
    pub(crate) started: Duration,
    /// Now.
    pub(crate) ended: Duration,
    /// Now, since 1970.
    pub(crate) wall: Duration,
    pub(crate) record: &'a Record<'a>,
}

/// Appends the span of a request, as field `spans` of `ScopeSpans`; nothing if none is recorded.
pub(crate) fn write(trace: &RequestTrace, facts: &Facts<'_>, out: &mut Vec<u8>) {
    if let Some(context) = &trace.context {
        let method = facts
            .record
            .request
            .as_ref()
            .map_or(&b""[..], RequestHead::method);
        message(2, out, |out| {
            bytes(1, &context.told.trace_id, out);
            bytes(2, &context.told.parent_id, out);
            if !context.state.is_empty() {
                bytes(3, &context.state, out);
            }
            if let Some(parent) = &context.parent {
                bytes(4, parent, out);
            }
            // The convention without a route: the gateway knows none.
            bytes(5, known_method(method).unwrap_or(b"HTTP"), out);
            number(6, SERVER, out);
            fixed64(7, facts.nanoseconds(facts.started), out);
            fixed64(8, facts.nanoseconds(facts.ended), out);
            write_attributes(trace, facts, method, out);
            write_events(trace, facts, out);
            write_status(facts.record, out);
            fixed32(16, u32::from(context.told.flags) | PARENT_IS_REMOTE, out);
        });
    }
}

impl Facts<'_> {
    /// A time of ours since 1970.
    fn nanoseconds(&self, at: Duration) -> u64 {
        let since = self.wall.saturating_sub(self.ended.saturating_sub(at));
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }
}

/// The methods that have a name of their own in the conventions.
fn known_method(method: &[u8]) -> Option<&[u8]> {
    const KNOWN: [&[u8]; 9] = [
        b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"TRACE", b"CONNECT",
    ];
    KNOWN.contains(&method).then_some(method)
}

fn write_attributes(trace: &RequestTrace, facts: &Facts<'_>, method: &[u8], out: &mut Vec<u8>) {
    let record = facts.record;
    let request = record.request.as_ref();
    let known = known_method(method);
    let attributes = &mut Attributes { field: 9, out };
    attributes.text("http.request.method", known.unwrap_or(b"_OTHER"));
    if known.is_none() {
        attributes.text("http.request.method_original", method);
    }
    attributes.text("url.path", request.map_or(&b""[..], RequestHead::path));
    attributes.text("url.scheme", if record.https { b"https" } else { b"http" });
    let protocol = request.map_or(&b""[..], RequestHead::protocol);
    attributes.text(
        "network.protocol.version",
        protocol.strip_prefix(b"HTTP/").unwrap_or(protocol),
    );
    // Whom the client means; our own address is another's behind a proxy.
    let (host, port) = match request.and_then(RequestHead::host) {
        Some(host) if !host.is_empty() => authority(host),
        _ => (record.server, record.server_port),
    };
    attributes.text_if_any("server.address", host);
    attributes.number_if_any("server.port", port.map(i64::from));
    attributes.text_if_any("client.address", record.client);
    attributes.number_if_any("client.port", record.client_port.map(i64::from));
    attributes.text_if_any(
        "user_agent.original",
        record.request_header(b"user-agent").unwrap_or_default(),
    );
    attributes.number("http.response.status_code", i64::from(record.status));
    attributes.number(
        "http.response.body.size",
        i64::try_from(record.body_bytes).unwrap_or(i64::MAX),
    );
    if record.status >= 500 {
        attributes.text(
            "error.type",
            itoa::Buffer::new().format(record.status).as_bytes(),
        );
    }
    attributes.text_if_any("oxicorn.request_id", trace.id().unwrap_or_default());
    attributes.number("oxicorn.worker.pid", i64::from(record.pid));
    attributes.seconds_if_any("oxicorn.proxy_time", trace.proxy_time);
    attributes.seconds_if_any("oxicorn.queue_time", record.queue_time);
    attributes.text_if_any(
        "oxicorn.reason",
        record.reason.unwrap_or_default().as_bytes(),
    );
}

/// Each begins what its name says; the span's end ends the last.
fn write_events(trace: &RequestTrace, facts: &Facts<'_>, out: &mut Vec<u8>) {
    let times = &trace.times;
    for (name, at) in [
        ("queue", times.submitted),
        ("application", times.given),
        ("response", times.answered),
        ("client write", times.completed),
    ] {
        let Some(at) = at else { continue };
        message(11, out, |out| {
            fixed64(1, facts.nanoseconds(at), out);
            bytes(2, name.as_bytes(), out);
        });
    }
}

/// Errors of the server are errors of its span; those of clients are not.
fn write_status(record: &Record<'_>, out: &mut Vec<u8>) {
    if record.status >= 500 {
        message(15, out, |out| {
            if let Some(reason) = record.reason {
                bytes(2, reason.as_bytes(), out);
            }
            number(3, ERROR, out);
        });
    }
}

/// Host and port of a `Host` header.
fn authority(host: &[u8]) -> (&[u8], Option<u16>) {
    let number = |port: &[u8]| std::str::from_utf8(port).ok()?.parse().ok();
    let colon = host.iter().rposition(|&byte| byte == b':');
    match colon.map(|colon| (&host[..colon], number(&host[colon + 1..]))) {
        Some((name, Some(port))) if !name.contains(&b':') || name.ends_with(b"]") => {
            (name, Some(port))
        }
        _ => (host, None),
    }
}

/// Attributes in a field of the message that is being written.
struct Attributes<'o> {
    field: u64,
    out: &'o mut Vec<u8>,
}

impl Attributes<'_> {
    fn add(&mut self, key: &str, value: impl FnOnce(&mut Vec<u8>)) {
        message(self.field, self.out, |out| {
            bytes(1, key.as_bytes(), out);
            message(2, out, value);
        });
    }

    /// A string has to be UTF-8.
    fn text(&mut self, key: &str, value: &[u8]) {
        let cut = &value[..value.len().min(LONGEST_VALUE)];
        self.add(key, |out| {
            bytes(1, String::from_utf8_lossy(cut).as_bytes(), out);
        });
    }

    fn text_if_any(&mut self, key: &str, value: &[u8]) {
        if !value.is_empty() {
            self.text(key, value);
        }
    }

    fn number(&mut self, key: &str, value: i64) {
        self.add(key, |out| number(3, value.cast_unsigned(), out));
    }

    fn number_if_any(&mut self, key: &str, value: Option<i64>) {
        if let Some(value) = value {
            self.number(key, value);
        }
    }

    fn seconds_if_any(&mut self, key: &str, value: Option<Duration>) {
        if let Some(value) = value {
            self.add(key, |out| double(4, value.as_secs_f64(), out));
        }
    }
}

/// Who sends spans: fields `resource` of `ResourceSpans`, and `scope` of `ScopeSpans`.
#[derive(Debug)]
pub(crate) struct Sender {
    resource: Vec<u8>,
    scope: Vec<u8>,
}

impl Sender {
    pub(crate) fn new(resource: &[(String, String)]) -> Self {
        let mut sender = Self {
            resource: Vec::new(),
            scope: Vec::new(),
        };
        message(1, &mut sender.resource, |out| {
            let mut attributes = Attributes { field: 1, out };
            for (name, value) in resource {
                attributes.text(name, value.as_bytes());
            }
        });
        message(1, &mut sender.scope, |out| {
            bytes(1, b"oxicorn", out);
            bytes(2, env!("CARGO_PKG_VERSION").as_bytes(), out);
        });
        sender
    }

    /// An `ExportTraceServiceRequest` with these spans.
    pub(crate) fn request(&self, spans: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(spans.len() + self.resource.len() + self.scope.len() + 32);
        message(1, &mut out, |out| {
            out.extend_from_slice(&self.resource);
            message(2, out, |out| {
                out.extend_from_slice(&self.scope);
                out.extend_from_slice(spans);
            });
        });
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports_are_told_apart() {
        for (host, expected) in [
            ("example.org", ("example.org", None)),
            ("example.org:8080", ("example.org", Some(8080))),
            ("[::1]:8080", ("[::1]", Some(8080))),
            ("[::1]", ("[::1]", None)),
            ("::1", ("::1", None)),
            ("a:b", ("a:b", None)),
            ("", ("", None)),
        ] {
            let (name, port) = authority(host.as_bytes());
            assert_eq!((std::str::from_utf8(name).expect("text"), port), expected);
        }
    }
}
