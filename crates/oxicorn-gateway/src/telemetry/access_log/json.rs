//! The access log as JSON: one object a line, for every request whatever became of it.
//!
//! Decides the fields and their names, which are a promise to whoever reads the log (`docs/logging.md`).
//! Whatever bytes a client sends, a line is one valid JSON object: text that is not UTF-8 is repaired
//! with U+FFFD, control characters are escaped.

use std::io;
use std::time::Duration;

use oxicorn_proto::forwarded;
use oxicorn_proto::message::RequestHead;
use oxicorn_proto::trust::AddressSet;

use crate::config::settings::JsonAccessLog;
use crate::telemetry::access_log::Record;
use crate::telemetry::log_files::LogFiles;
use crate::telemetry::log_writer::{Destination, LogWriter};

/// An open log.
#[derive(Debug)]
pub(crate) struct JsonLog {
    writer: LogWriter,
    fields: Vec<Field>,
}

impl JsonLog {
    pub(crate) fn open(wanted: &JsonAccessLog, files: &LogFiles) -> io::Result<Self> {
        let destination = Destination::from_setting(&wanted.path, Destination::Output);
        let writer = LogWriter::open(destination, "json-log", files)?;
        let fields = fields_of(&wanted.fields);
        Ok(Self { writer, fields })
    }

    pub(crate) fn shows_response_headers(&self) -> bool {
        let is_shown = |field: &Field| matches!(field, Field::ResponseHeader(..));
        self.fields.iter().any(is_shown)
    }

    /// `time` is when the line is written, in UTC (RFC 3339); `proxies` whose word on clients is believed, where the
    /// peer is one of them.
    pub(crate) fn write(&mut self, record: &Record<'_>, time: &[u8], proxies: Option<&AddressSet>) {
        let line = Line {
            record,
            time,
            proxies,
        };
        let fields = &self.fields;
        self.writer.line(|out| line.write(fields, out));
    }

    pub(crate) fn writer(&mut self) -> &mut LogWriter {
        &mut self.writer
    }
}

/// One field of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Field {
    Named(Name),
    /// A header of the request: the field's name, and the header's.
    RequestHeader(Box<str>, Box<[u8]>),
    ResponseHeader(Box<str>, Box<[u8]>),
}

macro_rules! names {
    ($($name:ident = $text:literal),* $(,)?) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        enum Name { $($name),* }

        impl Name {
            /// Every one, in the order in which all of them are written.
            const ALL: &'static [Self] = &[$(Self::$name),*];

            const TEXTS: &'static [&'static str] = &[$($text),*];

            const fn text(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }
        }
    };
}

names! {
    Time = "time", Client = "client", ClientPort = "client_port", User = "user", Method = "method",
    Target = "target", Path = "path", Query = "query", Protocol = "protocol", Scheme = "scheme",
    Host = "host", Referer = "referer", UserAgent = "user_agent", Status = "status", Bytes = "bytes",
    Duration = "duration", Pid = "pid", Reason = "reason", ForwardedClient = "forwarded_client",
    ForwardedFor = "forwarded_for", RequestId = "request_id", TraceId = "trace_id",
    ProxyTime = "proxy_time", QueueTime = "queue_time",
}

/// Names of fields that are no headers, in the order in which all of them are written.
pub const FIELDS: &[&str] = Name::TEXTS;

impl Field {
    /// Names that are no fields were refused with the settings; here they are passed over.
    fn parse(text: &str) -> Option<Self> {
        let header = |end| Some(text.strip_prefix('{')?.strip_suffix(end)?.as_bytes().into());
        if let Some(name) = header("}i") {
            return Some(Self::RequestHeader(text.into(), name));
        }
        if let Some(name) = header("}o") {
            return Some(Self::ResponseHeader(text.into(), name));
        }
        let named = Name::ALL.iter().find(|name| name.text() == text);
        named.copied().map(Self::Named)
    }
}

fn fields_of(names: &[String]) -> Vec<Field> {
    if names.is_empty() {
        return Name::ALL.iter().copied().map(Field::Named).collect();
    }
    names.iter().filter_map(|name| Field::parse(name)).collect()
}

/// A line beside what it is made of.
#[derive(Clone, Copy)]
struct Line<'a> {
    record: &'a Record<'a>,
    time: &'a [u8],
    proxies: Option<&'a AddressSet>,
}

impl Line<'_> {
    fn write(self, fields: &[Field], out: &mut Vec<u8>) {
        let mut object = Object::begin(out);
        for field in fields {
            match field {
                Field::Named(name) => self.write_named(*name, &mut object),
                Field::RequestHeader(name, header) => {
                    object.text(name, self.record.request_header(header));
                }
                Field::ResponseHeader(name, header) => {
                    object.text(name, self.record.response_header(header));
                }
            }
        }
        // Where nothing of a request could be read this is all there is.
        if self.record.request.is_none() {
            object.text("request_line", Some(self.record.first_line));
        }
        object.end();
    }

    fn write_named(self, name: Name, object: &mut Object<'_>) {
        let record = self.record;
        let request = record.request.as_ref();
        let text = name.text();
        match name {
            Name::Time => object.text(text, Some(self.time)),
            Name::Client => object.text(text, Some(record.client)),
            Name::ClientPort => match record.client_port {
                Some(port) => object.number(text, port),
                None => object.text(text, None),
            },
            Name::User => object.text(text, record.user().as_deref()),
            Name::Method => object.text(text, request.map(RequestHead::method)),
            Name::Target => object.text(text, request.map(RequestHead::request_target)),
            Name::Path => object.text(text, request.map(|_| record.path()).as_deref()),
            Name::Query => object.text(text, request.map(RequestHead::query_string)),
            Name::Protocol => object.text(text, request.map(RequestHead::protocol)),
            Name::Scheme => object.text(text, Some(if record.https { b"https" } else { b"http" })),
            Name::Host => object.text(text, record.request_header(b"host")),
            Name::Referer => object.text(text, record.request_header(b"referer")),
            Name::UserAgent => object.text(text, record.request_header(b"user-agent")),
            Name::Status => object.number(text, record.status),
            Name::Bytes => object.number(text, record.body_bytes),
            Name::Duration => object.seconds(text, record.elapsed.as_micros()),
            Name::Pid => object.number(text, record.pid),
            Name::Reason => object.text(text, record.reason.map(str::as_bytes)),
            Name::ForwardedClient => {
                let chain = forwarded_for(record);
                let believed = chain.as_deref().zip(self.proxies);
                let client =
                    believed.and_then(|(chain, proxies)| forwarded::client(chain, proxies));
                object.text(text, client.map(|(host, _)| host));
            }
            Name::ForwardedFor => object.text(text, forwarded_for(record).as_deref()),
            Name::RequestId => object.text(text, record.request_id()),
            Name::TraceId => object.text(text, record.trace_id().as_ref().map(|id| &id[..])),
            Name::ProxyTime => object.seconds_or_null(text, record.proxy_time()),
            Name::QueueTime => object.seconds_or_null(text, record.queue_time),
        }
    }
}

/// The whole chain, whoever wrote it: lines of it are joined, as in the environ.
fn forwarded_for(record: &Record<'_>) -> Option<Vec<u8>> {
    let headers = record.request.as_ref()?.headers();
    let lines: Vec<_> = headers
        .filter(|header| header.name.eq_ignore_ascii_case(b"x-forwarded-for"))
        .map(|header| header.value)
        .collect();
    (!lines.is_empty()).then(|| lines.join(&b','))
}

struct Object<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> Object<'a> {
    fn begin(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out }
    }

    fn end(self) {
        // Behind each field; a line without any has only its brace.
        if self.out.last() == Some(&b',') {
            self.out.pop();
        }
        self.out.extend_from_slice(b"}\n");
    }

    fn name(&mut self, name: &str) {
        write_string(name.as_bytes(), self.out);
        self.out.push(b':');
    }

    fn text(&mut self, name: &str, value: Option<&[u8]>) {
        self.name(name);
        match value {
            Some(value) => write_string(value, self.out),
            None => self.out.extend_from_slice(b"null"),
        }
        self.out.push(b',');
    }

    fn number(&mut self, name: &str, value: impl itoa::Integer) {
        self.name(name);
        self.digits(value);
        self.out.push(b',');
    }

    fn seconds(&mut self, name: &str, microseconds: u128) {
        self.name(name);
        self.digits(microseconds / 1_000_000);
        self.out.push(b'.');
        let start = self.out.len();
        self.digits(1_000_000 + microseconds % 1_000_000);
        // The leading one kept the zeros.
        self.out.remove(start);
        self.out.push(b',');
    }

    fn seconds_or_null(&mut self, name: &str, time: Option<Duration>) {
        match time {
            Some(time) => self.seconds(name, time.as_micros()),
            None => self.text(name, None),
        }
    }

    fn digits(&mut self, value: impl itoa::Integer) {
        self.out
            .extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }
}

/// A JSON string (RFC 8259 section 7).
fn write_string(value: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for chunk in value.utf8_chunks() {
        write_text(chunk.valid(), out);
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
    out.push(b'"');
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    let mut rest = text;
    while let Some(at) = rest.find(needs_escape) {
        let (plain, special) = rest.split_at(at);
        out.extend_from_slice(plain.as_bytes());
        let mut letters = special.chars();
        if let Some(letter) = letters.next() {
            write_escape(letter, out);
        }
        rest = letters.as_str();
    }
    out.extend_from_slice(rest.as_bytes());
}

/// What JSON forbids, what a terminal obeys, and what JavaScript takes for the end of a line.
fn needs_escape(letter: char) -> bool {
    letter.is_control() || matches!(letter, '"' | '\\' | '\u{2028}' | '\u{2029}')
}

fn write_escape(letter: char, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    if letter.is_ascii() && !letter.is_control() {
        return out.extend_from_slice(&[b'\\', letter as u8]);
    }
    let code = letter as u32;
    out.extend_from_slice(b"\\u");
    out.extend([12, 8, 4, 0].map(|shift| HEX[(code >> shift & 15) as usize]));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(
        first_line: &[u8],
        client: &[u8],
        reason: Option<&'static str>,
        fields: &[String],
    ) -> Vec<u8> {
        let record = Record {
            request: None,
            first_line,
            client,
            client_port: Some(5000),
            server: b"127.0.0.1",
            server_port: None,
            https: false,
            status: 400,
            body_bytes: 12,
            elapsed: Duration::from_micros(3_000_405),
            pid: 42,
            response_head: b"",
            time: b"",
            reason,
            queue_time: None,
            trace: None,
        };
        let line = Line {
            record: &record,
            time: b"2026-02-01T03:04:05.006Z",
            proxies: None,
        };
        let mut out = Vec::new();
        line.write(&fields_of(fields), &mut out);
        out
    }

    #[test]
    fn has_the_documented_fields_in_their_order() {
        let text = String::from_utf8(line(b"\x16\x03\"", b"192.0.2.1", Some("no method"), &[]));
        assert_eq!(
            text.expect("UTF-8"),
            "{\"time\":\"2026-02-01T03:04:05.006Z\",\"client\":\"192.0.2.1\",\"client_port\":5000,\
             \"user\":null,\"method\":null,\"target\":null,\"path\":null,\"query\":null,\
             \"protocol\":null,\"scheme\":\"http\",\"host\":null,\"referer\":null,\
             \"user_agent\":null,\"status\":400,\"bytes\":12,\"duration\":3.000405,\"pid\":42,\
             \"reason\":\"no method\",\"forwarded_client\":null,\"forwarded_for\":null,\
             \"request_id\":null,\"trace_id\":null,\"proxy_time\":null,\"queue_time\":null,\
             \"request_line\":\"\\u0016\\u0003\\\"\"}\n"
        );
    }

    #[test]
    fn has_the_fields_asked_for_in_the_order_asked_for() {
        let fields = ["status", "{x-id}i", "{server}o", "nothing", "duration"].map(Into::into);
        let text = String::from_utf8(line(b"", b"", None, &fields));
        assert_eq!(
            text.expect("UTF-8"),
            "{\"status\":400,\"{x-id}i\":null,\"{server}o\":null,\"duration\":3.000405,\"request_line\":\"\"}\n"
        );
    }

    proptest! {
        #[test]
        fn any_bytes_give_one_line_of_valid_json(first_line: Vec<u8>, client: Vec<u8>) {
            let text = line(&first_line, &client, None, &[]);
            let value: serde_json::Value = serde_json::from_slice(&text).expect("valid JSON");
            let sent = String::from_utf8_lossy(&first_line);
            prop_assert_eq!(value["request_line"].as_str(), Some(&*sent));
            let sent = String::from_utf8_lossy(&client);
            prop_assert_eq!(value["client"].as_str(), Some(&*sent));
            let (end, line) = text.split_last().expect("a line");
            prop_assert_eq!(*end, b'\n');
            prop_assert!(!line.iter().any(u8::is_ascii_control));
        }

        #[test]
        fn any_text_comes_back_as_it_was(text: String) {
            let line = line(text.as_bytes(), b"", None, &[]);
            let value: serde_json::Value = serde_json::from_slice(&line).expect("valid JSON");
            prop_assert_eq!(value["request_line"].as_str(), Some(text.as_str()));
        }
    }
}
