//! Memory shared with other processes.
//!
//! Nothing here ever makes a reference to plain bytes of the mapping, since another process may
//! write them at any time: single words are reached as atomics, runs of bytes are copied in and
//! out by raw pointer. That is why a hostile process at the other end can put nonsense into the
//! bytes, but no undefined behaviour into ours.

use std::io;
use std::mem::align_of;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd as _};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64};

use rustix::mm::{MapFlags, ProtFlags};

use crate::memfd;

/// A shared, writable mapping of a whole file of fixed size.
#[derive(Debug)]
pub struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping belongs to this value alone, stays where it is until it is dropped, and is
// not tied to a thread.
unsafe impl Send for Mapping {}
// SAFETY: shared access is through atomics, or through the two copies whose callers promise that
// this program does not race with itself.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `file`, whose size must be sealed (see [`memfd`]): a file that could shrink is refused
    /// as [`io::ErrorKind::InvalidInput`].
    pub fn new<F: AsFd>(file: F) -> io::Result<Self> {
        if !memfd::is_sealed(&file)? {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let len = usize::try_from(memfd::len(&file)?).map_err(|_| io::ErrorKind::InvalidInput)?;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the kernel chooses the place, so nothing of ours is mapped over; the file cannot
        // shrink, so the pages stay valid.
        let start = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                len,
                protection,
                MapFlags::SHARED,
                file,
                0,
            )?
        };
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::Other)?;
        Ok(Self { start, len })
    }

    /// Processes that are forked from now on do not have the mapping: to touch it there ends them, and
    /// whatever they are made to do leaves the file as it is. Must not be asked for where a child is to
    /// use it.
    pub fn keep_from_children(&self) -> io::Result<()> {
        let start = self.start.as_ptr().cast();
        // SAFETY: exactly this mapping, which stays as it is in this process.
        unsafe { rustix::mm::madvise(start, self.len, rustix::mm::Advice::LinuxDontFork)? };
        Ok(())
    }

    /// Size in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where `len` bytes at `offset` begin. Panics if they are not all within the mapping.
    #[inline]
    fn at(&self, offset: usize, len: usize) -> NonNull<u8> {
        let end = offset.checked_add(len);
        assert!(
            end.is_some_and(|end| end <= self.len),
            "access beyond the mapping"
        );
        // SAFETY: offset is within the mapping, as was just checked.
        unsafe { self.start.add(offset) }
    }

    /// The aligned word at `offset`. Panics if there is none.
    #[inline]
    pub fn atomic_u32(&self, offset: usize) -> &AtomicU32 {
        let word = self.word_at::<{ align_of::<AtomicU32>() }>(offset);
        // SAFETY: in bounds and aligned (a mapping begins at a page); the mapping outlives the
        // reference; every bit pattern is a u32; all access is atomic, that of other processes
        // included as far as the hardware is concerned.
        unsafe { AtomicU32::from_ptr(word.as_ptr().cast()) }
    }

    /// The aligned word at `offset`. Panics if there is none.
    #[inline]
    pub fn atomic_u64(&self, offset: usize) -> &AtomicU64 {
        let word = self.word_at::<{ align_of::<AtomicU64>() }>(offset);
        // SAFETY: as for `atomic_u32`.
        unsafe { AtomicU64::from_ptr(word.as_ptr().cast()) }
    }

    /// Where the word of `SIZE` bytes (a power of two) at `offset` begins. Panics if it is not aligned, or not
    /// all within the mapping.
    #[inline]
    fn word_at<const SIZE: usize>(&self, offset: usize) -> NonNull<u8> {
        assert!(offset.is_multiple_of(SIZE), "unaligned word");
        // Of whole words, the last of which an aligned one cannot reach beyond.
        assert!(offset < self.len & !(SIZE - 1), "access beyond the mapping");
        // SAFETY: offset is within the mapping, as was just checked.
        unsafe { self.start.add(offset) }
    }

    /// Copies `bytes` to `offset`. Panics if they do not fit.
    ///
    /// # Safety
    /// No other thread of this program reads or writes these bytes of the file meanwhile, be it
    /// through this mapping or another one. (Other processes may: they see any mixture.)
    #[inline]
    pub unsafe fn copy_in(&self, offset: usize, bytes: &[u8]) {
        let target = self.at(offset, bytes.len());
        // SAFETY: in bounds; `bytes` is a live slice, and cannot overlap, since nobody can have a
        // reference into the mapping; no race within the program, by the caller's promise.
        unsafe { target.copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len()) }
    }

    /// Appends `len` bytes at `offset` to `out`. Panics if they are not all within the mapping.
    ///
    /// # Safety
    /// No other thread of this program writes these bytes of the file meanwhile, be it through this
    /// mapping or another one. (Other processes may: the copy is then any mixture.)
    #[inline]
    pub unsafe fn copy_out(&self, offset: usize, len: usize, out: &mut Vec<u8>) {
        let source = self.at(offset, len);
        out.reserve(len);
        let old_len = out.len();
        // SAFETY: source in bounds; room for `len` bytes behind `old_len` was just reserved, and
        // they are all written before the length says so; no overlap, since the vector's memory is
        // not in the mapping; no race within the program, by the caller's promise.
        unsafe {
            source
                .as_ptr()
                .copy_to_nonoverlapping(out.as_mut_ptr().add(old_len), len);
            out.set_len(old_len + len);
        }
    }

    /// Sends `before`, the bytes at `range` and `after` to a socket, without a copy of ours: as much as
    /// it takes. `None`: it takes nothing now. Panics if the range is not within the mapping.
    ///
    /// # Safety
    /// As for [`copy_out`](Self::copy_out); what is sent is then any mixture.
    pub unsafe fn send<S: AsFd>(
        &self,
        socket: S,
        before: &[u8],
        range: Range<usize>,
        after: &[u8],
    ) -> io::Result<Option<usize>> {
        let shared = self.at(range.start, range.len());
        let mut parts = [
            io_vector(before.as_ptr(), before.len()),
            io_vector(shared.as_ptr(), range.len()),
            io_vector(after.as_ptr(), after.len()),
        ];
        // SAFETY: all zeros are a message without address, parts and control data.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = parts.as_mut_ptr();
        message.msg_iovlen = parts.len() as _;
        loop {
            // SAFETY: the kernel only reads what the parts name: two live slices, and bytes of the
            // mapping, which stays where it is for as long as `self` is borrowed; no race within the
            // program, by the caller's promise. The descriptor is open.
            let sent = unsafe {
                libc::sendmsg(
                    socket.as_fd().as_raw_fd(),
                    &raw const message,
                    libc::MSG_NOSIGNAL,
                )
            };
            if let Ok(sent) = usize::try_from(sent) {
                return Ok(Some(sent));
            }
            let error = io::Error::last_os_error();
            match error.kind() {
                io::ErrorKind::WouldBlock => return Ok(None),
                io::ErrorKind::Interrupted => {}
                _ => return Err(error),
            }
        }
    }
}

fn io_vector(start: *const u8, len: usize) -> libc::iovec {
    libc::iovec {
        iov_base: start.cast_mut().cast(),
        iov_len: len,
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this length; references into it cannot outlive `self`.
        let unmapped = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.len) };
        debug_assert!(unmapped.is_ok(), "start and length are those of a mapping");
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::net::UnixStream;
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn two_mappings_of_a_file_show_the_same_bytes() {
        let file = memfd::create_sealed("test", 8192).unwrap();
        let (one, two) = (Mapping::new(&file).unwrap(), Mapping::new(&file).unwrap());
        one.atomic_u64(8).store(7, Ordering::Release);
        assert_eq!(two.atomic_u64(8).load(Ordering::Acquire), 7);
        let mut out = b"got: ".to_vec();
        // SAFETY: a single thread.
        unsafe {
            one.copy_in(8187, b"hello");
            two.copy_out(8187, 5, &mut out);
        }
        assert_eq!(out, b"got: hello");
    }

    #[test]
    fn sends_out_of_the_mapping_until_the_socket_is_full() {
        let file = memfd::create_sealed("test", 8192).unwrap();
        let mapping = Mapping::new(&file).unwrap();
        let (here, mut there) = UnixStream::pair().unwrap();
        here.set_nonblocking(true).unwrap();
        // SAFETY: a single thread.
        let send = |from: usize| unsafe {
            mapping.copy_in(8187, b"hello");
            mapping.send(&here, b"<", from..8192, b">")
        };
        assert_eq!(send(8187).unwrap(), Some(7));
        let mut got = [0; 7];
        there.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"<hello>");
        while send(0).unwrap().is_some() {}
        drop(there);
        assert_eq!(send(0).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn file_that_can_shrink_is_refused() {
        let file = memfd::with_content("test", &[0; 4096]).unwrap();
        assert_eq!(
            Mapping::new(file).unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
    }

    #[test]
    fn the_last_words_are_those_that_are_there_as_a_whole() {
        let file = memfd::create_sealed("test", 4100).unwrap();
        let mapping = Mapping::new(&file).unwrap();
        mapping.atomic_u32(4096).store(1, Ordering::Relaxed);
        mapping.atomic_u64(4088).store(1, Ordering::Relaxed);
        for offset in [4096, 4104, usize::MAX - 7] {
            let beyond = std::panic::AssertUnwindSafe(|| mapping.atomic_u64(offset));
            assert!(std::panic::catch_unwind(beyond).is_err(), "{offset}");
        }
    }

    #[test]
    #[should_panic(expected = "beyond the mapping")]
    fn access_beyond_the_end_panics() {
        let file = memfd::create_sealed("test", 4096).unwrap();
        Mapping::new(file).unwrap().atomic_u32(4096);
    }

    #[test]
    #[should_panic(expected = "beyond the mapping")]
    fn access_whose_end_overflows_panics() {
        let file = memfd::create_sealed("test", 4096).unwrap();
        Mapping::new(file).unwrap().atomic_u64(usize::MAX - 7);
    }
}
