//! A client's socket: receive, send, wait, without a system call too many.
//!
//! Decides when a socket has to be waited for. Theory of operation: the runtime's epoll is
//! edge-triggered, so readiness may be forgotten only when the kernel has said that nothing is left:
//! by `EAGAIN`, or (the usual case, which saves that call) by a read or write that was cut short.
//! Sends are tried at once without asking, since a socket with nothing queued is nearly always
//! writable.
//!
//! TCP and Unix sockets are the same thing here.

use std::io;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::watched::{Watched, watch};
use oxicorn_os::sendfile::{self, sendfile};
use oxicorn_os::sockets;
use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};

/// The most bytes of a file sent by one system call, so that one fast reader does not keep the
/// loop: what else is ready comes between.
const FILE_SLICE: u64 = 1024 * 1024;

/// A non-blocking stream socket, registered with the runtime.
#[derive(Debug)]
pub(crate) struct Socket {
    io: Watched,
}

/// What a read gave.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// So many bytes more.
    Bytes(usize),
    /// The peer has finished sending.
    End,
}

/// What a write did.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// So many bytes left.
    Bytes(usize),
    /// None: the waker of the context is called when there is room.
    Blocked,
}

/// What sending from a file did.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SentFile {
    /// So many bytes left.
    Bytes(u64),
    /// None: the waker of the context is called when there is room.
    Blocked,
    /// The file is shorter than was said.
    EndOfFile,
    /// Not from this kind of file.
    Unsupported,
}

impl Socket {
    /// Registers a connected, non-blocking socket.
    pub(crate) fn new(descriptor: OwnedFd) -> io::Result<Self> {
        Ok(Self {
            io: watch(descriptor)?,
        })
    }

    /// Appends what has come to the free room of `buffer` (which must have some).
    pub(crate) fn poll_receive(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut Vec<u8>,
    ) -> Poll<io::Result<Received>> {
        loop {
            let Poll::Ready(guard) = self.io.poll_read_ready(cx) else {
                return Poll::Pending;
            };
            let mut guard = guard?;
            let room = buffer.capacity() - buffer.len();
            match recv(&self.io, spare_capacity(buffer), RecvFlags::empty()) {
                Ok((_, 0)) => return Poll::Ready(Ok(Received::End)),
                Ok((_, count)) => {
                    if count < room {
                        guard.clear_ready();
                    }
                    return Poll::Ready(Ok(Received::Bytes(count)));
                }
                Err(Errno::AGAIN) => guard.clear_ready(),
                Err(Errno::INTR) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
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
        let sent = self.poll_write(cx, || match send(&self.io, bytes, flags) {
            Ok(count) => Ok(Some(count)),
            Err(Errno::AGAIN) => Ok(None),
            Err(error) => Err(error.into()),
        })?;
        Ok(sent.map_or(Sent::Blocked, Sent::Bytes))
    }

    /// Sends from a file.
    pub(crate) fn poll_send_file(
        &self,
        cx: &mut Context<'_>,
        file: &OwnedFd,
        mut offset: u64,
        rest: u64,
    ) -> io::Result<SentFile> {
        self.poll_write(cx, || {
            Ok(
                match sendfile(&self.io, file, &mut offset, rest.min(FILE_SLICE))? {
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
            // Nothing comes between the EAGAIN and the forgetting: events are delivered only when
            // this thread asks for them.
            match self.io.poll_write_ready(cx) {
                Poll::Ready(guard) => guard?.clear_ready(),
                Poll::Pending => return Ok(None),
            }
            if self.io.poll_write_ready(cx)?.is_pending() {
                return Ok(None);
            }
        }
    }

    /// Tells the peer that nothing more comes.
    pub(crate) fn finish_sending(&self) {
        // The peer may be gone already, which is as good.
        let _ = shutdown(&self.io, Shutdown::Write);
    }

    /// Makes `close` reset the connection.
    pub(crate) fn reset_on_close(&self) {
        // Unix sockets have no such thing; there the close must do.
        let _ = sockets::set_linger(&self.io, Some(Duration::ZERO));
    }

    /// The descriptor, blocking again, for a process that wants the connection for itself.
    pub(crate) fn into_blocking(self) -> io::Result<OwnedFd> {
        let descriptor = self.io.into_inner();
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
        (Socket::new(ours.into()).expect("a runtime"), theirs)
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
