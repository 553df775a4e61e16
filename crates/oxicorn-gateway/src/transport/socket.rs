//! A client's socket: receive, send, wait, without a system call too many.
//!
//! Decides when a socket has to be waited for. Theory of operation: the runtime's epoll is
//! edge-triggered, so readiness may be forgotten only when the kernel has said that nothing is
//! left: by `EAGAIN`, or (the usual case, which saves that call) by a read or write that was cut
//! short. Sends are tried at once without asking, since a socket with nothing queued is nearly
//! always writable.
//!
//! TCP and Unix sockets are the same thing here.

use std::ops::Range;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::task::{Context, Poll};
use std::time::Duration;
use std::{io, mem};

use oxicorn_link::GatewayEnd;
use oxicorn_os::sendfile::{self, sendfile};
use oxicorn_os::sockets;
use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};

use crate::transport::readiness::{Watched, watch};

/// The most bytes of a file sent by one system call, so that one fast reader does not keep the
/// loop: what else is ready comes between.
const FILE_SLICE: u64 = 1024 * 1024;

/// A non-blocking stream socket.
#[derive(Debug)]
pub(crate) struct Socket {
    io: Io,
}

/// A socket is registered with the runtime when it has to be waited for the first time. Many never
/// have: the request is there when the connection is accepted, the response fits into the socket's
/// buffer, and the connection is closed after it.
#[derive(Debug)]
enum Io {
    Bare(OwnedFd),
    Watched(Watched),
    /// Registering failed.
    Closed,
}

/// What a read gave.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// So many bytes more.
    Bytes(usize),
    /// The peer has finished sending.
    End,
    /// A message is complete: one of many on the connection.
    BodyEnd,
    /// So many bytes more, of a peer that does not speak TLS where it is spoken.
    Unencrypted(usize),
}

/// What a write did.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// So many bytes left.
    Bytes(usize),
    /// None: the waker of the context is called when there is room, if the socket is watched.
    Blocked,
}

/// What sending from a file did.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SentFile {
    /// So many bytes left.
    Bytes(u64),
    /// None: the waker of the context is called when there is room, if the socket is watched.
    Blocked,
    /// The file is shorter than was said.
    EndOfFile,
    /// Not from this kind of file.
    Unsupported,
}

impl Socket {
    /// Takes a connected, non-blocking socket.
    pub(crate) fn new(descriptor: OwnedFd) -> Self {
        Self {
            io: Io::Bare(descriptor),
        }
    }

    /// Registers the socket, so that it can be waited for.
    pub(crate) fn watch(&mut self) -> io::Result<()> {
        self.io = match mem::replace(&mut self.io, Io::Closed) {
            Io::Bare(descriptor) => Io::Watched(watch(descriptor)?),
            other => other,
        };
        Ok(())
    }

    /// Whether wakers are called.
    pub(crate) fn is_watched(&self) -> bool {
        matches!(self.io, Io::Watched(_))
    }

    pub(crate) fn descriptor(&self) -> io::Result<BorrowedFd<'_>> {
        match &self.io {
            Io::Bare(descriptor) => Ok(descriptor.as_fd()),
            Io::Watched(watched) => Ok(watched.as_fd()),
            Io::Closed => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Appends what has come to the free room of `buffer` (which must have some).
    pub(crate) fn poll_receive(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut Vec<u8>,
    ) -> Poll<io::Result<Received>> {
        loop {
            let mut guard = match &self.io {
                Io::Watched(watched) => match watched.poll_read_ready(cx) {
                    Poll::Ready(guard) => Some(guard?),
                    Poll::Pending => return Poll::Pending,
                },
                Io::Bare(_) | Io::Closed => None,
            };
            let room = buffer.capacity() - buffer.len();
            let received = recv(
                self.descriptor()?,
                spare_capacity(buffer),
                RecvFlags::empty(),
            );
            match (received, &mut guard) {
                (Ok((_, 0)), _) => return Poll::Ready(Ok(Received::End)),
                (Ok((_, count)), guard) => {
                    if let Some(guard) = guard
                        && count < room
                    {
                        guard.clear_ready();
                    }
                    return Poll::Ready(Ok(Received::Bytes(count)));
                }
                (Err(Errno::AGAIN), Some(guard)) => guard.clear_ready(),
                (Err(Errno::AGAIN), None) => return Poll::Pending,
                (Err(Errno::INTR), _) => {}
                (Err(error), _) => return Poll::Ready(Err(error.into())),
            }
        }
    }

    /// Sends from the front of `bytes`.
    pub(crate) fn poll_send(
        &self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        more: bool,
    ) -> io::Result<Sent> {
        let flags = if more {
            SendFlags::NOSIGNAL | SendFlags::MORE
        } else {
            SendFlags::NOSIGNAL
        };
        let sent = self.poll_write(cx, || match send(self.descriptor()?, bytes, flags) {
            Ok(count) => Ok(Some(count)),
            Err(Errno::AGAIN) => Ok(None),
            Err(error) => Err(error.into()),
        })?;
        Ok(sent.map_or(Sent::Blocked, Sent::Bytes))
    }

    /// Sends `before`, a part of the message that is being read from a worker's ring, and `after`.
    pub(crate) fn poll_send_payload(
        &self,
        cx: &mut Context<'_>,
        link: &GatewayEnd,
        before: &[u8],
        payload: Range<usize>,
        after: &[u8],
    ) -> io::Result<Sent> {
        let sent = self.poll_write(cx, || {
            link.send_payload(self.descriptor()?, before, payload.clone(), after)
        })?;
        Ok(sent.map_or(Sent::Blocked, Sent::Bytes))
    }

    /// Sends from a file.
    pub(crate) fn poll_send_file(
        &self,
        cx: &mut Context<'_>,
        file: BorrowedFd<'_>,
        mut offset: u64,
        rest: u64,
    ) -> io::Result<SentFile> {
        self.poll_write(cx, || {
            Ok(
                match sendfile(self.descriptor()?, file, &mut offset, rest.min(FILE_SLICE))? {
                    sendfile::Sent::Bytes(count) => Some(SentFile::Bytes(count as u64)),
                    sendfile::Sent::EndOfFile => Some(SentFile::EndOfFile),
                    sendfile::Sent::Unsupported => Some(SentFile::Unsupported),
                    sendfile::Sent::WouldBlock => None,
                },
            )
        })
        .map(|sent| sent.unwrap_or(SentFile::Blocked))
    }

    /// Repeats `write` until it has done something or has to wait (`None`).
    fn poll_write<T>(
        &self,
        cx: &mut Context<'_>,
        mut write: impl FnMut() -> io::Result<Option<T>>,
    ) -> io::Result<Option<T>> {
        loop {
            if let Some(done) = write()? {
                return Ok(Some(done));
            }
            let Io::Watched(watched) = &self.io else {
                return Ok(None);
            };
            // Nothing comes between the EAGAIN and the forgetting: events are delivered only when
            // this thread asks for them.
            match watched.poll_write_ready(cx) {
                Poll::Ready(guard) => guard?.clear_ready(),
                Poll::Pending => return Ok(None),
            }
            if watched.poll_write_ready(cx)?.is_pending() {
                return Ok(None);
            }
        }
    }

    /// Bytes sent that the peer has not acknowledged; none where that cannot be known.
    pub(crate) fn unsent(&self) -> u64 {
        let unsent = self.descriptor().and_then(sockets::unsent);
        unsent.unwrap_or(0)
    }

    /// Tells the peer that nothing more comes.
    pub(crate) fn finish_sending(&self) {
        // The peer may be gone already, which is as good.
        let _ = self
            .descriptor()
            .map(|descriptor| shutdown(descriptor, Shutdown::Write));
    }

    /// Makes `close` reset the connection.
    pub(crate) fn reset_on_close(&self) {
        // Unix sockets have no such thing; there the close must do.
        let reset = |descriptor| sockets::set_linger(descriptor, Some(Duration::ZERO));
        let _ = self.descriptor().map(reset);
    }

    /// The descriptor, blocking again, for a process that wants the connection for itself.
    pub(crate) fn into_blocking(self) -> io::Result<OwnedFd> {
        let descriptor = match self.io {
            Io::Bare(descriptor) => descriptor,
            Io::Watched(watched) => watched.into_inner(),
            Io::Closed => return Err(io::ErrorKind::NotConnected.into()),
        };
        sockets::set_nonblocking(&descriptor, false)?;
        Ok(descriptor)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;

    use super::*;

    fn pair() -> (Socket, UnixStream) {
        let (ours, theirs) = UnixStream::pair().expect("socketpair");
        ours.set_nonblocking(true).expect("a socket");
        let mut socket = Socket::new(ours.into());
        socket.watch().expect("a runtime");
        (socket, theirs)
    }

    fn run<F: Future>(future: F) -> F::Output {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build();
        runtime.expect("a runtime").block_on(future)
    }

    #[test]
    fn receives_in_pieces_and_sees_the_end() {
        run(async {
            let (socket, mut peer) = pair();
            let mut buffer = Vec::with_capacity(16);
            peer.write_all(&[b'a'; 20]).expect("room");
            let first = poll_fn(|cx| socket.poll_receive(cx, &mut buffer)).await;
            assert_eq!(first.expect("open"), Received::Bytes(16));
            buffer.clear();
            let second = poll_fn(|cx| socket.poll_receive(cx, &mut buffer)).await;
            assert_eq!(second.expect("open"), Received::Bytes(4));
            drop(peer);
            let third = poll_fn(|cx| socket.poll_receive(cx, &mut buffer)).await;
            assert_eq!(third.expect("closed in order"), Received::End);
        });
    }

    #[test]
    fn needs_no_runtime_as_long_as_nothing_has_to_be_waited_for() {
        let (ours, mut theirs) = UnixStream::pair().expect("socketpair");
        ours.set_nonblocking(true).expect("a socket");
        let socket = Socket::new(ours.into());
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut buffer = Vec::with_capacity(16);
        assert!(socket.poll_receive(&mut cx, &mut buffer).is_pending());
        theirs.write_all(b"question").expect("room");
        assert!(socket.poll_receive(&mut cx, &mut buffer).is_ready());
        assert_eq!(buffer, b"question");
        let sent = socket.poll_send(&mut cx, b"answer", false);
        assert_eq!(sent.expect("open"), Sent::Bytes(6));
        let big = vec![0; 1 << 20];
        while socket.poll_send(&mut cx, &big, false).expect("open") != Sent::Blocked {}
    }

    #[test]
    fn waits_for_a_slow_reader() {
        run(async {
            let (socket, mut peer) = pair();
            let bytes = vec![7; 4 << 20];
            let reader = std::thread::spawn(move || {
                let mut total = 0;
                let mut buffer = [0; 4096];
                while total < 4 << 20 {
                    total += peer.read(&mut buffer).expect("open");
                }
                total
            });
            let mut sent = 0;
            poll_fn(|cx| {
                while sent < bytes.len() {
                    match socket.poll_send(cx, &bytes[sent..], false).expect("open") {
                        Sent::Bytes(count) => sent += count,
                        Sent::Blocked => return Poll::Pending,
                    }
                }
                Poll::Ready(())
            })
            .await;
            assert_eq!(reader.join().expect("no panic"), 4 << 20);
        });
    }
}
