//! The settings of each generation of workers.
//!
//! A reload loads new settings beside those in force. Workers that must be replaced while it is under
//! way, or after it was given up, are started with the settings of their own generation.

use std::collections::BTreeMap;

use oxicorn_arbiter::{Generation, Plan};
use pyo3::prelude::*;

use super::certificates::Certificates;
use super::listeners::Listener;
pub(crate) use crate::settings::with_settings;

/// What belongs to one generation.
#[derive(Debug)]
pub(crate) struct GenerationFile {
    /// `oxicorn.config.Config`.
    pub(crate) cfg: Py<PyAny>,
    /// `oxicorn.generation.Generation`: what a process enters that is of it.
    pub(crate) value: Py<PyAny>,
    /// Listeners bound for it that take over when it serves; `None`: those in use stay.
    pub(crate) listeners: Option<Vec<Listener>>,
    /// Certificates read for it, which are offered when it serves.
    pub(crate) certificates: Option<Certificates>,
}

/// Every generation that may still need workers.
#[derive(Debug, Default)]
pub(crate) struct Generations {
    files: BTreeMap<Generation, GenerationFile>,
}

impl Generations {
    pub(crate) fn insert(&mut self, generation: Generation, file: GenerationFile) {
        self.files.insert(generation, file);
    }

    pub(crate) fn get_mut(&mut self, generation: Generation) -> Option<&mut GenerationFile> {
        self.files.get_mut(&generation)
    }

    pub(crate) fn get(&self, generation: Generation) -> Option<&GenerationFile> {
        self.files.get(&generation)
    }

    pub(crate) fn remove(&mut self, generation: Generation) -> Option<GenerationFile> {
        self.files.remove(&generation)
    }

    /// `serving` has taken over: the ones before it start no more workers.
    pub(crate) fn forget_before(&mut self, serving: Generation) {
        self.files = self.files.split_off(&serving);
    }
}

/// The part of the settings that decides about processes.
pub(crate) fn plan_of(cfg: &Bound<'_, PyAny>) -> PyResult<Plan> {
    with_settings(cfg, |settings| Plan {
        workers: settings.inner.workers(),
        graceful_timeout: settings.inner.graceful_timeout(),
        boot_timeout: settings.inner.boot_timeout(),
        preload_app: settings.inner.get("preload_app").is_true()
            && !settings.inner.get("preload_in_arbiter").is_true(),
        daemon: settings.inner.get("daemon").is_true(),
        processors: processors(),
    })
}

/// How many processors this process and its children may use, by their affinity and the quota of their control group. Where
/// nobody says, there are plenty.
fn processors() -> u32 {
    let known = std::thread::available_parallelism();
    known.map_or(u32::MAX, |known| {
        u32::try_from(known.get()).unwrap_or(u32::MAX)
    })
}
