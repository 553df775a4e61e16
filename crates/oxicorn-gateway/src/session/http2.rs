//! HTTP/2: a connection that carries streams, and a stream.
//!
//! A stream's request is written as the head of an HTTP/1 request and read by the same machine, as those of web servers
//! are; its body comes as it is, and its answer goes in records of which frames are made ([`crate::buffer::records`]).

use std::rc::Rc;
use std::sync::Arc;

use h2::ext::Protocol;
use http::HeaderMap;
use oxicorn_proto::PeerFault;
use oxicorn_proto::http1::{self, Behind, Event, Polled, Rules};
use oxicorn_proto::http2::{Start, list_size, version_two, write_head};
use oxicorn_proto::message::{BodyFraming, Header, RequestHead};

use super::Writer;
use crate::buffer::records::Records;
use crate::transport::http2::{Engine, Wire};
use crate::transport::tls::About;

/// A connection whose streams are its requests.
#[derive(Debug)]
pub(crate) struct Carrier {
    /// What was spoken before, and what it may have to be answered by.
    pub(crate) http: http1::Connection,
    pub(crate) engine: Engine,
    pub(crate) wire: Rc<Wire>,
    /// What TLS has settled.
    pub(crate) about: Option<Rc<About>>,
    /// Keys of the connections that its streams are.
    pub(crate) streams: Vec<usize>,
    /// No new ones are taken.
    pub(crate) leaves: bool,
    /// It has passed a bound.
    pub(crate) is_flood: bool,
}

/// The state of a stream.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(super) http: http1::Connection,
    /// The request's head as text.
    head: Vec<u8>,
    /// What is wrong with it.
    fault: Option<PeerFault>,
    state: State,
    /// `:scheme` is https.
    pub(crate) https: bool,
    /// It asks for a WebSocket (RFC 8441).
    websocket: bool,
    /// Bytes of the body, if they were said before.
    length: Option<u64>,
    /// Bytes of it so far.
    read: u64,
    /// Most bytes of it (`limit_request_body`).
    limit: Option<u64>,
    trailers: Vec<Trailer>,
    /// How many there may be (`limit_request_fields`).
    most_trailers: usize,
}

/// Name and value.
type Trailer = (Box<[u8]>, Box<[u8]>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The head was not told of.
    New {
        /// Nothing follows it.
        ends: bool,
    },
    /// More of the body may come.
    Body,
    /// All of it has come.
    Ending,
    /// And was told of.
    Done,
}

impl Stream {
    /// `ends`: the request has no body; `most`: bytes of a header list (`http2_max_header_list_size`).
    pub(crate) fn new(
        rules: &Arc<Rules>,
        request: &http::Request<impl Sized>,
        ends: bool,
        most: Option<usize>,
    ) -> Self {
        let mut head = Vec::with_capacity(256);
        let https = request.uri().scheme() == Some(&http::uri::Scheme::HTTPS);
        let fault = write(request, https, most, &mut head).err();
        if fault.is_some() {
            version_two(&mut head);
        }
        Self {
            http: http1::Connection::behind_web_server(Arc::clone(rules), Behind::Frames),
            head,
            fault,
            state: State::New { ends },
            https,
            websocket: request.extensions().get::<Protocol>().is_some(),
            length: None,
            read: 0,
            limit: rules.limits.body,
            trailers: Vec::new(),
            most_trailers: rules.limits.fields,
        }
    }

    pub(super) fn head(&self) -> RequestHead<'_> {
        self.http.head(&self.head)
    }

    pub(super) fn writer(&mut self) -> (Writer<'_>, &[u8]) {
        let writer = Writer {
            http: &mut self.http,
            records: Some(Records::Http2),
        };
        (writer, &self.head)
    }

    /// What a log shows of one that could not be read.
    pub(super) fn first_line(&self) -> &[u8] {
        http1::first_line(&self.head)
    }

    pub(super) fn poll_event(&mut self, input: &[u8]) -> Result<Polled, PeerFault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let (consumed, event) = match self.state {
            State::New { ends } => {
                self.begin(ends)?;
                (0, Event::Head)
            }
            State::Body | State::Ending if !input.is_empty() && !self.websocket => {
                self.read += input.len() as u64;
                self.check_length(false)?;
                (input.len(), Event::Body(0..input.len()))
            }
            State::Body => (0, Event::NeedMore),
            State::Ending => {
                self.check_length(true)?;
                self.check_trailers()?;
                self.http.end_body();
                self.state = State::Done;
                (0, Event::BodyEnd)
            }
            State::Done => (0, Event::Paused),
        };
        Ok(Polled { consumed, event })
    }

    fn begin(&mut self, ends: bool) -> Result<(), PeerFault> {
        let polled = self.http.poll_event(&self.head);
        version_two(&mut self.head);
        let event = polled?.event;
        debug_assert_eq!(event, Event::Head, "what is written here is a head");
        self.length = match self.http.head(&self.head).framing() {
            BodyFraming::Length(length) => Some(length),
            _ => None,
        };
        self.http.came_in_frames(&self.head, ends, self.websocket);
        self.state = if ends || self.websocket {
            State::Ending
        } else {
            State::Body
        };
        Ok(())
    }

    /// RFC 9113 section 8.1.1: a length that the frames do not come to is malformed.
    fn check_length(&self, is_over: bool) -> Result<(), PeerFault> {
        if self.limit.is_some_and(|limit| self.read > limit) {
            return Err(PeerFault::ContentTooLarge);
        }
        match self.length {
            Some(length) if self.read > length || (is_over && self.read < length) => {
                Err(PeerFault::InvalidContentLength)
            }
            _ => Ok(()),
        }
    }

    fn check_trailers(&self) -> Result<(), PeerFault> {
        if self.trailers.len() > self.most_trailers {
            return Err(PeerFault::TooManyFields);
        }
        let mut names = self.trailers().map(|trailer| trailer.name);
        if names.any(|name| http1::check_trailer_name(name).is_err()) {
            return Err(PeerFault::ForbiddenTrailer);
        }
        Ok(())
    }

    /// All of the body has come.
    pub(super) fn end_body(&mut self, trailers: Option<&HeaderMap>) {
        for (name, value) in trailers.into_iter().flatten() {
            let name = name.as_str().as_bytes();
            self.trailers.push((name.into(), value.as_bytes().into()));
        }
        if self.state == State::Body {
            self.state = State::Ending;
        }
    }

    pub(super) fn trailers(&self) -> impl Iterator<Item = Header<'_>> {
        self.trailers
            .iter()
            .map(|(name, value)| Header { name, value })
    }
}

/// Writes the head of a request.
fn write(
    request: &http::Request<impl Sized>,
    https: bool,
    most: Option<usize>,
    out: &mut Vec<u8>,
) -> Result<(), PeerFault> {
    let uri = request.uri();
    let method = match request.extensions().get::<Protocol>().map(Protocol::as_str) {
        None => request.method().as_str(),
        // With HTTP/1 it is a GET.
        Some(protocol) if protocol.eq_ignore_ascii_case("websocket") => "GET",
        Some(_) => return Err(PeerFault::ConnectNotPermitted),
    };
    let start = Start {
        method: method.as_bytes(),
        authority: uri
            .authority()
            .map(|authority| authority.as_str().as_bytes()),
        path: uri.path_and_query().map(|path| path.as_str().as_bytes()),
        https,
    };
    let fields = || {
        let fields = request.headers().iter();
        fields.map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()))
    };
    let pseudo = [
        (&b":method"[..], start.method),
        (b":scheme", if https { b"https" } else { b"http" }),
        (b":authority", start.authority.unwrap_or_default()),
        (b":path", start.path.unwrap_or_default()),
    ];
    if most.is_some_and(|most| list_size(pseudo.into_iter().chain(fields())) > most) {
        return Err(PeerFault::HeadTooLong);
    }
    write_head(&start, fields(), out)
}
