//! A worker whose class has a server of its own: it accepts connections itself, and nothing comes over its link.
//!
//! What is left for the link is that its other end tells of the gateway's death. The class gives signs of life by
//! `notify()`, as with Gunicorn: until the first one, while it boots, they are given for it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use oxicorn_link::WorkerParts;

use super::Serving;

/// See the head of this file.
pub(crate) struct Direct {
    is_alive: AtomicBool,
    has_notified: AtomicBool,
    /// Held so that the gateway does not find the link left.
    _link: Mutex<WorkerParts>,
}

impl Direct {
    pub(crate) fn new(link: WorkerParts) -> Self {
        Self {
            is_alive: AtomicBool::new(true),
            has_notified: AtomicBool::new(false),
            _link: Mutex::new(link),
        }
    }

    /// Not stopped yet.
    pub(crate) fn is_alive(&self) -> bool {
        self.is_alive.load(Ordering::Relaxed)
    }

    /// The class has given a sign of life: from now on it must.
    pub(crate) fn notify(&self) {
        self.has_notified.store(true, Ordering::Relaxed);
    }
}

impl Serving for Direct {
    /// Its waits are Python's, which runs signal handlers by itself.
    fn interrupt(&self) {}

    fn stop(&self) {
        self.is_alive.store(false, Ordering::Relaxed);
    }

    fn is_responsive(&self) -> bool {
        !self.has_notified.load(Ordering::Relaxed)
    }
}
