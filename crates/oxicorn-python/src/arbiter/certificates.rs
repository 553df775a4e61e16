//! Certificates and keys, from the files to the gateway.
//!
//! Whoever has the right to read them is the arbiter, whose memory every worker inherits. So they are read by a child
//! of it that does nothing else: it checks them, writes what the gateway needs into a memory file, and ends. The
//! arbiter has the file's descriptor, for each gateway that it starts, and never looks into it; workers close it
//! before they load the application.
//!
//! Files that change are read again. A change counts when it looks the same twice, so that a certificate and its key,
//! which cannot be replaced at once, have time to go together; what is broken then is told once and changes nothing.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::Duration;

use oxicorn_arbiter::Level;
use oxicorn_gateway::control::ToGateway;
use oxicorn_os::{memfd, poll, process, time};
use pyo3::prelude::*;

use super::actions::kind_of;
use super::fork::{self, Side};
use super::generation::with_settings;
use super::log;
use super::python::PyArbiter;
use super::supervisor::Supervisor;
use crate::errors::{config_error, halt};
use crate::forked;
use crate::worker::WorkerKind;

/// How often files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// How long they may take to be read; a file system may stand still.
const PATIENCE: Duration = Duration::from_secs(30);

/// What an error begins with that is read by itself.
const PREFIX: &str = "Certificates: ";

/// Parts of what the child says.
const BETWEEN: char = '\0';
const BEHIND_NOTES: &str = "\x01";

/// What is offered, and where it was read.
#[derive(Debug)]
pub(crate) struct Certificates {
    /// For the gateway.
    material: OwnedFd,
    files: Vec<PathBuf>,
    /// What they looked like when they were read, and when they were looked at last.
    read: Vec<Stamp>,
    seen: Vec<Stamp>,
    looked: Duration,
}

/// What of a file changes with its content; nothing: there is none. Symbolic links are followed.
type Stamp = Option<(u64, u64, i64, i64, u64)>;

fn stamp(file: &PathBuf) -> Stamp {
    let found = fs::metadata(file).ok()?;
    Some((
        found.dev(),
        found.ino(),
        found.mtime(),
        found.mtime_nsec(),
        found.size(),
    ))
}

fn stamps(files: &[PathBuf]) -> Vec<Stamp> {
    files.iter().map(stamp).collect()
}

impl Certificates {
    /// What the settings ask for; none where the gateway speaks no TLS. Raises `ConfigError` with the reason.
    pub(crate) fn of(server: &PyArbiter<'_>, cfg: &Bound<'_, PyAny>) -> PyResult<Option<Self>> {
        let wanted = with_settings(cfg, |settings| {
            settings.inner.speaks_tls() && kind_of(settings) != WorkerKind::Direct
        })?;
        if !wanted {
            return Ok(None);
        }
        let named = server.certificate_files(cfg)?;
        // Before they are read: what changes meanwhile is noticed.
        let before = stamps(&named);
        let material = memfd::with_content("oxicorn-certificates", &[])?;
        forked::keep_from_children(&material);
        let (notes, mut files) = read_in_child(server, cfg, &material)?;
        for note in notes {
            log::write(server, Level::Warning, &note);
        }
        files.retain(|file| !named.contains(file));
        let read = [before, stamps(&files)].concat();
        let files = [named, files].concat();
        Ok(Some(Self {
            material,
            files,
            seen: read.clone(),
            read,
            looked: time::monotonic(),
        }))
    }

    /// At the start: what is broken keeps the server from starting.
    pub(crate) fn at_start(
        server: &PyArbiter<'_>,
        cfg: &Bound<'_, PyAny>,
    ) -> PyResult<Option<Self>> {
        let py = server.py();
        Self::of(server, cfg).map_err(|error| halt(py, error))
    }

    /// Another handle, for a gateway.
    pub(crate) fn share(&self) -> io::Result<OwnedFd> {
        self.material.try_clone()
    }

    /// Whether the files have changed, and stay as they are.
    fn have_changed(&mut self, now: Duration) -> bool {
        if now.saturating_sub(self.looked) < LOOK {
            return false;
        }
        self.looked = now;
        let found = stamps(&self.files);
        let settled = found == self.seen;
        self.seen = found;
        settled && self.seen != self.read
    }
}

/// Has a child read and check them. Gives what is to be said, and which files they are from.
fn read_in_child(
    server: &PyArbiter<'_>,
    cfg: &Bound<'_, PyAny>,
    material: &OwnedFd,
) -> PyResult<(Vec<String>, Vec<PathBuf>)> {
    let (told, tell) = io::pipe()?;
    match fork::fork(server)? {
        Side::Child(_) => {
            drop(told);
            let words = read_here(server, cfg, material);
            // If nobody listens, nobody is served by this.
            let _ = File::from(OwnedFd::from(tell)).write_all(words.as_bytes());
            process::exit_now(0)
        }
        Side::Parent(pid) => {
            drop(tell);
            let words = server
                .py()
                .detach(|| listen(File::from(OwnedFd::from(told)), pid));
            understood(server.py(), &words?)
        }
    }
}

/// In the child: `+`, notes and files, or `-` and a reason.
fn read_here(server: &PyArbiter<'_>, cfg: &Bound<'_, PyAny>, material: &OwnedFd) -> String {
    let read = || -> PyResult<String> {
        let (bytes, notes, files) = server.read_certificates(cfg)?;
        File::from(material.try_clone()?).write_all(&bytes)?;
        let between = BETWEEN.to_string();
        Ok(format!(
            "+{}{BEHIND_NOTES}{}",
            notes.join(&between),
            files.join(&between)
        ))
    };
    read().unwrap_or_else(|error| format!("-{}", error.value(server.py())))
}

/// Hears the child out.
fn listen(mut told: File, pid: i32) -> io::Result<String> {
    let deadline = time::monotonic() + PATIENCE;
    let mut words = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let left = deadline.saturating_sub(time::monotonic());
        if left.is_zero() {
            let _ = process::kill(pid, libc::SIGKILL);
            words = b"-they could not be read in time".to_vec();
            break;
        }
        let polled = poll::wait_readable(&[told.as_fd()], Some(left))?;
        if let poll::Polled::Ready(_) = polled {
            match told.read(&mut piece)? {
                0 => break,
                count => words.extend_from_slice(&piece[..count]),
            }
        }
    }
    process::wait_until_ended(pid)?;
    Ok(String::from_utf8_lossy(&words).into_owned())
}

fn understood(py: Python<'_>, words: &str) -> PyResult<(Vec<String>, Vec<PathBuf>)> {
    let parts = |text: &str| -> Vec<String> {
        let parts = text.split(BETWEEN).filter(|part| !part.is_empty());
        parts.map(str::to_owned).collect()
    };
    if let Some((notes, files)) = words
        .strip_prefix('+')
        .and_then(|words| words.split_once(BEHIND_NOTES))
    {
        let files = parts(files).into_iter().map(PathBuf::from);
        return Ok((parts(notes), files.collect()));
    }
    let reason = match words.strip_prefix('-') {
        Some(reason) if !reason.is_empty() => reason,
        _ => "the process that reads them has died",
    };
    Err(config_error(py, &format!("{PREFIX}{reason}")))
}

impl Supervisor<'_> {
    /// Hands the gateway what new connections are offered.
    pub(crate) fn tell_certificates(&self) {
        if let (Some(gateway), Some(certificates)) = (&self.gateway, &self.certificates) {
            let material = certificates.material.as_fd();
            gateway.send(&ToGateway::Certificates, &[material]);
        }
    }

    /// Reads files again that have changed.
    pub(crate) fn look_at_certificates(&mut self) -> PyResult<()> {
        let Some(certificates) = &mut self.certificates else {
            return Ok(());
        };
        // A reload reads them anyway.
        if !certificates.have_changed(time::monotonic()) || self.arbiter.loading().is_some() {
            return Ok(());
        }
        match Certificates::of(&self.server, &self.serving_cfg()?) {
            Ok(Some(new)) => {
                self.certificates = Some(new);
                self.tell_certificates();
                self.log(
                    Level::Info,
                    "Certificates have changed: new connections get the new ones",
                );
            }
            Ok(None) => self.certificates = None,
            Err(error) => {
                let reason = error.value(self.server.py()).to_string();
                let reason = reason.strip_prefix(PREFIX).unwrap_or(&reason);
                let text = format!(
                    "Certificates have changed and cannot be used, the old ones stay: {reason}"
                );
                self.log(Level::Error, &text);
                // Told once; the next change is another.
                if let Some(certificates) = &mut self.certificates {
                    certificates.read.clone_from(&certificates.seen);
                }
            }
        }
        Ok(())
    }
}
