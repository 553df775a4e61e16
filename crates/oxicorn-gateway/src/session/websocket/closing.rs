//! The ways to the end, and whether the client is still there: states and deadlines.

use std::time::Duration;

use oxicorn_proto::websocket::{CloseCode, Control, encode_close, encode_control};

use super::{State, WebSocket};
use crate::buffer::output::Output;
use crate::config::settings;
use crate::limits::min_rate::{MinRate, RateSpan};

/// What became of a look after the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// It has been heard of.
    Heard,
    /// It is asked.
    Asked,
    /// It was asked, and has not answered.
    Silent,
}

/// `now` plus a setting of which zero means never.
fn after(now: Duration, limit: Duration) -> Option<Duration> {
    (!limit.is_zero()).then(|| now + limit)
}

impl WebSocket {
    /// The application has accepted; `waiting` came behind the handshake.
    pub(crate) fn open(
        &mut self,
        waiting: Vec<u8>,
        settings: Option<&settings::WebSocket>,
        now: Duration,
    ) {
        self.state = State::Open;
        self.waiting = waiting;
        self.seen = now;
        self.ping_due = settings.and_then(|settings| after(now, settings.ping_interval));
    }

    /// Our close is to be sent when the worker is through with what came before, or at this time.
    pub(crate) fn await_worker(&mut self, code: CloseCode, reason: &[u8], due: Duration) {
        encode_close(code, reason, &mut self.answer);
        self.state = State::Answering;
        self.passed.break_off();
        self.ping_due = None;
        self.close_due = Some(due);
    }

    /// The worker cannot say what it had to: the close says so.
    pub(crate) fn replace_answer(&mut self, code: CloseCode) {
        self.answer.clear();
        encode_close(code, b"", &mut self.answer);
    }

    /// Writes the close that waited for the worker.
    pub(crate) fn write_answer(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.answer);
        self.state = State::Closing;
    }

    /// Writes our close, which the client has a while to answer; `false`: one was written before.
    pub(crate) fn write_close(
        &mut self,
        code: CloseCode,
        reason: &[u8],
        now: Duration,
        out: &mut Vec<u8>,
    ) -> bool {
        if self.state != State::Open {
            return false;
        }
        encode_close(code, reason, out);
        self.state = State::Closing;
        self.passed.forget();
        self.ping_due = None;
        self.await_close(now);
        true
    }

    /// The client's close is awaited from now on.
    pub(crate) fn await_close(&mut self, now: Duration) {
        self.close_due = Some(now + self.close_timeout);
    }

    /// Nothing has come for a while: asks whether the client is still there. Everything that comes is a sign of
    /// life; a client that is not listened to (`is_deaf`) cannot give one.
    pub(crate) fn look_after(
        &mut self,
        settings: &settings::WebSocket,
        is_deaf: bool,
        now: Duration,
        output: &mut Output,
    ) -> Look {
        let interval = settings.ping_interval;
        if is_deaf {
            self.pinged = None;
            self.ping_due = after(now, interval);
            if !output.is_empty() {
                return Look::Heard;
            }
            // No answer is waited for; but the machine of a client that is gone refuses it.
            encode_control(Control::Ping, b"", output.bytes());
            return Look::Asked;
        }
        if self.pinged.is_some_and(|at| self.seen <= at) {
            return Look::Silent;
        }
        if now.saturating_sub(self.seen) < interval {
            self.pinged = None;
            self.ping_due = after(self.seen, interval);
            return Look::Heard;
        }
        encode_control(Control::Ping, b"", output.bytes());
        let answer_due = after(now, settings.ping_timeout);
        self.pinged = answer_due.map(|_| now);
        self.ping_due = answer_due.or(after(now, interval));
        Look::Asked
    }

    /// Output waits for the client, which has `taken` so much: a span begins, if none is under way.
    pub(crate) fn begin_writing(&mut self, demand: MinRate, taken: u64, now: Duration) {
        if self.write_due.is_none() {
            self.write_due = demand.deadline(now);
            self.write_span = RateSpan::begin(taken);
        }
    }

    /// The span is over: `false` if the client took too little in it; the next begins.
    pub(crate) fn next_span_of_writing(
        &mut self,
        demand: MinRate,
        taken: u64,
        now: Duration,
    ) -> bool {
        let meets = self.write_span.meets(demand, taken);
        self.write_span = RateSpan::begin(taken);
        self.write_due = demand.deadline(now);
        meets
    }

    /// No output waits; `false`: none did.
    pub(crate) fn end_writing(&mut self) -> bool {
        self.write_due.take().is_some()
    }

    /// Whether output waits for the client.
    pub(crate) fn is_writing(&self) -> bool {
        self.write_due.is_some()
    }

    /// The nearest of the deadlines.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        let all = [self.ping_due, self.close_due, self.write_due];
        all.into_iter().flatten().min()
    }

    /// Which of them are over.
    pub(crate) fn due(&self, now: Duration) -> Due {
        let is_over = |due: Option<Duration>| due.is_some_and(|due| due <= now);
        Due {
            write: is_over(self.write_due),
            close: is_over(self.close_due),
            ping: is_over(self.ping_due),
        }
    }
}

/// Deadlines that are over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Due {
    /// The client must have taken enough.
    pub(crate) write: bool,
    /// A close must have been said.
    pub(crate) close: bool,
    /// The client is to be looked after.
    pub(crate) ping: bool,
}
