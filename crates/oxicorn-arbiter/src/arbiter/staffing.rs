//! The comparison of what there is with what is wanted, after every event.
//!
//! It looks at the table only, never at the event: whatever happened, in whatever order, the difference is made good from
//! here. The order of the steps matters: the change of generation first (it decides who is wanted), then who is too many,
//! then who is missing.

use super::{Arbiter, Boot, Phase};
use crate::action::Action;
use crate::log::LogLine;
use crate::plan::{Generation, WorkerId};
use crate::worker::{WorkerRecord, WorkerState};

/// At most so many processes for each worker wanted: one that serves, one that drains, one that was lost and is dying or
/// belongs to the generation to come.
const PROCESSES_PER_WORKER: usize = 3;

impl Arbiter {
    pub(super) fn reconcile(&mut self) {
        match self.phase {
            Phase::Running => self.staff(),
            Phase::Stopping(_) => {
                self.release_templates();
                self.exit_if_done();
            }
            Phase::Idle | Phase::Exited => {}
        }
    }

    fn staff(&mut self) {
        self.announce_wanted();
        self.start_gateway();
        self.adopt_generation_if_ready();
        self.staff_templates();
        self.note_first_boot();
        self.dismiss_surplus();
        self.note_peak();
        self.fill_vacancies();
        self.note_wait_for_room();
        self.announce_active();
    }

    /// What the bound on all processes is measured by. It stays while those are leaving who were wanted then: after
    /// `workers` was made smaller, they must not keep a dead worker from being replaced.
    fn note_peak(&mut self) {
        let wanted = self.wanted.max(self.wanted());
        let somebody_leaves = self.workers.count(|r| !r.is_active() && !r.is_killed()) > 0;
        self.peak = if somebody_leaves {
            self.peak.max(wanted)
        } else {
            wanted
        };
    }

    fn note_first_boot(&mut self) {
        let all_ready = self.workers.ready(self.serving) >= self.wanted as usize;
        if self.boot == Boot::Pending && all_ready && self.is_preloaded(self.serving) {
            self.boot = Boot::Done;
        }
        if self.boot == Boot::Done && self.gateway.is_serving() {
            self.boot = Boot::Announced;
            self.act(Action::AnnounceBooted);
        }
    }

    fn dismiss_surplus(&mut self) {
        let wanted = self.wanted as usize;
        if let Some((to_come, to_come_wanted)) = self.generation_to_come() {
            // Nobody of the old generation needs a successor any more, and one that hangs in its boot must not take the
            // room of the new generation.
            self.trim(self.serving, self.workers.active(self.serving), wanted);
            self.trim(to_come, self.workers.staying(to_come), to_come_wanted);
        } else {
            self.trim(self.serving, self.workers.staying(self.serving), wanted);
        }
    }

    /// Those that do not serve yet go first, the youngest before the others. A ready one goes only when there are more
    /// ready ones than wanted: first whoever asked for a successor, then the oldest.
    fn trim(&mut self, generation: Generation, staying: usize, wanted: usize) {
        let surplus = staying.saturating_sub(wanted);
        let unready = self
            .workers
            .select(|r| r.generation() == generation && r.is_active() && !r.is_ready());
        for &worker in unready.iter().rev().take(surplus) {
            self.dismiss(worker);
        }
        let surplus = self.workers.ready(generation).saturating_sub(wanted);
        for worker in self
            .ready_by_succession(generation)
            .into_iter()
            .take(surplus)
        {
            self.retire(worker);
        }
    }

    fn ready_by_succession(&self, generation: Generation) -> Vec<WorkerId> {
        let mut ready: Vec<&WorkerRecord> = self
            .workers
            .iter()
            .filter(|r| r.is_ready() && r.generation() == generation)
            .collect();
        ready.sort_by_key(|r| (!r.is_outgoing(), r.id()));
        ready.into_iter().map(WorkerRecord::id).collect()
    }

    /// Says once that a reload waits for those who are leaving, because nothing else tells for as long as they may take.
    fn note_wait_for_room(&mut self) {
        let leaving = self.workers.count(|r| !r.is_active() && !r.is_killed());
        if self.has_room() || leaving == 0 {
            return;
        }
        let Some(reload) = &mut self.reload else {
            return;
        };
        let (generation, wanted) = (reload.generation, reload.wanted as usize);
        let vacant = self.workers.active(generation) < wanted;
        if vacant && !std::mem::replace(&mut reload.waited, true) {
            self.log(LogLine::ReloadWaits {
                generation,
                leaving,
            });
        }
    }

    fn has_room(&self) -> bool {
        self.workers.alive() < PROCESSES_PER_WORKER * self.peak as usize
    }

    fn fill_vacancies(&mut self) {
        if !self.backoff.allows(self.now) {
            return;
        }
        while let Some(generation) = self.vacancy() {
            self.start_worker(generation);
        }
    }

    /// Whether a worker is to be started as soon as back-off lets it. True also when that time has just come: an event that
    /// was ignored may have moved the clock beyond it.
    pub(super) fn has_vacancy(&self) -> bool {
        self.vacancy().is_some()
    }

    /// The generation that lacks a worker which may be started, were it not for back-off.
    fn vacancy(&self) -> Option<Generation> {
        if let Some((generation, wanted)) = self.generation_to_come() {
            let room = self.has_room();
            // From its template a worker of the old generation has the old code.
            let templated = self.is_templated(self.serving);
            if room && templated && self.lacks_worker() && self.can_fork(self.serving) {
                return Some(self.serving);
            }
            let vacant = room && self.workers.active(generation) < wanted;
            (vacant && self.can_fork(generation)).then_some(generation)
        } else {
            let vacant = self.has_room() && (self.lacks_worker() || self.lacks_successor());
            let vacant = vacant && !self.waits_for_vanguard();
            (vacant && self.can_fork(self.serving)).then_some(self.serving)
        }
    }

    /// Fewer than wanted. What is still on its way out does not matter, except when more workers are lost but alive than
    /// are wanted: then some of them have to die first, or a hanging database would fill the machine with expired ones.
    fn lacks_worker(&self) -> bool {
        let wanted = self.wanted as usize;
        let beyond = self.workers.lost(self.serving).saturating_sub(wanted);
        self.workers.active(self.serving) + beyond < wanted
    }

    /// Enough, but some of them wait for a successor, and it is their turn: not all at once, and not faster than those
    /// before them leave.
    fn lacks_successor(&self) -> bool {
        let wanted = self.wanted as usize;
        let at_once = (wanted / 4).max(1);
        self.workers.staying(self.serving) < wanted && self.workers.alive() < wanted + at_once
    }

    fn start_worker(&mut self, generation: Generation) {
        let worker = WorkerId(self.last_worker.0.wrapping_add(1));
        self.last_worker = worker;
        let limit = self.patience.limit(self.boot_timeout_of(generation));
        let round = self.backoff.round();
        let record = WorkerRecord::ordered(worker, generation, self.now, round, limit);
        let age = record.age();
        self.workers.enter(record);
        self.occupy_template(generation);
        self.act(Action::SpawnWorker {
            worker,
            age,
            generation,
        });
    }

    fn generation_to_come(&self) -> Option<(Generation, usize)> {
        self.reload
            .as_ref()
            .map(|reload| (reload.generation, reload.wanted as usize))
    }

    /// Gunicorn's debug line. Those on order do not count yet.
    fn announce_active(&mut self) {
        let active = self
            .workers
            .count(|r| !matches!(r.state(), WorkerState::Starting { .. }));
        if std::mem::replace(&mut self.announced_active, active) != active {
            self.log(LogLine::ActiveWorkers(active));
        }
    }
}
