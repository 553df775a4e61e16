//! Lines that Python writes: sent to the arbiter, whose logger is the user's.
//!
//! Decides what is left out when they come faster than the arbiter takes them: they are counted, and the
//! count is told when there is room again. The control channel has more important messages to carry.

use std::time::Duration;

use oxicorn_proto::message::RequestHead;
use oxicorn_proto::percent;

use crate::config::settings::Level;
use crate::control::end::ControlEnd;
use crate::control::{AccessRecord, FromGateway};
use crate::gateway::Gateway;
use crate::telemetry::access_log::Record;
use crate::telemetry::error_log::ErrorLog;

/// Bytes of headers in one record; beyond them headers are left out. All of a packet's bytes may become
/// six each in JSON.
const HEADER_BYTES: usize = 8 * 1024;

/// Bytes shown of a target.
const TARGET_BYTES: usize = 4 * 1024;

/// Records for the access log on their way to the arbiter.
#[derive(Debug, Default)]
pub(crate) struct AccessForwarding {
    dropped: u64,
    /// There is no arbiter any more.
    pub(crate) alone: bool,
}

impl AccessForwarding {
    pub(crate) fn send(
        &mut self,
        control: &mut ControlEnd,
        error_log: &mut ErrorLog,
        record: &Record<'_>,
    ) {
        if self.alone {
            let line = record.request.as_ref().map(RequestHead::request_line);
            let line = String::from_utf8_lossy(line.unwrap_or(record.first_line));
            let status = record.status;
            error_log.info(format_args!("Request answered with {status}: {line}"));
        } else if control.has_room() {
            control.send(&FromGateway::Access(Box::new(describe(record))));
        } else {
            self.dropped += 1;
        }
    }
}

impl Gateway {
    /// Whether there is something to send or to say of lines.
    #[inline]
    pub(crate) fn has_lines(&self) -> bool {
        self.error_log.has_to_forward() || self.access_forwarding.dropped > 0
    }

    /// Sends the error log's lines that wait, and says what was left out.
    pub(crate) fn forward_lines(&mut self) {
        while self.control.has_room()
            && let Some((level, text)) = self.error_log.next_to_forward()
        {
            self.control.send(&FromGateway::Log { level, text });
        }
        if self.access_forwarding.dropped > 0 && self.control.has_room() {
            let count = std::mem::take(&mut self.access_forwarding.dropped);
            self.control.send(&FromGateway::Log {
                level: Level::Warning,
                text: format!("{count} access log lines dropped: the arbiter could not keep up"),
            });
        }
    }
}

fn describe(record: &Record<'_>) -> AccessRecord {
    let mut described = AccessRecord {
        client: text(record.client),
        client_port: record.client_port,
        server: text(record.server),
        server_port: record.server_port,
        https: record.https,
        status: record.status,
        body_bytes: record.body_bytes,
        elapsed_us: micros(record.elapsed),
        queue_us: record.queue_time.map(micros),
        proxy_us: record.proxy_time().map(micros),
        ..AccessRecord::default()
    };
    match &record.request {
        Some(head) => describe_head(head, record, &mut described),
        None => describe_first_line(record.first_line, &mut described),
    }
    described
}

fn describe_head(head: &RequestHead<'_>, record: &Record<'_>, described: &mut AccessRecord) {
    let mut path = Vec::new();
    percent::decode(shortened(head.path()), &mut path);
    described.method = text(head.method());
    described.request_target = text(shortened(head.request_target()));
    described.path = text(&path);
    described.query_string = text(shortened(head.query_string()));
    described.protocol = text(head.protocol());
    let mut room = HEADER_BYTES;
    for (name, value) in record.request_headers() {
        let length = name.len() + value.len();
        if let Some(rest) = room.checked_sub(length) {
            room = rest;
            let pair = (text(name), text(value));
            described.headers.push(pair);
        }
    }
}

/// What could not be read as a request line is shown in its three places all the same.
fn describe_first_line(line: &[u8], described: &mut AccessRecord) {
    let mut words = line.splitn(3, |&byte| byte == b' ');
    let mut word = || text(words.next().filter(|word| !word.is_empty()).unwrap_or(b"-"));
    described.method = word();
    described.request_target = word();
    described.protocol = word();
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn shortened(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.len().min(TARGET_BYTES)]
}

/// Each byte as the character of that number.
fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect()
}
