//! Ends of streams, and of connections that carry them.

use std::io;
use std::mem;
use std::time::Duration;

use h2::Reason;

use crate::active::ActiveConfig;
use crate::connection::Phase;
use crate::gateway::Gateway;
use crate::session::Session;

/// How long a client has to hear that its connection ends.
const GOODBYE: Duration = Duration::from_secs(2);

impl Gateway {
    /// A stream is gone: its carrier may be idle now.
    pub(crate) fn forget_stream(&mut self, stream: usize, (key, serial): (usize, u64)) {
        self.streams -= 1;
        let now = self.clock.now();
        let drain = self.drain;
        let Some(connection) = self.connection(key, serial) else {
            return;
        };
        let keep_alive = connection.resolved.settings.timeouts.keep_alive;
        let Some(carrier) = connection.session.carrier() else {
            return;
        };
        if let Some(place) = carrier.streams.iter().position(|one| *one == stream) {
            carrier.streams.swap_remove(place);
        }
        if !carrier.streams.is_empty() || connection.phase != Phase::Open {
            return;
        }
        let deadline = ActiveConfig::deadline(now, keep_alive);
        let waits = drain.map(|drain| drain.wait_for_request(deadline));
        connection.phase = Phase::Idle;
        connection.since = now;
        connection.deadline = waits.or(deadline);
    }

    /// Nothing has come for long: the client is told, and then it is over.
    pub(crate) fn handle_http2_deadline(&mut self, key: usize) {
        let now = self.clock.now();
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let is_over = connection.phase == Phase::Lingering;
        match connection.session.carrier() {
            Some(carrier) if !is_over => {
                carrier.leaves = true;
                carrier.engine.go_away(Reason::NO_ERROR);
            }
            _ => return self.close(key),
        }
        connection.phase = Phase::Lingering;
        connection.deadline = Some(now + GOODBYE);
        self.wake(key);
    }

    /// No new streams: those that are open are finished. The server ends.
    pub(crate) fn leave_http2(&mut self, key: usize) {
        let Some(drain) = self.drain else {
            return;
        };
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        if connection.phase == Phase::Idle {
            connection.deadline = Some(drain.wait_for_request(connection.deadline));
        }
        if let Some(carrier) = connection.session.carrier()
            && !mem::replace(&mut carrier.leaves, true)
        {
            carrier.engine.leave();
        }
        self.wake(key);
    }

    /// The connection is over, and everything it had to say is said.
    pub(super) fn end_http2(&mut self, key: usize) {
        self.give_up_streams(key);
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        if let Some(carrier) = connection.session.carrier() {
            connection.transport = carrier.wire.take_transport();
        }
        let rules = connection.resolved.rules.clone();
        connection.session = Session::new(crate::Protocol::Http, rules, connection.trusted);
        // What the client is still sending must not turn the last word into a reset.
        connection.linger = true;
        self.end(key);
    }

    /// The client broke the protocol, or is gone.
    pub(super) fn break_http2(&mut self, key: usize, error: &h2::Error) {
        let is_told = (self.carrier(key)).is_some_and(|carrier| carrier.is_flood);
        if let Some(text) = complaint(error).filter(|_| !is_told) {
            self.warn_of_http2(key, format_args!("{text}"));
        }
        if error.is_io() {
            return self.close(key);
        }
        self.end_http2(key);
    }

    /// Nobody waits for what its streams have asked for.
    pub(crate) fn give_up_streams(&mut self, key: usize) {
        let streams = (self.carrier(key)).map(|carrier| mem::take(&mut carrier.streams));
        for stream in streams.into_iter().flatten() {
            self.handle_client_gone(stream);
        }
    }
}

/// What the log says of an end; `None`: nothing.
fn complaint(error: &h2::Error) -> Option<String> {
    if let Some(odd) = error
        .get_io()
        .filter(|io| io.kind() == io::ErrorKind::InvalidData)
    {
        return Some(odd.to_string());
    }
    let reason = error.reason()?;
    let by_client = error.is_remote() || reason == Reason::NO_ERROR;
    (!by_client).then(|| format!("{reason:?}: {}", reason.description()))
}
