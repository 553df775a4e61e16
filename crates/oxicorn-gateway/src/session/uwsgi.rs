//! uwsgi, as nginx' `uwsgi_pass` and Apache's `mod_proxy_uwsgi` speak it.
//!
//! A packet is written as the head of an HTTP/1 request and read by the same machine, so everything behind
//! the head (the body by its length, the answer) is that machine's. A connection ends with its answer: Apache
//! reads on until then, whatever the answer's length is.

use std::sync::Arc;

use oxicorn_proto::PeerFault;
use oxicorn_proto::cgi::{Pass, Request};
use oxicorn_proto::http1::{self, Behind, Event, Polled, Rules};
use oxicorn_proto::message::RequestHead;
use oxicorn_proto::uwsgi::Packet;

use super::Writer;

/// The state of a connection.
#[derive(Debug)]
pub(crate) struct Uwsgi {
    pub(super) http: http1::Connection,
    /// The request, once its packet is there.
    request: Option<Request>,
    /// What is kept of a request that has not come.
    none: Request,
    /// The last poll saw nothing of a packet.
    idle: bool,
}

impl Uwsgi {
    pub(super) fn new(rules: Arc<Rules>) -> Self {
        Self {
            http: http1::Connection::behind_web_server(rules, Behind::Http),
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
        let Some(packet) = Packet::read(input)? else {
            return Ok(Polled {
                consumed: 0,
                event: Event::NeedMore,
            });
        };
        let request = Request::read(packet.variables(), Pass::All)?;
        let polled = self.http.poll_event(&request.head)?;
        debug_assert_eq!(
            (polled.consumed, polled.event),
            (request.head.len(), Event::Head),
            "what is written here is a whole head"
        );
        self.request = Some(request);
        Ok(Polled {
            consumed: packet.len,
            event: Event::Head,
        })
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
