//! What a connection's bytes go through on their way to the client.
//!
//! Decides nothing: it is where a connection's reads and writes divide by how the bytes travel. What only a bare
//! socket can do (to have a file sent to it by the kernel, to be given away as it is) has its answer here for the others. What descriptors the thread waits for beside sockets is here, too: [`readiness`] and the one of
//! all its timers ([`timer`]).

pub(crate) mod endpoint;
pub(crate) mod http2;
pub(crate) mod readiness;
pub(crate) mod socket;
pub(crate) mod timer;
pub(crate) mod tls;
pub(crate) mod zero_copy;

use std::io;
use std::ops::Range;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::task::{Context, Poll};

use oxicorn_link::GatewayEnd;

use crate::transport::http2::{StreamEnd, Wire};
use crate::transport::socket::{Received, Sent, SentFile, Socket};
use crate::transport::tls::{About, Tls};

/// Bytes of a file that go through memory at once, where nothing says otherwise.
const PIECE: usize = 64 * 1024;

/// A connection's way to its client.
#[derive(Debug)]
pub(crate) enum Transport {
    /// The socket's bytes are the protocol's.
    Plain(Socket),
    /// They are encrypted.
    Tls(Box<Tls>),
    /// They are one stream's of a connection that speaks HTTP/2.
    Stream(Box<StreamEnd>),
    /// They are frames of HTTP/2, whose connection reads and writes them.
    Wire(Rc<Wire>),
    /// Nobody's any more: it became another kind, or was given away.
    Gone,
}

impl Transport {
    /// The bytes of a connected, non-blocking socket as they are.
    pub(crate) fn new(descriptor: OwnedFd) -> Self {
        Self::Plain(Socket::new(descriptor))
    }

    fn socket(&self) -> Option<&Socket> {
        match self {
            Self::Plain(socket) => Some(socket),
            Self::Tls(tls) => Some(tls.socket()),
            Self::Stream(_) | Self::Wire(_) | Self::Gone => None,
        }
    }

    /// What is spoken below the connection's protocol, if anything.
    pub(crate) fn tls(&self) -> Option<&Tls> {
        match self {
            Self::Tls(tls) => Some(tls),
            Self::Plain(_) | Self::Stream(_) | Self::Wire(_) | Self::Gone => None,
        }
    }

    /// What TLS has settled, here or on the connection that this is a stream of.
    pub(crate) fn about(&self) -> Option<&Rc<About>> {
        match self {
            Self::Tls(tls) => tls.about(),
            Self::Stream(stream) => stream.about(),
            Self::Plain(_) | Self::Wire(_) | Self::Gone => None,
        }
    }

    /// Whether what passes is encrypted.
    pub(crate) fn is_secure(&self) -> bool {
        matches!(self, Self::Tls(_)) || self.about().is_some()
    }

    /// The stream of HTTP/2 that it is, if it is one.
    pub(crate) fn stream(&mut self) -> Option<&mut StreamEnd> {
        match self {
            Self::Stream(stream) => Some(stream),
            _ => None,
        }
    }

    /// Key and serial of the connection that this is a stream of.
    pub(crate) fn carrier(&self) -> Option<(usize, u64)> {
        match self {
            Self::Stream(stream) => Some(stream.carrier()),
            _ => None,
        }
    }

    /// Why TLS has failed, once.
    pub(crate) fn take_failure(&mut self) -> Option<String> {
        match self {
            Self::Tls(tls) => tls.take_failure(),
            Self::Wire(wire) => wire.take_failure(),
            Self::Plain(_) | Self::Stream(_) | Self::Gone => None,
        }
    }

    /// From now on TLS is spoken. `early`: what has come of it. Nothing may wait to be sent.
    pub(crate) fn start_tls(
        &mut self,
        start: impl FnOnce(Socket) -> io::Result<Tls>,
    ) -> io::Result<()> {
        if let Self::Plain(socket) = std::mem::replace(self, Self::Gone) {
            *self = Self::Tls(Box::new(start(socket)?));
        }
        Ok(())
    }

    /// Registers the socket, so that it can be waited for.
    pub(crate) fn watch(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.watch(),
            Self::Tls(tls) => tls.watch(),
            Self::Wire(wire) => wire.watch(),
            Self::Stream(_) => Ok(()),
            Self::Gone => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Whether wakers are called.
    pub(crate) fn is_watched(&self) -> bool {
        match self {
            Self::Stream(_) | Self::Wire(_) => true,
            _ => self.socket().is_some_and(Socket::is_watched),
        }
    }

    /// To be looked at only.
    pub(crate) fn descriptor(&self) -> io::Result<BorrowedFd<'_>> {
        match self.socket() {
            Some(socket) => socket.descriptor(),
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Appends what has come to the free room of `buffer` (which must have some).
    #[inline]
    pub(crate) fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut Vec<u8>,
    ) -> Poll<io::Result<Received>> {
        match self {
            Self::Plain(socket) => socket.poll_receive(cx, buffer),
            Self::Tls(tls) => {
                let received = tls.poll_receive(cx, buffer);
                if let Poll::Ready(Ok(Received::Unencrypted(_))) = received {
                    self.give_up_tls();
                }
                received
            }
            Self::Stream(stream) => stream.poll_receive(cx, buffer),
            Self::Wire(_) | Self::Gone => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    /// The client is answered in the way it speaks.
    fn give_up_tls(&mut self) {
        if let Self::Tls(tls) = std::mem::replace(self, Self::Gone) {
            *self = Self::Plain(tls.into_socket());
        }
    }

    /// Sends from the front of `bytes`; what is not sent must be at the front again.
    #[inline]
    pub(crate) fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        more: bool,
    ) -> io::Result<Sent> {
        match self {
            Self::Plain(socket) => socket.poll_send(cx, bytes, more),
            Self::Tls(tls) => tls.poll_send(cx, bytes, more),
            Self::Stream(stream) => stream.poll_send(cx, bytes),
            Self::Wire(_) | Self::Gone => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Sends `before`, a part of the message that is being read from a worker's ring, and `after`: what is not sent must
    /// be at the front again. (To a stream the part is a record of which the header is left out.)
    pub(crate) fn poll_send_payload(
        &mut self,
        cx: &mut Context<'_>,
        link: &GatewayEnd,
        before: &[u8],
        payload: Range<usize>,
        after: &[u8],
    ) -> io::Result<Sent> {
        match self {
            Self::Plain(socket) => socket.poll_send_payload(cx, link, before, payload, after),
            Self::Stream(stream) => stream.poll_send_payload(cx, link, before, payload, after),
            Self::Tls(_) | Self::Wire(_) | Self::Gone => Ok(Sent::Blocked),
        }
    }

    /// Goes on with a piece of which a part was sent, before the same is offered again; `None`: there is none.
    #[inline]
    pub(crate) fn poll_sealed(&mut self, cx: &mut Context<'_>) -> io::Result<Option<Sent>> {
        match self {
            Self::Tls(tls) => tls.poll_sealed(cx, false),
            Self::Plain(_) | Self::Stream(_) | Self::Wire(_) | Self::Gone => Ok(None),
        }
    }

    /// Before a [`together`](Self::together) with these bytes.
    pub(crate) fn prepare_together(&mut self, bytes: &[u8]) {
        if let Self::Tls(tls) = self {
            tls.seal_aside(bytes);
        }
    }

    /// What is to be sent by the caller, and to whom, so that `bytes` are gone; none where they go another way.
    pub(crate) fn together<'t>(&'t self, bytes: &'t [u8]) -> Option<(BorrowedFd<'t>, &'t [u8])> {
        match self {
            Self::Plain(socket) => Some((socket.descriptor().ok()?, bytes)),
            Self::Tls(tls) => Some((tls.socket().descriptor().ok()?, tls.sealed_aside()?)),
            Self::Stream(_) | Self::Wire(_) | Self::Gone => None,
        }
    }

    /// The caller has sent `count` bytes of it. Says how many of the plain bytes are gone that
    /// [`poll_sealed`](Self::poll_sealed) does not tell of.
    pub(crate) fn note_together(&mut self, count: usize) -> usize {
        match self {
            Self::Tls(tls) => {
                tls.note_sent(count);
                0
            }
            _ => count,
        }
    }

    /// Sends from a file, where the kernel can do that.
    pub(crate) fn poll_send_file(
        &mut self,
        cx: &mut Context<'_>,
        file: BorrowedFd<'_>,
        offset: u64,
        rest: u64,
    ) -> io::Result<SentFile> {
        match self {
            Self::Plain(socket) => socket.poll_send_file(cx, file, offset, rest),
            Self::Tls(_) | Self::Stream(_) | Self::Wire(_) | Self::Gone => {
                Ok(SentFile::Unsupported)
            }
        }
    }

    /// Bytes of a file that are worth reading at once.
    pub(crate) fn piece(&self) -> usize {
        match self {
            Self::Tls(tls) => tls.piece(),
            Self::Plain(_) | Self::Stream(_) | Self::Wire(_) | Self::Gone => PIECE,
        }
    }

    /// How many of `sent` bytes the client has taken: what the kernel still holds for it does not count.
    pub(crate) fn taken(&self, sent: u64) -> u64 {
        match self {
            Self::Plain(socket) => sent.saturating_sub(socket.unsent()),
            Self::Tls(tls) => tls.taken(sent),
            // What h2 has of it is bounded, for all streams together.
            Self::Stream(_) | Self::Wire(_) | Self::Gone => sent,
        }
    }

    /// Bytes of memory it holds.
    pub(crate) fn memory(&self) -> usize {
        match self {
            Self::Plain(_) | Self::Gone => 0,
            Self::Tls(tls) => tls.memory(),
            Self::Stream(stream) => stream.memory(),
            Self::Wire(wire) => wire.memory(),
        }
    }

    /// Tells the peer that nothing more comes.
    pub(crate) fn finish_sending(&mut self) {
        match self {
            Self::Plain(socket) => socket.finish_sending(),
            Self::Tls(tls) => tls.finish_sending(),
            Self::Stream(stream) => stream.finish_sending(),
            Self::Wire(_) | Self::Gone => {}
        }
    }

    /// Before an orderly close: what the protocol below has to say.
    pub(crate) fn say_goodbye(&mut self) {
        match self {
            Self::Tls(tls) => tls.say_goodbye(),
            Self::Stream(stream) => stream.say_goodbye(),
            Self::Wire(wire) => wire.say_goodbye(),
            Self::Plain(_) | Self::Gone => {}
        }
    }

    /// Makes the close that follows one that the peer notices as a failure.
    pub(crate) fn reset_on_close(&mut self) {
        match self {
            Self::Plain(socket) => socket.reset_on_close(),
            Self::Tls(tls) => tls.reset_on_close(),
            Self::Stream(stream) => stream.reset_on_close(),
            Self::Wire(wire) => wire.reset_on_close(),
            Self::Gone => {}
        }
    }
}
