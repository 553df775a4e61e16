//! What a connection's bytes go through on their way to the client.
//!
//! Decides nothing: it is where a connection's reads and writes divide by how the bytes travel. What only a bare
//! socket can do (to be sent to straight out of a worker's ring, to be given away as it is) is asked of
//! [`Transport::plain`].

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::task::{Context, Poll};

use crate::socket::{Received, Sent, SentFile, Socket};

/// A connection's way to its client.
#[derive(Debug)]
pub(crate) enum Transport {
    /// The socket's bytes are the protocol's.
    Plain(Socket),
}

impl Transport {
    /// The bytes of a connected, non-blocking socket as they are.
    pub(crate) fn new(descriptor: OwnedFd) -> Self {
        Self::Plain(Socket::new(descriptor))
    }

    fn socket(&self) -> &Socket {
        match self {
            Self::Plain(socket) => socket,
        }
    }

    /// The socket, where what is written to it is what the client reads.
    #[expect(
        clippy::unnecessary_wraps,
        reason = "a transport that encrypts has none"
    )]
    pub(crate) fn plain(&self) -> Option<&Socket> {
        match self {
            Self::Plain(socket) => Some(socket),
        }
    }

    /// Registers the socket, so that it can be waited for.
    pub(crate) fn watch(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.watch(),
        }
    }

    /// Whether wakers are called.
    pub(crate) fn is_watched(&self) -> bool {
        self.socket().is_watched()
    }

    /// To be looked at only.
    pub(crate) fn descriptor(&self) -> io::Result<BorrowedFd<'_>> {
        self.socket().descriptor()
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
        }
    }

    /// Sends from a file, where the kernel can do that.
    pub(crate) fn poll_send_file(
        &mut self,
        cx: &mut Context<'_>,
        file: &OwnedFd,
        offset: u64,
        rest: u64,
    ) -> io::Result<SentFile> {
        match self {
            Self::Plain(socket) => socket.poll_send_file(cx, file, offset, rest),
        }
    }

    /// How many of `sent` bytes the client has taken: what the kernel still holds for it does not count.
    pub(crate) fn taken(&self, sent: u64) -> u64 {
        sent.saturating_sub(self.socket().unsent())
    }

    /// Bytes of memory it holds.
    pub(crate) fn memory(&self) -> usize {
        match self {
            Self::Plain(_) => 0,
        }
    }

    /// Tells the peer that nothing more comes.
    pub(crate) fn finish_sending(&mut self) {
        match self {
            Self::Plain(socket) => socket.finish_sending(),
        }
    }

    /// Makes the close that follows one that the peer notices as a failure.
    pub(crate) fn reset_on_close(&mut self) {
        self.socket().reset_on_close();
    }

    /// The descriptor, blocking again, for a process that wants the connection for itself.
    pub(crate) fn into_blocking(self) -> io::Result<OwnedFd> {
        match self {
            Self::Plain(socket) => socket.into_blocking(),
        }
    }
}
