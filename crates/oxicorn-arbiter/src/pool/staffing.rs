//! Who is started next, when, and with what.

use std::collections::BTreeSet;
use std::time::Duration;

use super::reconcile::fits;
use super::record::{PoolWorker, State};
use super::{Load, Phase, Pool, PoolAction};
use crate::backoff::Backoff;
use crate::plan::WorkerId;

/// A worker that could be started.
#[derive(Debug)]
pub(super) struct Opening {
    place: u32,
    /// Not before.
    pub(super) due: Duration,
    /// All applications of the place; `None`: they are to be found out.
    pub(super) of_place: Option<Vec<usize>>,
    /// What it would load, in this order.
    loads: Vec<usize>,
}

impl Pool {
    /// While a generation is loaded, nobody of the old one is started: it would run the new code.
    pub(super) fn openings(&self) -> Vec<Opening> {
        if self.phase != Phase::Running || !self.has_broker() {
            return Vec::new();
        }
        let load = self.newest();
        let places = Self::places(load).into_iter();
        let openings = places.filter_map(|(place, of_place)| self.opening(load, place, of_place));
        openings.collect()
    }

    /// Whether a worker could be started here, and what it would load.
    fn opening(&self, load: &Load, place: u32, of_place: Option<Vec<usize>>) -> Option<Opening> {
        if load.generation == self.serving.generation && self.resting.contains(&place) {
            return None;
        }
        let there: Vec<&PoolWorker> = self
            .in_place(load.generation, place)
            .filter(|record| {
                record.is_active() && !record.outgoing && fits(record, of_place.as_deref())
            })
            .collect();
        let Some(all) = &of_place else {
            return there.is_empty().then(|| Opening {
                place,
                due: self.may_fill(place),
                of_place,
                loads: Vec::new(),
            });
        };
        if !there.is_empty() && self.keeps_its_process(load) {
            return None;
        }
        // An application that is being tried is not tried twice.
        let is_free = |app: &usize| {
            let mut workers = self.workers.values();
            !load.failures.contains_key(app)
                || !workers.any(|record| {
                    record.generation == load.generation
                        && record.is_active()
                        && !record.is_ready()
                        && record.may_have(*app)
                })
        };
        let not_before = |app: &usize| {
            let failure = load.failures.get(app);
            failure.map_or(Duration::ZERO, |failure| failure.not_before)
        };
        let (wanted, least): (Vec<usize>, Duration) = if there.is_empty() {
            (all.clone(), self.may_fill(place))
        } else if there.iter().all(|record| record.is_ready()) {
            let is_missing = |app: &usize| there.iter().all(|record| !record.may_have(*app));
            (
                all.iter().copied().filter(is_missing).collect(),
                Duration::ZERO,
            )
        } else {
            return None;
        };
        let wanted: Vec<usize> = wanted.into_iter().filter(is_free).collect();
        let due = least.max(wanted.iter().map(not_before).min()?);
        let due_by_then = |app: &usize| not_before(app) <= due.max(self.now);
        let mut loads: Vec<usize> = if there.is_empty() {
            // What is known to load comes first.
            all.iter()
                .copied()
                .filter(|app| !load.failures.contains_key(app))
                .collect()
        } else {
            Vec::new()
        };
        let rest = wanted.into_iter().filter(due_by_then);
        let rest: Vec<usize> = rest.filter(|app| !loads.contains(app)).collect();
        loads.extend(rest);
        if !there.is_empty() {
            let others = all
                .iter()
                .copied()
                .filter(|app| !load.failures.contains_key(app));
            let others: Vec<usize> = others.filter(|app| !loads.contains(app)).collect();
            loads.extend(others);
        }
        Some(Opening {
            place,
            due,
            of_place,
            loads,
        })
    }

    /// There is one process and it serves. A second one would start everything again to try one application that could not be
    /// loaded: that is left to whoever reloads.
    pub(super) fn keeps_its_process(&self, load: &Load) -> bool {
        let mut there = self.in_place(load.generation, 0);
        load.plan.one_process && there.any(|record| record.is_ready() && !record.outgoing)
    }

    fn may_fill(&self, place: u32) -> Duration {
        let backoff = self.backoffs.get(&place);
        backoff.map_or(Duration::ZERO, Backoff::not_before)
    }

    /// When the next worker can be started.
    pub(super) fn next_start(&self) -> Option<Duration> {
        self.openings().iter().map(|opening| opening.due).min()
    }

    pub(super) fn staff(&mut self) {
        let (generation, boot_limit) = {
            let load = self.newest();
            (load.generation, load.plan.boot_timeout)
        };
        // Each changes what the next one may try.
        while let Some(opening) = self
            .openings()
            .into_iter()
            .find(|opening| opening.due <= self.now)
        {
            let Opening {
                place,
                of_place,
                loads,
                ..
            } = opening;
            self.last_worker += 1;
            let worker = WorkerId(self.last_worker);
            let applications = of_place.is_some().then(|| loads.clone());
            let missing = of_place.iter().flatten().copied();
            let indexes = self.indexes(self.newest(), place, of_place.as_deref().unwrap_or(&[]));
            self.workers.insert(
                worker,
                PoolWorker {
                    generation,
                    place,
                    missing: missing.filter(|app| !loads.contains(app)).collect(),
                    applications: of_place,
                    indexes: indexes.iter().copied().collect(),
                    loading: None,
                    failed: false,
                    pid: 0,
                    state: State::Starting,
                    started: self.now,
                    round: self.backoffs.get(&place).map_or(0, Backoff::round),
                    boot_limit,
                    outgoing: false,
                    lost: false,
                },
            );
            self.act(PoolAction::SpawnWorker {
                worker,
                generation,
                place,
                applications,
                indexes,
            });
        }
    }

    /// Of each application, which of its workers the next one in this place is: the same as the one before it, or the first
    /// that nobody is whose place is to have the application.
    fn indexes(&self, load: &Load, place: u32, applications: &[usize]) -> Vec<(usize, u32)> {
        let places = Self::places(load);
        let is_to_have = |place: u32, app: usize| {
            let mut places = places.iter().filter(|(one, _)| *one == place);
            places.any(|(_, all)| all.as_ref().is_none_or(|all| all.contains(&app)))
        };
        let index_in = |place: u32, app: usize| {
            let there = self.in_place(load.generation, place);
            there
                .filter(|record| record.is_active())
                .find_map(|record| record.indexes.get(&app).copied())
        };
        let index = |app: usize| {
            index_in(place, app).unwrap_or_else(|| {
                let others = places.iter().map(|(place, _)| *place);
                let taken: BTreeSet<u32> = others
                    .filter(|place| is_to_have(*place, app))
                    .filter_map(|place| index_in(place, app))
                    .collect();
                let most = u32::try_from(taken.len()).unwrap_or(u32::MAX);
                let free = (0..=most).find(|index| !taken.contains(index));
                free.unwrap_or(most)
            })
        };
        applications.iter().map(|&app| (app, index(app))).collect()
    }
}
