//! Memory files: shared memory without a name in any file system.
//!
//! Sealed against change of size, because a mapping of a file that shrinks kills its reader with
//! SIGBUS; the seal itself is sealed, so whoever finds it there may rely on it for good.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{MemfdFlags, SealFlags};

/// The seals that make a mapping safe from the other holders of the file.
const SEALS: SealFlags = SealFlags::SHRINK
    .union(SealFlags::GROW)
    .union(SealFlags::SEAL);

/// Makes a zeroed memory file of `len` bytes whose size cannot change any more. `name` is only
/// for people who look into `/proc`.
pub fn create_sealed(name: &str, len: usize) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = rustix::fs::memfd_create(name, flags)?;
    rustix::fs::ftruncate(&file, len as u64)?;
    rustix::fs::fcntl_add_seals(&file, SEALS)?;
    Ok(file)
}

/// Makes a memory file with this content, to be handed to another process as a descriptor.
pub fn with_content(name: &str, content: &[u8]) -> io::Result<OwnedFd> {
    use std::io::Write as _;
    let mut file = File::from(rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC)?);
    file.write_all(content)?;
    Ok(file.into())
}

/// Makes an empty memory file that grows as it is written to.
pub fn empty_file(name: &str) -> io::Result<OwnedFd> {
    Ok(rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC)?)
}

/// Takes the content away, and puts the position that all holders share to the beginning.
pub fn empty<F: AsFd>(file: F) -> io::Result<()> {
    rustix::fs::ftruncate(&file, 0)?;
    rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0))?;
    Ok(())
}

/// Whether the size of `file` is sealed for good.
pub fn is_sealed<F: AsFd>(file: F) -> io::Result<bool> {
    match rustix::fs::fcntl_get_seals(file) {
        Ok(seals) => Ok(seals.contains(SEALS)),
        // Not a memory file at all.
        Err(rustix::io::Errno::INVAL) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Size of a file in bytes.
pub fn len<F: AsFd>(file: F) -> io::Result<u64> {
    let stat = rustix::fs::fstat(file)?;
    Ok(u64::try_from(stat.st_size).unwrap_or(0))
}

/// Cuts a file off behind so many bytes.
pub fn cut<F: AsFd>(file: F, length: u64) -> io::Result<()> {
    Ok(rustix::fs::ftruncate(&file, length)?)
}

/// Writes all of `content` at `offset`; the file grows as it must.
pub fn write_at<F: AsFd>(file: F, mut content: &[u8], mut offset: u64) -> io::Result<()> {
    while !content.is_empty() {
        match rustix::io::pwrite(&file, content, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                content = &content[written..];
                offset += written as u64;
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Fills `into` from `offset` on; [`UnexpectedEof`](io::ErrorKind::UnexpectedEof): the file ends before.
pub fn read_exact_at<F: AsFd>(file: F, into: &mut [u8], offset: u64) -> io::Result<()> {
    let (begin, length) = (into.as_mut_ptr().cast(), into.len());
    // SAFETY: the same memory, borrowed for as long; only bytes that were read are written there, so all stays initialized.
    let into = unsafe { std::slice::from_raw_parts_mut(begin, length) };
    fill_exact_at(file, into, offset)
}

/// The same for memory that holds nothing yet: after `Ok` all of it is initialized.
pub fn fill_exact_at<F: AsFd>(
    file: F,
    mut into: &mut [MaybeUninit<u8>],
    mut offset: u64,
) -> io::Result<()> {
    while !into.is_empty() {
        match rustix::io::pread(&file, &mut *into, offset) {
            Ok(([], _)) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok((read, _)) => {
                let count = read.len();
                into = &mut into[count..];
                offset += count as u64;
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sealed_file_has_its_size_for_good() {
        let file = create_sealed("test", 4096).unwrap();
        assert!(is_sealed(&file).unwrap());
        assert_eq!(len(&file).unwrap(), 4096);
        assert!(rustix::fs::ftruncate(&file, 0).is_err());
    }

    #[test]
    fn emptied_file_is_written_from_its_beginning() {
        use std::io::Write as _;
        let file = with_content("test", b"before").unwrap();
        let mut other = File::from(file.try_clone().unwrap());
        empty(&file).unwrap();
        other.write_all(b"now").unwrap();
        assert_eq!(len(&file).unwrap(), 3);
    }

    #[test]
    fn what_is_written_at_a_place_is_read_there_and_nowhere_beyond() {
        let file = empty_file("test").unwrap();
        write_at(&file, b"words", 100).unwrap();
        assert_eq!(len(&file).unwrap(), 105);
        let mut read = [1; 6];
        read_exact_at(&file, &mut read, 99).unwrap();
        assert_eq!(&read, b"\0words");
        let error = read_exact_at(&file, &mut read, 100).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        let mut fresh = [MaybeUninit::uninit(); 6];
        fill_exact_at(&file, &mut fresh, 99).unwrap();
        // SAFETY: it was filled.
        assert_eq!(&fresh.map(|byte| unsafe { byte.assume_init() }), b"\0words");
        let error = fill_exact_at(&file, &mut fresh, 100).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn other_files_are_not_sealed() {
        assert!(!is_sealed(with_content("test", b"x").unwrap()).unwrap());
        assert!(!is_sealed(tempfile::tempfile().unwrap()).unwrap());
    }
}
