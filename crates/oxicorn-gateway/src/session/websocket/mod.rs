//! WebSockets: a request that becomes a session of messages.
//!
//! Decides what is said from a good handshake to the end of it, on a connection and on a stream of HTTP/2 alike: the
//! state and the deadlines are assigned here (`closing`) and nowhere else, frames are made and read here (`frames`).
//! Their grammar is `oxicorn-proto`'s; which messages there are is the application's.
//!
//! ```text
//!   head of a request --check--> Asked --submit--> worker
//!                                  |  WebSocketAccept: 101          (anything else: an ordinary answer)
//!                                  v
//!                                 Open <--> WebSocketMessage both ways
//!        the client closes  |      |  the application, a restart, a lost worker: our close is sent
//!        or breaks a rule   v      v
//!                   Answering    Closing: what comes is dropped until the client's close
//!                           |      |
//!                           v      v
//!                     Flushing(After::Close)      the call is abandoned, the line logged
//! ```
//!
//! * **Order.** A client's close goes to the worker behind its messages, and is answered behind what
//!   the application has to say to them: `Answering` ends when the worker says so, or when its time
//!   is over. So does a broken rule, with less time. What comes after either is not looked at.
//! * **Back-pressure.** Pieces of messages go to the worker as long as its window allows, then the
//!   socket is not read. What the worker sends counts against its window until it has left.
//! * **Memory.** A connection that says nothing holds this state and the head of its request. Bytes
//!   are read into a buffer all connections share, and what compresses belongs to all of them too.
//!   What more it holds is counted with what all clients hold, in the worker too (see `memory`).
//! * **Time.** There is no timer: `deadline` is the nearest of those below, looked at by the tick.

mod closing;
mod frames;
mod memory;

use std::time::Duration;

use oxicorn_link::window::{REQUEST_WINDOW, SendWindow, websocket_room};
use oxicorn_proto::websocket::{Codecs, Decoder, Encoder, Handshake};

use crate::config::settings;
use crate::limits::min_rate::RateSpan;
pub(crate) use closing::Look;
use memory::{KEPT_BACK, Passed};

/// How long a broken rule waits for what the application has to say to the messages before it: the
/// client is to be told at once, but for applications that are just answering.
pub(crate) const FAULT_TIMEOUT: Duration = Duration::from_millis(500);

/// Output that no credit counts for (pongs, closes) beyond which a client is not listened to.
pub(crate) const UNCOUNTED: usize = 16 * 1024;

/// The largest piece of a message that goes to a worker at a time.
pub(crate) const PIECE: usize = 32 * 1024;

/// Bytes read at a time.
pub(crate) const READ_SIZE: usize = 64 * 1024;

/// The same where memory is short: what there is no room for has to wait somewhere.
pub(crate) const SHORT_READ: usize = 8 * 1024;

/// What all WebSockets share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub(crate) codecs: Codecs,
    /// What was just received.
    pub(crate) received: Vec<u8>,
    /// A piece of a message.
    pub(crate) piece: Vec<u8>,
}

/// One connection's part.
#[derive(Debug)]
pub(crate) struct WebSocket {
    handshake: Handshake,
    state: State,
    decoder: Decoder,
    encoder: Encoder,
    /// What may be sent to the worker.
    window: SendWindow,
    /// What was.
    passed: Passed,
    /// Received, and not taken because there is no room for it.
    waiting: Vec<u8>,
    /// When something came last.
    seen: Duration,
    /// When a ping was sent that nothing has come after.
    pinged: Option<Duration>,
    /// When to look after the client.
    ping_due: Option<Duration>,
    close_timeout: Duration,
    answer_timeout: Duration,
    /// The close frame that is sent when the worker is through with what came before it.
    answer: Vec<u8>,
    /// When it is sent, whatever the worker does, or when our close must have been answered.
    close_due: Option<Duration>,
    /// When the client must have taken enough of what waits for it.
    write_due: Option<Duration>,
    /// Where the span began that ends then.
    write_span: RateSpan,
}

/// See the head of the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Asked,
    Open,
    Answering,
    Closing,
}

impl WebSocket {
    pub(crate) fn new(handshake: Handshake, settings: &settings::WebSocket) -> Self {
        Self {
            handshake,
            state: State::Asked,
            decoder: Decoder::new(settings.max_message_size, handshake.deflate),
            encoder: Encoder::new(handshake.deflate),
            window: SendWindow::new(REQUEST_WINDOW),
            passed: Passed::default(),
            waiting: Vec::new(),
            seen: Duration::ZERO,
            pinged: None,
            ping_due: None,
            close_timeout: settings.close_timeout,
            answer_timeout: settings.answer_timeout,
            answer: Vec::new(),
            close_due: None,
            write_due: None,
            write_span: RateSpan::default(),
        }
    }

    /// What the client and the server agreed on.
    pub(crate) fn handshake(&self) -> Handshake {
        self.handshake
    }

    pub(crate) fn state(&self) -> State {
        self.state
    }

    /// How long an answer to the client's close waits for the worker.
    pub(crate) fn answer_timeout(&self) -> Duration {
        self.answer_timeout
    }

    /// Bytes of a message that the worker has room for now; less of it where memory `is_short`.
    pub(crate) fn room(&self, is_short: bool) -> Option<usize> {
        if matches!(self.state, State::Answering | State::Closing) {
            // Dropped, so there is room for everything.
            return Some(PIECE);
        }
        let kept_back = if is_short { KEPT_BACK } else { 0 };
        let available = self.window.available().saturating_sub(kept_back);
        let room = websocket_room(available).filter(|room| *room > 0)?;
        Some(usize::try_from(room).unwrap_or(PIECE).min(PIECE))
    }
}
