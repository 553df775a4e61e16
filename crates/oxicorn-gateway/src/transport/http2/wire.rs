//! Between the h2 crate and a connection's transport: every byte passes here, in turns and in few system calls.
//!
//! What h2 writes gathers here and leaves when its turn is over ([`Wire::push`]): so many streams' frames are one send,
//! and one record of TLS. Of what passes the frames' headers are looked at, because h2 does not tell of all that it
//! answers by itself.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use oxicorn_proto::http2::{Flood, FloodCounts, Frame, FrameKind, FrameScanner, PREFACE};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::outstanding::Outstanding;
use super::stream::OUTSTANDING;
use crate::transport::Transport;
use crate::transport::socket::{Received, Sent};

/// Bytes read of one connection before others have their turn.
pub(crate) const READ_PER_TURN: usize = 128 * 1024;

/// Bytes read at once.
pub(super) const READ: usize = 16 * 1024;

/// Bytes that wait here for the socket, beyond which h2 waits.
const OUT: usize = 64 * 1024;

/// Memory for what is to be sent that is kept, of all connections together: they have their turns one after the
/// other, and most send in their turn what they have.
const OUT_KEPT: usize = 128 * 1024;

/// What h2 has of each connection for itself: a buffer to read and one to write.
const ENGINE: usize = 32 * 1024;

/// Bytes of a frame's header.
const HEADER: usize = 9;

/// The number of `SETTINGS_MAX_HEADER_LIST_SIZE`, and bytes of a setting.
const LIST_SIZE: u16 = 6;
const SETTING: usize = 6;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static SPARE_OUT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Frees the memory that is kept for what is to be sent.
pub(crate) fn give_spare_back() {
    SPARE_OUT.take();
}

/// One connection's way to its client, and what passes on it.
#[derive(Debug)]
pub(crate) struct Wire {
    ends: RefCell<Ends>,
    /// Bytes of bodies that streams have given to h2 and that have not come here.
    outstanding: RefCell<Outstanding>,
    /// Streams that wait until that is less, by key and serial.
    waiting: RefCell<Vec<(usize, u64)>>,
}

#[derive(Debug)]
struct Ends {
    transport: Transport,
    /// Received, of which so many bytes are taken.
    incoming: Vec<u8>,
    taken: usize,
    /// What may be read in this turn.
    rest: usize,
    /// To be sent, of which so many bytes are gone.
    out: Vec<u8>,
    gone: usize,
    /// Nothing has been written.
    is_new: bool,
    /// The header list size that clients are told; `None`: none.
    list_size: Option<u32>,
    /// Frames that are put behind the first that the client sends.
    request: Vec<u8>,
    seen: FrameScanner,
    beginning: Beginning,
    written: FrameScanner,
    /// The newest stream that h2 has told of.
    newest: u32,
    passed: Passed,
    flood: FloodCounts,
}

/// What the client has sent behind its preface: every client begins with its settings (RFC 9113 section 3.4), and h2
/// asks nobody for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beginning {
    /// Nothing.
    Awaited,
    /// SETTINGS.
    Good,
    /// Something else: it does not speak HTTP/2, and is not told (which the RFC allows).
    Bad,
}

impl Beginning {
    /// A frame has passed.
    fn note(&mut self, frame: &Frame) {
        if *self == Self::Awaited {
            let is_good = frame.kind == FrameKind::Settings && !frame.has_first_flag();
            *self = if is_good { Self::Good } else { Self::Bad };
        }
    }
}

/// What has passed since it was last asked.
#[derive(Debug, Default)]
pub(crate) struct Passed {
    pub(crate) received: u64,
    pub(crate) sent: u64,
    /// Streams that h2 has refused or reset by itself because of what was sent, and the last one's reason.
    pub(crate) malformed: u32,
    pub(crate) reason: u32,
    /// Requests that h2 has answered by itself, because their header list is longer than it takes.
    pub(crate) oversize: u32,
    /// Requests beyond the streams that are permitted at once.
    pub(crate) refused: u32,
    /// h2 ends the connection, because of a header list that is far longer than it takes.
    pub(crate) is_bomb: bool,
}

impl Wire {
    /// `early`: what has come; `list_size`: the header list size that clients are told.
    pub(crate) fn new(transport: Transport, early: Vec<u8>, list_size: Option<u32>) -> Self {
        let mut seen = FrameScanner::after(PREFACE.len());
        let mut flood = FloodCounts::new(list_size.unwrap_or(0));
        let mut beginning = Beginning::Awaited;
        seen.pass(&early, |frame| {
            beginning.note(&frame);
            flood.received(&frame);
        });
        Self {
            ends: RefCell::new(Ends {
                transport,
                incoming: early,
                taken: 0,
                rest: READ_PER_TURN,
                out: Vec::new(),
                gone: 0,
                is_new: true,
                list_size,
                request: Vec::new(),
                seen,
                beginning,
                written: FrameScanner::default(),
                newest: 0,
                passed: Passed::default(),
                flood,
            }),
            outstanding: RefCell::new(Outstanding::default()),
            waiting: RefCell::new(Vec::new()),
        }
    }

    /// `answer` goes before everything else, and these frames come as if the client had sent them behind its first,
    /// which says its settings.
    pub(crate) fn put_request(&self, answer: &[u8], frames: Vec<u8>) {
        let mut ends = self.ends.borrow_mut();
        ends.out.extend_from_slice(answer);
        ends.request = frames;
    }

    /// A turn begins.
    pub(crate) fn begin_turn(&self) {
        self.ends.borrow_mut().rest = READ_PER_TURN;
    }

    /// Sends what was written. Pending: the socket is full.
    pub(crate) fn push(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.ends.borrow_mut().push(cx)
    }

    /// What has passed.
    pub(crate) fn take_passed(&self) -> Passed {
        std::mem::take(&mut self.ends.borrow_mut().passed)
    }

    /// The bound that the client has passed, if it has.
    pub(crate) fn judge(&self, now: Duration) -> Option<Flood> {
        self.ends.borrow_mut().flood.judge(now)
    }

    /// h2 has told of a stream's request.
    pub(super) fn note_stream(&self, stream: u32) {
        self.ends.borrow_mut().newest = stream;
    }

    /// Whether a stream may give more to h2; where not, the one of this key and serial is woken when it may.
    pub(crate) fn has_room(&self, stream: (usize, u64)) -> bool {
        let has_room = self.outstanding.borrow().all < OUTSTANDING;
        if !has_room {
            let mut waiting = self.waiting.borrow_mut();
            if !waiting.contains(&stream) {
                waiting.push(stream);
            }
        }
        has_room
    }

    /// A stream (by its number) has given so many bytes to h2.
    pub(crate) fn give(&self, stream: u32, count: usize) {
        self.outstanding.borrow_mut().give(stream, count);
    }

    /// The streams that may go on.
    pub(crate) fn take_waiting(&self) -> Vec<(usize, u64)> {
        if self.outstanding.borrow().all > OUTSTANDING / 2 {
            return Vec::new();
        }
        std::mem::take(&mut *self.waiting.borrow_mut())
    }

    /// Bytes of memory.
    pub(crate) fn memory(&self) -> usize {
        let ends = self.ends.borrow();
        let buffers = ends.incoming.capacity() + ends.out.capacity() + ends.request.capacity();
        ENGINE + buffers + self.outstanding.borrow().all + ends.transport.memory()
    }

    /// Registers the socket, so that it can be waited for.
    pub(crate) fn watch(&self) -> io::Result<()> {
        self.ends.borrow_mut().transport.watch()
    }

    /// The transport, for what comes after HTTP/2.
    pub(crate) fn take_transport(&self) -> Transport {
        std::mem::replace(&mut self.ends.borrow_mut().transport, Transport::Gone)
    }

    pub(crate) fn reset_on_close(&self) {
        self.ends.borrow_mut().transport.reset_on_close();
    }

    pub(crate) fn say_goodbye(&self) {
        self.ends.borrow_mut().transport.say_goodbye();
    }

    pub(crate) fn take_failure(&self) -> Option<String> {
        self.ends.borrow_mut().transport.take_failure()
    }
}

impl Ends {
    fn push(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.gone < self.out.len() {
            let sealed = self.transport.poll_sealed(cx)?;
            let sent = match sealed {
                Some(sent) => sent,
                None => self
                    .transport
                    .poll_send(cx, &self.out[self.gone..], false)?,
            };
            match sent {
                Sent::Bytes(count) => {
                    self.gone += count;
                    self.passed.sent += count as u64;
                }
                Sent::Blocked => return Poll::Pending,
            }
        }
        self.gone = 0;
        let mut memory = std::mem::take(&mut self.out);
        memory.clear();
        SPARE_OUT.with_borrow_mut(|spare| {
            if (spare.capacity()..=OUT_KEPT).contains(&memory.capacity()) {
                *spare = memory;
            }
        });
        Poll::Ready(Ok(()))
    }

    /// What came goes to h2, as far as it has room.
    fn deliver(&mut self, buffer: &mut ReadBuf<'_>) {
        let waiting = &self.incoming[self.taken..];
        let count = waiting.len().min(buffer.remaining());
        buffer.put_slice(&waiting[..count]);
        self.taken += count;
        if self.taken == self.incoming.len() {
            self.incoming = Vec::new();
            self.taken = 0;
        }
    }

    fn receive(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
        outstanding: &mut Outstanding,
    ) -> Poll<io::Result<()>> {
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.clear();
            scratch.reserve(READ);
            match self.transport.poll_receive(cx, scratch) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(Received::Bytes(count))) => {
                    self.rest = self.rest.saturating_sub(count);
                    self.passed.received += count as u64;
                }
                Poll::Ready(Ok(Received::End)) => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(Received::Unencrypted(_) | Received::BodyEnd)) => {
                    return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            }
            self.seen.pass(scratch, |frame| {
                self.beginning.note(&frame);
                self.flood.received(&frame);
                forget_reset(&frame, outstanding);
            });
            if self.beginning == Beginning::Bad {
                // Nothing of it is h2's; the next look says why.
                self.incoming.extend_from_slice(scratch);
                return Poll::Ready(Ok(()));
            }
            let (now, later) = scratch.split_at(scratch.len().min(buffer.remaining()));
            if self.request.is_empty() && self.incoming.is_empty() {
                buffer.put_slice(now);
                self.incoming.extend_from_slice(later);
            } else {
                self.incoming.extend_from_slice(scratch);
            }
            Poll::Ready(Ok(()))
        })
    }

    /// Puts the request that asked for HTTP/2 behind the client's first frame. `false`: that has not come.
    fn place_request(&mut self) -> bool {
        if self.request.is_empty() {
            return true;
        }
        let came = &self.incoming;
        let begins = came.starts_with(&PREFACE[..PREFACE.len().min(came.len())]);
        let Some(header) = came.get(PREFACE.len()..PREFACE.len() + HEADER) else {
            // What is no preface is h2's to refuse.
            return !begins;
        };
        let length = header[..3]
            .iter()
            .fold(0, |length, byte| length << 8 | usize::from(*byte));
        let end = PREFACE.len() + HEADER + length;
        if begins && came.len() < end && length <= READ {
            return false;
        }
        let request = std::mem::take(&mut self.request);
        if begins && came.len() >= end {
            self.incoming.splice(end..end, request);
        }
        true
    }

    /// h2 writes.
    fn write(&mut self, bytes: &[u8], outstanding: &mut Outstanding) {
        let (passed, flood, newest) = (&mut self.passed, &mut self.flood, self.newest);
        self.written.pass(bytes, |frame| {
            flood.sent(&frame);
            note_written(&frame, newest, passed, flood);
            passed.is_bomb |= frame.kind == FrameKind::GoAway && says_bomb(bytes);
            match frame.kind {
                FrameKind::Data => outstanding.take(frame.stream, frame.length),
                _ => forget_reset(&frame, outstanding),
            }
        });
        if self.out.capacity() == 0 {
            self.out = SPARE_OUT.take();
        }
        let start = self.out.len();
        self.out.extend_from_slice(bytes);
        if std::mem::take(&mut self.is_new) {
            tell_list_size(&mut self.out, start, self.list_size);
        }
    }
}

/// What was to be sent on a stream that is reset, by either side, never comes.
fn forget_reset(frame: &Frame, outstanding: &mut Outstanding) {
    if frame.kind == FrameKind::Reset {
        outstanding.take(frame.stream, usize::MAX);
    }
}

/// What h2 says by itself. `newest`: the newest stream that it has told of.
fn note_written(frame: &Frame, newest: u32, passed: &mut Passed, flood: &mut FloodCounts) {
    match frame.kind {
        FrameKind::Headers if frame.stream > newest => passed.oversize += 1,
        FrameKind::Reset if frame.code == u32::from(h2::Reason::REFUSED_STREAM) => {
            passed.refused += 1;
        }
        FrameKind::Reset if is_complaint(frame.code) => {
            flood.malformed();
            passed.malformed += 1;
            passed.reason = frame.code;
        }
        _ => {}
    }
}

/// Whether a goodbye is among the bytes that h2 says to who sends header lists far beyond its bound (as pieces that make
/// much of a few bytes, RFC 7541 section 7.3).
fn says_bomb(bytes: &[u8]) -> bool {
    memchr::memmem::find(bytes, b"header_list_way_too_large").is_some()
}

/// Whether h2 resets with this code because of what the client sent: we do so with others.
fn is_complaint(code: u32) -> bool {
    let code = h2::Reason::from(code);
    [
        h2::Reason::PROTOCOL_ERROR,
        h2::Reason::FLOW_CONTROL_ERROR,
        h2::Reason::STREAM_CLOSED,
        h2::Reason::FRAME_SIZE_ERROR,
    ]
    .contains(&code)
}

/// The first frame that h2 writes says its settings, with the bound of header lists at which *it* refuses. Clients are
/// told ours, or none.
fn tell_list_size(out: &mut Vec<u8>, start: usize, list_size: Option<u32>) {
    let first = start + HEADER;
    let places = (first..out.len()).step_by(SETTING);
    let place = places.into_iter().find(|at| {
        let number = out.get(*at..at + 2).map(|pair| [pair[0], pair[1]]);
        number.map(u16::from_be_bytes) == Some(LIST_SIZE)
    });
    let Some(at) = place.filter(|at| at + SETTING <= out.len()) else {
        return;
    };
    if let Some(size) = list_size {
        out[at + 2..at + SETTING].copy_from_slice(&size.to_be_bytes());
    } else {
        out.drain(at..at + SETTING);
        let length = out.len() - first;
        out[start + 2] = length.to_le_bytes()[0];
    }
}

/// h2's handle on a wire.
#[derive(Debug)]
pub(crate) struct Link(Rc<Wire>);

impl Link {
    pub(super) fn new(wire: Rc<Wire>) -> Self {
        Self(wire)
    }
}

impl AsyncRead for Link {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut ends = self.0.ends.borrow_mut();
        loop {
            if ends.beginning == Beginning::Bad {
                let error = "the preface is not followed by settings";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
            }
            if !ends.incoming.is_empty() && ends.place_request() {
                ends.deliver(buffer);
                return Poll::Ready(Ok(()));
            }
            // What a flood brings is not gone through to its end.
            if ends.rest == 0 || ends.flood.passed().is_some() {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let before = (ends.incoming.len(), buffer.filled().len());
            match ends.receive(cx, buffer, &mut self.0.outstanding.borrow_mut()) {
                // Not all of the first frame.
                Poll::Ready(Ok(())) if buffer.filled().len() == before.1 => {
                    if ends.incoming.len() == before.0 {
                        return Poll::Ready(Ok(()));
                    }
                }
                other => return other,
            }
        }
    }
}

impl AsyncWrite for Link {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut ends = self.0.ends.borrow_mut();
        if ends.out.len() - ends.gone >= OUT {
            match ends.push(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
        ends.write(bytes, &mut self.0.outstanding.borrow_mut());
        Poll::Ready(Ok(bytes.len()))
    }

    /// What was written leaves when the turn is over.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.push(cx)
    }
}
