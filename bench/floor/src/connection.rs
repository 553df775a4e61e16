//! One accepted socket: collects bytes until a request is complete, has it answered, writes, decides what follows.
//!
//! Nothing is remembered between two requests but bytes of the next one. A request body must be announced with
//! Content-Length; chunked ones are refused (no workload sends any).

use std::cell::RefCell;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use pyo3::prelude::*;
use pyo3::types::PyString;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::SocketAddrAny;

use crate::Service;
use crate::tls::Session;

const HEADERS: usize = 100;
/// A head that is not complete within this many bytes is refused.
const HEAD_SIZE: usize = 64 * 1024;

/// What becomes of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    KeepAlive,
    Close,
}

/// What one read found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    Something,
    Nothing,
    End,
}

/// The client's address, as the environ wants it.
pub(crate) struct Peer {
    pub(crate) host: Py<PyString>,
    pub(crate) port: Py<PyString>,
}

/// One client.
pub(crate) struct Connection {
    pub(crate) peer: Peer,
    writer: Writer,
    input: Vec<u8>,
}

/// A request whose body has arrived completely.
pub(crate) struct Request<'a> {
    pub(crate) method: &'a str,
    pub(crate) target: &'a str,
    pub(crate) minor_version: u8,
    pub(crate) headers: &'a [httparse::Header<'a>],
    pub(crate) body: &'a [u8],
    pub(crate) keep_alive: bool,
}

impl Connection {
    /// With a `session` it speaks TLS.
    pub(crate) fn new(
        py: Python<'_>,
        socket: OwnedFd,
        peer: SocketAddrAny,
        session: Option<Session>,
    ) -> Self {
        let (host, port) = match SocketAddr::try_from(peer) {
            Ok(address) => (address.ip().to_string(), address.port().to_string()),
            Err(_) => (String::new(), String::new()),
        };
        let peer = Peer {
            host: PyString::new(py, &host).unbind(),
            port: PyString::new(py, &port).unbind(),
        };
        Self {
            peer,
            writer: Writer {
                socket,
                session: session.map(RefCell::new),
            },
            input: Vec::new(),
        }
    }

    pub(crate) fn handle_readable(
        &mut self,
        service: &mut Service<'_>,
        scratch: &mut [u8],
    ) -> PyResult<Outcome> {
        match self.receive(scratch) {
            Received::Something => self.serve_complete_requests(service),
            Received::Nothing => Ok(Outcome::KeepAlive),
            Received::End => Ok(Outcome::Close),
        }
    }

    /// Reads once.
    pub(crate) fn receive(&mut self, scratch: &mut [u8]) -> Received {
        match rustix::io::read(&self.writer.socket, &mut *scratch) {
            Ok(0) => Received::End,
            Ok(count) => self.take(&mut scratch[..count]),
            Err(Errno::AGAIN | Errno::INTR) => Received::Nothing,
            Err(_) => Received::End,
        }
    }

    fn take(&mut self, received: &mut [u8]) -> Received {
        let Some(session) = &mut self.writer.session else {
            self.input.extend_from_slice(received);
            return Received::Something;
        };
        let said = session.get_mut().open(received, &mut self.input);
        match said.map(|said| self.writer.write_plain(&said)) {
            Ok(Ok(())) => Received::Something,
            _ => Received::End,
        }
    }

    /// The client sees the end, and so does whoever reads here.
    pub(crate) fn shut(&self) {
        let _ = rustix::net::shutdown(&self.writer.socket, rustix::net::Shutdown::Both);
    }

    /// `poll` tells nothing more of this connection.
    pub(crate) fn forget(&self, poll: &OwnedFd) {
        let _ = rustix::event::epoll::delete(poll, &self.writer.socket);
    }

    pub(crate) fn serve_complete_requests(
        &mut self,
        service: &mut Service<'_>,
    ) -> PyResult<Outcome> {
        let mut consumed = 0;
        while consumed < self.input.len() {
            match self.serve_next(service, consumed)? {
                Step::Served {
                    bytes,
                    outcome: Outcome::KeepAlive,
                } => consumed += bytes,
                Step::Served {
                    outcome: Outcome::Close,
                    ..
                } => return Ok(Outcome::Close),
                Step::NeedMore => break,
                Step::Refuse(answer) => {
                    let _ = self.writer.write_all(answer);
                    return Ok(Outcome::Close);
                }
            }
        }
        self.input.drain(..consumed);
        Ok(Outcome::KeepAlive)
    }

    fn serve_next(&self, service: &mut Service<'_>, start: usize) -> PyResult<Step> {
        let input = &self.input[start..];
        let mut headers = [httparse::EMPTY_HEADER; HEADERS];
        let mut head = httparse::Request::new(&mut headers);
        let head_len = match head.parse(input) {
            Ok(httparse::Status::Complete(len)) => len,
            Ok(httparse::Status::Partial) if input.len() < HEAD_SIZE => return Ok(Step::NeedMore),
            _ => return Ok(Step::Refuse(BAD_REQUEST)),
        };
        let minor_version = head.version.unwrap_or(0);
        let Some(meaning) = HeadMeaning::read(head.headers, minor_version) else {
            return Ok(Step::Refuse(BAD_REQUEST));
        };
        let Some(body) = input[head_len..].get(..meaning.body_len) else {
            return Ok(Step::NeedMore);
        };
        let request = Request {
            method: head.method.unwrap_or(""),
            target: head.path.unwrap_or(""),
            minor_version,
            headers: head.headers,
            body,
            keep_alive: meaning.keep_alive,
        };
        let environ = service.environs.make(&request, &self.peer)?;
        let outcome =
            service
                .responder
                .answer(&service.application, environ, &request, &self.writer);
        Ok(Step::Served {
            bytes: head_len + meaning.body_len,
            outcome,
        })
    }
}

enum Step {
    Served { bytes: usize, outcome: Outcome },
    NeedMore,
    Refuse(&'static [u8]),
}

const BAD_REQUEST: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

/// What the headers say about framing and persistence.
struct HeadMeaning {
    body_len: usize,
    keep_alive: bool,
}

impl HeadMeaning {
    fn read(headers: &[httparse::Header<'_>], minor_version: u8) -> Option<Self> {
        let mut meaning = Self {
            body_len: 0,
            keep_alive: minor_version == 1,
        };
        for header in headers {
            // The lengths tell most headers apart before a byte is compared.
            match header.name.len() {
                10 if header.name.eq_ignore_ascii_case("connection") => {
                    meaning.keep_alive = match header.value {
                        value if value.eq_ignore_ascii_case(b"close") => false,
                        value if value.eq_ignore_ascii_case(b"keep-alive") => true,
                        _ => meaning.keep_alive,
                    };
                }
                14 if header.name.eq_ignore_ascii_case("content-length") => {
                    meaning.body_len = std::str::from_utf8(header.value).ok()?.parse().ok()?;
                }
                17 if header.name.eq_ignore_ascii_case("transfer-encoding") => return None,
                _ => {}
            }
        }
        Some(meaning)
    }
}

/// The sending side of the socket.
pub(crate) struct Writer {
    socket: OwnedFd,
    session: Option<RefCell<Session>>,
}

impl Writer {
    /// Writes everything; waits, blocking everybody else, where the socket is full.
    pub(crate) fn write_all(&self, data: &[u8]) -> rustix::io::Result<()> {
        let Some(session) = &self.session else {
            return self.write_plain(data);
        };
        let mut session = session.borrow_mut();
        let sealed = session.seal(data).map_err(|_| Errno::PIPE)?;
        self.write_plain(sealed)
    }

    fn write_plain(&self, mut data: &[u8]) -> rustix::io::Result<()> {
        while !data.is_empty() {
            match rustix::io::write(&self.socket, data) {
                Ok(count) => data = &data[count..],
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    poll(&mut [PollFd::new(&self.socket, PollFlags::OUT)], None)?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
