//! From a client's bytes to messages: which frames may follow each other, and how much of a message
//! there may be.
//!
//! Theory of operation: a frame's head is gathered byte by byte; the payload of data goes straight
//! through (unmasked, inflated, checked to be UTF-8) into the caller's buffer and is reported in
//! pieces, as much as has come or as there is room for; the payload of control frames is gathered
//! here. Nothing of a message is kept, so a connection between messages holds no buffer at all.
//! However the bytes are cut, the pieces of a message together are the same, and a fault is found
//! at the same byte.

use flate2::Decompress;

use super::close::{self, CloseCode};
use super::deflate::{Codecs, INFLATER, TAIL_LEN, inflate, inflate_tail};
use super::extensions::Deflate;
use super::frame::{Control, FrameHead, HeadReader, Mask, Opcode};
use super::utf8::Utf8;
use super::{Fault, Kind};

/// Compressed bytes unmasked at a time.
const BLOCK: usize = 1024;

/// What came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// More bytes are needed to say more.
    NeedMore,
    /// What was appended to the caller's buffer is the next piece of a message.
    Piece {
        /// The same for all pieces of a message.
        kind: Kind,
        /// The message is complete.
        last: bool,
    },
    /// A ping or a pong; [`Decoder::control`] has its payload.
    Control(Control),
    /// The peer's last frame, with its code if it has one; [`Decoder::control`] has the reason.
    Close(Option<CloseCode>),
}

/// An event, and what it took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Polled {
    /// Bytes of the input that are done with.
    pub consumed: usize,
    /// What they meant.
    pub event: Event,
}

/// The receiving side of one WebSocket.
#[derive(Debug)]
pub struct Decoder {
    /// Most bytes of a message, inflated.
    limit: u64,
    deflate: Option<Deflate>,
    head: HeadReader,
    frame: Option<Frame>,
    message: Option<Message>,
    control: Vec<u8>,
    /// What inflates the message being read, or all of them where their context is kept.
    inflater: Option<Decompress>,
    over: bool,
}

/// The frame being read.
#[derive(Clone, Copy, Debug)]
struct Frame {
    opcode: Opcode,
    last: bool,
    mask: Mask,
    rest: u64,
}

/// The message being read.
#[derive(Debug)]
struct Message {
    kind: Kind,
    size: u64,
    utf8: Utf8,
    compressed: bool,
    /// Bytes given to the inflater after the last frame.
    tail: usize,
}

/// What became of a frame's data.
struct Taken {
    /// Bytes of the input.
    used: usize,
    /// The frame is through.
    through: bool,
}

impl Decoder {
    /// A decoder for a connection just opened. `limit` bounds the size of messages.
    pub fn new(limit: Option<u64>, deflate: Option<Deflate>) -> Self {
        Self {
            limit: limit.unwrap_or(u64::MAX),
            deflate,
            head: HeadReader::default(),
            frame: None,
            message: None,
            control: Vec::new(),
            inflater: None,
            over: false,
        }
    }

    /// The payload of the last control frame; of a close the reason.
    pub fn control(&self) -> &[u8] {
        &self.control
    }

    /// Whether a message has begun that is not complete.
    pub fn is_in_message(&self) -> bool {
        self.message.is_some()
    }

    /// Bytes of memory it holds beside itself.
    pub fn memory(&self) -> usize {
        let inflater = self.inflater.as_ref().map_or(0, |_| INFLATER);
        self.control.capacity() + inflater
    }

    /// Reads `input` up to the next event. Of a message at most `room` bytes (which must not be 0)
    /// are appended to `out`, and they are the piece that is reported. After a close or a fault
    /// everything is dropped.
    pub fn poll(
        &mut self,
        input: &[u8],
        room: usize,
        codecs: &mut Codecs,
        out: &mut Vec<u8>,
    ) -> Result<Polled, Fault> {
        let mut consumed = 0;
        if self.over {
            return Ok(Polled {
                consumed: input.len(),
                event: Event::NeedMore,
            });
        }
        match self.advance(input, &mut consumed, room, codecs, out) {
            Ok(event) => {
                self.over = matches!(event, Event::Close(_));
                Ok(Polled { consumed, event })
            }
            Err(fault) => {
                self.over = true;
                Err(fault)
            }
        }
    }

    fn advance(
        &mut self,
        input: &[u8],
        consumed: &mut usize,
        room: usize,
        codecs: &mut Codecs,
        out: &mut Vec<u8>,
    ) -> Result<Event, Fault> {
        let start = out.len();
        loop {
            let left = &input[*consumed..];
            let Some(frame) = &mut self.frame else {
                let (used, head) = self.head.read(left)?;
                *consumed += used;
                match head {
                    Some(head) => self.begin(head)?,
                    None => return Ok(self.partial(out.len() - start)),
                }
                continue;
            };
            if frame.opcode.is_control() {
                // A piece of the message it interrupts comes before it.
                if out.len() > start {
                    return Ok(self.partial(out.len() - start));
                }
                *consumed += gather(frame, left, &mut self.control);
                return if frame.rest > 0 {
                    Ok(Event::NeedMore)
                } else {
                    self.finish_control()
                };
            }
            let room = room.saturating_sub(out.len() - start);
            let taken = self.take_data(left, room, codecs, out)?;
            *consumed += taken.used;
            if !taken.through {
                return Ok(self.partial(out.len() - start));
            }
            if let Some(event) = self.finish_frame(codecs)? {
                return Ok(event);
            }
        }
    }

    /// What there is of a message while more is needed.
    fn partial(&self, pending: usize) -> Event {
        match &self.message {
            Some(message) if pending > 0 => Event::Piece {
                kind: message.kind,
                last: false,
            },
            _ => Event::NeedMore,
        }
    }

    /// A frame begins: may it, here?
    fn begin(&mut self, head: FrameHead) -> Result<(), Fault> {
        let begins = matches!(head.opcode, Opcode::Data(_));
        if head.compressed && !(begins && self.deflate.is_some()) {
            return Err(Fault::ReservedBit);
        }
        match head.opcode {
            Opcode::Close | Opcode::Control(_) => self.control.clear(),
            Opcode::Continuation if self.message.is_none() => {
                return Err(Fault::UnexpectedContinuation);
            }
            Opcode::Data(_) if self.message.is_some() => return Err(Fault::InterruptedMessage),
            Opcode::Continuation => {}
            Opcode::Data(kind) => {
                self.message = Some(Message {
                    kind,
                    size: 0,
                    utf8: Utf8::default(),
                    compressed: head.compressed,
                    tail: 0,
                });
            }
        }
        // What a frame announces is refused before any of it has come.
        if let Some(message) = self.message.as_mut()
            && !head.opcode.is_control()
            && !message.compressed
        {
            message.grow(head.len, self.limit)?;
        }
        self.frame = Some(Frame {
            opcode: head.opcode,
            last: head.last,
            mask: head.mask,
            rest: head.len,
        });
        Ok(())
    }

    fn take_data(
        &mut self,
        input: &[u8],
        room: usize,
        codecs: &mut Codecs,
        out: &mut Vec<u8>,
    ) -> Result<Taken, Fault> {
        let (Some(frame), Some(message)) = (&mut self.frame, &mut self.message) else {
            return Ok(Taken {
                used: 0,
                through: true,
            });
        };
        if message.compressed {
            let inflater = self.inflater.get_or_insert_with(|| codecs.inflater());
            return inflate_data(frame, message, inflater, input, room, self.limit, out);
        }
        let start = out.len();
        let here = input.len().min(room);
        let used = gather(frame, &input[..here], out);
        message.check(&out[start..])?;
        Ok(Taken {
            used,
            through: frame.rest == 0,
        })
    }

    /// A frame of data is through; a message is, if it was the last.
    fn finish_frame(&mut self, codecs: &mut Codecs) -> Result<Option<Event>, Fault> {
        let last = self.frame.take().is_some_and(|frame| frame.last);
        let Some(message) = self.message.as_mut().filter(|_| last) else {
            return Ok(None);
        };
        let kind = message.kind;
        if kind == Kind::Text {
            message.utf8.finish().map_err(|_| Fault::InvalidText)?;
        }
        self.message = None;
        let keeps = self.deflate.is_some_and(|deflate| deflate.client_context);
        if !keeps && let Some(inflater) = self.inflater.take() {
            codecs.keep_inflater(inflater);
        }
        Ok(Some(Event::Piece { kind, last }))
    }

    fn finish_control(&mut self) -> Result<Event, Fault> {
        if let Some(Opcode::Control(control)) = self.frame.take().map(|frame| frame.opcode) {
            return Ok(Event::Control(control));
        }
        let code = close::read(&self.control)?;
        self.control.drain(..self.control.len().min(2));
        Ok(Event::Close(code))
    }
}

impl Message {
    fn grow(&mut self, by: u64, limit: u64) -> Result<(), Fault> {
        self.size = self.size.saturating_add(by);
        if self.size > limit {
            return Err(Fault::MessageTooBig);
        }
        Ok(())
    }

    fn check(&mut self, piece: &[u8]) -> Result<(), Fault> {
        match self.kind {
            Kind::Text => self.utf8.push(piece).map_err(|_| Fault::InvalidText),
            Kind::Binary => Ok(()),
        }
    }
}

/// Unmasks what is there of a frame; says how much that was.
fn gather(frame: &mut Frame, input: &[u8], out: &mut Vec<u8>) -> usize {
    let rest = usize::try_from(frame.rest).unwrap_or(usize::MAX);
    let here = input.len().min(rest);
    frame.mask.append(&input[..here], out);
    frame.rest -= here as u64;
    here
}

/// Inflates what is there of a frame, as far as there is room, and what the message's end releases.
fn inflate_data(
    frame: &mut Frame,
    message: &mut Message,
    inflater: &mut Decompress,
    input: &[u8],
    room: usize,
    limit: u64,
    out: &mut Vec<u8>,
) -> Result<Taken, Fault> {
    let (start, mut used) = (out.len(), 0);
    let mut block = [0; BLOCK];
    loop {
        let room = room.saturating_sub(out.len() - start);
        let rest = usize::try_from(frame.rest).unwrap_or(usize::MAX);
        let here = rest.min(input.len() - used).min(BLOCK);
        let at_tail = frame.rest == 0 && frame.last;
        let through = frame.rest == 0 && !frame.last;
        if through || room == 0 || (here == 0 && !at_tail) {
            return Ok(Taken { used, through });
        }
        let before = out.len();
        let step = if at_tail {
            inflate_tail(inflater, &mut message.tail, room, out)
        } else {
            let block = &mut block[..here];
            block.copy_from_slice(&input[used..used + here]);
            let mut mask = frame.mask;
            mask.apply(block);
            inflate(inflater, block, room, out)
        };
        // What came before a fault is judged before it, as it is when it comes alone.
        message.grow((out.len() - before) as u64, limit)?;
        message.check(&out[before..])?;
        let step = step?;
        if !at_tail {
            frame.mask.skip(step.used);
            frame.rest -= step.used as u64;
            used += step.used;
        }
        if at_tail && step.dry && message.tail == TAIL_LEN {
            let through = true;
            return Ok(Taken { used, through });
        }
    }
}
