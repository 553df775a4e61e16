//! From messages to frames.
//!
//! Decides where frames begin and end, and what is worth compressing. Each piece of a message
//! becomes one frame, so nothing is held back; control frames may stand between them.

use flate2::Compress;

use super::Kind;
use super::close::{self, CloseCode};
use super::deflate::{Codecs, DEFLATER, deflate};
use super::extensions::Deflate;
use super::frame::{CONTROL_MAX, Control, Opcode, write_head};

/// Messages below this go as they are: a packet's size would not change, and a packet's cost is
/// what counts.
const COMPRESS_FROM: usize = 512;

/// The sending side of one WebSocket.
#[derive(Debug)]
pub struct Encoder {
    deflate: Option<Deflate>,
    message: Option<Message>,
    /// With what was sent so far as its context, if that is kept.
    deflater: Option<Compress>,
}

/// The message being sent.
#[derive(Clone, Copy, Debug)]
struct Message {
    compressed: bool,
    /// There was a piece before.
    continued: bool,
    /// A frame of it was sent.
    begun: bool,
}

impl Encoder {
    /// An encoder for a connection just opened.
    pub const fn new(deflate: Option<Deflate>) -> Self {
        Self {
            deflate,
            message: None,
            deflater: None,
        }
    }

    /// Bytes of memory it holds beside itself.
    pub fn memory(&self) -> usize {
        self.deflater.as_ref().map_or(0, |_| DEFLATER)
    }

    /// Gives its memory back between messages. What follows is compressed without what went before
    /// as its context, which the peer need not know.
    pub fn forget_context(&mut self) {
        if self.message.is_none() {
            self.deflater = None;
        }
    }

    /// Appends the next piece of a message. `kind` counts for the first one.
    pub fn message(
        &mut self,
        kind: Kind,
        piece: &[u8],
        last: bool,
        codecs: &mut Codecs,
        out: &mut Vec<u8>,
    ) {
        let worth = self
            .deflate
            .filter(|_| !last || piece.len() >= COMPRESS_FROM);
        let mut message = self.message.take().unwrap_or(Message {
            compressed: worth.is_some(),
            continued: false,
            begun: false,
        });
        match self.deflate.filter(|_| message.compressed) {
            Some(agreed) => self.compressed(agreed, &mut message, kind, piece, last, codecs, out),
            None => message.frame(kind, piece, last, out),
        }
        if !last {
            message.continued = true;
            self.message = Some(message);
        }
    }

    /// Appends the head of a frame for the next piece of a message, `len` bytes that the caller
    /// appends itself. `false`: it would be compressed, see [`message`](Self::message).
    pub fn begin_frame(&mut self, kind: Kind, len: usize, last: bool, out: &mut Vec<u8>) -> bool {
        let message = self.message.unwrap_or(Message {
            compressed: self.deflate.is_some() && (!last || len >= COMPRESS_FROM),
            continued: false,
            begun: false,
        });
        if message.compressed {
            return false;
        }
        write_head(out, message.opcode(kind), last, false, len);
        self.message = (!last).then_some(Message {
            continued: true,
            begun: true,
            ..message
        });
        true
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one step of `message`, split off"
    )]
    fn compressed(
        &mut self,
        agreed: Deflate,
        message: &mut Message,
        kind: Kind,
        piece: &[u8],
        last: bool,
        codecs: &mut Codecs,
        out: &mut Vec<u8>,
    ) {
        let bits = agreed.server_bits;
        let mut deflater = self
            .deflater
            .take()
            .unwrap_or_else(|| codecs.deflater(bits));
        let mut made = std::mem::take(&mut codecs.made);
        made.clear();
        deflate(&mut deflater, piece, last, &mut made);
        // A message that does not get smaller goes as it is, unless later ones refer to it.
        let whole = last && !message.continued;
        if whole && !agreed.server_context && made.len() >= piece.len() {
            message.compressed = false;
            message.frame(kind, piece, last, out);
        } else if last || !made.is_empty() {
            message.frame(kind, &made, last, out);
        }
        made.shrink_to(DEFLATED_KEPT);
        codecs.made = made;
        if last && !agreed.server_context {
            codecs.keep_deflater(bits, deflater);
        } else {
            self.deflater = Some(deflater);
        }
    }
}

/// Memory for compressed data that is kept between messages.
const DEFLATED_KEPT: usize = 64 * 1024;

impl Message {
    fn frame(&mut self, kind: Kind, payload: &[u8], last: bool, out: &mut Vec<u8>) {
        let compressed = self.compressed && !self.begun;
        write_head(out, self.opcode(kind), last, compressed, payload.len());
        out.extend_from_slice(payload);
        self.begun = true;
    }

    const fn opcode(self, kind: Kind) -> Opcode {
        if self.begun {
            Opcode::Continuation
        } else {
            Opcode::Data(kind)
        }
    }
}

/// Appends a ping or a pong. Of a payload beyond what a control frame holds the rest is left out.
pub fn encode_control(control: Control, payload: &[u8], out: &mut Vec<u8>) {
    let payload = &payload[..payload.len().min(CONTROL_MAX)];
    write_head(out, Opcode::Control(control), true, false, payload.len());
    out.extend_from_slice(payload);
}

/// Appends a close, the last frame of all. A code that may not be sent leaves it without any; a
/// reason that is too long is cut.
pub fn encode_close(code: CloseCode, reason: &[u8], out: &mut Vec<u8>) {
    if !code.may_be_sent() {
        return write_head(out, Opcode::Close, true, false, 0);
    }
    let reason = close::cut(reason);
    write_head(out, Opcode::Close, true, false, 2 + reason.len());
    out.extend_from_slice(&code.0.to_be_bytes());
    out.extend_from_slice(reason);
}
