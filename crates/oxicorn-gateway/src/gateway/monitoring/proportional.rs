//! Memory of processes where what several share is counted once in all: the kernel's proportional set size.
//!
//! The kernel walks the pages of a process for it, which takes milliseconds and more: it is asked on a thread of its own,
//! after a scrape and for the next one, at most every [`EVERY`].

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use oxicorn_os::process::proportional_bytes_of;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(10);

/// What was found at the last look.
#[derive(Debug, Default)]
pub(crate) struct ProportionalMemory {
    looked: Option<Duration>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    is_looking: AtomicBool,
    /// Bytes by process.
    found: Mutex<HashMap<i32, u64>>,
}

impl ProportionalMemory {
    /// Bytes of each of these processes, as far as they are known; those that are not will be.
    pub(super) fn of(&mut self, processes: Vec<i32>, now: Duration) -> HashMap<i32, u64> {
        let found = lock(&self.shared.found);
        let is_known = processes.iter().all(|pid| found.contains_key(pid));
        let known = found.clone();
        drop(found);
        let is_due = self
            .looked
            .is_none_or(|looked| now.saturating_sub(looked) >= EVERY || !is_known);
        if is_due && !self.shared.is_looking.swap(true, Ordering::Relaxed) {
            self.looked = Some(now);
            self.look(processes);
        }
        known
    }

    fn look(&self, processes: Vec<i32>) {
        let shared = Arc::clone(&self.shared);
        let look = move || {
            let bytes = |pid: i32| Some((pid, proportional_bytes_of(pid)?));
            let found = processes.into_iter().filter_map(bytes).collect();
            *lock(&shared.found) = found;
            shared.is_looking.store(false, Ordering::Relaxed);
        };
        let thread = std::thread::Builder::new().name("oxicorn-memory".into());
        if thread.spawn(look).is_err() {
            self.shared.is_looking.store(false, Ordering::Relaxed);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // What it holds is whole whatever happens.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
