//! What the settings want of the pool.

use std::collections::BTreeMap;
use std::time::Duration;

use oxicorn_arbiter::pool::{PoolApp, PoolPlan};
use oxicorn_os::channel;
use oxicorn_pool::control::Settings;
use oxicorn_settings::POOL_THREADS_MAX;
use pyo3::prelude::*;

use crate::arbiter::supervisor::Supervisor;

const _: () = assert!(
    POOL_THREADS_MAX < channel::MAX_DESCRIPTORS,
    "the lanes of a worker and its control channel are the descriptors of one message"
);

/// What belongs to one load of the settings.
#[derive(Debug)]
pub(super) struct PoolFile {
    pub(super) cfg: Py<PyAny>,
    pub(super) apps: Vec<String>,
    /// Calls that each worker, or each of what one process runs elsewhere, may run at once.
    pub(super) threads: usize,
    pub(super) one_process: bool,
    pub(super) broker: Settings,
    pub(super) unpickles: bool,
}

impl PoolFile {
    /// How many lanes a process has where there are to be so many workers.
    pub(super) fn lanes(&self, workers: u32) -> usize {
        if !self.one_process {
            return self.threads;
        }
        let most = usize::try_from(workers).unwrap_or(usize::MAX);
        let most = most.saturating_mul(self.apps.len());
        most.saturating_mul(self.threads).clamp(1, POOL_THREADS_MAX)
    }

    /// Applications by their places in the plan, each once, with how many calls of it a process may run at once.
    pub(super) fn capacity(&self, places: &[usize]) -> (Vec<String>, Vec<usize>) {
        let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
        for place in places {
            *counts.entry(*place).or_default() += 1;
        }
        let each = counts.iter().map(|(&place, count)| {
            let path = self.apps[place].clone();
            (path, count.saturating_mul(self.threads))
        });
        each.unzip()
    }
}

/// What Python says of the settings: workers, applications with their numbers, threads, then seconds: timeout, graceful,
/// boot, idle; then queue limit, stash size, whether values may be pickled, and whether one process has all applications.
type Said = (
    u32,
    Vec<(String, Option<u32>)>,
    usize,
    (f64, f64, f64, f64),
    (usize, usize),
    bool,
    bool,
);

impl<'py> Supervisor<'py> {
    /// What the settings say of the pool; `None`: they want none. An error: they make no sense.
    pub(crate) fn pool_plan(&self, cfg: &Bound<'py, PyAny>) -> PyResult<Option<PoolPlan>> {
        Ok(self.pool_settings(cfg)?.map(|(_, plan)| plan))
    }

    pub(super) fn pool_settings(
        &self,
        cfg: &Bound<'py, PyAny>,
    ) -> PyResult<Option<(PoolFile, PoolPlan)>> {
        let said = self.server.dirty_plan(cfg)?;
        let Some(said) = said.extract::<Option<Said>>()? else {
            return Ok(None);
        };
        let (workers, apps, threads, seconds, bounds, unpickles, one_process) = said;
        let (timeout, graceful, boot, idle) = seconds;
        let duration = |seconds: f64| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
        let file = PoolFile {
            cfg: cfg.clone().unbind(),
            apps: apps.iter().map(|(path, _)| path.clone()).collect(),
            threads: threads.clamp(1, POOL_THREADS_MAX),
            one_process,
            broker: Settings {
                timeout: (timeout > 0.0).then(|| duration(timeout)),
                queue_limit: bounds.0,
                idle_timeout: (idle > 0.0).then(|| duration(idle)),
                stash_limit: bounds.1,
            },
            unpickles,
        };
        let apps = apps.into_iter();
        let plan = PoolPlan {
            workers,
            apps: apps.map(|(path, limit)| PoolApp { path, limit }).collect(),
            graceful_timeout: duration(graceful),
            boot_timeout: duration(boot),
            one_process,
        };
        Ok(Some((file, plan)))
    }
}
