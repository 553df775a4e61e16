//! Listening sockets and accepting.
//!
//! Decides when a connection is taken from the kernel's backlog: at once, up to the bound on
//! connections, and not while there are no descriptors. Then the backlog holds the clients, and
//! accepting is tried again after a pause instead of over and over.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use oxicorn_link::scoreboard::Counter;
use oxicorn_os::poll::{self, Polled};
use oxicorn_os::sockets::{self, Accepted, Address};
use tokio::task::{AbortHandle, spawn_local};

use crate::active::ActiveConfig;
use crate::buffer::input::Input;
use crate::buffer::output::Output;
use crate::connection::{Connection, Phase};
use crate::gateway::{Gateway, with};
use crate::session::Session;
use crate::transport::Transport;
use crate::transport::endpoint::Endpoint;
use crate::transport::readiness::{Watched, watch};
use crate::transport::timer::sleep;
use crate::{ListenerSetup, Protocol};

/// Accepts before others have their turn.
const ACCEPTS_PER_TURN: u32 = 32;

/// How long accepting rests when it cannot go on.
const PAUSE: Duration = Duration::from_millis(100);

/// A pause so soon after another is the same one.
const SAME_PAUSE: Duration = Duration::from_secs(10);

/// Accepts after which a backlog counts as endless when it is served before closing.
const LAST_ACCEPTS: u32 = 65_536;

/// A listening socket.
#[derive(Debug)]
pub(crate) struct Listener {
    name: String,
    /// Whether TLS is spoken; a reload may change it.
    tls: Cell<bool>,
    /// What is spoken; a reload may change it, too.
    protocol: Cell<Protocol>,
    /// Its own address, which is the server's for every request that comes by it.
    server: Rc<Endpoint>,
    watched: Watched,
}

/// The open listeners, each with its task.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    open: Vec<(Rc<Listener>, AbortHandle)>,
    /// When accepting last could not go on.
    paused_at: Option<Duration>,
}

/// How a round of accepting ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Accepting {
    /// The backlog is empty.
    Drained,
    /// There may be more.
    More,
    /// It cannot go on now.
    Pause,
}

impl Listener {
    /// Whether it listens at the address that logs call so, whatever is spoken there.
    pub(crate) fn is_at(&self, name: &str) -> bool {
        address(&self.name) == address(name)
    }
}

/// The part of a name behind its scheme.
fn address(name: &str) -> &str {
    name.split_once("://").map_or(name, |(_, address)| address)
}

impl Listeners {
    /// What is spoken there may be something else now. `false`: there is none.
    pub(crate) fn change(&self, setup: &ListenerSetup) -> bool {
        let found = self
            .open
            .iter()
            .find(|(listener, _)| listener.is_at(&setup.name));
        if let Some((listener, _)) = found {
            listener.tls.set(setup.tls);
            listener.protocol.set(setup.protocol);
        }
        found.is_some()
    }

    /// Takes those out that are not `kept`.
    fn take(&mut self, kept: impl Fn(&Listener) -> bool) -> Vec<Rc<Listener>> {
        let leaving = self.open.extract_if(.., |(listener, _)| !kept(listener));
        let stop = |(listener, task): (Rc<Listener>, AbortHandle)| {
            task.abort();
            listener
        };
        leaving.map(stop).collect()
    }
}

impl Gateway {
    /// Begins to accept.
    pub(crate) fn open_listener(
        &mut self,
        setup: ListenerSetup,
        socket: OwnedFd,
    ) -> io::Result<()> {
        sockets::set_nonblocking(&socket, true)?;
        let server = Endpoint::new(sockets::local_address(&socket)?);
        if server.ip().is_some() {
            // Accepted connections inherit it, so it costs no call for each of them.
            sockets::set_nodelay(&socket, self.resolved.settings.tcp_nodelay)?;
        }
        let listener = Listener {
            name: setup.name,
            tls: Cell::new(setup.tls),
            protocol: Cell::new(setup.protocol),
            server: Rc::new(server),
            watched: watch(socket)?,
        };
        let listener = Rc::new(listener);
        let task = spawn_local(accept_for_ever(Rc::clone(&listener)));
        self.listeners.open.push((listener, task.abort_handle()));
        Ok(())
    }

    /// Closes the listeners that are not `kept`; who is in their backlog is let in first, unless others can do that.
    pub(crate) fn close_listeners(&mut self, kept: impl Fn(&Listener) -> bool) {
        let leaving = self.listeners.take(kept);
        if self.resolved.settings.listeners_are_shared {
            return;
        }
        for listener in leaving {
            // Where it is not possible, who comes between the last accept and the close is reset.
            let _ = sockets::refuse_newcomers(listener.watched.get_ref());
            for _ in 0..LAST_ACCEPTS {
                if self.accept_one(&listener) != Accepting::More {
                    break;
                }
            }
        }
    }

    fn accept(&mut self, listener: &Rc<Listener>) -> Accepting {
        self.clock.tick();
        for _ in 0..ACCEPTS_PER_TURN {
            if self.socket_count() >= self.connection_limit() {
                if !has_newcomer(listener) {
                    return Accepting::Drained;
                }
                if !self.make_room() {
                    return Accepting::Pause;
                }
            }
            let accepted = self.accept_one(listener);
            if accepted != Accepting::More {
                return accepted;
            }
        }
        Accepting::More
    }

    fn accept_one(&mut self, listener: &Rc<Listener>) -> Accepting {
        match sockets::accept(listener.watched.get_ref()) {
            Ok(Accepted::Connection(socket, peer)) => {
                self.open_connection(socket, peer, listener);
                Accepting::More
            }
            Ok(Accepted::Aborted) => Accepting::More,
            Ok(Accepted::Nothing) => Accepting::Drained,
            Ok(Accepted::Exhausted(error)) | Err(error) => {
                self.log_pause(&listener.name, &error);
                Accepting::Pause
            }
        }
    }

    /// Said when it begins, not each time it is tried again.
    fn log_pause(&mut self, name: &str, error: &io::Error) {
        let now = self.clock.now();
        let again = self.listeners.paused_at.replace(now);
        if again.is_none_or(|before| before + SAME_PAUSE < now) {
            self.error_log
                .error(format_args!("Accepting at {name} pauses: {error}"));
        }
    }

    fn open_connection(&mut self, socket: OwnedFd, peer: Address, listener: &Listener) {
        let resolved = Rc::clone(&self.resolved);
        let peer = Endpoint::new(peer);
        let trusted = resolved.trust.trusts_forwarder(peer.ip());
        let proxied = resolved.proxy_mode.is_some();
        let may_proxy = proxied && resolved.trust.trusts_proxy(peer.ip());
        let session = Session::new(listener.protocol.get(), resolved.rules.clone(), trusted);
        self.metrics.count(Counter::Accepted);
        self.rest.stir();
        self.next_serial += 1;
        let now = self.clock.now();
        let serial = self.next_serial;
        let key = self.connections.insert(Connection {
            serial,
            transport: Transport::new(socket),
            session,
            phase: if proxied { Phase::Proxy } else { Phase::Idle },
            input: Input::default(),
            output: Output::default(),
            exchange: None,
            deadline: ActiveConfig::deadline(now, resolved.settings.timeouts.head),
            since: now,
            stalled_since: None,
            received: 0,
            sent: 0,
            is_unsent: false,
            accounted: 0,
            counted: None,
            resolved,
            peer,
            server: Rc::clone(&listener.server),
            proxied: None,
            trusted,
            has_task: false,
            waker: Waker::noop().clone(),
            interrupted: false,
            at_end: false,
            reading_stopped: false,
            served: 0,
            linger: false,
            discarded: 0,
            websocket: None,
            awaits_tls: listener.tls.get(),
        });
        self.memory.note_connections(self.connections.len());
        if !proxied && !self.start_tls(key) {
            return;
        }
        if may_proxy || self.admit(key) {
            self.read_first(key, serial);
        }
    }
}

/// Whether somebody is in the backlog.
fn has_newcomer(listener: &Listener) -> bool {
    let polled = poll::wait_readable(&[listener.watched.as_fd()], Some(Duration::ZERO));
    !matches!(polled, Ok(Polled::TimedOut))
}

async fn accept_for_ever(listener: Rc<Listener>) {
    while let Ok(mut guard) = listener.watched.readable().await {
        match with(|gateway| gateway.accept(&listener)) {
            None => return,
            Some(Accepting::Drained) => guard.clear_ready(),
            Some(Accepting::More) => tokio::task::yield_now().await,
            Some(Accepting::Pause) => sleep(PAUSE).await,
        }
    }
}

/// The task of a connection: a name, and the promise to look when the socket can do something.
pub(crate) struct ConnectionTask {
    pub(crate) key: usize,
    pub(crate) serial: u64,
}

impl Future for ConnectionTask {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { key, serial } = *self;
        let polled = with(|gateway| gateway.poll_connection(key, serial, cx));
        polled.unwrap_or_else(|| {
            // A panic: whatever state the connection is in, it is not to be trusted.
            with(|gateway| gateway.drop_connection(key, serial));
            Poll::Ready(())
        })
    }
}
