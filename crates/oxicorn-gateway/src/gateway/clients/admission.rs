//! Who may have a connection.
//!
//! Decides when there are too many. In all: a newcomer is worth more than somebody who waits, so
//! connections that have been idle longest are closed for it, then those whose first request is
//! awaited, or a head completed, for longest; requests and bodies under way are never given up. Where
//! nobody waits, newcomers do, in the kernel's backlog. For one address: one too many is answered
//! with 503.

use std::task::{Context, Waker};
use std::time::Duration;

use oxicorn_os::rlimit;

use crate::buffer::input::READ_SIZE;
use crate::connection::{Connection, Phase};
use crate::exchange::refusal::Refusal;
use crate::gateway::Gateway;
use crate::gateway::log_throttle::Standing;
use crate::limits::per_client::ClientNet;

/// The part of the bound that is made free when it is reached, so that the search is rare.
const ROOM: usize = 32;

/// Of the descriptors a process may have, the part kept for other things than connections: files of
/// long bodies and responses, links, logs, listeners.
const OTHER_DESCRIPTORS: u64 = 4;

/// More than this is never kept for them.
const OTHER_DESCRIPTORS_MOST: u64 = 4096;

/// How long somebody who has a request to send is left alone.
const REQUEST_GRACE: Duration = Duration::from_secs(1);

/// How many connections the limit on open files leaves room for; the limit is raised as far as it may be.
pub(crate) fn connections_by_descriptors() -> usize {
    connections_within(rlimit::raise_nofile().unwrap_or(u64::MAX))
}

/// How many connections a gateway started by this process has room for at most, by the limit on open files.
pub fn most_connections() -> usize {
    connections_within(rlimit::most_files())
}

fn connections_within(descriptors: u64) -> usize {
    let others = (descriptors / OTHER_DESCRIPTORS).min(OTHER_DESCRIPTORS_MOST);
    usize::try_from(descriptors - others).unwrap_or(usize::MAX)
}

impl Gateway {
    /// How many connections there may be.
    pub(crate) fn connection_limit(&self) -> usize {
        let limit = self.resolved.settings.connection_limit;
        limit.min(self.descriptor_limit).max(1)
    }

    /// Makes room for newcomers, if somebody can be closed for them.
    pub(crate) fn make_room(&mut self) -> bool {
        let limit = self.connection_limit();
        let now = self.clock.now();
        let mut waiting: Vec<(Dispensable, Duration, usize)> = self
            .connections
            .iter()
            .filter_map(|(key, connection)| {
                Some((dispensable(connection, now)?, connection.since, key))
            })
            .collect();
        let wanted = (limit / ROOM).max(1).min(waiting.len());
        if wanted == 0 {
            self.warn_of_state(
                Standing::ConnectionsWait,
                format_args!("All {limit} connections are busy (limit_connections): new ones wait"),
            );
            return false;
        }
        self.warn_of_state(
            Standing::ConnectionsClosed,
            format_args!(
                "{limit} connections are open (limit_connections): closing those that wait longest"
            ),
        );
        waiting.select_nth_unstable(wanted - 1);
        for (_, _, key) in waiting.drain(..wanted) {
            self.close(key);
        }
        true
    }

    /// Counts a connection for its client's address, now that it is known. `false`: it is one too
    /// many, and was answered.
    pub(crate) fn admit(&mut self, key: usize) -> bool {
        let Some(connection) = self.connections.get_mut(key) else {
            return false;
        };
        let limit = connection.resolved.settings.client_connection_limit;
        let relays = connection.session.needs_leave() || connection.trusted;
        let speaks_for_others = relays && connection.proxied.is_none();
        let (false, Some(address)) = (limit == 0 || speaks_for_others, connection.client().ip())
        else {
            return true;
        };
        let who = ClientNet::of(address);
        if self.client_counts.enter(who, limit) {
            connection.counted = Some(who);
            return true;
        }
        self.turn_away(key);
        false
    }

    /// Answers and closes at once. What has come is read first, because closing a socket with unread
    /// data resets the connection; what else it sends is not waited for.
    fn turn_away(&mut self, key: usize) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        if connection.transport.tls().is_some() {
            // An answer would cost a handshake.
            self.warn_of_client(format_args!(
                "Closed a connection: {} (limit_client_connections)",
                Refusal::TOO_MANY_CONNECTIONS.message()
            ));
            return self.close(key);
        }
        let mut cx = Context::from_waker(Waker::noop());
        let room = connection.input.room(READ_SIZE);
        let _ = connection.transport.poll_receive(&mut cx, room);
        connection.at_end = true;
        self.refuse(key, Refusal::TOO_MANY_CONNECTIONS);
    }

    /// Takes a connection out of all books.
    pub(crate) fn take_connection(&mut self, key: usize) -> Option<Connection> {
        let connection = self.connections.try_remove(key)?;
        self.memory.note(connection.accounted, 0);
        if let Some(who) = connection.counted {
            self.client_counts.leave(who);
        }
        Some(connection)
    }
}

/// Who can be closed without harm, and, after them, with little.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Dispensable {
    Idle,
    Slow,
}

fn dispensable(connection: &Connection, now: Duration) -> Option<Dispensable> {
    match connection.phase {
        Phase::Lingering => Some(Dispensable::Idle),
        Phase::Idle if connection.served > 0 => Some(Dispensable::Idle),
        Phase::Proxy | Phase::Idle | Phase::Head if connection.since + REQUEST_GRACE < now => {
            Some(Dispensable::Slow)
        }
        _ => None,
    }
}
