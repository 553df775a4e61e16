//! Ranges of memory that may be given back to the kernel one day.
//!
//! An allocator notes and forgets them, on whatever thread. So nothing here allocates or locks: a process that is forked
//! in the midst of it has no lock that nobody will open. A range is one word, which is there or is not.

use std::ffi::c_void;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::mm::Advice;

/// Bytes in the unit that words count in: no kernel has smaller pages.
const UNIT: usize = 4096;
/// Bits of a word that say how many units the range has, below those that say where it starts.
const LEN_BITS: u32 = 20;

/// As many ranges as there is room for; what finds none is not noted. All zeros without any, so that of a static one no
/// more is in memory than is used.
#[derive(Debug)]
pub struct Ranges<const ROOM: usize> {
    /// 0: free.
    words: [AtomicU64; ROOM],
}

impl<const ROOM: usize> Default for Ranges<ROOM> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const ROOM: usize> Ranges<ROOM> {
    /// None yet.
    pub const fn new() -> Self {
        Self {
            words: [const { AtomicU64::new(0) }; ROOM],
        }
    }

    /// Notes the `len` bytes at `start`.
    pub fn note(&self, start: *const c_void, len: usize) {
        if let Some(word) = word(start, len) {
            self.replace_one(0, word);
        }
    }

    /// The same range is none any more: to be said before it is somebody else's.
    pub fn forget(&self, start: *const c_void, len: usize) {
        if let Some(word) = word(start, len) {
            self.replace_one(word, 0);
        }
    }

    fn replace_one(&self, old: u64, new: u64) {
        // Relaxed: a word says nothing of other memory.
        let replace = |at: &AtomicU64| {
            at.load(Ordering::Relaxed) == old
                && at
                    .compare_exchange(old, new, Ordering::Relaxed, Ordering::Relaxed)
                    .is_ok()
        };
        let _ = self.words.iter().any(replace);
    }

    /// Gives the memory of all ranges back: who reads them finds zeros. What cannot be given back stays as it is.
    ///
    /// # Safety
    /// In this process nobody relies on what is in these ranges, now or later. They are still those that were noted.
    pub unsafe fn give_back(&self) {
        let page = rustix::param::page_size();
        for at in &self.words {
            let (start, len) = range(at.swap(0, Ordering::Relaxed));
            let (first, end) = (start.next_multiple_of(page), (start + len) / page * page);
            if first < end {
                let first_page = std::ptr::with_exposed_provenance_mut(first);
                let len = end - first;
                // SAFETY: whole pages within a range, which the caller has promised.
                let _ = unsafe { rustix::mm::madvise(first_page, len, Advice::LinuxDontNeed) };
            }
        }
    }
}

/// The whole units of a range; `None` where there is none, or the word has no room for it.
fn word(start: *const c_void, len: usize) -> Option<u64> {
    let start = start.expose_provenance();
    let end = start.checked_add(len)? / UNIT;
    let first = start.div_ceil(UNIT);
    let units = end.checked_sub(first)?;
    let fits = units > 0 && units < 1 << LEN_BITS && (first as u64) < 1 << (u64::BITS - LEN_BITS);
    fits.then_some((first as u64) << LEN_BITS | units as u64)
}

/// Start and length of what a word stands for.
fn range(word: u64) -> (usize, usize) {
    let units = |count: u64| usize::try_from(count).map_or(0, |count| count * UNIT);
    (units(word >> LEN_BITS), units(word & ((1 << LEN_BITS) - 1)))
}

#[cfg(test)]
mod tests {
    use rustix::mm::{MapFlags, ProtFlags};

    use super::*;

    /// Pages that are never unmapped.
    struct Pages {
        start: *mut u8,
        page: usize,
        len: usize,
    }

    impl Pages {
        fn new(count: usize) -> Self {
            let page = rustix::param::page_size();
            let (len, protection) = (count * page, ProtFlags::READ | ProtFlags::WRITE);
            // SAFETY: the kernel chooses the place.
            let start = unsafe {
                rustix::mm::mmap_anonymous(std::ptr::null_mut(), len, protection, MapFlags::PRIVATE)
            };
            let start = start.unwrap().cast();
            let pages = Self { start, page, len };
            pages.fill();
            pages
        }

        /// Writes sevens to all of them.
        fn fill(&self) {
            // SAFETY: this much was mapped, and nobody has a reference to it.
            unsafe { self.start.write_bytes(7, self.len) };
        }

        fn at(&self, offset: usize) -> *const c_void {
            self.start.wrapping_add(offset).cast_const().cast()
        }

        /// Which of them still have their sevens.
        fn kept(&self) -> Vec<bool> {
            // SAFETY: mapped and written to; nobody changes it before the reference has gone.
            let bytes = unsafe { std::slice::from_raw_parts(self.start, self.len) };
            let is_kept = |page: &[u8]| {
                assert!(page.iter().all(|&byte| byte == page[0]));
                page[0] == 7
            };
            bytes.chunks(self.page).map(is_kept).collect()
        }
    }

    #[test]
    fn gives_back_whole_pages_of_what_is_noted_and_not_forgotten() {
        let ranges = Ranges::<8>::new();
        let pages = Pages::new(8);
        let page = pages.page;
        // Pages 1 and 2 with a byte of 0 and of 3, 4, all of 5 but for a byte, 7.
        ranges.note(pages.at(page - 1), 2 * page + 2);
        ranges.note(pages.at(4 * page), page);
        ranges.note(pages.at(5 * page + 1), page - 1);
        ranges.note(pages.at(7 * page), page);
        ranges.forget(pages.at(4 * page), page);
        // SAFETY: only this test relies on what is there, and not on what was noted.
        unsafe { ranges.give_back() };
        assert_eq!(
            pages.kept(),
            [true, false, false, true, true, true, true, false]
        );
        pages.fill();
        // SAFETY: as above.
        unsafe { ranges.give_back() };
        assert_eq!(pages.kept(), [true; 8], "once");
    }

    #[test]
    fn what_finds_no_room_stays() {
        let ranges = Ranges::<2>::new();
        let pages = Pages::new(4);
        let [first, second, third, fourth] =
            [0, 1, 2, 3].map(|number| pages.at(number * pages.page));
        for start in [first, second, third] {
            ranges.note(start, pages.page);
        }
        ranges.forget(first, pages.page);
        ranges.note(fourth, pages.page);
        // Was not noted, and takes nobody's place.
        ranges.forget(third, pages.page);
        // SAFETY: as above.
        unsafe { ranges.give_back() };
        assert_eq!(pages.kept(), [true, false, true, false]);
    }

    #[test]
    fn a_word_is_the_range_or_there_is_none() {
        let at = |address: usize| std::ptr::without_provenance(address);
        let whole = |start, len| word(at(start), len).map(range);
        let highest = (1 << 56) - UNIT;
        assert_eq!(whole(highest, UNIT), Some((highest, UNIT)));
        assert_eq!(whole(UNIT, 1 << 31), Some((UNIT, 1 << 31)));
        assert_eq!(whole(UNIT - 1, UNIT + 2), Some((UNIT, UNIT)));
        assert_eq!(whole(1 << 56, UNIT), None);
        assert_eq!(whole(UNIT, 1 << 32), None);
        assert_eq!(whole(usize::MAX - UNIT, 2 * UNIT), None);
        for short in [0, 1, UNIT - 2] {
            assert_eq!(whole(UNIT, short), None);
            assert_eq!(whole(UNIT + 1, UNIT + short), None);
        }
    }
}
