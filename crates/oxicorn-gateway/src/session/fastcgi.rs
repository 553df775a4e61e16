//! FastCGI, as nginx' `fastcgi_pass`, Apache's `mod_proxy_fcgi`, lighttpd and HAProxy speak it.
//!
//! Variables are written as the head of an HTTP/1 request and read by the same machine, as those of uwsgi are;
//! the body comes in records, and the answer goes in records.

use std::sync::Arc;

use oxicorn_proto::PeerFault;
use oxicorn_proto::cgi::{Pass, Request};
use oxicorn_proto::fastcgi::{self, Decoder};
use oxicorn_proto::http1::{self, Behind, Event, Polled, Rules};
use oxicorn_proto::message::{BodyFraming, RequestHead};

use super::Writer;
use crate::buffer::records::Records;

/// The state of a connection.
#[derive(Debug)]
pub(crate) struct FastCgi {
    pub(super) http: http1::Connection,
    decoder: Decoder,
    /// The request, once its variables are there.
    request: Option<Request>,
    /// What is kept of a request that has not come.
    none: Request,
    /// Bytes of the body, if they were said before.
    length: Option<u64>,
    /// Bytes of it so far.
    read: u64,
    /// Most bytes of it (`limit_request_body`).
    limit: Option<u64>,
    rules: Arc<Rules>,
    /// The client speaks HTTP, and is answered so.
    speaks_http: bool,
}

impl FastCgi {
    pub(super) fn new(rules: Arc<Rules>) -> Self {
        Self {
            decoder: Decoder::new(rules.limits.head_size),
            limit: rules.limits.body,
            http: http1::Connection::behind_web_server(
                Arc::clone(&rules),
                Behind::Cgi { keep: false },
            ),
            rules,
            speaks_http: false,
            request: None,
            none: Request::default(),
            length: None,
            read: 0,
        }
    }

    pub(super) fn request(&self) -> &Request {
        self.request.as_ref().unwrap_or(&self.none)
    }

    pub(super) fn head(&self) -> RequestHead<'_> {
        self.http.head(&self.request().head)
    }

    pub(super) fn writer(&mut self) -> (Writer<'_>, &[u8]) {
        let request = self.request.as_ref().unwrap_or(&self.none);
        let writer = Writer {
            http: &mut self.http,
            records: (!self.speaks_http).then(|| Records::FastCgi(self.decoder.id())),
        };
        (writer, &request.head)
    }

    pub(super) fn take_replies(&mut self) -> Vec<u8> {
        self.decoder.take_replies()
    }

    pub(super) fn poll_event(&mut self, input: &[u8]) -> Result<Polled, PeerFault> {
        let polled = self.decoder.poll(input);
        if polled == Err(PeerFault::UnexpectedHttp) {
            self.speak_http();
        }
        let (consumed, event) = polled?;
        let event = match event {
            fastcgi::Event::NeedMore => Event::NeedMore,
            fastcgi::Event::Variables => {
                self.begin()?;
                Event::Head
            }
            fastcgi::Event::Body(range) => {
                self.read += range.len() as u64;
                self.check_length(false)?;
                Event::Body(range)
            }
            fastcgi::Event::BodyEnd => {
                self.check_length(true)?;
                self.http.end_body();
                Event::BodyEnd
            }
        };
        Ok(Polled { consumed, event })
    }

    fn speak_http(&mut self) {
        self.speaks_http = true;
        self.http = http1::Connection::behind_web_server(Arc::clone(&self.rules), Behind::Http);
    }

    fn begin(&mut self) -> Result<(), PeerFault> {
        let request = Request::read(self.decoder.variables()?, Pass::Usual)?;
        let polled = self.http.poll_event(&request.head)?;
        debug_assert_eq!(polled.event, Event::Head, "what is written here is a head");
        self.length = match self.http.head(&request.head).framing() {
            BodyFraming::Length(length) => Some(length),
            _ => None,
        };
        self.read = 0;
        self.http.body_is_told();
        self.http.keep_behind(self.decoder.keeps_connection());
        self.request = Some(request);
        Ok(())
    }

    /// Two lengths of one body that differ are somebody's attempt to smuggle.
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

    pub(super) fn start_next(&mut self) {
        self.decoder.start_next();
        self.request = None;
    }

    pub(super) fn handle_eof(&mut self) -> Result<(), PeerFault> {
        match self.request {
            Some(_) => self.http.handle_eof(),
            None if self.decoder.is_idle() => Ok(()),
            None => Err(PeerFault::TruncatedHead),
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.decoder.is_idle()
    }
}
