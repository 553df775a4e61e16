//! What is spoken on a connection.
//!
//! A session makes events of a client's bytes and bytes of an answer, and knows no worker. All of them write
//! responses as HTTP/1 does, each in its own dialect, and differ in how a request comes. `Http1` is the first
//! kind: what the others cost it is one branch.

mod fastcgi;
mod uwsgi;
pub(crate) mod websocket;
mod writer;

use std::sync::Arc;

use oxicorn_proto::cgi;
use oxicorn_proto::http1::{self, Polled, Rules, percent_decode};
use oxicorn_proto::message::RequestHead;
use oxicorn_proto::other_protocol::is_binary;
use oxicorn_proto::{LocalMisuse, PeerFault};

use crate::Protocol;
use fastcgi::FastCgi;
use uwsgi::Uwsgi;
pub(crate) use writer::Writer;

/// The protocol of one connection, and where it stands in it.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all connections are of the first kind"
)]
pub(crate) enum Session {
    Http1(http1::Connection),
    Uwsgi(Box<Uwsgi>),
    FastCgi(Box<FastCgi>),
}

impl Session {
    /// A connection that awaits its first request; `trusted`: its forwarding headers are believed.
    pub(crate) fn new(protocol: Protocol, rules: Arc<Rules>, trusted: bool) -> Self {
        let mut session = match protocol {
            Protocol::Http => Self::Http1(http1::Connection::new(rules)),
            Protocol::Uwsgi => Self::Uwsgi(Box::new(Uwsgi::new(rules))),
            Protocol::FastCgi => Self::FastCgi(Box::new(FastCgi::new(rules))),
        };
        session.http_mut().set_forwarder_trusted(trusted);
        session
    }

    fn http(&self) -> &http1::Connection {
        match self {
            Self::Http1(http) => http,
            Self::Uwsgi(uwsgi) => &uwsgi.http,
            Self::FastCgi(fastcgi) => &fastcgi.http,
        }
    }

    /// What responses are written by.
    pub(crate) fn http_mut(&mut self) -> &mut http1::Connection {
        match self {
            Self::Http1(http) => http,
            Self::Uwsgi(uwsgi) => &mut uwsgi.http,
            Self::FastCgi(fastcgi) => &mut fastcgi.http,
        }
    }

    /// What the bytes at the front of `input` mean.
    pub(crate) fn poll_event(&mut self, input: &[u8]) -> Result<Polled, PeerFault> {
        match self {
            Self::Http1(http) => http.poll_event(input),
            Self::Uwsgi(uwsgi) => uwsgi.poll_event(input),
            Self::FastCgi(fastcgi) => fastcgi.poll_event(input),
        }
    }

    /// The head last reported; `bytes` are those of its event.
    pub(crate) fn head<'a>(&'a self, bytes: &'a [u8]) -> RequestHead<'a> {
        match self {
            Self::Http1(http) => http.head(bytes),
            Self::Uwsgi(uwsgi) => uwsgi.head(),
            Self::FastCgi(fastcgi) => fastcgi.head(),
        }
    }

    /// What an answer is written by, and the bytes of the head it answers.
    pub(crate) fn writer<'a>(&'a mut self, bytes: &'a [u8]) -> (Writer<'a>, &'a [u8]) {
        match self {
            Self::Http1(http) => {
                let records = None;
                (Writer { http, records }, bytes)
            }
            Self::Uwsgi(uwsgi) => uwsgi.writer(),
            Self::FastCgi(fastcgi) => fastcgi.writer(),
        }
    }

    /// The answer is out and the request has been read: ready for the next one.
    pub(crate) fn start_next_exchange(&mut self) -> Result<(), LocalMisuse> {
        self.http_mut().start_next_exchange()?;
        if let Self::FastCgi(fastcgi) = self {
            fastcgi.start_next();
        }
        Ok(())
    }

    /// What the protocol itself answers, which goes before anything else.
    pub(crate) fn take_replies(&mut self) -> Vec<u8> {
        match self {
            Self::Http1(_) | Self::Uwsgi(_) => Vec::new(),
            Self::FastCgi(fastcgi) => fastcgi.take_replies(),
        }
    }

    /// What the web server in front says beside the head, where there is one that speaks for its clients.
    pub(crate) fn relayed(&self) -> Option<&cgi::Request> {
        match self {
            Self::Http1(_) => None,
            Self::Uwsgi(uwsgi) => Some(uwsgi.request()),
            Self::FastCgi(fastcgi) => Some(fastcgi.request()),
        }
    }

    /// Whether a peer needs leave of `uwsgi_allow_ips` to speak so: it is believed who its clients are.
    pub(crate) fn needs_leave(&self) -> bool {
        !matches!(self, Self::Http1(_))
    }

    /// Writes the path of the request, decoded.
    pub(crate) fn path(&self, head: &RequestHead<'_>, out: &mut Vec<u8>) {
        match self.relayed() {
            None => percent_decode(head.path(), out),
            Some(request) => out.extend_from_slice(&request.path),
        }
    }

    /// The trailers last reported; `bytes` are those of the body's end.
    pub(crate) fn trailers<'a>(
        &'a self,
        bytes: &'a [u8],
    ) -> impl Iterator<Item = oxicorn_proto::message::Header<'a>> {
        self.http().trailers(bytes)
    }

    /// The peer closed its sending side.
    pub(crate) fn handle_eof(&mut self) -> Result<(), PeerFault> {
        match self {
            Self::Http1(http) => http.handle_eof(),
            Self::Uwsgi(uwsgi) => uwsgi.handle_eof(),
            Self::FastCgi(fastcgi) => fastcgi.handle_eof(),
        }
    }

    /// Whether nothing of a request has come since the last one.
    pub(crate) fn is_idle(&self) -> bool {
        match self {
            Self::Http1(http) => http.is_idle(),
            Self::Uwsgi(uwsgi) => uwsgi.is_idle(),
            Self::FastCgi(fastcgi) => fastcgi.is_idle(),
        }
    }

    /// What a log shows of bytes that could not be read.
    pub(crate) fn first_line<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        match self {
            Self::Http1(_) if bytes.first().copied().is_some_and(is_binary) => b"",
            Self::Http1(_) => http1::first_line(bytes),
            // Lengths and names; nobody could read them.
            Self::Uwsgi(_) | Self::FastCgi(_) => b"",
        }
    }
}
