//! Workers that end because nobody calls them (setting `dirty_idle_timeout`), and come again when somebody does.
//!
//! A place that rests stays empty, and its applications are expected all the same: whoever calls one waits for the worker
//! that the call brings. A reload fills all places, because the new code might not be loadable.

use super::record::State;
use super::{Phase, Pool};
use crate::log::Level;
use crate::plan::WorkerId;

impl Pool {
    /// Its place stays empty until one of its applications is called. Not while new code is loaded: then it is replaced.
    pub(super) fn worker_idle(&mut self, worker: WorkerId) {
        let Some(record) = self.workers.get(&worker) else {
            return;
        };
        let serves = record.generation == self.serving.generation
            && record.state == State::Ready { announced: true };
        if self.phase == Phase::Running && self.next.is_none() && serves && !record.outgoing {
            let pid = record.pid;
            self.resting.insert(record.place);
            self.log(
                Level::Info,
                format!("Dirty worker (pid:{pid}) rests: its applications are not called"),
            );
            self.retire(worker);
        }
    }

    /// Fills a place that rests and has the application.
    pub(super) fn wake(&mut self, path: &str) {
        let load = &self.serving;
        let Some(app) = load.plan.apps.iter().position(|app| app.path == path) else {
            return;
        };
        let Some(limits) = &load.limits else { return };
        let mut resting = self.resting.iter().copied();
        let found = resting.find(|place| load.applications(*place, limits).contains(&app));
        if let Some(place) = found {
            self.resting.remove(&place);
        }
    }
}
