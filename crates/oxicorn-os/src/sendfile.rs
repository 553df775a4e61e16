//! From a file to a socket without a copy through the process.

use std::io;
use std::os::fd::AsFd;

use rustix::io::Errno;

/// Most bytes of one call (the kernel's own bound).
const MOST: usize = 0x7fff_f000;

/// What became of a [`sendfile`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// So many bytes; the offset was moved on.
    Bytes(usize),
    /// The file ends at the offset.
    EndOfFile,
    /// The socket takes nothing now.
    WouldBlock,
    /// The kernel cannot send from this kind of file: read and write instead.
    Unsupported,
}

/// Sends at most `count` bytes of `file` from `offset` on, and moves `offset`. The file's own
/// position does not matter and does not change.
pub fn sendfile<S: AsFd, F: AsFd>(
    socket: S,
    file: F,
    offset: &mut u64,
    count: u64,
) -> io::Result<Sent> {
    let count = usize::try_from(count).unwrap_or(MOST).min(MOST);
    loop {
        match rustix::fs::sendfile(&socket, &file, Some(offset), count) {
            Ok(0) if count > 0 => return Ok(Sent::EndOfFile),
            Ok(sent) => return Ok(Sent::Bytes(sent)),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(Sent::WouldBlock),
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::SPIPE) => {
                return Ok(Sent::Unsupported);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Reads at `offset` without moving the file's position: the way out when [`sendfile`] is not
/// supported. 0: the file ends there.
pub fn read_at<F: AsFd>(file: F, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    loop {
        match rustix::io::pread(&file, &mut *buffer, offset) {
            Ok(len) => return Ok(len),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn sends_the_piece_asked_for() {
        let file = crate::memfd::with_content("test", b"0123456789").unwrap();
        let (here, mut there) = UnixStream::pair().unwrap();
        let mut offset = 3;
        assert_eq!(
            sendfile(&here, &file, &mut offset, 4).unwrap(),
            Sent::Bytes(4)
        );
        assert_eq!(offset, 7);
        let mut got = [0; 4];
        there.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"3456");
        offset = 10;
        assert_eq!(
            sendfile(&here, &file, &mut offset, 4).unwrap(),
            Sent::EndOfFile
        );
    }

    #[test]
    fn full_socket_says_so() {
        let file = crate::memfd::with_content("test", &vec![0; 1 << 20]).unwrap();
        let (here, _there) = UnixStream::pair().unwrap();
        here.set_nonblocking(true).unwrap();
        let mut offset = 0;
        while let Sent::Bytes(_) = sendfile(&here, &file, &mut offset, 1 << 20).unwrap() {}
        assert!(offset < 1 << 20);
    }

    #[test]
    fn socket_as_a_source_is_not_supported() {
        let (here, there) = UnixStream::pair().unwrap();
        assert_eq!(
            sendfile(&here, &there, &mut 0, 4).unwrap(),
            Sent::Unsupported
        );
    }

    #[test]
    fn read_at_reads_there() {
        let file = crate::memfd::with_content("test", b"0123456789").unwrap();
        let mut buffer = [0; 4];
        assert_eq!(read_at(&file, &mut buffer, 8).unwrap(), 2);
        assert_eq!(&buffer[..2], b"89");
    }
}
