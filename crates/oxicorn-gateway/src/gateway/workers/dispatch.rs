//! Carries out what the dispatcher decides: gives requests to workers, takes them back, refuses.

use std::time::Duration;

use oxicorn_dispatch::{Action, Cancelled, RejectReason, RequestId, WorkerId};
use oxicorn_link::scoreboard::{Counter, HistogramKind};
use oxicorn_link::wire::CancelReason;

use crate::control::FromGateway;
use crate::exchange::refusal::Refusal;
use crate::gateway::Gateway;
use crate::gateway::workers::place::{PlaceError, place_request};
use crate::workers::calls::{Call, CallId, Place};

impl Gateway {
    /// A request can go to a worker: queue it.
    pub(crate) fn submit_call(&mut self, key: usize) {
        if self.upgrade_to_http2(key) || self.answer_as_monitoring(key) {
            return;
        }
        let now = self.clock.now();
        let connection = self.connections.get_mut(key);
        let Some(exchange) = connection.and_then(|one| one.exchange.as_mut()) else {
            return;
        };
        if let Err(error) = exchange.request.body.complete() {
            return self.refuse_for_disk(key, &error);
        }
        match self.calls.insert(Call::new(key, now)) {
            Some(id) => {
                exchange.call = Some(id);
                self.dispatcher.submit(id.request(), now);
                self.follow_begin(key, id);
            }
            None => self.refuse(key, Refusal::overload(Duration::from_secs(1))),
        }
    }

    /// Does what the dispatcher asks for until it asks for nothing more.
    pub(crate) fn drive(&mut self) {
        while let Some(action) = self.dispatcher.poll_action() {
            match action {
                Action::Place { request, worker } => self.place(request, worker),
                Action::Revoke { request, .. } => self.revoke(request),
                Action::Reject {
                    request,
                    reason,
                    retry_after,
                } => {
                    self.metrics.count(match reason {
                        RejectReason::QueueFull => Counter::RejectedFull,
                        RejectReason::WaitedTooLong => Counter::RejectedWaited,
                    });
                    self.reject(request, retry_after);
                }
                Action::Drained(worker) => self.report_drained(worker),
            }
        }
        self.pool.announce_requests();
    }

    // Apart: what it needs of the stack is not paid for where nothing is placed.
    #[inline(never)]
    fn place(&mut self, request: RequestId, worker: WorkerId) {
        let now = self.clock.now();
        let id = CallId::of_request(request);
        let call = self.calls.get_mut(id);
        let key = call.as_ref().and_then(|call| call.client);
        let connection = key.and_then(|key| self.connections.get_mut(key));
        let (Some(call), Some(connection)) = (call, connection) else {
            // Nobody waits for it any more. Not a completion: nothing was claimed.
            self.dispatcher.handle_lost(request);
            self.calls.remove(id);
            return;
        };
        let Some(record) = self.pool.of_id(worker) else {
            return self.dispatcher.handle_placement_refused(request, now);
        };
        let Some(exchange) = connection.exchange.as_deref_mut() else {
            return self.dispatcher.handle_placement_refused(request, now);
        };
        if let Some(upload) = &exchange.request.upload {
            if upload.complete {
                exchange.request.upload = None;
            } else if !record.streams {
                return self.wait_for_body(key.unwrap_or_default(), id);
            }
        }
        let stream = id.stream(record.link.epoch());
        let queued = now.saturating_sub(call.submitted);
        let placed = place_request(record, stream, connection, queued, &mut self.scratch);
        match placed {
            Ok(placement) => {
                if let Some(exchange) = &mut connection.exchange {
                    exchange.response.pid = record.pid;
                    exchange.request.queued = Some(queued);
                    if let Some(trace) = &mut exchange.request.trace {
                        trace.note_given(call.submitted, now);
                    }
                    if let Some(upload) = &mut exchange.request.upload {
                        upload.streamed = true;
                    }
                }
                self.metrics.record(HistogramKind::QueueWait, queued);
                call.queued = queued;
                call.place = Place::Worker {
                    worker,
                    placement,
                    taken: None,
                };
                self.follow_given(key, queued);
            }
            Err(PlaceError::NoRoomYet) => self.dispatcher.handle_placement_refused(request, now),
            Err(PlaceError::Disk(error)) => {
                self.dispatcher.handle_lost(request);
                if let Some(key) = self.calls.remove(id).and_then(|lost| lost.client) {
                    self.refuse_for_disk(key, &error);
                }
            }
        }
    }

    fn revoke(&mut self, request: RequestId) {
        let now = self.clock.now();
        let id = CallId::of_request(request);
        if self.take_back(id) {
            self.metrics.count(Counter::Requeued);
            return self.dispatcher.handle_revoked(request, now);
        }
        self.dispatcher.handle_revoke_refused(request, now);
    }

    /// Whether no worker has taken this call's request yet.
    pub(crate) fn is_untaken(&mut self, id: CallId) -> bool {
        match self.calls.get(id).map(|call| &call.place) {
            Some(Place::Queued) => true,
            Some(Place::Worker {
                worker,
                placement,
                taken: None,
            }) => {
                let (worker, placement) = (*worker, *placement);
                let worker = self.pool.of_id(worker);
                worker.is_some_and(|worker| !worker.link.is_claimed(placement))
            }
            _ => false,
        }
    }

    /// Takes a request out of a worker's ring. `false`: the worker has taken it.
    pub(crate) fn take_back(&mut self, id: CallId) -> bool {
        let now = self.clock.now();
        let Some(call) = self.calls.get_mut(id) else {
            return true;
        };
        let Place::Worker {
            worker,
            placement,
            taken,
        } = &mut call.place
        else {
            return true;
        };
        if taken.is_some() {
            return false;
        }
        let worker = self.pool.of_id(*worker);
        if worker.is_some_and(|worker| !worker.link.revoke(*placement)) {
            *taken = Some(now);
            return false;
        }
        call.place = Place::Queued;
        if call.client.is_none() {
            self.calls.remove(id);
        }
        true
    }

    fn reject(&mut self, request: RequestId, retry_after: Duration) {
        let Some(call) = self.calls.remove(CallId::of_request(request)) else {
            return;
        };
        if let Some(key) = call.client {
            let waited = self.clock.now().saturating_sub(call.submitted);
            let connection = self.connections.get_mut(key);
            if let Some(exchange) = connection.and_then(|one| one.exchange.as_deref_mut()) {
                exchange.request.queued = Some(waited);
            }
            self.refuse(key, Refusal::overload(retry_after));
        }
    }

    fn report_drained(&mut self, worker: WorkerId) {
        if let Some(record) = self.pool.of_id(worker) {
            let worker = record.number;
            self.control.send(&FromGateway::WorkerDrained { worker });
        }
    }

    /// The client does not wait for this call any more; a worker may still work on it.
    pub(crate) fn abandon(&mut self, id: CallId, reason: CancelReason) {
        let now = self.clock.now();
        let Some(call) = self.calls.get_mut(id) else {
            return;
        };
        call.client = None;
        match self.dispatcher.cancel(id.request(), now) {
            Cancelled::Forgotten => drop(self.calls.remove(id)),
            // At once: by the time of its next decision the dispatcher may have learned from a later request
            // that this one was taken, would not try to take it back, and nobody would tell the worker.
            Cancelled::Placed(_) if self.take_back(id) => {
                self.dispatcher.handle_revoked(id.request(), now);
            }
            Cancelled::Placed(_) => {
                self.dispatcher.handle_revoke_refused(id.request(), now);
                self.cancel(id, reason);
            }
        }
    }

    /// Tells the worker that nobody waits, and lets it go on sending into the void.
    pub(crate) fn cancel(&mut self, id: CallId, reason: CancelReason) {
        let Some(call) = self.calls.get_mut(id) else {
            return;
        };
        let Place::Worker { worker, .. } = call.place else {
            return;
        };
        let Some(record) = self.pool.of_id(worker) else {
            return;
        };
        let stream = id.stream(record.link.epoch());
        record.cancel(stream, reason);
        let uncredited = std::mem::take(&mut call.uncredited);
        if let Some(credit) = call.window.release(uncredited) {
            record.give_credit(stream, credit);
        }
    }
}
