//! Carries out what follows when something happens to an exchange.
//!
//! Decides nothing: [`crate::exchange`] says what follows for the log, the worker's half and the client,
//! and here it is done, in that order.

use oxicorn_link::scoreboard::Counter;

use crate::exchange::refusal::Refusal;
use crate::exchange::{
    CallEffect, ClientEffect, Conclusion, Exchange, Follows, Happened, LogEffect,
};
use crate::gateway::Gateway;
use crate::workers::calls::CallId;

impl Gateway {
    /// Something happened to the exchange of this connection, if it has one.
    pub(crate) fn happened(&mut self, key: usize, what: Happened) {
        if let Some(exchange) = self.exchange(key) {
            let follows = exchange.on(what);
            self.carry_out(key, follows);
        }
    }

    /// A connection's exchange.
    pub(crate) fn exchange(&mut self, key: usize) -> Option<&mut Exchange> {
        self.connections.get_mut(key)?.exchange.as_deref_mut()
    }

    fn carry_out(&mut self, key: usize, follows: Follows) {
        match follows.log {
            LogEffect::Nothing => {}
            LogEffect::Failed(reason) => self.log_failure(key, &reason),
            LogEffect::BrokenOff(reason) => self.log_broken_off(key, reason),
        }
        match follows.conclusion {
            Conclusion::NotYet => {}
            Conclusion::Told => self.conclude(key),
            Conclusion::Abandoned => {
                self.metrics.count(Counter::Abandoned);
                self.conclude(key);
            }
        }
        self.affect_call(key, follows.call);
        match follows.client {
            ClientEffect::Nothing => {}
            ClientEffect::InviteBody => {
                self.continue_if_awaited(key);
                self.wake(key);
            }
            ClientEffect::Reply(refusal) => self.reply(key, &refusal),
            ClientEffect::Cut { fault } => self.cut(key, fault),
            ClientEffect::Next => self.await_next_request(key),
            ClientEffect::Discard => self.begin_discarding(key),
            ClientEffect::End => self.end(key),
            ClientEffect::Reset => self.reset(key),
            ClientEffect::Close => self.close(key),
            ClientEffect::HandOver => self.hand_over(key),
        }
    }

    fn affect_call(&mut self, key: usize, effect: CallEffect) {
        match effect {
            CallEffect::Nothing => {}
            CallEffect::Submit => {
                self.leave_to_worker(key);
                self.submit_call(key);
            }
            CallEffect::Leave => self.leave_to_worker(key),
            CallEffect::Cancel(reason) => {
                if let Some(id) = self.part(key) {
                    self.cancel(id, reason);
                }
            }
            CallEffect::Abandon(reason) => {
                if let Some(id) = self.part(key) {
                    self.abandon(id, reason);
                }
            }
        }
    }

    /// Parts a call from its exchange: neither knows the other any more.
    pub(crate) fn part(&mut self, key: usize) -> Option<CallId> {
        let connection = self.connections.get_mut(key)?;
        let id = connection.exchange.as_mut()?.call.take()?;
        if let Some(call) = self.calls.get_mut(id) {
            call.keep_label(connection);
            call.client = None;
        }
        Some(id)
    }

    /// The client needs nothing more of the worker, whose call may go on.
    pub(crate) fn leave_to_worker(&mut self, key: usize) {
        let id = self.part(key);
        if let Some(call) = id.and_then(|id| self.calls.get_mut(id)) {
            call.uncredited = 0;
        }
    }

    /// The response ends before its end.
    fn cut(&mut self, key: usize, fault: Option<Refusal>) {
        if let Some(refusal) = fault {
            self.tell_of_refusal(key, &refusal);
        }
        if !self.cut_websocket(key) {
            self.flush(key);
        }
    }
}
