//! A stream of frames that never blocks: what arrives is cut into frames, what cannot be sent yet waits.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use oxicorn_os::epoll::{Epoll, Interest};
use oxicorn_os::stream::{Moved, Stream};
use oxicorn_proto::pool::{Fault, HEADER_LENGTH, Header};

/// Bytes read at once. A longer frame is read into its own place.
pub(crate) const READ: usize = 64 << 10;
/// Bytes of a long frame that are read at once: their place is zeroed for each read.
const LONG_READ: usize = 256 << 10;
/// Capacity an empty input buffer may keep.
const KEPT: usize = 256 << 10;
/// Descriptors that wait for their frames.
const MOST_DESCRIPTORS: usize = 32;

/// A frame as it arrived.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) header: Header,
    pub(crate) payload: Vec<u8>,
    pub(crate) descriptor: Option<OwnedFd>,
}

/// What is still to be sent.
#[derive(Debug)]
struct Part {
    bytes: Vec<u8>,
    sent: usize,
    descriptor: Option<OwnedFd>,
}

/// Why a connection is of no further use.
#[derive(Debug)]
pub(crate) enum End {
    Closed,
    /// It went without having read all that was sent to it. There may be more to read.
    Unread,
    Fault(Fault),
    /// A frame speaks of a descriptor that did not come, or more came than anybody needs.
    Descriptors,
    Io(io::Error),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed | Self::Unread => f.write_str("it has left"),
            Self::Fault(fault) => write!(f, "what it sent is no message: {fault:?}"),
            Self::Descriptors => f.write_str("its descriptors do not fit its messages"),
            Self::Io(error) => write!(f, "{error}"),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Connection {
    stream: Stream,
    token: u64,
    input: Vec<u8>,
    descriptors: VecDeque<OwnedFd>,
    output: VecDeque<Part>,
    output_bytes: usize,
    /// What is waited for now.
    interest: Interest,
    /// Whether it is to be read from.
    reads: bool,
    /// The other end went before it had everything.
    lost: bool,
}

impl Connection {
    /// Takes the stream over and watches it under this number.
    pub(crate) fn new(stream: Stream, token: u64, epoll: &Epoll) -> io::Result<Self> {
        let interest = Interest {
            read: true,
            write: false,
        };
        epoll.add(&stream, token, interest)?;
        Ok(Self {
            stream,
            token,
            input: Vec::new(),
            descriptors: VecDeque::new(),
            output: VecDeque::new(),
            output_bytes: 0,
            interest,
            reads: true,
            lost: false,
        })
    }

    pub(crate) fn peer_process(&self) -> Option<i32> {
        self.stream.peer_process()
    }

    /// Bytes that wait to be sent.
    pub(crate) fn waiting(&self) -> usize {
        self.output_bytes
    }

    /// Whether the other end went before everything was sent.
    pub(crate) fn has_lost(&self) -> bool {
        self.lost || !self.output.is_empty()
    }

    /// Whether it is read from. What the other end sends meanwhile makes it wait.
    pub(crate) fn set_reads(&mut self, reads: bool, epoll: &Epoll) {
        self.reads = reads;
        self.watch(epoll);
    }

    fn watch(&mut self, epoll: &Epoll) {
        let interest = Interest {
            read: self.reads,
            write: !self.output.is_empty(),
        };
        if interest != self.interest {
            self.interest = interest;
            // A descriptor that was added can be changed; only the kernel's memory could fail it.
            let _ = epoll.change(&self.stream, self.token, interest);
        }
    }

    /// Reads once and appends the frames that are complete to `frames`; whether there may be more to read: also where less
    /// came than there was room for, because the kernel ends a read behind what came with a descriptor. Frames that came
    /// before an end are there, too. `scratch` is where what is short goes first.
    pub(crate) fn read(
        &mut self,
        scratch: &mut [u8],
        frames: &mut Vec<Frame>,
    ) -> Result<bool, End> {
        let missing = self.missing();
        let descriptors = self.descriptors.len();
        let (moved, is_full) = if missing > scratch.len() {
            let before = self.input.len();
            let wanted = missing.min(LONG_READ);
            self.input.resize(before + wanted, 0);
            let moved = self
                .stream
                .receive(&mut self.input[before..], &mut self.descriptors);
            let count = count_of(&moved);
            self.input.truncate(before + count);
            (moved, count == wanted)
        } else {
            let moved = self.stream.receive(scratch, &mut self.descriptors);
            let count = count_of(&moved);
            self.input.extend_from_slice(&scratch[..count]);
            (moved, count == scratch.len())
        };
        let may_be_more = is_full || self.descriptors.len() > descriptors;
        self.cut(frames)?;
        if self.descriptors.len() > MOST_DESCRIPTORS {
            return Err(End::Descriptors);
        }
        match moved {
            Ok(Moved::Bytes(_)) => Ok(may_be_more),
            Ok(Moved::WouldBlock) => Ok(false),
            Ok(Moved::Closed) => Err(End::Closed),
            Ok(Moved::Reset) => Err(End::Unread),
            Err(error) => Err(End::Io(error)),
        }
    }

    /// Bytes that the frame under way still lacks.
    fn missing(&self) -> usize {
        match Header::parse(&self.input) {
            Ok(Some(header)) => (HEADER_LENGTH + header.length).saturating_sub(self.input.len()),
            _ => 0,
        }
    }

    fn cut(&mut self, frames: &mut Vec<Frame>) -> Result<(), End> {
        let mut at = 0;
        while let Some(header) = Header::parse(&self.input[at..]).map_err(End::Fault)? {
            let begin = at + HEADER_LENGTH;
            let Some(payload) = self.input.get(begin..begin + header.length) else {
                break;
            };
            let descriptor = if header.descriptor {
                Some(self.descriptors.pop_front().ok_or(End::Descriptors)?)
            } else {
                None
            };
            frames.push(Frame {
                header,
                payload: payload.to_vec(),
                descriptor,
            });
            at = begin + header.length;
        }
        self.input.drain(..at);
        if self.input.is_empty() && self.input.capacity() > KEPT {
            self.input = Vec::new();
        }
        Ok(())
    }

    /// Sends a frame, or what of it cannot be sent now later. That the other end is gone is found by reading.
    pub(crate) fn send(
        &mut self,
        header: Header,
        payload: &[u8],
        descriptor: Option<BorrowedFd<'_>>,
        epoll: &Epoll,
    ) {
        let Ok(head) = header.encode() else {
            debug_assert!(false, "whoever made the payload knows its bound");
            return;
        };
        let mut sent = 0;
        if self.output.is_empty() {
            let parts = [IoSlice::new(&head), IoSlice::new(payload)];
            match self.stream.send(&parts, descriptor) {
                Ok(Moved::Bytes(count)) => sent = count,
                Ok(Moved::WouldBlock) => {}
                Ok(Moved::Closed | Moved::Reset) | Err(_) => {
                    self.lost = true;
                    return;
                }
            }
        }
        let total = HEADER_LENGTH + payload.len();
        if sent == total {
            return;
        }
        let unsent = descriptor.filter(|_| sent == 0);
        // Without descriptors to spare the other end will find that one is missing.
        let descriptor = unsent.and_then(|unsent| unsent.try_clone_to_owned().ok());
        self.output_bytes += total - sent;
        self.output.push_back(Part {
            bytes: [&head[..], payload].concat(),
            descriptor,
            sent,
        });
        self.watch(epoll);
    }

    /// Sends what waits, as far as there is room.
    pub(crate) fn flush(&mut self, epoll: &Epoll) {
        while let Some(part) = self.output.front_mut() {
            let rest = [IoSlice::new(&part.bytes[part.sent..])];
            let descriptor = part.descriptor.as_ref().map(AsFd::as_fd);
            match self.stream.send(&rest, descriptor) {
                Ok(Moved::Bytes(count)) => {
                    part.sent += count;
                    part.descriptor = None;
                    self.output_bytes -= count;
                    if part.sent == part.bytes.len() {
                        self.output.pop_front();
                    }
                }
                Ok(Moved::WouldBlock) => break,
                Ok(Moved::Closed | Moved::Reset) | Err(_) => {
                    self.lost = true;
                    self.output.clear();
                    self.output_bytes = 0;
                }
            }
        }
        self.watch(epoll);
    }
}

fn count_of(moved: &io::Result<Moved>) -> usize {
    match moved {
        Ok(Moved::Bytes(count)) => *count,
        _ => 0,
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use oxicorn_os::memfd;
    use oxicorn_proto::pool::{Kind, PAYLOAD_MAX};

    use super::*;

    #[test]
    fn a_long_frame_takes_no_more_memory_than_has_come_of_it() {
        let (here, there) = Stream::pair().expect("a pair");
        let epoll = Epoll::new().expect("an epoll");
        let mut connection = Connection::new(here, 1, &epoll).expect("a connection");
        let header = Header {
            kind: Kind::Request,
            length: PAYLOAD_MAX,
            id: 1,
            descriptor: false,
        };
        let head = header.encode().expect("it is within its bound");
        let (mut scratch, mut frames) = (vec![0; READ], Vec::new());
        for part in [&head[..], &[0; 100][..], &[0; 100][..]] {
            there
                .send(&[IoSlice::new(part)], None)
                .expect("there is room");
            connection
                .read(&mut scratch, &mut frames)
                .expect("it is open");
        }
        assert!(frames.is_empty());
        assert_eq!(connection.input.len(), HEADER_LENGTH + 200);
        assert!(connection.input.capacity() <= 4 * LONG_READ);
    }

    #[test]
    fn frames_behind_one_with_a_descriptor_are_read_before_the_end() {
        let (here, there) = Stream::pair().expect("a pair");
        let epoll = Epoll::new().expect("an epoll");
        let mut connection = Connection::new(here, 1, &epoll).expect("a connection");
        let file = memfd::empty_file("oxicorn-test").expect("a file");
        for id in 0..3 {
            let header = Header {
                kind: Kind::Chunk,
                length: 10,
                id,
                descriptor: true,
            };
            let head = header.encode().expect("it is within its bound");
            there
                .send(
                    &[IoSlice::new(&head), IoSlice::new(&[0; 10])],
                    Some(file.as_fd()),
                )
                .expect("there is room");
        }
        drop(there);
        let (mut scratch, mut frames) = (vec![0; READ], Vec::new());
        while let Ok(true) = connection.read(&mut scratch, &mut frames) {}
        let ids: Vec<u64> = frames.iter().map(|frame| frame.header.id).collect();
        assert_eq!(ids, [0, 1, 2]);
        assert!(frames.iter().all(|frame| frame.descriptor.is_some()));
    }
}
