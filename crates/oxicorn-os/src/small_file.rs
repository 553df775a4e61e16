//! Small files as a body: read where they are in the kernel's memory.
//!
//! A descriptor costs both ends of a link more than a few pages: it is sent, received, looked at, read or sent from, and
//! closed. So a small file goes through the ring as any other body does. What would have to be waited for (a disk) is not
//! waited for here, where the interpreter is held: such a file goes by its descriptor.

use std::cell::RefCell;
use std::os::fd::BorrowedFd;

use crate::file::read_cached;

/// Bytes of a file that goes through the ring, at most: beyond that sending it from where it lies is cheaper.
const SMALL: usize = 16 * 1024;

thread_local! {
    /// As long as it was ever needed, so that it is not filled anew.
    static MEMORY: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Has `work` done with `length` bytes of `file` from `offset` on, if that is few and all of it can be had at once.
pub fn with_content<T>(
    file: BorrowedFd<'_>,
    offset: u64,
    length: u64,
    work: impl FnOnce(&[u8]) -> T,
) -> Option<T> {
    let length = usize::try_from(length)
        .ok()
        .filter(|&length| length <= SMALL)?;
    // Taken, not borrowed: while `work` waits, another greenlet of this thread may come by.
    let mut memory = MEMORY.take();
    if memory.len() < length {
        memory.resize(length, 0);
    }
    let is_whole = read_cached(file, &mut memory[..length], offset);
    let done = is_whole.then(|| work(&memory[..length]));
    MEMORY.set(memory);
    done
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn a_small_part_is_whole_and_a_large_one_is_left_alone() {
        let mut file = tempfile::tempfile().unwrap();
        let content: Vec<u8> = (0..=250).cycle().take(2 * SMALL).collect();
        file.write_all(&content).unwrap();
        let read = |offset: usize, length: usize| {
            with_content(file.as_fd(), offset as u64, length as u64, <[u8]>::to_vec)
        };
        assert_eq!(read(0, SMALL + 1), None);
        assert_eq!(read(content.len() - 5, 6), None, "the file ends before");
        // Some file systems do not tell what is in memory.
        for (offset, length) in [(3, SMALL), (100, 7)] {
            if let Some(found) = read(offset, length) {
                assert_eq!(found, content[offset..offset + length]);
            }
        }
    }
}
