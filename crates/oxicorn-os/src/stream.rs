//! Unix stream sockets that carry descriptors with their bytes.
//!
//! A descriptor arrives with the first byte that was sent with it, and never ahead of that: who reads finds descriptors in
//! the order in which their bytes were sent.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
    sockopt,
};

/// Most descriptors that are taken with one read; more are lost, which is an error.
pub const MAX_DESCRIPTORS: usize = 16;

/// A connected socket that blocks only where that is said. Close-on-exec.
#[derive(Debug)]
pub struct Stream(OwnedFd);

/// What a read or write came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// So many bytes, at least one.
    Bytes(usize),
    /// It would have to wait.
    WouldBlock,
    /// The other end is gone.
    Closed,
    /// It went without having read all that was sent to it (told once, when reading).
    Reset,
}

impl Stream {
    /// Makes two ends.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (one, two) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )?;
        Ok((Self(one), Self(two)))
    }

    /// Connects to a listener; [`WouldBlock`](io::ErrorKind::WouldBlock): its backlog is full.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let address = SocketAddrUnix::new(path)?;
        let socket = rustix::net::socket_with(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )?;
        rustix::net::connect(&socket, &address)?;
        Ok(Self(socket))
    }

    /// The next connection of a listener that does not block; `None`: nobody waits.
    pub fn accept<F: AsFd>(listener: F) -> io::Result<Option<Self>> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        match rustix::net::accept_with(listener, flags) {
            Ok(socket) => Ok(Some(Self(socket))),
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The process at the other end, as the kernel knows it.
    pub fn peer_process(&self) -> Option<i32> {
        let found = rustix::net::sockopt::socket_peercred(&self.0).ok()?;
        Some(found.pid.as_raw_nonzero().get())
    }

    /// Whether the other end is gone and has left nothing to read; nothing is taken.
    pub fn is_over(&self) -> bool {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let received = rustix::net::recv(&self.0, &mut [0_u8; 1][..], flags);
        !matches!(received, Ok((1.., _)) | Err(Errno::AGAIN | Errno::INTR))
    }

    /// Sends what fits of `parts`; the descriptor goes with the first byte.
    pub fn send(
        &self,
        parts: &[IoSlice<'_>],
        descriptor: Option<BorrowedFd<'_>>,
    ) -> io::Result<Moved> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors = descriptor.as_slice();
        if !descriptors.is_empty() {
            let fits = control.push(SendAncillaryMessage::ScmRights(descriptors));
            debug_assert!(fits, "the space is for one");
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        loop {
            return match rustix::net::sendmsg(&self.0, parts, &mut control, flags) {
                Ok(sent @ 1..) => Ok(Moved::Bytes(sent)),
                Err(Errno::INTR) => continue,
                // TOOMANYREFS: too many descriptors under way that nobody received yet.
                Ok(0) | Err(Errno::AGAIN | Errno::NOBUFS | Errno::TOOMANYREFS) => {
                    Ok(Moved::WouldBlock)
                }
                Err(Errno::PIPE | Errno::CONNRESET) => Ok(Moved::Closed),
                Err(error) => Err(error.into()),
            };
        }
    }

    /// Makes [`wait_and_receive`](Self::wait_and_receive) wait, at most so long. With a bound every signal ends the wait, also
    /// one that restarts system calls (signal(7)).
    pub fn set_patience(&self, patience: Duration) -> io::Result<()> {
        rustix::io::ioctl_fionbio(&self.0, false)?;
        sockopt::set_socket_timeout(&self.0, sockopt::Timeout::Recv, Some(patience))?;
        Ok(())
    }

    /// Receives what there is into the front of `into` and appends descriptors that came with it.
    pub fn receive(
        &self,
        into: &mut [u8],
        descriptors: &mut VecDeque<OwnedFd>,
    ) -> io::Result<Moved> {
        loop {
            match self.receive_with(RecvFlags::DONTWAIT, into, descriptors) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                received => return received,
            }
        }
    }

    /// The same, and waits where there is nothing: [`Moved::WouldBlock`] after the time of
    /// [`set_patience`](Self::set_patience), [`Interrupted`](io::ErrorKind::Interrupted) by a signal.
    pub fn wait_and_receive(
        &self,
        into: &mut [u8],
        descriptors: &mut VecDeque<OwnedFd>,
    ) -> io::Result<Moved> {
        self.receive_with(RecvFlags::empty(), into, descriptors)
    }

    fn receive_with(
        &self,
        flags: RecvFlags,
        into: &mut [u8],
        descriptors: &mut VecDeque<OwnedFd>,
    ) -> io::Result<Moved> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = flags | RecvFlags::CMSG_CLOEXEC;
        let parts = &mut [IoSliceMut::new(into)];
        let received = match rustix::net::recvmsg(&self.0, parts, &mut control, flags) {
            Ok(received) => received,
            Err(Errno::AGAIN) => return Ok(Moved::WouldBlock),
            Err(Errno::CONNRESET) => return Ok(Moved::Reset),
            Err(error) => return Err(error.into()),
        };
        for part in control.drain() {
            if let RecvAncillaryMessage::ScmRights(arrived) = part {
                descriptors.extend(arrived);
            }
        }
        if received.flags.contains(ReturnFlags::CTRUNC) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(match received.bytes {
            0 => Moved::Closed,
            bytes => Moved::Bytes(bytes),
        })
    }

    /// Neither side sends or receives any more.
    pub fn shut_down(&self) {
        // Closed by the other end already: that is what was wanted.
        let _ = shut_down(&self.0);
    }
}

/// The same at a duplicate of its descriptor.
pub fn shut_down<F: AsFd>(socket: F) -> io::Result<()> {
    Ok(rustix::net::shutdown(socket, rustix::net::Shutdown::Both)?)
}

impl From<OwnedFd> for Stream {
    fn from(descriptor: OwnedFd) -> Self {
        Self(descriptor)
    }
}

impl From<Stream> for OwnedFd {
    fn from(stream: Stream) -> Self {
        stream.0
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Stream {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_arrive_in_the_order_of_their_bytes() {
        let (here, there) = Stream::pair().unwrap();
        let file = crate::memfd::with_content("test", b"x").unwrap();
        let send = |text: &[u8], descriptor| here.send(&[IoSlice::new(text)], descriptor).unwrap();
        assert_eq!(send(b"one", None), Moved::Bytes(3));
        assert_eq!(send(b"two", Some(file.as_fd())), Moved::Bytes(3));
        assert_eq!(send(b"three", None), Moved::Bytes(5));
        let (mut bytes, mut descriptors, mut seen) = ([0; 64], VecDeque::new(), 0);
        while let Moved::Bytes(count) = there.receive(&mut bytes, &mut descriptors).unwrap() {
            seen += count;
            // Not before the first byte of "two", which is the fourth.
            assert!(descriptors.is_empty() || seen > 3);
        }
        assert_eq!((seen, descriptors.len()), (11, 1));
        drop(here);
        let end = there.receive(&mut bytes, &mut descriptors).unwrap();
        assert_eq!(end, Moved::Closed);
        let closed = there.send(&[IoSlice::new(b"x")], None).unwrap();
        assert_eq!(closed, Moved::Closed);
    }

    #[test]
    fn a_receive_that_waits_ends_with_bytes_with_its_time_or_with_the_other_end() {
        let (here, there) = Stream::pair().unwrap();
        let receive = || here.wait_and_receive(&mut [0; 8], &mut VecDeque::new());
        here.set_patience(Duration::from_millis(1)).unwrap();
        assert_eq!(receive().unwrap(), Moved::WouldBlock);
        here.set_patience(Duration::from_hours(1)).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(receive);
            there.send(&[IoSlice::new(b"abc")], None).unwrap();
            assert_eq!(waiting.join().unwrap().unwrap(), Moved::Bytes(3));
        });
        // The other way to receive does not wait.
        let there_is = here.receive(&mut [0; 8], &mut VecDeque::new());
        assert_eq!(there_is.unwrap(), Moved::WouldBlock);
        drop(there);
        assert_eq!(receive().unwrap(), Moved::Closed);
    }

    #[test]
    fn who_goes_without_having_read_is_told_from_who_has() {
        for read in [0, 1, 3] {
            let (here, there) = Stream::pair().unwrap();
            there.send(&[IoSlice::new(b"answer")], None).unwrap();
            here.send(&[IoSlice::new(b"abc")], None).unwrap();
            let mut bytes = vec![0; read];
            if read > 0 {
                there.receive(&mut bytes, &mut VecDeque::new()).unwrap();
            }
            drop(there);
            let next = || here.receive(&mut [0; 8], &mut VecDeque::new()).unwrap();
            let (one, two) = (next(), next());
            let end = if read == 3 {
                Moved::Closed
            } else {
                Moved::Reset
            };
            assert_eq!((one, two), (Moved::Bytes(6), end));
        }
    }
}
