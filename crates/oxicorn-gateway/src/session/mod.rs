//! What is spoken on a connection.
//!
//! A session makes events of a client's bytes and bytes of an answer, and knows no worker. All of them write
//! responses as HTTP/1 does, each in its own dialect, and differ in how a request comes. `Http1` is the first
//! kind: what the others cost it is one branch.

mod fastcgi;
pub(crate) mod http2;
mod variables;
pub(crate) mod websocket;
mod writer;

use std::sync::Arc;

use oxicorn_proto::cgi;
use oxicorn_proto::http1::{self, Polled, Rules};
use oxicorn_proto::message::{FieldTable, RequestHead};
use oxicorn_proto::other_protocol::is_binary;
use oxicorn_proto::percent;
use oxicorn_proto::{LocalMisuse, PeerFault};

use crate::Protocol;
use fastcgi::FastCgi;
use variables::{Source, Variables};
pub(crate) use writer::Writer;

/// The protocol of one connection, and where it stands in it.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all connections are of the first kind"
)]
pub(crate) enum Session {
    Http1(http1::Connection),
    /// uwsgi or SCGI: variables in one piece, then the body as it is.
    Variables(Box<Variables>),
    FastCgi(Box<FastCgi>),
    /// A stream of HTTP/2.
    Stream(Box<http2::Stream>),
    /// HTTP/2, whose requests are streams.
    Carrier(Box<http2::Carrier>),
}

impl Session {
    /// A connection that awaits its first request; `trusted`: its forwarding headers are believed.
    pub(crate) fn new(protocol: Protocol, rules: Arc<Rules>, trusted: bool) -> Self {
        let mut session = match protocol {
            Protocol::Http => Self::Http1(http1::Connection::new(rules)),
            Protocol::Uwsgi => Self::Variables(Box::new(Variables::new(Source::Uwsgi, rules))),
            Protocol::Scgi => Self::Variables(Box::new(Variables::new(Source::Scgi, rules))),
            Protocol::FastCgi => Self::FastCgi(Box::new(FastCgi::new(rules))),
        };
        session.http_mut().set_forwarder_trusted(trusted);
        session
    }

    fn http(&self) -> &http1::Connection {
        match self {
            Self::Http1(http) => http,
            Self::Variables(variables) => &variables.http,
            Self::FastCgi(fastcgi) => &fastcgi.http,
            Self::Stream(stream) => &stream.http,
            Self::Carrier(carrier) => &carrier.http,
        }
    }

    /// What responses are written by.
    pub(crate) fn http_mut(&mut self) -> &mut http1::Connection {
        match self {
            Self::Http1(http) => http,
            Self::Variables(variables) => &mut variables.http,
            Self::FastCgi(fastcgi) => &mut fastcgi.http,
            Self::Stream(stream) => &mut stream.http,
            Self::Carrier(carrier) => &mut carrier.http,
        }
    }

    /// What the bytes at the front of `input` mean.
    pub(crate) fn poll_event(&mut self, input: &[u8]) -> Result<Polled, PeerFault> {
        match self {
            Self::Http1(http) => http.poll_event(input),
            Self::Variables(variables) => variables.poll_event(input),
            Self::FastCgi(fastcgi) => fastcgi.poll_event(input),
            Self::Stream(stream) => stream.poll_event(input),
            Self::Carrier(carrier) => carrier.http.poll_event(input),
        }
    }

    /// The head last reported; `bytes` are those of its event.
    pub(crate) fn head<'a>(&'a self, bytes: &'a [u8]) -> RequestHead<'a> {
        match self {
            Self::Http1(http) => http.head(bytes),
            Self::Variables(variables) => variables.head(),
            Self::FastCgi(fastcgi) => fastcgi.head(),
            Self::Stream(stream) => stream.head(),
            Self::Carrier(carrier) => carrier.http.head(bytes),
        }
    }

    /// What an answer is written by, and the bytes of the head it answers.
    pub(crate) fn writer<'a>(&'a mut self, bytes: &'a [u8]) -> (Writer<'a>, &'a [u8]) {
        match self {
            Self::Http1(http) => {
                let records = None;
                (Writer { http, records }, bytes)
            }
            Self::Variables(variables) => variables.writer(),
            Self::FastCgi(fastcgi) => fastcgi.writer(),
            Self::Stream(stream) => stream.writer(),
            Self::Carrier(carrier) => {
                let (http, records) = (&mut carrier.http, None);
                (Writer { http, records }, bytes)
            }
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
            Self::Http1(_) | Self::Variables(_) | Self::Stream(_) | Self::Carrier(_) => Vec::new(),
            Self::FastCgi(fastcgi) => fastcgi.take_replies(),
        }
    }

    /// What the web server in front says beside the head, where there is one that speaks for its clients.
    pub(crate) fn relayed(&self) -> Option<&cgi::Request> {
        match self {
            Self::Http1(_) | Self::Stream(_) | Self::Carrier(_) => None,
            Self::Variables(variables) => Some(variables.request()),
            Self::FastCgi(fastcgi) => Some(fastcgi.request()),
        }
    }

    /// Whether a peer needs leave of `uwsgi_allow_ips` to speak so: it is believed who its clients are.
    pub(crate) fn needs_leave(&self) -> bool {
        matches!(self, Self::Variables(_) | Self::FastCgi(_))
    }

    /// The path of the request, decoded; `room` is for one that has to be.
    pub(crate) fn path<'a>(&'a self, head: &RequestHead<'a>, room: &'a mut Vec<u8>) -> &'a [u8] {
        if let Some(request) = self.relayed() {
            return &request.path;
        }
        let path = head.path();
        if !path.contains(&b'%') {
            return path;
        }
        room.clear();
        percent::decode(path, room);
        room
    }

    /// The trailers last reported; `bytes` are those of the body's end.
    pub(crate) fn trailers<'a>(
        &'a self,
        bytes: &'a [u8],
    ) -> impl Iterator<Item = oxicorn_proto::message::Header<'a>> {
        let of_stream = match self {
            Self::Stream(stream) => Some(stream.trailers()),
            _ => None,
        };
        let others = self.http().trailers(bytes);
        others.chain(of_stream.into_iter().flatten())
    }

    /// All of the request's body has come, where the carrier says so.
    pub(crate) fn end_body(&mut self, trailers: Option<&::http::HeaderMap>) {
        if let Self::Stream(stream) = self {
            stream.end_body(trailers);
        }
    }

    /// Whether its requests are streams of HTTP/2.
    pub(crate) fn is_carrier(&self) -> bool {
        matches!(self, Self::Carrier(_))
    }

    /// What carries streams of HTTP/2.
    pub(crate) fn carrier(&mut self) -> Option<&mut http2::Carrier> {
        match self {
            Self::Carrier(carrier) => Some(carrier),
            _ => None,
        }
    }

    /// Whether it is a stream of HTTP/2.
    pub(crate) fn is_stream(&self) -> bool {
        matches!(self, Self::Stream(_))
    }

    /// The client says that it asks by https.
    pub(crate) fn says_https(&self) -> bool {
        matches!(self, Self::Stream(stream) if stream.https)
    }

    /// The peer closed its sending side.
    pub(crate) fn handle_eof(&mut self) -> Result<(), PeerFault> {
        match self {
            Self::Http1(http) => http.handle_eof(),
            Self::Variables(variables) => variables.handle_eof(),
            Self::FastCgi(fastcgi) => fastcgi.handle_eof(),
            Self::Stream(stream) => stream.http.handle_eof(),
            Self::Carrier(carrier) => carrier.http.handle_eof(),
        }
    }

    /// Memory for the next head.
    pub(crate) fn lend_fields(&mut self, fields: FieldTable) {
        self.http_mut().lend_fields(fields);
    }

    /// The memory of the last head, of a connection that holds no byte of one. Of heads that lie elsewhere
    /// than in what was received nothing is known here.
    pub(crate) fn release_fields(&mut self) -> FieldTable {
        match self {
            Self::Http1(http) => http.take_fields(),
            _ => FieldTable::default(),
        }
    }

    /// Whether nothing of a request has come since the last one.
    pub(crate) fn is_idle(&self) -> bool {
        match self {
            Self::Http1(http) => http.is_idle(),
            Self::Variables(variables) => variables.is_idle(),
            Self::FastCgi(fastcgi) => fastcgi.is_idle(),
            Self::Stream(stream) => stream.http.is_idle(),
            Self::Carrier(carrier) => carrier.streams.is_empty(),
        }
    }

    /// How many bytes of the body are still to come, where that is known.
    pub(crate) fn missing(&self) -> Option<u64> {
        match self {
            Self::Http1(http) => http.missing(),
            Self::Variables(_) | Self::FastCgi(_) | Self::Stream(_) | Self::Carrier(_) => None,
        }
    }

    /// What a log shows of bytes that could not be read.
    pub(crate) fn first_line<'a>(&'a self, bytes: &'a [u8]) -> &'a [u8] {
        match self {
            Self::Http1(_) if is_binary(bytes) => b"",
            Self::Http1(_) => http1::first_line(bytes),
            // Lengths and names; nobody could read them.
            Self::Variables(_) | Self::FastCgi(_) | Self::Carrier(_) => b"",
            Self::Stream(stream) => stream.first_line(),
        }
    }
}
