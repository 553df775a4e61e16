//! Reads the workers' rings and sees to the consequences of each message.
//!
//! Decides whom a message is for, by our own book of exchanges, and what follows from it: more to
//! send, a response complete, a response failed, a worker whose link cannot be trusted any more.
//! What a message does to its response is in `apply`.

use oxicorn_dispatch::WorkerId;
use oxicorn_link::scoreboard::{Counter, HistogramKind};
use oxicorn_link::window::RESPONSE_WINDOW;
use oxicorn_link::wire::{CancelReason, Malformed, ResponseKind, decode_abort, decode_credit};
use oxicorn_link::{GatewayEnd, ResponseHeader};

use crate::exchange::{Happened, Stage};
use crate::gateway::Gateway;
use crate::gateway::exchanges::apply::{
    Common, Mistake, Trouble, WorkerMessage, discard, discard_descriptor, ends_call, is_last,
};
use crate::telemetry::tracing::RequestIds;
use crate::workers::calls::{Call, CallId, Place};
use crate::workers::pool::worker_id;

/// Messages of one worker before others have their turn.
const MESSAGES_PER_TURN: u32 = 256;

/// The payload of a message of a few bytes.
pub(crate) fn read_small<'a>(
    link: &GatewayEnd,
    header: ResponseHeader,
    out: &'a mut Vec<u8>,
) -> &'a [u8] {
    out.clear();
    link.payload_into(0..header.len, out);
    out
}

impl Gateway {
    /// Reads one worker's ring.
    pub(crate) fn read_link(&mut self, key: usize) {
        self.reading = Some(key);
        self.read_messages(key);
        self.reading = None;
        self.flush_unsent();
        if let Some(record) = self.pool.get_mut(key) {
            record.tell_backlog();
        }
        self.forward_waiting(key);
    }

    fn read_messages(&mut self, key: usize) {
        for _ in 0..MESSAGES_PER_TURN {
            let Some(record) = self.pool.get_mut(key) else {
                return;
            };
            let header = match record.link.next_response() {
                Ok(None) => break,
                Ok(Some(header)) => header,
                Err(fault) => return self.handle_worker_fault(key, &fault),
            };
            if let Err(malformed) = self.handle_response(key, header) {
                return self.handle_worker_fault(key, &malformed);
            }
            self.coalescing.messages += 1;
            self.rest.stir();
            if let Some(record) = self.pool.get_mut(key) {
                record.link.release();
            }
        }
    }

    fn handle_response(&mut self, key: usize, header: ResponseHeader) -> Result<(), Malformed> {
        let id = CallId::of_stream(header.stream);
        let Some(record) = self.pool.get_mut(key) else {
            return Ok(());
        };
        let known = header.stream.is_of_epoch(record.link.epoch());
        if header.kind == ResponseKind::InHand {
            return self.take_in_hand(key, header);
        }
        let call = self.calls.get_mut(id).filter(|_| known);
        let Some(call) = call.filter(|call| is_placed_at(call, worker_id(key))) else {
            discard_descriptor(&mut record.link, header);
            return Ok(());
        };
        // Every message is a sign of progress, as long as somebody waits for it.
        if let Place::Worker { taken, .. } = &mut call.place
            && (taken.is_none() || call.client.is_some())
        {
            *taken = Some(self.clock.now());
        }
        let client = call.client;
        let connection = client.and_then(|client| self.connections.get_mut(client));
        let (Some(client), Some(connection)) = (client, connection) else {
            if let Some(credit) = discard(&mut record.link, call, header) {
                record.give_credit(header.stream, credit);
            }
            if ends_call(header) {
                self.complete(id);
            } else if begins_to_answer(header) && !record.goes_on {
                // A thread listens from its first message on: what it was told before may have passed
                // unheard.
                self.cancel(id, CancelReason::ClientGone);
            }
            return Ok(());
        };
        match header.kind {
            ResponseKind::CallEnd => {
                self.fail_response(client, &Mistake::NotSpoken(header.kind));
                self.complete(id);
                return Ok(());
            }
            ResponseKind::Abort => {
                let payload = read_small(&record.link, header, &mut self.scratch.message);
                let reason = decode_abort(payload)?;
                self.happened(client, Happened::Aborted(reason));
                if ends_call(header) {
                    self.complete(id);
                }
                return Ok(());
            }
            ResponseKind::Credit if connection.stage().is_some_and(Stage::is_served) => {
                let payload = read_small(&record.link, header, &mut self.scratch.message);
                let credit = decode_credit(payload)?;
                self.handle_body_credit(client, credit);
                return Ok(());
            }
            ResponseKind::Hijack => {
                self.handle_hijack(id, client);
                return Ok(());
            }
            ResponseKind::WebSocketAccept
            | ResponseKind::WebSocketMessage
            | ResponseKind::WebSocketClose => {
                let taken = self.take_websocket_message(key, id, client, header);
                return self.conclude_message(id, client, header, taken);
            }
            ResponseKind::Credit if connection.is_talking() => {
                let payload = read_small(&record.link, header, &mut self.scratch.message);
                let credit = decode_credit(payload)?;
                self.take_websocket_credit(client, credit);
                return Ok(());
            }
            _ => {}
        }
        self.scratch.message.clear();
        // Where it is told how long an answer took, the time of the turn is not exact enough.
        if connection.resolved.is_timed {
            self.clock.tick();
        }
        let (before, mark) = (connection.sent, connection.output.bytes().len());
        let waits = !record.streams;
        let common = Common {
            aside: &mut self.scratch.message,
            date: self.clock.date_line(),
            now: self.clock.now(),
            keep_head: self.keep_head,
        };
        let message = WorkerMessage::new(header, &mut record.link, call, connection, common);
        let Some(message) = message else {
            return Ok(());
        };
        let taken = message.take();
        let sent = connection.sent - before;
        let spools = waits && taken.is_ok() && connection.has_to_spool();
        if sent > 0 {
            self.metrics
                .add(Counter::BytesOut, connection.on_the_wire(sent));
            self.credit_lent(client, header, sent);
        }
        if spools {
            self.spool_response(client, mark);
        }
        self.conclude_message(id, client, header, taken)
    }

    /// Gives credit for what a message has sent straight out of the ring.
    fn credit_lent(&mut self, client: usize, header: ResponseHeader, sent: u64) {
        if !is_last(header) {
            self.credit(client, usize::try_from(sent).unwrap_or(usize::MAX));
        }
    }

    /// What follows from a message that was taken, or not.
    fn conclude_message(
        &mut self,
        id: CallId,
        client: usize,
        header: ResponseHeader,
        taken: Result<(), Trouble>,
    ) -> Result<(), Malformed> {
        match taken {
            Ok(()) => {}
            Err(Trouble::Malformed) => return Err(Malformed),
            Err(Trouble::Mistake(mistake)) => {
                self.fail_response(client, &mistake);
                if ends_call(header) {
                    self.complete(id);
                }
                return Ok(());
            }
        }
        if is_last(header) {
            if ends_call(header) {
                if let Some(exchange) = self.exchange(client) {
                    exchange.call = None;
                }
                self.complete(id);
            } else {
                self.leave_to_worker(client);
            }
        } else if header.kind == ResponseKind::Head {
            self.widen_window(id, client);
        }
        self.send_soon(client);
        Ok(())
    }

    /// Every response begins with the same window; where the settings allow more, that is said when
    /// the response turns out to be a long one.
    fn widen_window(&mut self, id: CallId, client: usize) {
        let Some(connection) = self.connections.get(client) else {
            return;
        };
        let wanted = connection.resolved.settings.response_buffer;
        let more = wanted.saturating_sub(RESPONSE_WINDOW as usize);
        let Some(call) = self.calls.get_mut(id).filter(|_| more > 0) else {
            return;
        };
        let Place::Worker { worker, .. } = call.place else {
            return;
        };
        if let Some(record) = self.pool.of_id(worker)
            && let Some(credit) = call.window.release(more)
        {
            record.give_credit(id.stream(record.link.epoch()), credit);
        }
    }

    /// The worker is through with it.
    pub(crate) fn complete(&mut self, id: CallId) {
        let now = self.clock.now();
        if let Some(call) = self.calls.get(id) {
            let given = call.submitted + call.queued;
            self.metrics
                .record(HistogramKind::Service, now.saturating_sub(given));
        }
        self.calls.remove(id);
        self.dispatcher.handle_completed(id.request(), now);
    }

    /// The response cannot be finished.
    pub(crate) fn fail_response(&mut self, client: usize, reason: &dyn std::fmt::Display) {
        self.log_failure(client, reason);
        self.happened(client, Happened::Mistaken);
    }

    pub(crate) fn log_failure(&mut self, client: usize, reason: &dyn std::fmt::Display) {
        if let Some(line) = self.request_line(client) {
            self.error_log
                .error(format_args!("Error handling request {line}: {reason}"));
        }
    }

    /// The server's own doing: nothing is wrong with the application.
    pub(crate) fn log_broken_off(&mut self, client: usize, reason: &str) {
        if let Some(line) = self.request_line(client) {
            self.error_log
                .warning(format_args!("Response to {line} broken off: {reason}"));
        }
    }

    fn request_line(&self, client: usize) -> Option<String> {
        let connection = self.connections.get(client)?;
        let head = connection.session.head(connection.input.head());
        let line = String::from_utf8_lossy(head.request_line());
        let ids = RequestIds::of(connection.trace());
        Some(format!("{line}{ids}"))
    }
}

/// Whether a thread that sends this has not yet heard anything about its request.
fn begins_to_answer(header: ResponseHeader) -> bool {
    matches!(header.kind, ResponseKind::Head | ResponseKind::Hijack) && !is_last(header)
}

fn is_placed_at(call: &Call, key: WorkerId) -> bool {
    matches!(call.place, Place::Worker { worker, .. } if worker == key)
}
