//! Files for what is too long for memory: where they are made, and what happens if they cannot be.
//!
//! The first directory in which a file can be made is the one (the choices come with the settings, in
//! their order). It is tried, not asked about: rights, read-only file systems and quotas all have a say.
//! Where no directory can be used there are memory files: what is in them counts against a bound of all
//! of them together, [`MEMORY_PART`] of `buffer_limit`, because a full memory costs more than a full disk.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::rc::Rc;

use oxicorn_os::{memfd, tempfile};

use crate::config::settings::{Settings, TemporaryDirectory};

/// The part of `buffer_limit` that memory files may take, beside what is counted there.
const MEMORY_PART: usize = 2;

/// Where files are made.
#[derive(Debug)]
pub(crate) struct Spool {
    choices: Vec<TemporaryDirectory>,
    place: RefCell<Place>,
    memory: Rc<MemoryFiles>,
    /// Bytes in memory files.
    most: u64,
}

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The choice of this number.
    Directory(usize),
    Memory,
}

/// Bytes in memory files.
#[derive(Debug, Default)]
pub(crate) struct MemoryFiles(Cell<u64>);

/// A file without a name.
#[derive(Debug)]
pub(crate) struct SpoolFile {
    file: File,
    charge: Option<Charge>,
}

/// What one memory file holds of the bound.
#[derive(Debug)]
struct Charge {
    memory: Rc<MemoryFiles>,
    bytes: u64,
    most: u64,
}

impl Spool {
    /// Looks for a place as these settings want it; `memory` counts what files made before hold.
    pub(crate) fn new(settings: &Settings, memory: Rc<MemoryFiles>) -> Self {
        let choices = settings.temporary_directories.clone();
        let place = RefCell::new(find(&choices));
        Self {
            choices,
            place,
            memory,
            most: (settings.buffer_limit / MEMORY_PART) as u64,
        }
    }

    pub(crate) fn memory_files(&self) -> Rc<MemoryFiles> {
        Rc::clone(&self.memory)
    }

    /// A new file. A directory that cannot be used any more is looked for anew.
    pub(crate) fn file(&self) -> io::Result<SpoolFile> {
        let made = self.make();
        if made.is_ok() {
            return made;
        }
        self.place.replace(find(&self.choices));
        self.make()
    }

    fn make(&self) -> io::Result<SpoolFile> {
        let place = *self.place.borrow();
        Ok(match place {
            Place::Directory(choice) => SpoolFile {
                file: tempfile::unlinked(&self.choices[choice].path)?,
                charge: None,
            },
            Place::Memory => SpoolFile {
                file: memfd::with_content("oxicorn-spool", &[])?.into(),
                charge: Some(Charge {
                    memory: self.memory_files(),
                    bytes: 0,
                    most: self.most,
                }),
            },
        })
    }

    /// What there is to say about it, and whether somebody should look at it.
    pub(crate) fn describe(&self) -> (String, bool) {
        let place = *self.place.borrow();
        let Place::Directory(choice) = place else {
            let tried: Vec<String> = self.choices.iter().map(describe).collect();
            let text = format!(
                "Temporary files cannot be made in any of {}: request bodies longer than body_memory are kept in \
                 memory, {} bytes at most in all; set tmp_upload_dir to a directory the server may write to",
                tried.join(", "),
                self.most
            );
            return (text, true);
        };
        let used = format!(
            "Temporary files are made in {}",
            describe(&self.choices[choice])
        );
        match self.choices[..choice]
            .iter()
            .find(|passed_over| passed_over.is_setting)
        {
            Some(setting) => (
                format!("{used}: none can be made in {}", describe(setting)),
                true,
            ),
            None => (used, false),
        }
    }
}

impl SpoolFile {
    /// Appends.
    pub(crate) fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(charge) = &mut self.charge {
            charge.add(bytes.len() as u64)?;
        }
        self.file.write_all(bytes)
    }

    /// The file itself, to be read or handed on.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    pub(crate) fn rewind(&mut self) -> io::Result<()> {
        io::Seek::rewind(&mut self.file)
    }
}

impl Charge {
    fn add(&mut self, bytes: u64) -> io::Result<()> {
        let held = self.memory.0.get() + bytes;
        if held > self.most {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.memory.0.set(held);
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.memory.0.set(self.memory.0.get() - self.bytes);
    }
}

fn find(choices: &[TemporaryDirectory]) -> Place {
    let usable = |choice: &TemporaryDirectory| can_be_used(&choice.path);
    choices
        .iter()
        .position(usable)
        .map_or(Place::Memory, Place::Directory)
}

/// Whether this process can make temporary files in `directory`.
pub fn can_be_used(directory: &Path) -> bool {
    // A file system that is full, or a quota, shows with the first byte.
    tempfile::unlinked(directory).is_ok_and(|mut file| file.write_all(b"x").is_ok())
}

fn describe(choice: &TemporaryDirectory) -> String {
    format!("{} ({})", choice.path.display(), choice.source)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::path::PathBuf;

    use super::*;

    fn choice(source: &str, path: impl Into<PathBuf>) -> TemporaryDirectory {
        TemporaryDirectory {
            source: source.into(),
            path: path.into(),
            is_setting: source.ends_with("dir"),
        }
    }

    fn spool(choices: &[TemporaryDirectory], buffer_limit: usize) -> Spool {
        let settings = Settings {
            temporary_directories: choices.to_vec(),
            buffer_limit,
            ..Settings::default()
        };
        Spool::new(&settings, Rc::default())
    }

    fn is_in_memory(file: &SpoolFile) -> bool {
        file.charge.is_some()
    }

    #[test]
    fn first_directory_that_can_be_used_is_taken() {
        let directory = ::tempfile::tempdir().expect("a temp dir");
        let choices = [
            choice("tmp_upload_dir", "/nonexistent/first"),
            choice("TMPDIR", "/proc"),
            choice("worker_tmp_dir", directory.path()),
            choice("the working directory", "."),
        ];
        let spool = spool(&choices, 1000);
        assert_eq!(*spool.place.borrow(), Place::Directory(2));
        assert!(!is_in_memory(&spool.file().expect("a directory")));
        let (text, matters) = spool.describe();
        let expected = format!(
            "Temporary files are made in {} (worker_tmp_dir): none can be made in /nonexistent/first (tmp_upload_dir)",
            directory.path().display()
        );
        assert_eq!((text, matters), (expected, true));
        assert_eq!(
            std::fs::read_dir(directory.path())
                .expect("it is there")
                .count(),
            0
        );
    }

    #[test]
    fn a_variable_that_leads_nowhere_is_nothing_to_warn_of() {
        let directory = ::tempfile::tempdir().expect("a temp dir");
        let choices = [
            choice("TMPDIR", "/nonexistent"),
            choice("system", directory.path()),
        ];
        assert!(!spool(&choices, 1000).describe().1);
    }

    #[test]
    fn without_a_directory_memory_serves_up_to_a_bound_of_all_files() {
        let spool = spool(&[choice("TMPDIR", "/nonexistent")], 20);
        let (text, matters) = spool.describe();
        assert!(matters && text.contains("/nonexistent (TMPDIR)") && text.contains(" 10 bytes"));
        let mut first = spool.file().expect("memory");
        let mut second = spool.file().expect("memory");
        assert!(is_in_memory(&first));
        first.write_all(b"012345").expect("within the bound");
        second.write_all(b"6789").expect("within the bound");
        let refused = second.write_all(b"x").expect_err("beyond");
        assert_eq!(refused.kind(), io::ErrorKind::StorageFull);
        first.rewind().expect("a file");
        let mut text = String::new();
        let mut file = first.file().try_clone().expect("descriptors");
        file.read_to_string(&mut text).expect("text");
        assert_eq!(text, "012345");
        drop(first);
        second.write_all(b"abcdef").expect("what was given back");
        drop(second);
        assert_eq!(spool.memory.0.get(), 0);
    }

    #[test]
    fn a_reload_counts_what_is_held() {
        let before = spool(&[], 20);
        let mut file = before.file().expect("memory");
        file.write_all(b"0123456789").expect("within the bound");
        let settings = Settings {
            temporary_directories: Vec::new(),
            buffer_limit: 20,
            ..Settings::default()
        };
        let after = Spool::new(&settings, before.memory_files());
        assert!(after.file().expect("memory").write_all(b"x").is_err());
    }

    #[test]
    fn a_directory_that_goes_away_is_followed_by_the_next() {
        let directory = ::tempfile::tempdir().expect("a temp dir");
        let spool = spool(&[choice("TMPDIR", directory.path())], 1000);
        assert!(!is_in_memory(&spool.file().expect("a directory")));
        directory.close().expect("it was there");
        assert!(is_in_memory(&spool.file().expect("memory")));
    }
}
