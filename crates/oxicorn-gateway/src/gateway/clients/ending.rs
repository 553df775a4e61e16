//! Ends of exchanges and of connections.
//!
//! Decides what comes after a response: the next request, an orderly end, or a visible break. Every
//! exchange leaves exactly one line in the access log, here or by the worker that said it would.

use std::time::Duration;

use oxicorn_link::scoreboard::HistogramKind;
use oxicorn_link::wire::CancelReason;
use oxicorn_proto::message::RequestHead;

use crate::active::ActiveConfig;
use crate::connection::Phase;
use crate::exchange::{Exchange, Happened};
use crate::gateway::Gateway;
use crate::telemetry::access_log::Record;
use crate::telemetry::tracing;
use crate::workers::calls::{CallId, Place};

/// How long a client may go on sending after its last answer. Nothing waits for it meanwhile but
/// its socket.
const LINGER_LIMIT: Duration = Duration::from_secs(2);

/// How much it may send in that time.
const LINGER_BYTES: u64 = 1024 * 1024;

/// What the log shows of a request line that could not be read.
const FIRST_LINE_SHOWN: usize = 1024;

impl Gateway {
    /// The response is out: on to the next request.
    pub(crate) fn await_next_request(&mut self, key: usize) {
        let now = self.clock.now();
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        if connection.session.is_stream() {
            return self.close(key);
        }
        let keep_alive = connection.resolved.settings.timeouts.keep_alive;
        let mut deadline = ActiveConfig::deadline(now, keep_alive);
        if let Some(drain) = &self.drain {
            deadline = Some(drain.wait_for_request(deadline));
        }
        let is_over = self.drain.is_some() && deadline.is_some_and(|deadline| deadline <= now);
        if connection.session.start_next_exchange().is_err() || is_over {
            return self.end(key);
        }
        let exchange = connection.exchange.take();
        connection.websocket = None;
        connection.input.forget_head();
        connection.phase = Phase::Idle;
        connection.since = now;
        connection.deadline = deadline;
        self.scratch.keep_exchange(exchange);
        let must_read = std::mem::take(&mut connection.reading_stopped) || !connection.has_task;
        let (has_more, at_end) = (!connection.input.unread().is_empty(), connection.at_end);
        if !has_more && !at_end {
            connection.give_back(&mut self.scratch.lent);
        }
        if must_read {
            self.wake(key);
        }
        if has_more {
            self.advance(key);
        } else if at_end {
            self.close(key);
        }
    }

    /// Closes in order: where the client may still be sending, what it sends is read for a while,
    /// because closing a socket with unread data resets the connection and the client may lose the
    /// answer (RFC 9112 section 9.6).
    pub(crate) fn end(&mut self, key: usize) {
        let now = self.clock.now();
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let unread = connection.linger || !connection.input.unread().is_empty();
        if connection.session.is_stream() {
            connection.transport.finish_sending();
            return self.close(key);
        }
        if connection.at_end || !unread {
            return self.close(key);
        }
        connection.transport.finish_sending();
        connection.phase = Phase::Lingering;
        connection.exchange = None;
        connection.since = now;
        connection.deadline = Some(now + LINGER_LIMIT);
        connection.reading_stopped = false;
        self.wake(key);
        self.discard_input(key);
    }

    /// What a lingering client sends.
    pub(crate) fn discard_input(&mut self, key: usize) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let count = connection.input.unread().len();
        connection.input.consume(count);
        connection.input.forget_head();
        connection.discarded += count as u64;
        if connection.discarded > LINGER_BYTES {
            self.close(key);
        }
    }

    /// Ends so that the client notices: where the end of the body is told by closing, an ordinary
    /// close would pass for it.
    pub(crate) fn reset(&mut self, key: usize) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let until_close =
            (connection.exchange.as_ref()).is_some_and(|one| one.response.until_close);
        if until_close || connection.session.is_stream() {
            connection.transport.reset_on_close();
        } else if connection.linger {
            return self.end(key);
        }
        self.close(key);
    }

    /// Closes, whatever is under way: what a worker does for it goes on with nobody waiting.
    pub(crate) fn close(&mut self, key: usize) {
        if let Some(id) = self.part(key) {
            self.abandon(id, CancelReason::ClientGone);
        }
        self.give_up_streams(key);
        let Some(mut connection) = self.take_connection(key) else {
            return;
        };
        self.scratch.keep_exchange(connection.exchange.take());
        connection.transport.say_goodbye();
        connection.give_all_back(&mut self.scratch.lent);
        // Its task sees that the connection is gone, and ends.
        connection.waker.wake_by_ref();
        if let Some(carrier) = connection.transport.carrier() {
            drop(connection);
            self.forget_stream(key, carrier);
        }
    }

    /// The client's end is closed or broken, or it is cut off: nothing more can be said to it.
    pub(crate) fn handle_client_gone(&mut self, key: usize) {
        let Some(connection) = self.connections.get(key) else {
            return;
        };
        let (call, unsent) = (connection.call(), connection.output.remaining());
        let has_exchange = connection.exchange.is_some();
        if has_exchange {
            let logged = call.is_some_and(|id| self.is_logged_by_worker(id));
            self.happened(key, Happened::ClientGone { unsent, logged });
        } else {
            self.close(key);
        }
    }

    /// Whether a worker works on the request and will write its line, although nobody waits for it.
    fn is_logged_by_worker(&mut self, id: CallId) -> bool {
        if self.is_untaken(id) {
            return false;
        }
        let place = self.calls.get(id).map(|call| call.place);
        match place {
            Some(Place::Worker { worker, .. }) => {
                self.pool.of_id(worker).is_some_and(|record| record.logs)
            }
            _ => false,
        }
    }

    /// Counts the current exchange and writes its line.
    pub(crate) fn conclude(&mut self, key: usize) {
        self.follow_end(key);
        let Some(connection) = self.connections.get(key) else {
            return;
        };
        let Some(Exchange {
            request, response, ..
        }) = connection.exchange.as_deref()
        else {
            return;
        };
        let elapsed = if request.readable {
            self.clock.now().saturating_sub(request.started)
        } else {
            Duration::ZERO
        };
        let head = request
            .readable
            .then(|| connection.session.head(connection.input.head()));
        let method = head.as_ref().map_or(&b""[..], RequestHead::method);
        self.metrics.count_response(method, response.status);
        self.metrics.record(HistogramKind::Latency, elapsed);
        if let Some(statsd) = &mut self.statsd {
            statsd.request(response.status, elapsed);
        }
        let forwards = self.resolved.settings.log_forwarding.access;
        let is_wanted = (self.access_log.is_some() || forwards) && !response.logged;
        let trace = request.trace.as_deref();
        let has_span = self.tracer.wants(trace);
        if !is_wanted && self.json_log.is_none() && !has_span {
            return;
        }
        let first_line = connection.session.first_line(connection.input.unread());
        let client = connection.client();
        let record = Record {
            request: head,
            first_line: &first_line[..first_line.len().min(FIRST_LINE_SHOWN)],
            client: client.text(),
            client_port: client.port(),
            server: connection.server.text(),
            server_port: connection.server.port(),
            https: request.https,
            status: response.status,
            body_bytes: response.body_bytes,
            elapsed,
            pid: if response.pid == 0 {
                self.pid
            } else {
                response.pid
            },
            response_head: &response.head,
            time: self.clock.access_time(),
            reason: response.reason,
            queue_time: request.queued,
            trace,
        };
        if let Some(trace) = trace.filter(|_| has_span) {
            let facts = tracing::Facts {
                started: request.started,
                ended: self.clock.now(),
                wall: self.clock.wall(),
                record: &record,
            };
            self.tracer.add_span(trace, &facts);
        }
        if is_wanted {
            match &mut self.access_log {
                Some(log) => log.write(&record),
                None => {
                    self.access_forwarding
                        .send(&mut self.control, &mut self.error_log, &record);
                }
            }
        }
        if let Some(log) = &mut self.json_log {
            self.scratch.time.clear();
            self.clock.write_utc_time(&mut self.scratch.time);
            let trust = &connection.resolved.trust;
            let proxies = connection.trusted.then(|| trust.forwarders());
            log.write(&record, &self.scratch.time, proxies);
        }
    }
}
