//! What comes and goes in frames, whatever carries them: a connection, or a stream of HTTP/2.

use std::time::Duration;

use oxicorn_link::window::websocket_cost;
use oxicorn_proto::websocket::{Control, Fault, Kind, Polled, encode_control};

use super::{Shared, State, WebSocket};

impl WebSocket {
    /// What the bytes at the front of `bytes` mean. A piece of a message, of at most `room` bytes, lies in
    /// `shared.piece` afterwards.
    pub(crate) fn poll(
        &mut self,
        bytes: &[u8],
        room: usize,
        shared: &mut Shared,
        now: Duration,
    ) -> Result<Polled, Fault> {
        if !bytes.is_empty() {
            self.seen = now;
        }
        let Shared { codecs, piece, .. } = shared;
        piece.clear();
        self.decoder.poll(bytes, room, codecs, piece)
    }

    /// What the client's last control frame carries; of a close, the reason.
    pub(crate) fn control(&self) -> &[u8] {
        self.decoder.control()
    }

    /// What was received and waits for room.
    pub(crate) fn take_waiting(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.waiting)
    }

    /// There is no room for these bytes now.
    pub(crate) fn keep_waiting(&mut self, bytes: &[u8]) {
        self.waiting = bytes.to_vec();
    }

    /// Whether a piece of a message may go to the worker, which has less room then.
    pub(crate) fn pass(&mut self, len: usize, last: bool) -> bool {
        if self.state != State::Open {
            return false;
        }
        self.window.spend(websocket_cost(len));
        self.passed.pass(len, last);
        true
    }

    /// Answers the ping last read; `false`: it needs no answer any more.
    pub(crate) fn write_pong(&self, out: &mut Vec<u8>) -> bool {
        if self.state != State::Open {
            return false;
        }
        encode_control(Control::Pong, self.control(), out);
        true
    }

    /// Writes a piece of the application's, whose `len` bytes `payload` appends; `false`: after our close nothing
    /// may be sent.
    pub(crate) fn write_message(
        &mut self,
        (kind, last): (Kind, bool),
        len: usize,
        shared: &mut Shared,
        out: &mut Vec<u8>,
        payload: impl FnOnce(&mut Vec<u8>),
    ) -> bool {
        if !matches!(self.state, State::Open | State::Answering) {
            return false;
        }
        if self.encoder.begin_frame(kind, len, last, out) {
            payload(out);
        } else {
            let Shared { codecs, piece, .. } = shared;
            piece.clear();
            payload(piece);
            self.encoder.message(kind, piece, last, codecs, out);
        }
        true
    }

    /// Whether what it sends is compressed with what it has sent before.
    pub(crate) fn has_context(&self) -> bool {
        self.encoder.memory() > 0
    }

    /// What is sent next is compressed as if it were the first.
    pub(crate) fn forget_context(&mut self) {
        self.encoder.forget_context();
    }
}
