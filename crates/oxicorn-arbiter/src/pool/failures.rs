//! Applications that cannot be loaded.
//!
//! Each is counted by itself, so that one which is broken holds no other up. It is tried again at once, then more and more
//! slowly: where its place has a worker with other applications, in a second one that begins with it and is dismissed if it
//! fails; where the place is empty, in the next one there.

use std::time::Duration;

use super::Pool;
use super::record::{PoolWorker, State};
use crate::backoff::wait_after;
use crate::log::Level;
use crate::plan::WorkerId;

/// An application that could not be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppFailure {
    /// Why, in one line.
    pub reason: String,
    /// How often, one after the other.
    pub count: u32,
    /// When it is tried again.
    pub not_before: Duration,
    /// Only a worker that was started later counts again: those started together fail together.
    counted: WorkerId,
}

impl Pool {
    /// A worker could not load one of its applications. It goes on with the others, and ends by itself where there are none.
    pub(super) fn app_failed(&mut self, worker: WorkerId, app: usize, reason: &str) {
        let Some(record) = self.workers.get_mut(&worker) else {
            return;
        };
        record.missing.insert(app);
        record.loading = None;
        record.failed = true;
        let generation = record.generation;
        if self.is_next(generation) && !self.fails_already(app) {
            let path = &self.newest().plan.apps[app].path;
            return self.give_up_reload(&format!("{path} cannot be loaded: {reason}"));
        }
        self.note_failure(worker, app, reason);
        self.dismiss_vain_attempt(worker);
    }

    /// A worker that died while it loaded an application; whether that was laid to the application. Not so in a reload,
    /// which is given up when this goes on.
    pub(super) fn blame(&mut self, worker: WorkerId, record: &PoolWorker, how: &str) -> bool {
        match record.loading {
            Some(app) if record.generation == self.serving.generation => {
                let reason = format!("its worker {how} while it was loaded");
                self.note_failure(worker, app, &reason);
                true
            }
            _ => false,
        }
    }

    fn note_failure(&mut self, worker: WorkerId, app: usize, reason: &str) {
        let (now, last_worker) = (self.now, WorkerId(self.last_worker));
        let generation = match self.workers.get(&worker) {
            Some(record) => record.generation,
            None => self.serving.generation,
        };
        let Some(load) = self.load_of(generation) else {
            return;
        };
        load.settled = true;
        let path = load.plan.apps[app].path.clone();
        let failure = load.failures.entry(app).or_insert_with(|| AppFailure {
            reason: String::new(),
            count: 0,
            not_before: now,
            counted: WorkerId(0),
        });
        reason.clone_into(&mut failure.reason);
        if worker <= failure.counted {
            return;
        }
        failure.count += 1;
        failure.counted = last_worker;
        let wait = wait_after(failure.count);
        failure.not_before = now.saturating_add(wait);
        let text = format!(
            "Dirty app {path} cannot be loaded: {reason}; it is tried again in {:.1} s",
            wait.as_secs_f64()
        );
        self.log(Level::Error, text);
    }

    /// What serves does without the application, too: a reload takes nothing away from it.
    fn fails_already(&self, app: usize) -> bool {
        let path = &self.newest().plan.apps[app].path;
        let Some(old) = (self.serving.plan.apps.iter()).position(|one| one.path == *path) else {
            return false;
        };
        let mut workers = self.workers.values();
        self.serving.failures.contains_key(&old)
            && !workers.any(|record| {
                record.generation == self.serving.generation
                    && record.is_ready()
                    && record.may_have(old)
            })
    }

    /// A second worker in a place that will have no more than the first is not needed.
    fn dismiss_vain_attempt(&mut self, worker: WorkerId) {
        let Some(record) = self.workers.get(&worker) else {
            return;
        };
        let held = record.held();
        let is_vain = self.in_place(record.generation, record.place).any(|other| {
            other.is_ready()
                && !other.outgoing
                // One that is to have others is followed by this one.
                && other.applications == record.applications
                && held.iter().all(|app| other.may_have(*app))
        });
        if is_vain && !matches!(record.state, State::Stopping { .. }) {
            self.interrupt(worker);
        }
    }
}
