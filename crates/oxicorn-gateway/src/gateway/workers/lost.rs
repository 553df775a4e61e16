//! Workers that end, or cannot be trusted any more.
//!
//! Decides what the clients of a lost worker see: a request it had not taken goes to another worker
//! and nobody notices; one it had taken is answered with 502, or cut short where its answer had
//! begun. What the worker wrote before it ended still counts, so the ring is read first.

use std::fmt::Display;

use oxicorn_dispatch::RequestId;
use oxicorn_link::scoreboard::Counter;

use crate::control::FromGateway;
use crate::exchange::Happened;
use crate::gateway::Gateway;
use crate::workers::calls::CallId;
use crate::workers::pool::worker_id;

/// Rounds of reading a dead worker's ring; it can hold no more than that.
const LAST_READS: u32 = 1024;

impl Gateway {
    /// The worker's process has ended.
    pub(crate) fn handle_worker_gone(&mut self, key: usize) {
        for _ in 0..LAST_READS {
            let Some(record) = self.pool.get_mut(key) else {
                return;
            };
            match record.link.next_response() {
                Ok(Some(_)) => self.read_link(key),
                Ok(None) | Err(_) => break,
            }
        }
        self.lose_worker(key);
    }

    /// What the worker wrote cannot be.
    pub(crate) fn handle_worker_fault(&mut self, key: usize, reason: &dyn Display) {
        let Some(record) = self.pool.get_mut(key) else {
            return;
        };
        let (worker, pid) = (record.number, record.pid);
        let reason = reason.to_string();
        self.metrics.count(Counter::WorkerFaults);
        self.error_log
            .error(format_args!("Worker (pid:{pid}) broke its link: {reason}"));
        self.control
            .send(&FromGateway::WorkerFault { worker, reason });
        self.lose_worker(key);
    }

    fn lose_worker(&mut self, key: usize) {
        let now = self.clock.now();
        let pid = self.pool.get_mut(key).map_or(0, |record| record.pid);
        for request in self.dispatcher.remove_worker(worker_id(key), now) {
            self.lose_request(request, pid);
        }
        self.pool.remove(key);
    }

    fn lose_request(&mut self, request: RequestId, pid: u32) {
        let now = self.clock.now();
        let id = CallId::of_request(request);
        if self.take_back(id) {
            self.metrics.count(Counter::Requeued);
            return self.dispatcher.handle_revoked(request, now);
        }
        // One that took too long has been told of, and was answered.
        if self.calls.get(id).is_none_or(|call| !call.expired) {
            self.metrics.count(Counter::Lost);
            let ((line, address), ids) = (self.describe(id), self.ids(id));
            self.error_log.error(format_args!(
                "Lost with worker (pid:{pid}): {line} from {address}{ids}"
            ));
        }
        self.dispatcher.handle_lost(request);
        if let Some(client) = self.calls.remove(id).and_then(|call| call.client) {
            self.happened(client, Happened::WorkerLost);
        }
    }
}
