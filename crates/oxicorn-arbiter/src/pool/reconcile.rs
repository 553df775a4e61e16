//! Compares the book with what is wanted and orders the difference.

use std::collections::BTreeSet;

use super::record::{PoolWorker, State};
use super::{Broker, Load, Phase, Pool, PoolAction, applications_of};
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

    fn in_place(&self, generation: Generation, place: u32) -> impl Iterator<Item = &PoolWorker> {
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
        (0..load.wanted)
            .map(|place| (place, applications_of(place, load.wanted, limits)))
            .filter(|(_, applications)| !applications.is_empty())
            .map(|(place, applications)| (place, Some(applications)))
            .collect()
    }

    /// Places nobody is in who will stay.
    fn vacancies(&self, load: &Load) -> Vec<(u32, Option<Vec<usize>>)> {
        let is_vacant = |(place, applications): &(u32, Option<Vec<usize>>)| {
            let mut there = self.in_place(load.generation, *place);
            !there.any(|record| {
                record.is_active() && !record.outgoing && fits(record, applications.as_deref())
            })
        };
        let mut places = Self::places(load);
        places.retain(is_vacant);
        places
    }

    /// While a generation is loaded, nobody of the old one is started: it would run the new code.
    fn staffed(&self) -> &Load {
        self.newest()
    }

    pub(super) fn has_vacancy(&self) -> bool {
        self.phase == Phase::Running
            && self.has_broker()
            && !self.vacancies(self.staffed()).is_empty()
    }

    fn staff(&mut self) {
        if !self.has_broker() || !self.backoff.allows(self.now) {
            return;
        }
        let load = self.staffed().clone();
        for (place, applications) in self.vacancies(&load) {
            self.last_worker += 1;
            let worker = WorkerId(self.last_worker);
            self.workers.insert(
                worker,
                PoolWorker {
                    generation: load.generation,
                    place,
                    applications: applications.clone(),
                    pid: 0,
                    state: State::Starting,
                    started: self.now,
                    round: self.backoff.round(),
                    boot_limit: load.plan.boot_timeout,
                    outgoing: false,
                    lost: false,
                },
            );
            self.act(PoolAction::SpawnWorker {
                worker,
                generation: load.generation,
                place,
                applications,
            });
        }
    }

    /// The generation being loaded serves when every place has a ready worker; or when the old one has nobody left.
    fn adopt_if_ready(&mut self) {
        let Some(next) = &self.next else { return };
        let ready = |load: &Load| {
            let places = Self::places(load).into_iter();
            let is_ready = |(place, _): &(u32, Option<Vec<usize>>)| {
                self.in_place(load.generation, *place)
                    .any(PoolWorker::is_ready)
            };
            places.map(|place| is_ready(&place)).collect::<Vec<_>>()
        };
        let of_next = ready(next);
        let is_complete =
            next.limits.is_some() && of_next.iter().all(|ready| *ready) || next.wanted == 0;
        let is_needed = of_next.contains(&true) && !ready(&self.serving).contains(&true);
        if !is_complete && !is_needed {
            return;
        }
        let Some(next) = self.next.take() else { return };
        self.serving = next;
        let generation = self.serving.generation;
        self.act(PoolAction::ServeGeneration(generation));
        self.announce();
        for worker in self.select(|record| record.generation != generation) {
            self.retire(worker);
        }
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
        let mut filled = BTreeSet::new();
        for record in self.workers.values() {
            let place = places.iter().find(|(place, _)| *place == record.place);
            if let Some((place, applications)) = place
                && record.generation == load.generation
                && record.is_ready()
                && !record.outgoing
                && fits(record, applications.as_deref())
            {
                filled.insert(*place);
            }
        }
        let is_superfluous = |record: &PoolWorker| {
            let place = places.iter().find(|(place, _)| *place == record.place);
            record.generation == load.generation
                && record.is_active()
                && match place {
                    None => load.limits.is_some(),
                    Some((place, applications)) => {
                        (record.outgoing || !fits(record, applications.as_deref()))
                            && filled.contains(place)
                    }
                }
        };
        for worker in self.select(is_superfluous) {
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
                record.generation == load.generation
                    && record.is_active()
                    && record
                        .applications
                        .as_ref()
                        .is_none_or(|held| held.contains(&app))
            })
        };
        // A worker is followed at once unless those before it died young; then nobody is to wait.
        let is_hopeful = self.backoff.allows(self.now);
        let mut expected: Vec<(String, bool)> = Vec::new();
        for load in [Some(&self.serving), self.next.as_ref()]
            .into_iter()
            .flatten()
        {
            for (app, about) in load.plan.apps.iter().enumerate() {
                let is_expected = load.wanted > 0 && (is_hopeful || is_active(app, load));
                match expected.iter_mut().find(|(path, _)| *path == about.path) {
                    Some((_, known)) => *known |= is_expected,
                    None => expected.push((about.path.clone(), is_expected)),
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
