//! The requests the gateway has, for who asks the arbiter: what waits, what workers have, since when.

use std::time::Duration;

use crate::calls::{Call, Place};
use crate::control::{FromGateway, RequestShown};
use crate::gateway::Gateway;

/// Requests in one list, the oldest first; all of them together fit into a packet.
const SHOWN: usize = 100;

impl Gateway {
    /// Answers [`crate::control::ToGateway::ListRequests`].
    pub(crate) fn list_requests(&mut self, token: u64) {
        let now = self.clock.now();
        let mut found: Vec<_> = (self.calls.iter_mut())
            .map(|(id, call)| (call.submitted, id, state_of(call)))
            .collect();
        let total = found.len();
        found.sort_unstable_by_key(|(submitted, ..)| *submitted);
        found.truncate(SHOWN);
        let mut requests = Vec::with_capacity(found.len());
        for (submitted, id, (state, worker, queued)) in found {
            let (request_line, client) = self.describe(id);
            let pid = worker.and_then(|worker| self.pool.of_id(worker));
            requests.push(RequestShown {
                request_line,
                client,
                state: state.into(),
                pid: pid.map(|record| record.pid),
                age_ms: millis(now.saturating_sub(submitted)),
                queued_ms: millis(queued.unwrap_or(now.saturating_sub(submitted))),
            });
        }
        self.control.send(&FromGateway::Requests {
            token,
            total,
            requests,
        });
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

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
