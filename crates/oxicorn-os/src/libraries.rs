//! Pages of shared libraries.

use std::ops::Range;
use std::path::Path;
use std::{fs, io};

use rustix::mm::{Advice, madvise};

/// Unmaps the pages of shared libraries that this process has only read, as it does while a library is loaded: what it
/// goes on to use comes back, from the kernel's cache. For a process that loads them for others. Takes milliseconds.
/// Errors: those of `/proc/self/smaps`.
pub fn unmap_read() -> io::Result<()> {
    for range in read_only(&fs::read_to_string("/proc/self/smaps")?) {
        let first = std::ptr::with_exposed_provenance_mut(range.start);
        // SAFETY: pages of a file, none of which was written to: whoever looks at one again finds the same bytes there.
        // Nothing that was private to this process is lost, since there is nothing. Were the library mapped otherwise
        // meanwhile (it is not: that takes an unload on another thread), the advice would meet the same kind of pages.
        let _ = unsafe { madvise(first, range.len(), Advice::LinuxDontNeed) };
    }
    Ok(())
}

/// Mappings of libraries that can neither be written to nor have pages that were (relocations, before they were sealed).
fn read_only(smaps: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut candidate = None;
    for line in smaps.lines() {
        if let Some(mapping) = Mapping::parse(line) {
            candidate = mapping.is_read_only_library().then_some(mapping.range);
        } else if line.split_ascii_whitespace().eq(["Anonymous:", "0", "kB"]) {
            found.extend(candidate.take());
        }
    }
    found
}

/// The line that a mapping's figures follow.
struct Mapping<'s> {
    range: Range<usize>,
    permissions: &'s str,
    path: &'s str,
}

impl<'s> Mapping<'s> {
    /// `None`: it is a figure.
    fn parse(line: &'s str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let number = |digits| usize::from_str_radix(digits, 16).ok();
        let range = number(start)?..number(end)?;
        let permissions = words.next()?;
        // Behind offset, device and inode; none: no file.
        let path = words.nth(3).unwrap_or_default();
        Some(Self {
            range,
            permissions,
            path,
        })
    }

    fn is_read_only_library(&self) -> bool {
        let path = Path::new(self.path);
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        let has_version = name.windows(4).any(|part| part == b".so.");
        let is_library = has_version || path.extension().is_some_and(|extension| extension == "so");
        is_library && matches!(self.permissions, "r-xp" | "r--p")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMAPS: &str = "\
7f00-8000 r-xp 00002000 fe:00 7 /usr/lib/libcrypto.so.3
Rss:                 100 kB
Anonymous:             0 kB
8000-9000 r--p 00003000 fe:00 7 /usr/lib/libcrypto.so.3
Anonymous:             8 kB
9000-a000 rw-p 00003000 fe:00 7 /usr/lib/libcrypto.so.3
Anonymous:             0 kB
a000-b000 r-xs 00003000 fe:00 7 /usr/lib/shared.so
Anonymous:             0 kB
b000-c000 r--p 00000000 fe:00 8 /usr/lib/locale/LC_CTYPE
Anonymous:             0 kB
c000-d000 r--p 00000000 fe:00 9 /lib/python/_ssl.cpython-311-x86_64-linux-gnu.so
Anonymous:             0 kB
d000-e000 r-xp 00000000 00:00 0 [vdso]
Anonymous:             0 kB
e000-f000 r--p 00000000 00:00 0
Anonymous:             0 kB
";

    #[test]
    fn what_was_written_to_or_is_no_library_stays() {
        assert_eq!(read_only(SMAPS), [0x7f00..0x8000, 0xc000..0xd000]);
    }

    #[test]
    fn what_was_unmapped_is_as_it_was() {
        let before = format!("{:.3} {:?}", 1.0 / 3.0, "text".to_uppercase());
        unmap_read().expect("a process knows its own mappings");
        let after = format!("{:.3} {:?}", 1.0 / 3.0, "text".to_uppercase());
        assert_eq!(before, after);
    }
}
