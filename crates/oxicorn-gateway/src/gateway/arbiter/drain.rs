//! The orderly end: nothing that was promised is lost.
//!
//! Who is in a backlog has a connection by TCP's rules, so it is let in before a listener is
//! closed, and its first request is served. Requests under way are finished and told `Connection:
//! close`. So is one more request on a connection that was promised to be kept: its client, often a
//! load balancer, may be sending it at this very moment, and would meet a reset. Those that send none
//! for a short while are closed. What is not finished at the deadline is cut. The same happens when
//! the arbiter dies: no orphans, nothing lost.

use std::time::Duration;

use oxicorn_proto::websocket::CloseCode;

use crate::connection::{Connection, Phase};
use crate::control::FromGateway;
use crate::exchange::{Happened, Stage};
use crate::gateway::Gateway;

/// How long a client that has connected and not yet sent anything may take to begin.
const FIRST_REQUEST_GRACE: Duration = Duration::from_secs(1);

/// Of the time for the end, the part in which kept connections may bring another request: its answer
/// needs time too.
const KEPT_PART: u32 = 2;

/// The end has begun.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Drain {
    deadline: Duration,
    /// When kept connections that bring nothing are closed.
    kept_until: Duration,
}

impl Drain {
    /// How long a connection may wait for its next request now, if it might until `deadline` before.
    pub(crate) fn wait_for_request(&self, deadline: Option<Duration>) -> Duration {
        deadline.map_or(self.kept_until, |deadline| deadline.min(self.kept_until))
    }
}

impl Gateway {
    /// Begins the end, or moves its deadline.
    pub(crate) fn start_drain(&mut self, limit: Duration) {
        let now = self.clock.now();
        let kept = self.resolved.settings.timeouts.kept_in_drain;
        let drain = Drain {
            deadline: now.saturating_add(limit),
            kept_until: now.saturating_add(kept.min(limit / KEPT_PART)),
        };
        self.drain = Some(drain);
        self.close_listeners(|_| false);
        let keys: Vec<_> = self.connections.iter().map(|(key, _)| key).collect();
        for key in keys {
            let Some(connection) = self.connections.get_mut(key) else {
                continue;
            };
            // Where the head has left, the client was promised another request.
            let exchange = connection.exchange.as_ref();
            if exchange.is_none_or(|exchange| exchange.response.status == 0) {
                connection.session.http_mut().deny_keep_alive();
            }
            if connection.session.is_carrier() {
                self.leave_http2(key);
                continue;
            }
            if connection.is_talking() {
                self.close_websocket(key, CloseCode::SERVICE_RESTART, b"");
                continue;
            }
            if connection.stage() == Some(Stage::Discarding) {
                // It has its answer, and nobody wants the rest of what it sends.
                connection.linger = true;
                self.end(key);
            } else if is_waiting(connection) && connection.served > 0 {
                connection.deadline = Some(drain.wait_for_request(connection.deadline));
            } else if is_waiting(connection) {
                connection.deadline = Some(now + FIRST_REQUEST_GRACE);
            }
        }
        self.close_waiting(now);
        self.flush_unsent();
        self.rest.stir();
        self.settle();
    }

    /// Closes those whose time for another request is over, which may be none.
    fn close_waiting(&mut self, now: Duration) {
        let is_due = |one: &Connection| one.deadline.is_some_and(|deadline| deadline <= now);
        let waiting = self.connections.iter();
        let due = waiting.filter(|(_, one)| is_waiting(one) && is_due(one));
        let due: Vec<_> = due.map(|(key, _)| key).collect();
        for key in due {
            self.close(key);
        }
    }

    /// Ends when nothing is left.
    pub(crate) fn check_drained(&mut self) {
        if self.pool.is_empty() {
            self.refuse_queue();
        }
        if !self.finished && self.connections.is_empty() {
            self.control.send(&FromGateway::Drained);
            self.finish();
        }
    }

    /// Nobody will come any more to serve what is queued.
    fn refuse_queue(&mut self) {
        let queued: Vec<_> = self
            .calls
            .iter_mut()
            .filter_map(|(_, call)| call.client)
            .collect();
        for client in queued {
            self.happened(client, Happened::Stopping);
        }
    }

    pub(crate) fn check_drain_deadline(&mut self, now: Duration) {
        if self
            .drain
            .as_ref()
            .is_some_and(|drain| drain.deadline <= now)
        {
            self.break_all_off();
        }
    }

    /// Cuts every connection.
    pub(crate) fn break_all_off(&mut self) {
        let keys: Vec<_> = self.connections.iter().map(|(key, _)| key).collect();
        if !keys.is_empty() {
            let count = keys.len();
            self.error_log
                .warning(format_args!("Forcing close of {count} connections"));
        }
        for key in keys {
            self.handle_client_gone(key);
        }
    }
}

/// Whether nothing of a request has come.
fn is_waiting(connection: &Connection) -> bool {
    let has_nothing = connection.input.unread().is_empty() && !connection.session.is_carrier();
    connection.phase == Phase::Idle && has_nothing
}
