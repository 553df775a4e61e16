//! Metrics and probes on the listeners of the clients (`monitoring_path`), for chosen peers.
//!
//! Who the peer is says its connection: the address it comes from, and never what it says of itself. A request that a
//! proxy has passed on (by a PROXY header, or with a header that proxies add) is the application's, whoever the proxy is:
//! behind it may be anybody. So is everything else that is not answered here: to a stranger it looks as if there were
//! nothing.

use oxicorn_proto::http1::{self, OwnLine};
use oxicorn_proto::message::RequestHead;
use tokio::task::spawn_local;

use super::answer::{Answer, Asked};
use super::application;
use crate::active::SharedMonitoring;
use crate::connection::Connection;
use crate::exchange::{After, Happened};
use crate::gateway::{Gateway, with};
use crate::session::Session;

/// Headers by which proxies say for whom they ask.
const OF_PROXIES: [&str; 6] = [
    "forwarded",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
];

impl SharedMonitoring {
    /// What is asked for, if it is asked by one of these peers, and of us.
    fn question(&self, connection: &Connection) -> Option<Asked> {
        // Who speaks another protocol is a proxy.
        if !matches!(connection.session, Session::Http1(_) | Session::Stream(_)) {
            return None;
        }
        let head = connection.session.head(connection.input.head());
        let path = head.path().strip_prefix(&self.prefix[..])?;
        let is_ours = matches!(path, b"/metrics" | b"/livez" | b"/readyz" | b"/startupz")
            && matches!(head.method(), b"GET" | b"HEAD");
        let is_peer = connection.proxied.is_none()
            && (connection.peer.ip()).is_some_and(|address| self.peers.contains(address));
        (is_ours && is_peer && !is_passed_on(&head)).then(|| Asked::of(&head, path))
    }
}

fn is_passed_on(head: &RequestHead<'_>) -> bool {
    head.headers().any(|header| {
        let mut names = OF_PROXIES.iter();
        names.any(|name| header.name.eq_ignore_ascii_case(name.as_bytes()))
    })
}

impl Gateway {
    /// Answers a complete request that is one for metrics or a probe; `false`: it is the application's.
    pub(crate) fn answer_as_monitoring(&mut self, key: usize) -> bool {
        let Some(connection) = self.connections.get(key) else {
            return false;
        };
        let monitoring = connection.resolved.monitoring.as_ref();
        let Some(asked) = monitoring.and_then(|one| one.question(connection)) else {
            return false;
        };
        let serial = connection.serial;
        let mut answer = self.answer_monitoring(&asked);
        if answer.followed_by.is_none() {
            self.reply_as_monitoring(key, serial, &answer);
            return true;
        }
        spawn_local(async move {
            application::complete(&mut answer).await;
            with(|gateway| {
                gateway.clock.tick();
                gateway.reply_as_monitoring(key, serial, &answer);
                gateway.settle();
            });
        });
        true
    }

    /// The client may have left meanwhile.
    fn reply_as_monitoring(&mut self, key: usize, serial: u64, answer: &Answer) {
        let connection = self.connections.get_mut(key);
        let Some(connection) = connection.filter(|one| one.serial == serial) else {
            return;
        };
        let Some(after) = encode(connection, answer, self.clock.date_line()) else {
            return;
        };
        self.happened(key, Happened::Complete(after));
        self.flush(key);
    }
}

fn encode(connection: &mut Connection, answer: &Answer, date: &OwnLine) -> Option<After> {
    let Connection {
        session,
        output,
        exchange: Some(exchange),
        resolved,
        ..
    } = connection
    else {
        return None;
    };
    let head = http1::ResponseHead {
        status: answer.status,
        reason: answer.reason.as_bytes(),
        server: Some(&resolved.server_line),
        date: Some(date),
        body_length: Some(answer.body.len() as u64),
    };
    let headers = [
        (&b"Content-Type"[..], answer.content_type.as_bytes()),
        (&b"Cache-Control"[..], &b"no-store"[..]),
    ];
    let (mut writer, _) = session.writer(b"");
    let out = output.bytes();
    writer.head(&head, headers, out).ok()?;
    exchange.deadline = None;
    exchange.response.logged = false;
    exchange.response.status = answer.status;
    exchange.response.body_bytes = writer.body(answer.body.as_bytes(), out).ok()?;
    writer.finish([], out).ok().map(After::from)
}
