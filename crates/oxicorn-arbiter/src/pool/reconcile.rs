//! Compares the table with what is wanted and orders the difference.

use std::collections::{BTreeMap, BTreeSet};

use super::record::{PoolWorker, State};
use super::{Broker, Load, Outlook, Phase, Pool, PoolAction};
use crate::plan::timing::STOP_GRACE;
use crate::plan::{Generation, WorkerId};

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

    pub(super) const fn has_broker(&self) -> bool {
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
    pub(super) fn places(load: &Load) -> Vec<(u32, Option<Vec<usize>>)> {
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
        let is_needed = serves(next) && !serves(&self.serving) && self.resting.is_empty();
        if !is_complete && !is_needed {
            return;
        }
        let Some(next) = self.next.take() else { return };
        self.serving = next;
        self.serving.settled = true;
        self.resting.clear();
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
pub(super) fn fits(record: &PoolWorker, applications: Option<&[usize]>) -> bool {
    match (&record.applications, applications) {
        (Some(held), Some(wanted)) => held == wanted,
        (None, _) | (_, None) => true,
    }
}
