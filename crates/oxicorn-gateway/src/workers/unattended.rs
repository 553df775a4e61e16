//! Calls of the application that go on though nobody waits for them.
//!
//! A client leaves while its request is worked on; a response is complete and the application's call is
//! not (`close()`, a hook); the gateway that placed a request has died. Each takes up room at its worker,
//! so each may take as long as a request may (`timeout`), and then the arbiter is asked to replace the
//! worker. There is no connection to ask for the request line then: it is kept with the call, or
//! the worker tells it.
//!
//! Of the calls of a loop (asyncio's, gevent's hub) none is late: such a worker goes on with others meanwhile, and what it does
//! after its response (background tasks) is its own affair.

use std::time::Duration;

use oxicorn_dispatch::WorkerId;
use oxicorn_link::scoreboard::Counter;
use oxicorn_link::wire::{CallsInHand, Malformed};
use oxicorn_link::{ResponseHeader, StreamId};

use crate::connection::Connection;
use crate::control::{FromGateway, RequestExpired, RequestSlow};
use crate::gateway::Gateway;
use crate::telemetry::tracing::RequestIds;
use crate::transport::peer::End;
use crate::workers::calls::{Call, CallId, Place};
use crate::workers::pool::worker_id;

/// Bytes kept of a request line.
const LINE_KEPT: usize = 1024;

/// Calls of earlier gateways that one worker can have.
const INHERITED: usize = 4096;

/// What the log calls a request.
#[derive(Debug, Clone)]
pub(crate) struct Label {
    line: Box<[u8]>,
    client: End,
    ids: RequestIds,
}

impl Label {
    fn of(connection: &Connection) -> Self {
        let head = connection.session.head(connection.input.head());
        let line = head.request_line();
        Self {
            line: line[..line.len().min(LINE_KEPT)].into(),
            client: connection.client().clone(),
            ids: RequestIds::of(connection.trace()),
        }
    }
}

/// A call that a worker has in hand of a gateway that is gone.
#[derive(Debug)]
pub(crate) struct Inherited {
    stream: StreamId,
    /// When we heard of it.
    since: Duration,
    line: Box<[u8]>,
    client: Box<[u8]>,
    /// The arbiter knows that it takes too long.
    expired: bool,
}

/// Bytes of a request line in a list of requests; escaped it may be six times as long.
const LINE_LISTED: usize = 160;

impl Call {
    /// Its connection will not know the request any more: what the log calls it is kept.
    pub(crate) fn keep_label(&mut self, connection: &Connection) {
        if matches!(self.place, Place::Worker { .. })
            && (connection.exchange.as_ref()).is_some_and(|one| one.request.readable)
        {
            self.label = Some(Box::new(Label::of(connection)));
        }
    }

    /// Whether nobody waits for it, and nobody needs to know how long it takes: the socket is the
    /// application's, or the worker is being replaced.
    pub(crate) const fn may_take_its_time(&self) -> bool {
        self.client.is_none() && (self.hijacked || self.expired)
    }
}

impl Gateway {
    /// What the log calls the request of a call.
    fn label(&self, id: CallId) -> Option<Label> {
        let call = self.calls.get(id)?;
        let client = call.client;
        match client.and_then(|client| self.connections.get(client)) {
            Some(connection) => Some(Label::of(connection)),
            None => call.label.as_deref().cloned(),
        }
    }

    /// Request line and client of a call, escaped and short enough for a list.
    pub(crate) fn describe(&self, id: CallId) -> (String, String) {
        let Some(label) = self.label(id) else {
            return (escaped(b""), String::new());
        };
        let line = &label.line[..label.line.len().min(LINE_LISTED)];
        (escaped(line), text(label.client.text()))
    }

    /// The ids of an exchange's request.
    pub(crate) fn ids(&self, id: CallId) -> RequestIds {
        self.label(id).map(|label| label.ids).unwrap_or_default()
    }

    /// Has the arbiter log that a request is slow, and where it is.
    pub(crate) fn tell_slow(
        &mut self,
        id: CallId,
        worker: WorkerId,
        age: Duration,
        queued: Duration,
    ) {
        let ((request_line, client), ids) = (self.describe(id), self.ids(id));
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        if let Some(record) = self.pool.of_id(worker) {
            self.control.send(&FromGateway::RequestSlow(RequestSlow {
                worker: record.number,
                id: id.to_string(),
                request_line,
                client,
                ids,
                age_ms: millis(age),
                queued_ms: millis(queued),
                received_ms: millis(self.time_to_receive(id)),
            }));
        }
    }

    /// Has the arbiter replace a worker, or log that it gives a request up.
    pub(crate) fn tell_expired(&mut self, id: CallId, worker: WorkerId, age: Duration) {
        let (line, client, ids) = match self.label(id) {
            Some(label) => (escaped(&label.line), text(label.client.text()), label.ids),
            None => (escaped(b""), String::new(), RequestIds::default()),
        };
        self.send_expired(worker, (line, client, ids), age);
    }

    fn send_expired(
        &mut self,
        id: WorkerId,
        (request_line, client, ids): (String, String, RequestIds),
        age: Duration,
    ) {
        let others_in_flight = self.dispatcher.in_flight(id);
        let Some(record) = self.pool.of_id(id) else {
            return;
        };
        let inherited = u32::try_from(record.inherited.len()).unwrap_or(u32::MAX);
        let expired = RequestExpired {
            worker: record.number,
            request_line,
            client,
            ids,
            age_ms: u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
            others_in_flight: others_in_flight.saturating_add(inherited).saturating_sub(1),
            worker_goes_on: record.goes_on,
        };
        self.control.send(&FromGateway::RequestExpired(expired));
        self.metrics.count(Counter::Expired);
    }

    /// A worker names all calls it has in hand of earlier gateways.
    pub(crate) fn take_in_hand(
        &mut self,
        key: usize,
        header: ResponseHeader,
    ) -> Result<(), Malformed> {
        let now = self.clock.now();
        let Some(record) = self.pool.get_mut(key) else {
            return Ok(());
        };
        let mut payload = Vec::new();
        record.link.payload_into(0..header.len, &mut payload);
        let mut known = std::mem::take(&mut record.inherited);
        for call in CallsInHand::new(&payload).take(INHERITED) {
            let call = call?;
            let place = known.iter().position(|one| one.stream == call.stream);
            record.inherited.push(match place {
                Some(place) => known.swap_remove(place),
                None => Inherited {
                    stream: call.stream,
                    since: now,
                    line: call.request_line[..call.request_line.len().min(LINE_KEPT)].into(),
                    client: call.client.into(),
                    expired: false,
                },
            });
        }
        Ok(())
    }

    /// Finds calls of earlier gateways that take too long.
    pub(crate) fn check_inherited(&mut self, now: Duration, limit: Duration) {
        let mut late = Vec::new();
        for key in 0..self.pool.key_bound() {
            let Some(record) = self.pool.get_mut(key).filter(|record| !record.goes_on) else {
                continue;
            };
            for call in &mut record.inherited {
                if !call.expired && now > call.since + limit {
                    call.expired = true;
                    late.push((
                        worker_id(key),
                        escaped(&call.line),
                        text(&call.client),
                        now.saturating_sub(call.since),
                    ));
                }
            }
        }
        for (worker, line, client, age) in late {
            self.send_expired(worker, (line, client, RequestIds::default()), age);
        }
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(crate) fn escaped(line: &[u8]) -> String {
    if line.is_empty() {
        return "a request of an earlier gateway".into();
    }
    String::from_utf8_lossy(line).escape_debug().collect()
}
