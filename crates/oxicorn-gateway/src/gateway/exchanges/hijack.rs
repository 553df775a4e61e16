//! Gives a client's connection to the application (`gunicorn.socket`).
//!
//! Decides when: the worker asks, whatever was to be sent is sent first, then the socket and the
//! bytes read ahead of it go to the worker and the gateway knows nothing of the connection any
//! more. The call stays in the book until the worker is through with it, since it takes up
//! capacity.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;

use oxicorn_link::wire::{CancelReason, EventKind, flags};
use tokio::task::spawn_local;

use crate::exchange::Happened;
use crate::gateway::Gateway;
use crate::transport::Transport;
use crate::transport::tls::relay;
use crate::workers::calls::{CallId, Place};

/// The socket for the worker, blocking; where TLS is spoken, one end of a pair whose other end is relayed.
fn give_away(transport: Transport) -> io::Result<OwnedFd> {
    match transport {
        Transport::Plain(socket) => socket.into_blocking(),
        Transport::Tls(tls) => {
            let (theirs, ours) = UnixStream::pair()?;
            ours.set_nonblocking(true)?;
            spawn_local(relay(*tls, ours.into()));
            Ok(theirs.into())
        }
        // A stream is no socket.
        Transport::Stream(_) | Transport::Wire(_) | Transport::Gone => {
            Err(io::ErrorKind::NotConnected.into())
        }
    }
}

impl Gateway {
    /// The worker wants the socket.
    pub(crate) fn handle_hijack(&mut self, id: CallId, client: usize) {
        let Some(call) = self.calls.get(id) else {
            return;
        };
        let connection = self.connections.get(client);
        if connection.is_some_and(|one| one.session.is_stream()) {
            return self.fail_response(client, &"a stream of HTTP/2 has no socket to be given");
        }
        if call.answered {
            return self.fail_response(client, &"the connection is in use for the response");
        }
        self.happened(client, Happened::Hijacked);
        self.flush(client);
    }

    /// Everything is sent: hands the socket over.
    pub(crate) fn hand_over(&mut self, client: usize) {
        let id = self
            .connections
            .get(client)
            .and_then(crate::connection::Connection::call);
        let Some(mut connection) = self.take_connection(client) else {
            return;
        };
        connection.waker.wake_by_ref();
        let read_ahead = connection.input.take_unread();
        let Some((id, call)) = id.and_then(|id| Some((id, self.calls.get_mut(id)?))) else {
            return;
        };
        call.client = None;
        call.hijacked = true;
        let Place::Worker { worker, .. } = call.place else {
            return;
        };
        let Some(record) = self.pool.of_id(worker) else {
            return;
        };
        let stream = id.stream(record.link.epoch());
        let sent = match give_away(connection.transport) {
            Ok(socket) => record.link.send_descriptor(stream, socket.as_fd()).is_ok(),
            Err(_) => false,
        };
        if sent {
            record.tell(
                EventKind::Hijacked,
                stream,
                flags::HAS_DESCRIPTOR,
                &read_ahead,
            );
        } else {
            // The socket is closed by now: for the worker the client is gone.
            record.cancel(stream, CancelReason::ClientGone);
        }
    }
}
