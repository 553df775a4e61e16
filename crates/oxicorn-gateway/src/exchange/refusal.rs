//! Answers the gateway gives itself.
//!
//! Every reason not to ask (or not to wait for) a worker has a status, a phrase and a short plain
//! text here, and nowhere else.

use std::io;
use std::time::Duration;

use oxicorn_link::scoreboard::Counter;
use oxicorn_proto::PeerFault;
use oxicorn_proto::http1::{self, Next};
use oxicorn_proto::message::RequestHead;
use oxicorn_proto::websocket::HandshakeFault;

use crate::connection::{Connection, Phase};
use crate::exchange::{After, Happened};
use crate::gateway::Gateway;
use crate::telemetry::tracing::RequestIds;

/// The port that https has where none is named.
const HTTPS: u16 = 443;

/// An answer without a worker.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Refusal {
    status: u16,
    reason: &'static str,
    message: &'static str,
    retry_after: Option<Duration>,
    /// What would have been accepted.
    headers: &'static [(&'static str, &'static str)],
    /// The port of https at which the same is to be asked for.
    location: Option<u16>,
    whose: Whose,
}

/// Who made it necessary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// The peer broke a rule: logged, and nothing that follows on this connection can be trusted.
    Peer,
    /// The peer went away in the middle: not worth a warning.
    PeerLeft,
    /// We, or the worker; the connection is as good as before.
    Ours,
}

impl Refusal {
    /// What the logs say about it.
    pub(crate) const fn message(&self) -> &'static str {
        self.message
    }

    const fn new(status: u16, reason: &'static str, message: &'static str, whose: Whose) -> Self {
        Self {
            status,
            reason,
            message,
            retry_after: None,
            headers: &[],
            location: None,
            whose,
        }
    }

    /// The scheme headers of a trusted peer contradict each other.
    pub(crate) const CONTRADICTORY_SCHEMES: Self = Self::new(
        400,
        "Bad Request",
        "contradictory scheme headers",
        Whose::Peer,
    );
    /// Plain HTTP where TLS is spoken.
    pub(crate) const UNENCRYPTED: Self = Self::new(
        400,
        "Bad Request",
        "plain HTTP was sent to a port that speaks TLS: use https",
        Whose::Peer,
    );
    /// The rest of a request did not come in time.
    pub(crate) const TOO_SLOW: Self = Self::new(
        408,
        "Request Timeout",
        "request did not come in time",
        Whose::Peer,
    );
    /// The body came too slowly.
    pub(crate) const BODY_TOO_SLOW: Self = Self::new(
        408,
        "Request Timeout",
        "request body came too slowly",
        Whose::Peer,
    );
    /// A PROXY header from somebody who may not send one.
    pub(crate) const FORBIDDEN_PROXY: Self = Self::new(
        403,
        "Forbidden",
        "proxy protocol header from an address that may not send one",
        Whose::Peer,
    );
    /// A request of a web server that may not speak for its clients.
    pub(crate) const FORBIDDEN_WEB_SERVER: Self = Self::new(
        403,
        "Forbidden",
        "request of a web server from an address that may not send one (uwsgi_allow_ips)",
        Whose::Peer,
    );
    /// One connection too many of this client.
    pub(crate) const TOO_MANY_CONNECTIONS: Self = Self {
        retry_after: Some(Duration::from_secs(1)),
        ..Self::new(
            503,
            "Service Unavailable",
            "too many connections from this address",
            Whose::Peer,
        )
    };
    /// No memory for a head like this.
    pub(crate) const NO_MEMORY: Self = Self {
        retry_after: Some(Duration::from_secs(1)),
        ..Self::new(
            503,
            "Service Unavailable",
            "no room for so long a request head now",
            Whose::Peer,
        )
    };
    /// No room for a body like this, on the disk or where memory serves for one.
    pub(crate) const NO_STORAGE: Self = Self {
        retry_after: Some(Duration::from_secs(1)),
        ..Self::new(
            503,
            "Service Unavailable",
            "no room for so long a request body now",
            Whose::Peer,
        )
    };
    /// The server ends, and nobody is left to ask.
    pub(crate) const STOPPING: Self = Self::new(
        503,
        "Service Unavailable",
        "the server is stopping",
        Whose::Ours,
    );
    /// The application gave no response.
    pub(crate) const APPLICATION_FAILED: Self = Self::new(
        500,
        "Internal Server Error",
        "internal server error",
        Whose::Ours,
    );
    /// The worker died while it served the request.
    pub(crate) const WORKER_LOST: Self = Self::new(
        502,
        "Bad Gateway",
        "the worker serving this request ended",
        Whose::Ours,
    );
    /// The worker took too long.
    pub(crate) const EXPIRED: Self = Self::new(
        504,
        "Gateway Timeout",
        "the application did not answer in time",
        Whose::Ours,
    );

    /// More to do than can be done.
    pub(crate) const fn overload(retry_after: Duration) -> Self {
        let message = "all workers are busy";
        let refusal = Self::new(503, "Service Unavailable", message, Whose::Ours);
        Self {
            retry_after: Some(retry_after),
            ..refusal
        }
    }

    /// The same is to be asked for by https, with the same method (RFC 9110 section 15.4.9).
    pub(crate) const fn to_https(port: u16) -> Self {
        let message = "this is served by https";
        let refusal = Self::new(308, "Permanent Redirect", message, Whose::Ours);
        Self {
            location: Some(port),
            ..refusal
        }
    }

    /// A rule of the protocol was broken.
    pub(crate) const fn of_fault(fault: PeerFault) -> Self {
        let whose = match fault {
            PeerFault::TruncatedHead | PeerFault::TruncatedBody => Whose::PeerLeft,
            _ => Whose::Peer,
        };
        Self::new(fault.status(), fault.reason(), fault.message(), whose)
    }

    /// A rule of the WebSocket handshake was broken.
    pub(crate) const fn of_handshake(fault: HandshakeFault) -> Self {
        let (status, message) = (fault.status(), fault.message());
        if status == 426 {
            let refusal = Self::new(status, "Upgrade Required", message, Whose::Peer);
            Self {
                // RFC 9110 section 15.5.22, RFC 6455 section 4.4.
                headers: &[("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")],
                ..refusal
            }
        } else {
            Self::new(status, "Bad Request", message, Whose::Peer)
        }
    }
}

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
        let next = encode(connection, refusal, self.clock.http_date());
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
        let address = String::from_utf8_lossy(connection.client().text()).into_owned();
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
fn encode(connection: &mut Connection, refusal: &Refusal, date: &[u8]) -> Option<Next> {
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
        server: resolved.settings.server_header.as_bytes(),
        date,
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
