//! uwsgi and SCGI, as nginx' `uwsgi_pass` and `scgi_pass`, Apache's `mod_proxy_uwsgi` and `mod_proxy_scgi`, and
//! lighttpd speak them: all variables in one piece, then the body as it is.
//!
//! The variables are written as the head of an HTTP/1 request and read by the same machine, so everything behind
//! the head (the body by its length, the answer) is that machine's. A connection ends with its answer: so it is in
//! SCGI, and for uwsgi Apache reads on until then, whatever the answer's length is.

use std::sync::Arc;

use oxicorn_proto::PeerFault;
use oxicorn_proto::cgi::{Pass, Request};
use oxicorn_proto::http1::{self, Behind, Event, Polled, Rules};
use oxicorn_proto::message::RequestHead;
use oxicorn_proto::{scgi, uwsgi};

use super::Writer;

/// How the variables come.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source {
    /// In a packet; the answer has HTTP's status line.
    Uwsgi,
    /// In a netstring; the answer is that of a CGI program.
    Scgi,
}

/// The state of a connection.
#[derive(Debug)]
pub(crate) struct Variables {
    source: Source,
    rules: Arc<Rules>,
    pub(super) http: http1::Connection,
    /// The request, once its variables are there.
    request: Option<Request>,
    /// What is kept of a request that has not come.
    none: Request,
    /// The last poll saw nothing of a packet.
    idle: bool,
}

impl Variables {
    pub(super) fn new(source: Source, rules: Arc<Rules>) -> Self {
        let behind = match source {
            Source::Uwsgi => Behind::Http,
            Source::Scgi => Behind::Cgi { keep: false },
        };
        Self {
            source,
            http: http1::Connection::behind_web_server(Arc::clone(&rules), behind),
            rules,
            request: None,
            none: Request::default(),
            idle: true,
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
            records: None,
        };
        (writer, &request.head)
    }

    pub(super) fn poll_event(&mut self, input: &[u8]) -> Result<Polled, PeerFault> {
        if self.request.is_some() {
            return self.http.poll_event(input);
        }
        self.idle = input.is_empty();
        let read = self.read(input);
        if read == Err(PeerFault::UnexpectedHttp) {
            // Who speaks HTTP is answered so.
            self.http = http1::Connection::behind_web_server(Arc::clone(&self.rules), Behind::Http);
        }
        let Some((consumed, request)) = read? else {
            return Ok(Polled {
                consumed: 0,
                event: Event::NeedMore,
            });
        };
        let polled = self.http.poll_event(&request.head)?;
        debug_assert_eq!(
            (polled.consumed, polled.event),
            (request.head.len(), Event::Head),
            "what is written here is a whole head"
        );
        self.request = Some(request);
        Ok(Polled {
            consumed,
            event: Event::Head,
        })
    }

    /// The request at the front of `input`, and how many bytes its variables are.
    fn read(&self, input: &[u8]) -> Result<Option<(usize, Request)>, PeerFault> {
        match self.source {
            Source::Uwsgi => uwsgi::Packet::read(input)?
                .map(|packet| Ok((packet.len, Request::read(packet.variables(), Pass::All)?))),
            Source::Scgi => scgi::Head::read(input, self.rules.limits.head_size)?
                .map(|head| Ok((head.len, Request::read(head.variables(), Pass::Usual)?))),
        }
        .transpose()
    }

    pub(super) fn handle_eof(&mut self) -> Result<(), PeerFault> {
        match self.request {
            Some(_) => self.http.handle_eof(),
            None if self.idle => Ok(()),
            None => Err(PeerFault::TruncatedHead),
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.request.is_none() && self.idle
    }
}
