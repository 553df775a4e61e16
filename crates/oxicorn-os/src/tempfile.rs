//! Temporary files that have no name, so that nobody must remember to delete them.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

/// How many names are tried where the file system cannot make files without one.
const ATTEMPTS: u32 = 100;

const MODE: Mode = Mode::RUSR.union(Mode::WUSR);

/// Opens a new, empty file in `directory` for reading and writing. It vanishes when the last
/// descriptor of it is closed, also if that is because of `kill -9`.
pub fn unlinked(directory: &Path) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::EXCL | OFlags::CLOEXEC;
    match rustix::fs::openat(CWD, directory, flags, MODE) {
        Ok(file) => Ok(file.into()),
        // What file systems (overlayfs, NFS, FUSE ...) and old kernels without O_TMPFILE say.
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::INVAL) => {
            named_then_unlinked(directory)
        }
        Err(error) => Err(error.into()),
    }
}

fn named_then_unlinked(directory: &Path) -> io::Result<File> {
    let flags = OFlags::CREATE | OFlags::RDWR | OFlags::EXCL | OFlags::CLOEXEC;
    let pid = std::process::id();
    let seed = crate::time::monotonic().as_nanos();
    for attempt in 0..ATTEMPTS {
        let path = directory.join(format!(".oxicorn-{pid}-{seed:x}-{attempt}"));
        match rustix::fs::openat(CWD, &path, flags, MODE) {
            Ok(file) => {
                rustix::fs::unlink(&path)?;
                return Ok(file.into());
            }
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Seek as _, Write as _};
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    fn assert_usable_without_name(mut file: File, directory: &Path) {
        assert_eq!(file.metadata().unwrap().nlink(), 0);
        assert_eq!(std::fs::read_dir(directory).unwrap().count(), 0);
        file.write_all(b"body").unwrap();
        file.rewind().unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "body");
    }

    #[test]
    fn file_has_no_name() {
        let directory = tempfile::tempdir().unwrap();
        assert_usable_without_name(unlinked(directory.path()).unwrap(), directory.path());
    }

    #[test]
    fn way_out_leaves_no_name_either() {
        let directory = tempfile::tempdir().unwrap();
        assert_usable_without_name(
            named_then_unlinked(directory.path()).unwrap(),
            directory.path(),
        );
    }

    #[test]
    fn missing_directory_is_an_error() {
        assert!(unlinked(Path::new("/nonexistent/directory")).is_err());
    }
}
