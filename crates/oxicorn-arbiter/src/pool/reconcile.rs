//! Compares the book with what is wanted and orders the difference.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::record::{PoolWorker, State};
use super::{Broker, Load, Outlook, Phase, Pool, PoolAction};
use crate::backoff::Backoff;
use crate::plan::timing::STOP_GRACE;
use crate::plan::{Generation, WorkerId};

/// A worker that could be started.
#[derive(Debug)]
struct Opening {
    place: u32,
    /// Not before.
    due: Duration,
    /// All applications of the place; `None`: they are to be found out.
    of_place: Option<Vec<usize>>,
    /// What it would load, in this order.
    loads: Vec<usize>,
}

impl Pool {
    pub(super) fn reconcile(&mut self) {
        self.dismiss_unwanted();
        match self.phase {
            Phase::Running => {
                self.start_broker();
                self.adopt_if_ready();
                self.staff();
                self.replace();
                self.announce();
                self.settle();
                self.expect();
            }
            Phase::Stopping => self.finish(),
            Phase::Over => {}
        }
    }

    /// Those whose fork was answered after they were told to go.
    fn dismiss_unwanted(&mut self) {
        for worker in self.select(|record| record.pid != 0 && record.state == State::Unwanted) {
            if let Some(record) = self.workers.get_mut(&worker) {
                record.state = State::Booting { until: None };
            }
            self.interrupt(worker);
        }
    }

    fn start_broker(&mut self) {
        if self.broker == Broker::Absent && self.broker_backoff.allows(self.now) {
            self.broker = Broker::Starting;
            self.broker_round = self.broker_backoff.round();
            self.broker_started = self.now;
            self.act(PoolAction::SpawnBroker);
        }
    }

    const fn has_broker(&self) -> bool {
        matches!(self.broker, Broker::Serving { .. })
    }

    pub(super) fn in_place(
        &self,
        generation: Generation,
        place: u32,
    ) -> impl Iterator<Item = &PoolWorker> {
        let workers = self.workers.values();
        workers.filter(move |record| record.generation == generation && record.place == place)
    }

    /// The places of a generation that should have a worker, with their applications. `None` for the applications: they
    /// are to be found out.
    fn places(load: &Load) -> Vec<(u32, Option<Vec<usize>>)> {
        let Some(limits) = &load.limits else {
            return if load.wanted > 0 {
                vec![(0, None)]
            } else {
                Vec::new()
            };
        };
        let places = if load.plan.one_process {
            load.wanted.min(1)
        } else {
            load.wanted
        };
        (0..places)
            .map(|place| (place, load.applications(place, limits)))
            .filter(|(_, applications)| !applications.is_empty())
            .map(|(place, applications)| (place, Some(applications)))
            .collect()
    }

    /// While a generation is loaded, nobody of the old one is started: it would run the new code.
    fn openings(&self) -> Vec<Opening> {
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
    fn keeps_its_process(&self, load: &Load) -> bool {
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

    fn staff(&mut self) {
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
            self.workers.insert(
                worker,
                PoolWorker {
                    generation,
                    place,
                    missing: missing.filter(|app| !loads.contains(app)).collect(),
                    applications: of_place,
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
            });
        }
    }

    /// The generation being loaded serves when every place has a ready worker; or when the old one has nobody left.
    fn adopt_if_ready(&mut self) {
        let Some(next) = &self.next else { return };
        let is_staffed = |load: &Load, place| {
            self.in_place(load.generation, place)
                .any(PoolWorker::is_ready)
        };
        let serves = |load: &Load| {
            let mut places = Self::places(load).into_iter();
            places.any(|(place, _)| is_staffed(load, place))
        };
        // What fails where it serves already, and is alone in its place, keeps nothing back.
        let is_hopeless = |applications: Option<Vec<usize>>| {
            let mut all = applications.into_iter().flatten();
            all.all(|app| next.failures.contains_key(&app))
        };
        let is_complete = next.wanted == 0
            || next.limits.is_some()
                && Self::places(next).into_iter().all(|(place, applications)| {
                    is_staffed(next, place) || is_hopeless(applications)
                });
        let is_needed = serves(next) && !serves(&self.serving);
        if !is_complete && !is_needed {
            return;
        }
        let Some(next) = self.next.take() else { return };
        self.serving = next;
        self.serving.settled = true;
        let generation = self.serving.generation;
        self.act(PoolAction::ServeGeneration(generation));
        self.announce();
        for worker in self.select(|record| record.generation != generation) {
            self.retire(worker);
        }
    }

    /// What has served once, as a whole, is not being loaded any more.
    fn settle(&mut self) {
        let load = &self.serving;
        self.serving.settled |= load.limits.is_some()
            && Self::places(load).into_iter().all(|(place, _)| {
                self.in_place(load.generation, place)
                    .any(PoolWorker::is_ready)
            });
    }

    fn announce(&mut self) {
        let generation = self.serving.generation;
        let is_new = |record: &PoolWorker| {
            record.generation == generation && record.state == State::Ready { announced: false }
        };
        for worker in self.select(is_new) {
            if let Some(record) = self.workers.get_mut(&worker) {
                record.state = State::Ready { announced: true };
            }
            self.act(PoolAction::AnnounceReady(worker));
        }
    }

    /// Retires whom another one has followed, and whose place is not there any more.
    fn replace(&mut self) {
        self.announce();
        let load = self.serving.clone();
        let places = Self::places(&load);
        // Who has most of a place's applications has the place; the newest of those.
        let mut holders: BTreeMap<u32, (usize, WorkerId)> = BTreeMap::new();
        for (&worker, record) in &self.workers {
            let place = places.iter().find(|(place, _)| *place == record.place);
            if let Some((place, applications)) = place
                && record.generation == load.generation
                && record.is_ready()
                && !record.outgoing
                && fits(record, applications.as_deref())
            {
                let claim = (record.held().len(), worker);
                let holder = holders.entry(*place).or_insert(claim);
                *holder = claim.max(*holder);
            }
        }
        let others: BTreeSet<WorkerId> = (self.workers.iter())
            .filter(|(worker, record)| {
                let place = places.iter().find(|(place, _)| *place == record.place);
                record.generation == load.generation
                    && record.is_active()
                    && match place {
                        None => load.limits.is_some(),
                        Some((place, applications)) => {
                            let is_out = record.outgoing || !fits(record, applications.as_deref());
                            let holder = holders.get(place);
                            (is_out || record.is_ready())
                                && holder.is_some_and(|(_, holder)| holder != *worker)
                        }
                    }
            })
            .map(|(worker, _)| *worker)
            .collect();
        for worker in others {
            self.retire(worker);
        }
    }

    /// Which applications somebody has, or is about to have.
    fn expect(&mut self) {
        if !self.has_broker() {
            return;
        }
        let is_active = |app: usize, load: &Load| {
            let mut workers = self.workers.values();
            workers.any(|record| {
                record.generation == load.generation && record.is_active() && record.may_have(app)
            })
        };
        // A worker is followed at once unless those before it died young; then nobody is to wait.
        let openings = self.openings();
        let is_hopeful = |app: usize, load: &Load| {
            let failure = load.failures.get(&app);
            failure.is_none_or(|failure| {
                failure.not_before <= self.now && !self.keeps_its_process(load)
            }) && (load.generation != self.newest().generation
                || openings.iter().all(|opening| {
                    opening.due <= self.now
                        || !(opening.of_place.as_ref()).is_none_or(|all| all.contains(&app))
                }))
        };
        let mut expected: Vec<Outlook> = Vec::new();
        for load in [Some(&self.serving), self.next.as_ref()]
            .into_iter()
            .flatten()
        {
            for (app, about) in load.plan.apps.iter().enumerate() {
                let is_expected =
                    load.wanted > 0 && (is_hopeful(app, load) || is_active(app, load));
                let failure = load
                    .failures
                    .get(&app)
                    .map(|failure| failure.reason.clone());
                match expected.iter_mut().find(|one| one.path == about.path) {
                    Some(known) => known.expected |= is_expected,
                    None => expected.push(Outlook {
                        path: about.path.clone(),
                        expected: is_expected,
                        failure,
                    }),
                }
            }
        }
        if expected != self.expected {
            self.expected.clone_from(&expected);
            self.act(PoolAction::Expect(expected));
        }
    }

    fn finish(&mut self) {
        if !self.workers.is_empty() {
            return;
        }
        match self.broker {
            Broker::Absent => self.phase = Phase::Over,
            Broker::Serving { .. } => {
                self.broker = Broker::Stopping {
                    kill_at: self.now + STOP_GRACE,
                };
                self.act(PoolAction::StopBroker);
            }
            Broker::Starting | Broker::Stopping { .. } => {}
        }
    }
}

/// Whether a worker has the applications its place should have; one that does not know them yet is about to.
fn fits(record: &PoolWorker, applications: Option<&[usize]>) -> bool {
    match (&record.applications, applications) {
        (Some(held), Some(wanted)) => held == wanted,
        (None, _) | (_, None) => true,
    }
}
