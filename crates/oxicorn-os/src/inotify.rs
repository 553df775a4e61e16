//! Waiting for changes in directories.
//!
//! It tells that something changed, not what: names come in fragments (a file is written beside, renamed, its
//! old name removed), the queue of the kernel may overflow, and whoever waits has to look at the files anyway.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};
use rustix::io::Errno;

/// Room for several events at once.
const BUFFER: usize = 4096;

/// Directories that are watched.
#[derive(Debug)]
pub struct DirectoryWatch {
    queue: OwnedFd,
}

impl DirectoryWatch {
    /// Watches nothing yet. Fails where the user has too many of these, or the system does not know them.
    pub fn new() -> io::Result<Self> {
        let queue = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        Ok(Self { queue })
    }

    /// Watches the files directly in this directory, too; naming it again does no harm.
    pub fn add(&self, directory: &Path) -> io::Result<()> {
        let changes = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MODIFY
            | WatchFlags::ATTRIB
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF;
        inotify::add_watch(&self.queue, directory, changes | WatchFlags::ONLYDIR)?;
        Ok(())
    }

    /// Forgets what has been told so far; whether there was anything.
    pub fn drain(&self) -> io::Result<bool> {
        let mut buffer = [MaybeUninit::uninit(); BUFFER];
        let mut reader = Reader::new(&self.queue, &mut buffer);
        let mut anything = false;
        loop {
            match reader.next() {
                Ok(_) => anything = true,
                Err(Errno::AGAIN) => return Ok(anything),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Readable when something changed.
impl AsFd for DirectoryWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.queue.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::poll::{self, Polled};

    fn is_told(watch: &DirectoryWatch) -> bool {
        let polled = poll::wait_readable(&[watch.as_fd()], Some(Duration::from_secs(5)));
        matches!(polled, Ok(Polled::Ready(_))) && watch.drain().unwrap()
    }

    #[test]
    fn tells_what_happens_to_files_and_forgets_it_when_asked() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("app.py");
        let watch = DirectoryWatch::new().unwrap();
        watch.add(directory.path()).unwrap();
        watch.add(directory.path()).unwrap();
        assert!(!watch.drain().unwrap());
        std::fs::write(&file, "1").unwrap();
        assert!(is_told(&watch));
        std::fs::rename(&file, directory.path().join("other.py")).unwrap();
        assert!(is_told(&watch));
        std::fs::remove_file(directory.path().join("other.py")).unwrap();
        assert!(is_told(&watch));
        assert!(!watch.drain().unwrap());
    }

    #[test]
    fn refuses_what_is_no_directory() {
        let watch = DirectoryWatch::new().unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(watch.add(file.path()).is_err());
        assert!(watch.add(Path::new("/no/such/directory")).is_err());
    }
}
