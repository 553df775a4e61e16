//! What a WebSocket holds, and which of them give way when all clients together hold too much.
//!
//! Decides what is counted. A message that is not complete lies in the worker, but it is the client
//! who makes it lie there, so it counts as held for the client like everything else: from its first
//! piece on until the application takes it. Of what lies there within the window only that is known
//! which is more than the worker keeps to itself ([`REQUEST_CREDIT`]). A quarter of the window is not
//! counted, therefore, and where memory is short it is all of the window there is.

use oxicorn_link::window::{REQUEST_CREDIT, REQUEST_WINDOW, is_large_message, websocket_cost};

use super::{State, WebSocket};

/// What is kept back of a window where memory is short. With what is left a worker always has to say
/// when it has taken everything: so much is worth a credit, and a piece comes on top.
pub(crate) const KEPT_BACK: u64 = (REQUEST_WINDOW - REQUEST_CREDIT) as u64 - 2 * PIECE_COST;

/// What an empty piece takes of a window.
pub(crate) const PIECE_COST: u64 = websocket_cost(0) as u64;

/// Messages on their way through the worker.
#[derive(Debug, Default)]
pub(crate) struct Passed {
    /// What all pieces took of the window.
    pub(crate) spent: u64,
    /// Bytes of the message that is not complete.
    pub(crate) unfinished: usize,
    /// Bytes of a large message that is complete, until the application takes it. There is only one:
    /// behind it a window has room, but no more.
    pub(crate) parked: usize,
    /// `spent` at its end.
    pub(crate) parked_until: u64,
}

impl Passed {
    /// A piece went to the worker.
    pub(crate) fn pass(&mut self, len: usize, last: bool) {
        self.spent += websocket_cost(len) as u64;
        self.unfinished += len;
        if last {
            let whole = std::mem::take(&mut self.unfinished);
            if is_large_message(whole) {
                self.parked += whole;
                self.parked_until = self.spent;
            }
        }
    }

    /// The worker has given credit for all but `outstanding`.
    pub(crate) fn credit(&mut self, outstanding: u64) {
        if self.spent.saturating_sub(outstanding) >= self.parked_until {
            self.parked = 0;
        }
    }

    /// The rest of a message will not come: the worker has no use for what it has.
    pub(crate) fn break_off(&mut self) {
        self.unfinished = 0;
    }

    /// The application wants nothing more.
    pub(crate) fn forget(&mut self) {
        self.unfinished = 0;
        self.parked = 0;
    }

    pub(crate) fn held(&self) -> usize {
        self.unfinished + self.parked
    }
}

impl WebSocket {
    /// Of the window.
    pub(crate) fn outstanding(&self) -> u64 {
        u64::from(REQUEST_WINDOW).saturating_sub(self.window.available())
    }

    /// The worker has taken something. It cannot give more credit than there was, whatever it says.
    pub(crate) fn credit(&mut self, bytes: u32) {
        let bytes = u64::from(bytes).min(self.outstanding());
        self.window.credit(u32::try_from(bytes).unwrap_or(u32::MAX));
        self.passed.credit(self.outstanding());
    }

    /// Bytes of memory it holds beside itself, here and in the worker.
    pub(crate) fn memory(&self) -> usize {
        let windowed = self.outstanding().saturating_sub(REQUEST_CREDIT.into());
        let windowed = usize::try_from(windowed).unwrap_or(usize::MAX);
        self.passed.held().max(windowed)
            + self.waiting.capacity()
            + self.answer.capacity()
            + self.decoder.memory()
            + self.encoder.memory()
    }

    /// What would be free if a message that is not complete were refused.
    pub(crate) fn refusable(&self) -> usize {
        if self.state == State::Open && self.decoder.is_in_message() {
            self.passed.unfinished + self.decoder.memory()
        } else {
            0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LARGE: usize = REQUEST_WINDOW as usize + 1;

    #[test]
    fn a_message_is_held_while_it_is_not_complete() {
        let mut passed = Passed::default();
        passed.pass(1000, false);
        passed.pass(500, false);
        passed.credit(0);
        assert_eq!(
            passed.held(),
            1500,
            "credit is for going on, not for having taken it"
        );
        passed.pass(1, true);
        assert_eq!(passed.held(), 0, "the window bounds it from here on");
        passed.pass(7, false);
        passed.break_off();
        assert_eq!(passed.held(), 0);
    }

    #[test]
    fn a_large_message_is_held_until_it_is_taken() {
        let mut passed = Passed::default();
        passed.pass(LARGE - 1, false);
        passed.pass(1, true);
        passed.pass(10, false);
        let behind = websocket_cost(10) as u64;
        passed.credit(behind + 1);
        assert_eq!(passed.held(), LARGE + 10);
        passed.credit(behind);
        assert_eq!(passed.held(), 10);
    }

    #[test]
    fn where_memory_is_short_a_worker_that_took_everything_has_to_say_so() {
        // The least that makes a client wait is worth a credit.
        let window = u64::from(REQUEST_WINDOW) - KEPT_BACK;
        assert!(window - PIECE_COST >= u64::from(REQUEST_CREDIT));
    }
}
