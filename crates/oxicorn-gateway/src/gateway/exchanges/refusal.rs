//! Gives the answers of our own, see [`crate::exchange::refusal`].

use std::io;

use oxicorn_link::scoreboard::Counter;
use oxicorn_proto::http1::{self, Next, OwnLine};
use oxicorn_proto::message::RequestHead;

use crate::connection::{Connection, Phase};
use crate::exchange::refusal::{HTTPS, Refusal, Whose};
use crate::exchange::{After, Happened};
use crate::gateway::Gateway;
use crate::telemetry::tracing::RequestIds;

impl Gateway {
    /// A connection's request (or what came instead of one) gets no answer of the application's.
    pub(crate) fn refuse(&mut self, key: usize, refusal: Refusal) {
        if let Some(connection) = self.connections.get_mut(key)
            && connection.exchange.is_none()
        {
            connection.exchange = Some(self.scratch.new_exchange());
            connection.phase = Phase::Open;
            connection.deadline = None;
        }
        self.happened(key, Happened::Refused(refusal));
    }

    /// An answer of our own.
    pub(crate) fn reply(&mut self, key: usize, refusal: &Refusal) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        if refusal.whose != Whose::Ours {
            connection.session.http_mut().deny_keep_alive();
        }
        let next = encode(connection, refusal, self.clock.date_line());
        if let Some(exchange) = &mut connection.exchange {
            exchange.deadline = None;
            exchange.response.logged = false;
            exchange.response.reason = Some(refusal.message);
        }
        // Where an answer has begun already there cannot be another one.
        let after = next.map_or(After::Cut, After::from);
        self.happened(key, Happened::Complete(after));
        self.tell_of_refusal(key, refusal);
        self.flush(key);
    }

    /// What else follows from it, whether the client can be told or not.
    pub(crate) fn tell_of_refusal(&mut self, key: usize, refusal: &Refusal) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        if refusal.whose != Whose::Ours {
            self.metrics.count(Counter::PeerFaults);
            // What the peer is still sending must not turn the answer into a reset.
            connection.linger = true;
            self.log_refusal(key, refusal);
        }
    }

    /// The body could not be put aside.
    pub(crate) fn refuse_for_disk(&mut self, key: usize, error: &io::Error) {
        let is_full = error.kind() == io::ErrorKind::StorageFull;
        // The bound of memory files is no fault of the system, and was told of at the start.
        if !is_full || error.raw_os_error().is_some() {
            self.error_log.error(format_args!(
                "Request body could not be kept in a file: {error}"
            ));
        }
        if is_full {
            return self.refuse(key, Refusal::NO_STORAGE);
        }
        if let Some(connection) = self.connections.get_mut(key) {
            connection.linger = true;
        }
        self.refuse(key, Refusal::APPLICATION_FAILED);
    }

    fn log_refusal(&mut self, key: usize, refusal: &Refusal) {
        let Some(connection) = self.connections.get(key) else {
            return;
        };
        let address = connection.client().shown();
        let message = refusal.message;
        let ids = RequestIds::of(connection.trace());
        if refusal.whose == Whose::PeerLeft {
            let text = "Ignored premature client disconnection";
            self.error_log
                .debug(format_args!("{text} from ip={address}: {message}{ids}"));
        } else {
            self.warn_of_client(format_args!(
                "Invalid request from ip={address}: {message}{ids}"
            ));
        }
    }
}

/// Where a request is served by https: its target at the host it was sent to.
fn https_location(head: &RequestHead<'_>, port: u16) -> Vec<u8> {
    let (authority, target) = named(head);
    let mut location = [b"https://", host(authority)].concat();
    if port != HTTPS {
        location.extend_from_slice(format!(":{port}").as_bytes());
    }
    location.extend_from_slice(target);
    location
}

/// Host and target of a request, wherever it names them.
fn named<'a>(head: &RequestHead<'a>) -> (&'a [u8], &'a [u8]) {
    let target = head.request_target();
    let rest = ["http://", "https://"].iter().find_map(|scheme| {
        let (start, rest) = target.split_at_checked(scheme.len())?;
        start
            .eq_ignore_ascii_case(scheme.as_bytes())
            .then_some(rest)
    });
    if let Some(rest) = rest {
        let end = rest.iter().position(|byte| b"/?".contains(byte));
        let (authority, target) = rest.split_at(end.unwrap_or(rest.len()));
        return (authority, if target.is_empty() { b"/" } else { target });
    }
    let hosts = head
        .headers()
        .find(|header| header.name.eq_ignore_ascii_case(b"host"));
    let target = if target.starts_with(b"/") {
        target
    } else {
        b"/"
    };
    (hosts.map_or(&b""[..], |header| header.value), target)
}

/// An authority without its port.
fn host(authority: &[u8]) -> &[u8] {
    let end = if authority.starts_with(b"[") {
        authority
            .iter()
            .position(|byte| *byte == b']')
            .map(|end| end + 1)
    } else {
        authority.iter().position(|byte| *byte == b':')
    };
    &authority[..end.unwrap_or(authority.len())]
}

/// The whole answer; `None`: one has begun already.
fn encode(connection: &mut Connection, refusal: &Refusal, date: &OwnLine) -> Option<Next> {
    let Connection {
        session,
        input,
        output,
        exchange: Some(exchange),
        resolved,
        ..
    } = connection
    else {
        return None;
    };
    let mut body = refusal.message.as_bytes().to_vec();
    body.push(b'\n');
    let head = http1::ResponseHead {
        status: refusal.status,
        reason: refusal.reason.as_bytes(),
        server: Some(&resolved.server_line),
        date: Some(date),
        body_length: Some(body.len() as u64),
    };
    // Whole seconds, and not none: "at once" would bring the client back before anything changed.
    let seconds = refusal
        .retry_after
        .map(|time| time.as_secs_f64().ceil().max(1.0));
    let seconds = seconds.map(|seconds| format!("{seconds:.0}"));
    let retry_after = seconds
        .iter()
        .map(|text| (&b"Retry-After"[..], text.as_bytes()));
    let content_type = [(&b"Content-Type"[..], &b"text/plain; charset=utf-8"[..])];
    let location = refusal
        .location
        .map(|port| https_location(&session.head(input.head()), port));
    let location = location
        .iter()
        .map(|location| (&b"Location"[..], location.as_slice()));
    let more = refusal.headers.iter();
    let more = more.map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    let trace = exchange.request.trace.as_ref();
    let id = trace.and_then(|trace| trace.response_header());
    let headers = content_type
        .into_iter()
        .chain(retry_after)
        .chain(location)
        .chain(more)
        .chain(id);
    let (mut writer, _) = session.writer(b"");
    let out = output.bytes();
    writer.head(&head, headers, out).ok()?;
    exchange.response.status = refusal.status;
    exchange.response.body_bytes = writer.body(&body, out).ok()?;
    writer.finish([], out).ok()
}
