//! The access log as JSON: one object a line, for every request whatever became of it.
//!
//! Decides the fields and their names, which are a promise to whoever reads the log (`docs/logging.md`).
//! Whatever bytes a client sends, a line is one valid JSON object: text that is not UTF-8 is repaired
//! with U+FFFD, control characters are escaped.

use std::io;

use oxicorn_proto::forwarded;
use oxicorn_proto::http1::RequestHead;
use oxicorn_proto::trust::AddressSet;

use crate::access_log::Record;
use crate::log_writer::{Destination, LogWriter};

/// An open log.
#[derive(Debug)]
pub(crate) struct JsonLog {
    writer: LogWriter,
}

impl JsonLog {
    pub(crate) fn open(path: &str) -> io::Result<Self> {
        let destination = Destination::from_setting(path, Destination::Output);
        let writer = LogWriter::open(destination, "json-log")?;
        Ok(Self { writer })
    }

    /// `time` is when the line is written, in UTC (RFC 3339); `proxies` whose word on clients is believed, where the
    /// peer is one of them.
    pub(crate) fn write(&mut self, record: &Record<'_>, time: &[u8], proxies: Option<&AddressSet>) {
        self.writer
            .line(|out| write_line(record, time, proxies, out));
    }

    pub(crate) fn writer(&mut self) -> &mut LogWriter {
        &mut self.writer
    }
}

fn write_line(record: &Record<'_>, time: &[u8], proxies: Option<&AddressSet>, out: &mut Vec<u8>) {
    let request = record.request.as_ref();
    let chain = forwarded_for(record);
    let believed = chain.as_deref().zip(proxies);
    let client = believed.and_then(|(chain, proxies)| forwarded::client(chain, proxies));
    let header = |name: &[u8]| record.request_header(name);
    let mut object = Object { out };
    object.begin(b"time", time);
    object.text(b"client", Some(record.client));
    object.port(b"client_port", record.client_port);
    object.text(b"user", record.user().as_deref());
    object.text(b"method", request.map(RequestHead::method));
    object.text(b"target", request.map(RequestHead::request_target));
    object.text(b"path", request.map(|_| record.path));
    object.text(b"query", request.map(RequestHead::query_string));
    object.text(b"protocol", request.map(RequestHead::protocol));
    let scheme: &[u8] = if record.https { b"https" } else { b"http" };
    object.text(b"scheme", Some(scheme));
    object.text(b"host", header(b"host"));
    object.text(b"referer", header(b"referer"));
    object.text(b"user_agent", header(b"user-agent"));
    object.number(b"status", record.status);
    object.number(b"bytes", record.body_bytes);
    object.seconds(b"duration", record.elapsed.as_micros());
    object.number(b"pid", record.pid);
    object.text(b"reason", record.reason.map(str::as_bytes));
    object.text(b"forwarded_client", client.map(|(host, _)| host));
    object.text(b"forwarded_for", chain.as_deref());
    object.text(b"request_id", header(b"x-request-id"));
    if request.is_none() {
        object.text(b"request_line", Some(record.first_line));
    }
    out.extend_from_slice(b"}\n");
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

impl Object<'_> {
    fn begin(&mut self, name: &[u8], value: &[u8]) {
        self.out.push(b'{');
        self.name_and_colon(name);
        write_string(value, self.out);
    }

    fn name(&mut self, name: &[u8]) {
        self.out.push(b',');
        self.name_and_colon(name);
    }

    fn name_and_colon(&mut self, name: &[u8]) {
        self.out.push(b'"');
        self.out.extend_from_slice(name);
        self.out.extend_from_slice(b"\":");
    }

    fn text(&mut self, name: &[u8], value: Option<&[u8]>) {
        self.name(name);
        match value {
            Some(value) => write_string(value, self.out),
            None => self.out.extend_from_slice(b"null"),
        }
    }

    fn number(&mut self, name: &[u8], value: impl itoa::Integer) {
        self.name(name);
        self.digits(value);
    }

    fn port(&mut self, name: &[u8], value: Option<u16>) {
        match value {
            Some(value) => self.number(name, value),
            None => self.text(name, None),
        }
    }

    fn seconds(&mut self, name: &[u8], microseconds: u128) {
        self.number(name, microseconds / 1_000_000);
        self.out.push(b'.');
        let start = self.out.len();
        self.digits(1_000_000 + microseconds % 1_000_000);
        // The leading one kept the zeros.
        self.out.remove(start);
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
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn line(first_line: &[u8], client: &[u8], reason: Option<&'static str>) -> Vec<u8> {
        let record = Record {
            request: None,
            first_line,
            path: b"",
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
        };
        let mut out = Vec::new();
        write_line(&record, b"2026-02-01T03:04:05.006Z", None, &mut out);
        out
    }

    #[test]
    fn has_the_documented_fields_in_their_order() {
        let text = String::from_utf8(line(b"\x16\x03\"", b"192.0.2.1", Some("no method")));
        assert_eq!(
            text.expect("UTF-8"),
            "{\"time\":\"2026-02-01T03:04:05.006Z\",\"client\":\"192.0.2.1\",\"client_port\":5000,\
             \"user\":null,\"method\":null,\"target\":null,\"path\":null,\"query\":null,\
             \"protocol\":null,\"scheme\":\"http\",\"host\":null,\"referer\":null,\
             \"user_agent\":null,\"status\":400,\"bytes\":12,\"duration\":3.000405,\"pid\":42,\
             \"reason\":\"no method\",\"forwarded_client\":null,\"forwarded_for\":null,\
             \"request_id\":null,\"request_line\":\"\\u0016\\u0003\\\"\"}\n"
        );
    }

    proptest! {
        #[test]
        fn any_bytes_give_one_line_of_valid_json(first_line: Vec<u8>, client: Vec<u8>) {
            let text = line(&first_line, &client, None);
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
            let line = line(text.as_bytes(), b"", None);
            let value: serde_json::Value = serde_json::from_slice(&line).expect("valid JSON");
            prop_assert_eq!(value["request_line"].as_str(), Some(text.as_str()));
        }
    }
}
