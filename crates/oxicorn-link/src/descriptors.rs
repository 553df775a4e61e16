//! Descriptors between the ends of a link, each with the stream it belongs to.
//!
//! A descriptor is always sent before the message that speaks of it. So whoever reads that message
//! finds the descriptor in the socket already, perhaps behind those of other streams, which are
//! kept aside until they are asked for. What nobody asks for is closed in the end: the number kept
//! aside is bounded, and the oldest goes first.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use oxicorn_os::channel::{Blocking, Channel, Received};

use crate::StreamId;

/// Most descriptors kept aside. More threads of one worker than this would have to send a file at
/// the same moment for an honest one to be lost.
pub(crate) const MAX_KEPT: usize = 256;

/// Why no descriptor was sent or received.
#[derive(Debug)]
pub enum DescriptorError {
    /// The socket's buffer is full; try again later.
    Full,
    /// The other end is closed: the process behind it is gone.
    PeerGone,
    /// The descriptor that was announced is not there.
    Missing,
    /// A system call failed.
    System(io::Error),
}

impl From<io::Error> for DescriptorError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::PeerGone,
            _ => Self::System(error),
        }
    }
}

impl std::fmt::Display for DescriptorError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Full => f.write_str("descriptor socket is full"),
            Self::PeerGone => f.write_str("other end of the link is gone"),
            Self::Missing => f.write_str("announced descriptor was not sent"),
            Self::System(error) => write!(f, "descriptor socket: {error}"),
        }
    }
}

impl std::error::Error for DescriptorError {}

/// Sends one descriptor without blocking.
pub(crate) fn send(
    channel: &Channel,
    stream: StreamId,
    descriptor: BorrowedFd<'_>,
) -> Result<(), DescriptorError> {
    match channel.send(&stream.0.to_ne_bytes(), &[descriptor], Blocking::No) {
        Ok(true) => Ok(()),
        Ok(false) => Err(DescriptorError::Full),
        Err(error) => Err(error.into()),
    }
}

/// What came out of the socket.
enum Arrival {
    Descriptor(StreamId, OwnedFd),
    /// Not what an end sends; its descriptors are closed already.
    Nonsense,
    Nothing,
}

fn receive(channel: &Channel) -> Result<Arrival, DescriptorError> {
    let mut stream = [0; 8];
    let mut descriptors = Vec::new();
    match channel.recv_into(&mut stream, &mut descriptors, Blocking::No) {
        Ok(Received::Nothing) => Ok(Arrival::Nothing),
        Ok(Received::Closed) => Err(DescriptorError::PeerGone),
        Ok(Received::Message(8)) if descriptors.len() == 1 => {
            let stream = StreamId(u64::from_ne_bytes(stream));
            Ok(descriptors
                .pop()
                .map_or(Arrival::Nonsense, |one| Arrival::Descriptor(stream, one)))
        }
        Ok(Received::Message(_)) => Ok(Arrival::Nonsense),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(Arrival::Nonsense),
        Err(error) => Err(error.into()),
    }
}

/// The receiving side: what has come and was not asked for yet.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    kept: VecDeque<(StreamId, OwnedFd)>,
}

impl Inbox {
    /// The descriptor of a stream, which was sent before. `wanted` says which other streams'
    /// descriptors are worth keeping.
    pub(crate) fn take(
        &mut self,
        channel: &Channel,
        stream: StreamId,
        wanted: impl Fn(StreamId) -> bool,
    ) -> Result<OwnedFd, DescriptorError> {
        if let Some(place) = self.kept.iter().position(|(of, _)| *of == stream)
            && let Some((_, descriptor)) = self.kept.remove(place)
        {
            return Ok(descriptor);
        }
        // Bounded, since a hostile sender could go on for ever.
        for _ in 0..=MAX_KEPT {
            match receive(channel)? {
                Arrival::Descriptor(of, descriptor) if of == stream => return Ok(descriptor),
                Arrival::Descriptor(of, descriptor) if wanted(of) => self.keep(of, descriptor),
                Arrival::Descriptor(..) | Arrival::Nonsense => {}
                Arrival::Nothing => break,
            }
        }
        Err(DescriptorError::Missing)
    }

    /// Any descriptor.
    pub(crate) fn next(
        &mut self,
        channel: &Channel,
    ) -> Result<Option<(StreamId, OwnedFd)>, DescriptorError> {
        if let Some(first) = self.kept.pop_front() {
            return Ok(Some(first));
        }
        for _ in 0..=MAX_KEPT {
            match receive(channel)? {
                Arrival::Descriptor(of, descriptor) => return Ok(Some((of, descriptor))),
                Arrival::Nonsense => {}
                Arrival::Nothing => break,
            }
        }
        Ok(None)
    }

    fn keep(&mut self, stream: StreamId, descriptor: OwnedFd) {
        if self.kept.len() == MAX_KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back((stream, descriptor));
    }
}

/// Receives and closes what was sent to somebody else.
pub(crate) fn discard_all(channel: &Channel) {
    // Bounded by what a socket's buffer can hold, by far.
    const MOST: usize = 4096;
    for _ in 0..MOST {
        match receive(channel) {
            Ok(Arrival::Descriptor(..) | Arrival::Nonsense) => {}
            Ok(Arrival::Nothing) | Err(_) => return,
        }
    }
}

/// Whether a descriptor is worth keeping: used where all are.
pub(crate) fn any(_: StreamId) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    fn file() -> OwnedFd {
        oxicorn_os::memfd::with_content("test", b"x").unwrap()
    }

    #[test]
    fn descriptors_are_found_in_any_order() {
        let (here, there) = Channel::pair().unwrap();
        let mut inbox = Inbox::default();
        for stream in 0..3 {
            send(&here, StreamId(stream), file().as_fd()).unwrap();
        }
        for stream in [2, 0, 1] {
            inbox.take(&there, StreamId(stream), any).unwrap();
        }
        let missing = inbox.take(&there, StreamId(0), any);
        assert!(matches!(missing, Err(DescriptorError::Missing)));
    }

    #[test]
    fn what_is_not_wanted_is_closed() {
        let (here, there) = Channel::pair().unwrap();
        let mut inbox = Inbox::default();
        send(&here, StreamId(1), file().as_fd()).unwrap();
        send(&here, StreamId(2), file().as_fd()).unwrap();
        inbox.take(&there, StreamId(2), |_| false).unwrap();
        assert!(inbox.kept.is_empty());
    }

    #[test]
    fn nonsense_is_skipped_and_closed() {
        let (here, there) = Channel::pair().unwrap();
        let mut inbox = Inbox::default();
        let file = file();
        here.send(b"short", &[file.as_fd()], Blocking::No).unwrap();
        here.send(&[0; 8], &[], Blocking::No).unwrap();
        here.send(&[0; 8], &[file.as_fd(), file.as_fd()], Blocking::No)
            .unwrap();
        here.send(&[0; 100], &[file.as_fd()], Blocking::No).unwrap();
        send(&here, StreamId(5), file.as_fd()).unwrap();
        assert!(inbox.take(&there, StreamId(5), any).is_ok());
        assert!(inbox.next(&there).unwrap().is_none());
    }

    #[test]
    fn number_kept_is_bounded() {
        let (here, there) = Channel::pair().unwrap();
        let mut inbox = Inbox::default();
        let file = file();
        for stream in 1..=2 * MAX_KEPT as u64 {
            send(&here, StreamId(stream), file.as_fd()).unwrap();
            let _ = inbox.take(&there, StreamId(0), any);
        }
        assert_eq!(inbox.kept.len(), MAX_KEPT);
    }

    #[test]
    fn closed_end_is_told() {
        let (here, there) = Channel::pair().unwrap();
        drop(here);
        let gone = Inbox::default().next(&there);
        assert!(matches!(gone, Err(DescriptorError::PeerGone)));
        let gone = send(&there, StreamId(1), file().as_fd());
        assert!(matches!(gone, Err(DescriptorError::PeerGone)));
    }
}
