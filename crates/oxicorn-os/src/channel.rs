//! A socketpair between two processes that keeps messages apart and carries descriptors.
//!
//! Messages arrive whole or not at all. Who may talk to whom, and what the bytes mean, is the
//! users' business; so is a message that is too long for the socket's buffer (an error here).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown, SocketFlags, SocketType,
};

/// Most descriptors in one message.
pub const MAX_DESCRIPTORS: usize = 128;

/// Longest message that [`Channel::recv`] takes. Linux takes about as much into a socket of default
/// buffer size.
pub const MAX_MESSAGE: usize = 128 << 10;

/// Whether a call may block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocking {
    /// It returns at once.
    No,
    /// It waits as long as it takes (a signal interrupts it:
    /// [`Interrupted`](io::ErrorKind::Interrupted)).
    Yes,
}

impl Blocking {
    const fn flags(self) -> RecvFlags {
        match self {
            Self::Yes => RecvFlags::empty(),
            Self::No => RecvFlags::DONTWAIT,
        }
    }
}

/// What was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// A message of this many bytes.
    Message(usize),
    /// Nothing yet (only if not blocking).
    Nothing,
    /// The other end is closed and everything it sent was received.
    Closed,
}

/// One end of a `SOCK_SEQPACKET` socketpair. Close-on-exec.
#[derive(Debug)]
pub struct Channel(OwnedFd);

impl Channel {
    /// Makes both ends.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (one, two) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        Ok((Self(one), Self(two)))
    }

    /// Sends a message with descriptors. `false`: there is no room now (only if not blocking).
    /// A closed other end is [`BrokenPipe`](io::ErrorKind::BrokenPipe). An empty message cannot be
    /// told from the end and is refused.
    pub fn send(
        &self,
        message: &[u8],
        descriptors: &[BorrowedFd<'_>],
        blocking: Blocking,
    ) -> io::Result<bool> {
        if message.is_empty() || descriptors.len() > MAX_DESCRIPTORS {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            let fits = control.push(SendAncillaryMessage::ScmRights(descriptors));
            debug_assert!(fits, "the space is for the most descriptors");
        }
        let flags = match blocking {
            Blocking::Yes => SendFlags::NOSIGNAL,
            Blocking::No => SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
        };
        match rustix::net::sendmsg(&self.0, &[IoSlice::new(message)], &mut control, flags) {
            Ok(_) => Ok(true),
            // TOOMANYREFS: too many descriptors under way that nobody received yet.
            Err(Errno::AGAIN | Errno::NOBUFS | Errno::TOOMANYREFS) => Ok(false),
            Err(Errno::CONNRESET) => Err(io::ErrorKind::BrokenPipe.into()),
            Err(error) => Err(error.into()),
        }
    }

    /// Receives a message into the front of `message` and appends its descriptors. One that is
    /// longer than `message`, or has more than [`MAX_DESCRIPTORS`], is lost and
    /// [`InvalidData`](io::ErrorKind::InvalidData).
    pub fn recv_into(
        &self,
        message: &mut [u8],
        descriptors: &mut Vec<OwnedFd>,
        blocking: Blocking,
    ) -> io::Result<Received> {
        self.recv_with(blocking.flags(), message, descriptors)
    }

    /// [`recv`](Self::recv) without taking the message out, and without blocking: whoever looks next finds it too,
    /// with descriptors of their own.
    pub fn peek(
        &self,
        message: &mut Vec<u8>,
        descriptors: &mut Vec<OwnedFd>,
    ) -> io::Result<Received> {
        self.recv_whole(RecvFlags::PEEK | RecvFlags::DONTWAIT, message, descriptors)
    }

    fn recv_with(
        &self,
        flags: RecvFlags,
        message: &mut [u8],
        descriptors: &mut Vec<OwnedFd>,
    ) -> io::Result<Received> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = flags | RecvFlags::CMSG_CLOEXEC;
        let parts = &mut [IoSliceMut::new(message)];
        let received = match rustix::net::recvmsg(&self.0, parts, &mut control, flags) {
            Ok(received) => received,
            Err(Errno::AGAIN) => return Ok(Received::Nothing),
            Err(Errno::CONNRESET) => return Ok(Received::Closed),
            Err(error) => return Err(error.into()),
        };
        let before = descriptors.len();
        for part in control.drain() {
            if let RecvAncillaryMessage::ScmRights(arrived) = part {
                descriptors.extend(arrived);
            }
        }
        if received
            .flags
            .intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC)
        {
            descriptors.truncate(before);
            return Err(io::ErrorKind::InvalidData.into());
        }
        match received.bytes {
            0 => Ok(Received::Closed),
            len => Ok(Received::Message(len)),
        }
    }

    /// [`recv_into`](Self::recv_into) a vector, which then has exactly the message (or nothing). For the only reader there
    /// is: the vector gets the room that the message takes, which another one would receive meanwhile.
    pub fn recv(
        &self,
        message: &mut Vec<u8>,
        descriptors: &mut Vec<OwnedFd>,
        blocking: Blocking,
    ) -> io::Result<Received> {
        self.recv_whole(blocking.flags(), message, descriptors)
    }

    /// Most messages are short, and room for any would be filled with zeros each time: so it is asked first.
    fn recv_whole(
        &self,
        flags: RecvFlags,
        message: &mut Vec<u8>,
        descriptors: &mut Vec<OwnedFd>,
    ) -> io::Result<Received> {
        message.clear();
        let len = match self.next_len(flags)? {
            Received::Message(len) => len,
            none => return Ok(none),
        };
        message.resize(len.min(MAX_MESSAGE), 0);
        let received = self.recv_with(flags, message, descriptors);
        match received {
            Ok(Received::Message(len)) => message.truncate(len),
            _ => message.clear(),
        }
        received
    }

    /// How long the next message is, which stays there.
    fn next_len(&self, flags: RecvFlags) -> io::Result<Received> {
        let flags = flags | RecvFlags::PEEK | RecvFlags::TRUNC;
        match rustix::net::recv(&self.0, &mut [0; 1], flags) {
            Ok((_, 0)) | Err(Errno::CONNRESET) => Ok(Received::Closed),
            Ok((_, len)) => Ok(Received::Message(len)),
            Err(Errno::AGAIN) => Ok(Received::Nothing),
            Err(error) => Err(error.into()),
        }
    }
}

/// Closing one direction.
impl Channel {
    /// The other end receives what was sent, and then that this is all.
    pub fn close_sending(&self) -> io::Result<()> {
        Ok(rustix::net::shutdown(&self.0, Shutdown::Write)?)
    }

    /// The other end cannot send any more; what it has sent can still be received. So nothing is lost between the last
    /// look and the end of this channel, and the sender knows.
    pub fn close_receiving(&self) -> io::Result<()> {
        Ok(rustix::net::shutdown(&self.0, Shutdown::Read)?)
    }
}

impl From<OwnedFd> for Channel {
    fn from(descriptor: OwnedFd) -> Self {
        Self(descriptor)
    }
}

impl From<Channel> for OwnedFd {
    fn from(channel: Channel) -> Self {
        channel.0
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Channel {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read as _;

    use super::*;

    #[test]
    fn messages_stay_apart_and_carry_descriptors() {
        let (here, there) = Channel::pair().unwrap();
        let file = crate::memfd::with_content("test", b"x").unwrap();
        assert!(here.send(b"one", &[file.as_fd()], Blocking::No).unwrap());
        assert!(here.send(b"two", &[], Blocking::No).unwrap());
        let (mut message, mut descriptors) = (Vec::new(), Vec::new());
        let received = there
            .recv(&mut message, &mut descriptors, Blocking::Yes)
            .unwrap();
        assert_eq!(
            (received, &message[..]),
            (Received::Message(3), &b"one"[..])
        );
        assert_eq!(descriptors.len(), 1);
        there
            .recv(&mut message, &mut descriptors, Blocking::Yes)
            .unwrap();
        assert_eq!((&message[..], descriptors.len()), (&b"two"[..], 1));
        let mut file = File::from(descriptors.remove(0));
        std::io::Seek::rewind(&mut file).unwrap();
        let mut content = Vec::new();
        file.read_to_end(&mut content).unwrap();
        assert_eq!(content, b"x");
    }

    #[test]
    fn a_message_takes_no_more_room_than_it_needs() {
        let (here, there) = Channel::pair().unwrap();
        let (mut message, mut none) = (Vec::new(), Vec::new());
        for len in [1, 3000, 2, MAX_MESSAGE - 1] {
            here.send(&vec![7; len], &[], Blocking::No).unwrap();
            let looked_at = there.peek(&mut message, &mut none).unwrap();
            assert_eq!(
                (looked_at, &message),
                (Received::Message(len), &vec![7; len])
            );
            let received = there.recv(&mut message, &mut none, Blocking::Yes).unwrap();
            assert_eq!(
                (received, &message),
                (Received::Message(len), &vec![7; len])
            );
            assert!(message.capacity() <= len.max(3000));
        }
        here.send(&vec![7; MAX_MESSAGE + 1], &[], Blocking::No)
            .unwrap();
        let error = there
            .recv(&mut message, &mut none, Blocking::No)
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let received = there.recv(&mut message, &mut none, Blocking::No).unwrap();
        assert_eq!(
            (received, message.len()),
            (Received::Nothing, 0),
            "it is lost"
        );
    }

    #[test]
    fn what_is_looked_at_stays_with_its_descriptors() {
        let (here, there) = Channel::pair().unwrap();
        let file = crate::memfd::with_content("test", b"x").unwrap();
        here.send(b"one", &[file.as_fd()], Blocking::No).unwrap();
        let (mut message, mut descriptors) = (Vec::new(), Vec::new());
        for seen in 1..=2 {
            let received = there.peek(&mut message, &mut descriptors).unwrap();
            assert_eq!(
                (received, &message[..]),
                (Received::Message(3), &b"one"[..])
            );
            assert_eq!(descriptors.len(), seen);
        }
        there
            .recv(&mut message, &mut Vec::new(), Blocking::No)
            .unwrap();
        let received = there.peek(&mut message, &mut descriptors).unwrap();
        assert_eq!((received, descriptors.len()), (Received::Nothing, 2));
    }

    #[test]
    fn nothing_and_closed_are_told_apart() {
        let (here, there) = Channel::pair().unwrap();
        let mut message = Vec::new();
        let mut recv = || {
            there
                .recv(&mut message, &mut Vec::new(), Blocking::No)
                .unwrap()
        };
        assert_eq!(recv(), Received::Nothing);
        here.send(b"last", &[], Blocking::No).unwrap();
        drop(here);
        assert_eq!(recv(), Received::Message(4));
        assert_eq!(recv(), Received::Closed);
        let error = there.send(b"x", &[], Blocking::No).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn one_direction_can_be_closed_and_loses_nothing() {
        let (here, there) = Channel::pair().unwrap();
        there.send(b"sent before", &[], Blocking::No).unwrap();
        here.close_receiving().unwrap();
        let error = there.send(b"too late", &[], Blocking::No).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        let (mut message, mut none) = (Vec::new(), Vec::new());
        let mut recv = |from: &Channel| from.recv(&mut message, &mut none, Blocking::No).unwrap();
        assert_eq!(recv(&here), Received::Message(11));
        assert_eq!(recv(&here), Received::Closed);

        here.send(b"last", &[], Blocking::No).unwrap();
        here.close_sending().unwrap();
        assert_eq!(recv(&there), Received::Message(4));
        assert_eq!(recv(&there), Received::Closed);
    }

    #[test]
    fn full_socket_says_so() {
        let (here, _there) = Channel::pair().unwrap();
        let mut sent = 0;
        while here.send(&[0; 1024], &[], Blocking::No).unwrap() {
            sent += 1;
            assert!(sent < 100_000);
        }
        assert!(sent > 0);
    }

    #[test]
    fn message_longer_than_the_buffer_is_refused_with_its_descriptors() {
        let (here, there) = Channel::pair().unwrap();
        here.send(b"long", &[there.as_fd()], Blocking::No).unwrap();
        let mut descriptors = Vec::new();
        let error = there
            .recv_into(&mut [0; 2], &mut descriptors, Blocking::No)
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(descriptors.is_empty());
    }
}
