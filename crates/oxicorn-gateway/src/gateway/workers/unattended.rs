//! Looks after calls that nobody waits for, see [`crate::workers::unattended`].

use std::time::Duration;

use oxicorn_dispatch::WorkerId;
use oxicorn_link::ResponseHeader;
use oxicorn_link::scoreboard::Counter;
use oxicorn_link::wire::{CallsInHand, Malformed};

use crate::connection::Connection;
use crate::control::{FromGateway, RequestExpired, RequestSlow};
use crate::gateway::Gateway;
use crate::telemetry::tracing::RequestIds;
use crate::workers::calls::{Call, CallId, Place};
use crate::workers::pool::worker_id;
use crate::workers::unattended::{INHERITED, Inherited, LINE_KEPT, Label};

/// Bytes of a request line in a list of requests; escaped it may be six times as long.
const LINE_LISTED: usize = 160;

impl Connection {
    /// What the log calls its request.
    fn label(&self) -> Label {
        let head = self.session.head(self.input.head());
        let ids = RequestIds::of(self.trace());
        Label::new(head.request_line(), self.client().clone(), ids)
    }
}

impl Call {
    /// Its connection will not know the request any more: what the log calls it is kept.
    pub(crate) fn keep_label(&mut self, connection: &Connection) {
        if matches!(self.place, Place::Worker { .. })
            && (connection.exchange.as_ref()).is_some_and(|one| one.request.readable)
        {
            self.label = Some(Box::new(connection.label()));
        }
    }
}

impl Gateway {
    /// What the log calls the request of a call.
    fn label(&self, id: CallId) -> Option<Label> {
        let call = self.calls.get(id)?;
        let client = call.client;
        match client.and_then(|client| self.connections.get(client)) {
            Some(connection) => Some(connection.label()),
            None => call.label.as_deref().cloned(),
        }
    }

    /// Request line and client of a call, escaped and short enough for a list.
    pub(crate) fn describe(&self, id: CallId) -> (String, String) {
        let Some(label) = self.label(id) else {
            return (escaped(b""), String::new());
        };
        let line = &label.line[..label.line.len().min(LINE_LISTED)];
        (escaped(line), label.client.shown())
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
