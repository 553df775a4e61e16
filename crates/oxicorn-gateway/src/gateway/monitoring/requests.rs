//! The requests the gateway has, for who asks the arbiter: what waits, what workers have, since when.

use std::time::Duration;

use crate::control::{FromGateway, RequestList, RequestShown};
use crate::gateway::Gateway;
use crate::workers::calls::{Call, CallId, Place};

/// Requests in one message; they fit into a packet whatever they are called.
const IN_ONE_MESSAGE: usize = 100;

/// Requests in one list: more helps nobody, and the arbiter has other things to do.
const LISTED: usize = 5000;

impl Gateway {
    /// Answers [`crate::control::ToGateway::ListRequests`].
    pub(crate) fn list_requests(&mut self, token: u64, most: u32) {
        let most = usize::try_from(most).unwrap_or(LISTED).min(LISTED);
        let (total, found) = self.oldest_requests(most);
        let mut rest = &found[..];
        loop {
            let (part, behind) = rest.split_at(rest.len().min(IN_ONE_MESSAGE));
            let requests = part.iter().filter_map(|id| self.show_request(*id));
            let list = RequestList {
                token,
                total,
                requests: requests.collect(),
                more: !behind.is_empty(),
            };
            self.control.send(&FromGateway::Requests(list));
            if behind.is_empty() {
                return;
            }
            rest = behind;
        }
    }

    /// How many there are, and so many of the oldest.
    pub(super) fn shown_requests(&mut self, most: usize) -> (usize, Vec<RequestShown>) {
        let (total, found) = self.oldest_requests(most);
        let shown = found.into_iter().filter_map(|id| self.show_request(id));
        (total, shown.collect())
    }

    fn oldest_requests(&mut self, most: usize) -> (usize, Vec<CallId>) {
        let mut found: Vec<_> = (self.calls.iter_mut())
            .map(|(id, call)| (call.submitted, id))
            .collect();
        let total = found.len();
        found.sort_unstable_by_key(|(submitted, _)| *submitted);
        found.truncate(most);
        (total, found.into_iter().map(|(_, id)| id).collect())
    }

    fn show_request(&mut self, id: CallId) -> Option<RequestShown> {
        let now = self.clock.now();
        let call = self.calls.get(id)?;
        let (state, worker, queued) = state_of(call);
        let age = now.saturating_sub(call.submitted);
        let (request_line, client) = self.describe(id);
        let pid = worker
            .and_then(|worker| self.pool.of_id(worker))
            .map(|record| record.pid);
        Some(RequestShown {
            id: id.to_string(),
            request_line,
            client,
            ids: self.ids(id),
            state: state.into(),
            pid,
            age_ms: millis(age),
            queued_ms: millis(queued.unwrap_or(age)),
            received_ms: millis(self.time_to_receive(id)),
        })
    }

    /// From a request's first byte to its last before it could be given to a worker.
    pub(crate) fn time_to_receive(&self, id: CallId) -> Duration {
        let call = self.calls.get(id);
        let started = call.and_then(|call| {
            let exchange = self.connections.get(call.client?)?.exchange.as_ref()?;
            let is_its = exchange.call == Some(id);
            is_its.then_some((call.submitted, exchange.request.started))
        });
        started.map_or(Duration::ZERO, |(submitted, started)| {
            submitted.saturating_sub(started)
        })
    }
}

/// What it waits for, who has it, and how long it has waited for that (none: it still does).
fn state_of(
    call: &Call,
) -> (
    &'static str,
    Option<oxicorn_dispatch::WorkerId>,
    Option<Duration>,
) {
    match call.place {
        Place::Queued => ("queued", None, None),
        Place::Worker { worker, .. } => {
            let state = match call {
                Call { hijacked: true, .. } => "hijacked",
                Call { answered: true, .. } => "responding",
                _ => "working",
            };
            (state, Some(worker), Some(call.queued))
        }
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
