//! Files that somebody else has opened.

use std::io::IoSliceMut;
use std::os::fd::{BorrowedFd, RawFd};

use rustix::fs::{FileType, Stat};
use rustix::io::{ReadWriteFlags, preadv2};

/// Length of the regular file behind a descriptor number that came from outside (an application's
/// `fileno()`). `None`: there is no such descriptor, or it is no regular file.
pub fn regular_length(descriptor: RawFd) -> Option<u64> {
    regular(descriptor).map(|found| length(&found))
}

/// The same of a file whose bytes are stored somewhere: those of `/proc` and `/sys`, which make theirs when
/// they are read, have no blocks, and a length that says nothing. (A file of nothing but holes, or one so
/// small that its file system keeps it elsewhere, is not recognised either.)
pub fn stored_length(descriptor: RawFd) -> Option<u64> {
    let found = regular(descriptor)?;
    (found.st_blocks > 0).then(|| length(&found))
}

/// Fills `buffer` from `offset` on with what the kernel has in memory. `false`: not all of it was there, or the file
/// system does not tell; what is in the buffer then says nothing. Never waits for a disk (`RWF_NOWAIT`).
#[must_use]
pub fn read_cached(file: BorrowedFd<'_>, buffer: &mut [u8], offset: u64) -> bool {
    let wanted = buffer.len();
    let read = preadv2(
        file,
        &mut [IoSliceMut::new(buffer)],
        offset,
        ReadWriteFlags::NOWAIT,
    );
    read == Ok(wanted)
}

fn regular(descriptor: RawFd) -> Option<Stat> {
    if descriptor < 0 {
        return None;
    }
    // SAFETY: borrowed for this call only, in which the kernel looks at it; a number that names
    // nothing is an error, and one that names something else is only looked at.
    let descriptor = unsafe { BorrowedFd::borrow_raw(descriptor) };
    let found = rustix::fs::fstat(descriptor).ok()?;
    let is_regular = FileType::from_raw_mode(found.st_mode) == FileType::RegularFile;
    is_regular.then_some(found)
}

fn length(found: &Stat) -> u64 {
    u64::try_from(found.st_size).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::fd::{AsFd as _, AsRawFd as _};

    #[test]
    fn only_regular_files_have_a_length() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"12345").unwrap();
        assert_eq!(super::regular_length(file.as_raw_fd()), Some(5));
        let (end, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(super::regular_length(end.as_raw_fd()), None);
        assert_eq!(super::regular_length(-1), None);
        assert_eq!(super::regular_length(i32::MAX), None);
    }

    #[test]
    fn what_is_in_memory_is_read_and_nothing_beyond_the_end() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        let mut buffer = [0; 4];
        let mut read =
            |offset| super::read_cached(file.as_fd(), &mut buffer, offset).then_some(buffer);
        // What was just written is in memory, where the file system tells.
        if let Some(found) = read(2) {
            assert_eq!(&found, b"2345");
        }
        assert_eq!(read(8), None, "the end comes first");
    }

    #[test]
    fn what_is_made_when_it_is_read_is_not_stored() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![1; 100_000]).unwrap();
        file.sync_all().unwrap();
        assert_eq!(super::stored_length(file.as_raw_fd()), Some(100_000));
        let made = std::fs::File::open("/proc/self/status").unwrap();
        assert_eq!(super::stored_length(made.as_raw_fd()), None);
    }
}
