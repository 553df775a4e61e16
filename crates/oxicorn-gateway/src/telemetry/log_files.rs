//! Log files: opened here, or by the arbiter where this process may not.
//!
//! Decides what is tried, and says what to do about a file that cannot be opened. The arbiter's offer is one message
//! in a socket, the paths separated by zero bytes, with the descriptors attached; it is looked at and not taken
//! (`python/oxicorn/log_files.py`).

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use oxicorn_os::channel::{Channel, Received};

/// How log files are opened.
#[derive(Debug, Clone, Default)]
pub(crate) struct LogFiles {
    /// Where the arbiter's descriptors lie, if this process has given up rights the arbiter has.
    offer: Option<Arc<Channel>>,
}

impl LogFiles {
    pub(crate) fn new(offer: Option<OwnedFd>) -> Self {
        let offer = offer.map(|descriptor| Arc::new(descriptor.into()));
        Self { offer }
    }

    /// Opens `path` to append to. The error has the path and what to do.
    pub(crate) fn open(&self, path: &Path) -> io::Result<File> {
        let opened = OpenOptions::new().append(true).create(true).open(path);
        let Err(error) = opened else {
            return opened;
        };
        if error.kind() == ErrorKind::PermissionDenied
            && let Some(file) = self.offered(path)
        {
            return Ok(file);
        }
        let text = format!("{}: {error}; {}", path.display(), advice(error.kind()));
        Err(io::Error::new(error.kind(), text))
    }

    fn offered(&self, path: &Path) -> Option<File> {
        let (mut names, mut descriptors) = (Vec::new(), Vec::new());
        let received = self.offer.as_ref()?.peek(&mut names, &mut descriptors);
        let Ok(Received::Message(_)) = received else {
            return None;
        };
        let mut offered = names.split(|byte| *byte == 0).zip(descriptors);
        let found = offered.find(|(name, _)| *name == path.as_os_str().as_bytes());
        found.map(|(_, descriptor)| descriptor.into())
    }
}

const fn advice(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::NotFound => "make its directory",
        ErrorKind::PermissionDenied => "let the user of the server write it, or name another file",
        _ => "name another file",
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::fd::AsFd as _;

    use oxicorn_os::channel::Blocking;

    use super::*;

    #[test]
    fn an_offered_file_is_found_by_its_path_as_often_as_it_is_wanted() {
        let directory = tempfile::tempdir().expect("temp dir");
        let path = directory.path().join("log");
        let [other, wanted] = ["other", "log"].map(|name| {
            let path = directory.path().join(name);
            LogFiles::default().open(&path).expect("a fresh directory")
        });
        let (there, here) = Channel::pair().expect("socket pair");
        let files = LogFiles::new(Some(here.into()));
        assert!(files.offered(&path).is_none());
        let names = [b"/other\0", path.as_os_str().as_bytes()].concat();
        there
            .send(&names, &[other.as_fd(), wanted.as_fd()], Blocking::No)
            .expect("room");
        for _ in 0..2 {
            let mut file = files.offered(&path).expect("offered");
            file.write_all(b"line\n").expect("written");
        }
        assert!(files.offered(Path::new("log")).is_none());
        let text = std::fs::read_to_string(&path).expect("text");
        assert_eq!(text, "line\nline\n");
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_named_with_what_to_do() {
        let path = Path::new("/proc/no/such/log");
        let error = LogFiles::default().open(path).expect_err("no directory");
        let text = error.to_string();
        assert!(text.starts_with("/proc/no/such/log: "), "{text}");
        assert!(text.ends_with("; make its directory"), "{text}");
    }
}
