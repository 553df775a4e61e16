//! The in-thread floor: what a WSGI request costs when nothing but the indispensable is done.
//!
//! One thread, one epoll instance, level triggered; it reads, parses, builds the environ, calls the application and
//! writes the answer, all in the thread that holds the interpreter, which it never lets go. No timeouts, no queue, no
//! limits beyond the size of a head, no access log. What an application may rely on is all there: a complete environ,
//! a fresh `start_response` for every request with a working `write`, `close()` called, headers checked for line
//! breaks, keep-alive and pipelining. A server with processes, timeouts and a queue between them costs more; how much
//! more is what the comparison with this program tells.
//!
//! Not for serving anything: a client that stops reading stops everybody.

mod connection;
mod decoupled;
mod environ;
mod response;
mod tls;

use std::collections::HashMap;
use std::os::fd::{AsRawFd, OwnedFd};

use pyo3::prelude::*;
use rustix::event::epoll;
use rustix::net::{self, AddressFamily, SocketAddrAny, SocketFlags, SocketType, ipproto, sockopt};

use crate::connection::{Connection, Outcome};
use crate::environ::EnvironMaker;
use crate::response::Responder;
use crate::tls::Session;

const BACKLOG: i32 = 2048;
const EVENTS_PER_WAIT: usize = 256;
/// One `read` takes at most this much; also what a 10 KiB POST fits in at once.
const READ_SIZE: usize = 64 * 1024;
/// epoll data of the listener; connections carry their descriptor's number, which is never this.
const LISTENER: u64 = u64::MAX;

/// What serving one request needs beside the connection.
pub(crate) struct Service<'py> {
    pub(crate) application: Bound<'py, PyAny>,
    pub(crate) environs: EnvironMaker<'py>,
    pub(crate) responder: Responder,
}

impl<'py> Service<'py> {
    fn new(
        application: Bound<'py, PyAny>,
        port: u16,
        multiprocess: bool,
        multithread: bool,
    ) -> PyResult<Self> {
        Ok(Self {
            environs: EnvironMaker::new(application.py(), port, multiprocess, multithread)?,
            responder: Responder::default(),
            application,
        })
    }
}

/// Serves `application` on 127.0.0.1:`port` until a signal ends the process. `multiprocess` says that sibling
/// processes do the same; they share the port with `SO_REUSEPORT`. With `certificate` and `key` (paths of files in PEM)
/// it speaks TLS.
#[pyfunction]
#[pyo3(signature = (application, port, multiprocess, certificate=None, key=None))]
fn serve(
    application: Bound<'_, PyAny>,
    port: u16,
    multiprocess: bool,
    certificate: Option<&str>,
    key: Option<&str>,
) -> PyResult<()> {
    let py = application.py();
    let config = match certificate.zip(key) {
        Some((certificate, key)) => Some(tls::configure(certificate, key)?),
        None => None,
    };
    let listener = listen(port)?;
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(std::io::Error::from)?;
    watch(&poll, &listener, LISTENER)?;
    let mut service = Service::new(application, port, multiprocess, false)?;
    if config.is_some() {
        service.environs.set_https()?;
    }
    let mut connections = HashMap::new();
    let mut events = Vec::with_capacity(EVENTS_PER_WAIT);
    let mut scratch = vec![0; READ_SIZE];
    loop {
        match epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => py.check_signals()?,
            Err(error) => return Err(std::io::Error::from(error).into()),
        }
        for event in events.drain(..) {
            let key = event.data.u64();
            if key == LISTENER {
                accept_each(&listener, &poll, |key, socket, peer| {
                    let session = config.as_ref().and_then(|config| Session::new(config).ok());
                    connections.insert(key, Connection::new(py, socket, peer, session));
                })?;
            } else if serve_ready(&mut service, &mut connections, key, &mut scratch)?
                == Outcome::Close
            {
                connections.remove(&key);
            }
        }
    }
}

fn serve_ready(
    service: &mut Service<'_>,
    connections: &mut HashMap<u64, Connection>,
    key: u64,
    scratch: &mut [u8],
) -> PyResult<Outcome> {
    match connections.get_mut(&key) {
        Some(connection) => connection.handle_readable(service, scratch),
        None => Ok(Outcome::Close),
    }
}

fn listen(port: u16) -> std::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let listener = net::socket_with(
        AddressFamily::INET,
        SocketType::STREAM,
        flags,
        Some(ipproto::TCP),
    )?;
    sockopt::set_socket_reuseaddr(&listener, true)?;
    sockopt::set_socket_reuseport(&listener, true)?;
    net::bind(
        &listener,
        &std::net::SocketAddr::from(([127, 0, 0, 1], port)),
    )?;
    net::listen(&listener, BACKLOG)?;
    Ok(listener)
}

fn accept_each(
    listener: &OwnedFd,
    poll: &OwnedFd,
    mut take: impl FnMut(u64, OwnedFd, SocketAddrAny),
) -> std::io::Result<()> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    // An error other than "none left" is a client that is gone already; the next wait comes back if not.
    while let Ok((socket, Some(peer))) = net::acceptfrom_with(listener, flags) {
        sockopt::set_tcp_nodelay(&socket, true)?;
        let key = u64::try_from(socket.as_raw_fd()).expect("a descriptor in use is not negative");
        watch(poll, &socket, key)?;
        take(key, socket, peer);
    }
    Ok(())
}

fn watch(poll: &OwnedFd, socket: &OwnedFd, key: u64) -> std::io::Result<()> {
    epoll::add(
        poll,
        socket,
        epoll::EventData::new_u64(key),
        epoll::EventFlags::IN,
    )?;
    Ok(())
}

/// The in-thread floor of the benchmarks.
#[pymodule]
mod floor {
    #[pymodule_export]
    use super::decoupled::serve_decoupled;
    #[pymodule_export]
    use super::serve;
}
