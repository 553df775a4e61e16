//! The pool of heavy applications: who runs, who is replaced, when. A machine of its own beside [`crate::Arbiter`].
//!
//! It is used in the same way (events in, actions out, time as an argument), and decides about two kinds of processes: the
//! *broker*, of which there is one, and the *pool workers*. It is apart from the arbiter's machine because it has nothing
//! of what makes that one large: no template, no listeners, no successor, no requests that expire; and because neither
//! waits for the other. A pool that cannot start takes no request away, and the pool outlives the last HTTP worker, which
//! may call it.
//!
//! # Rules
//!
//! * A generation has so many *places* as there are to be workers. Which applications a place has is computed
//!   ([`applications_of`]); whoever dies is followed by one of the same place. Places without applications stay empty.
//!   Where one process runs all applications elsewhere there is one place, and who follows has other numbers of them.
//! * How many workers an application wants may be known only to its class. Then the first worker of a generation is started
//!   alone: it reports the numbers before it loads anything else.
//! * A generation is announced to the broker only when all its workers are ready, and the one before is retired in the same
//!   moment; so callers never meet old and new code in turn, and never nobody. One whose code cannot be loaded is given up,
//!   and the one before goes on.
//! * A place whose workers die young is filled more and more slowly; other places do not wait for it.
//! * An application that cannot be loaded takes nobody with it: its worker serves with the others it has. It is tried again
//!   more and more slowly, in a worker of its own place that loads it first and, if that fails, goes ([`failures`]).
//! * An application is *expected* as long as somebody has it or is about to; where that is not so, the broker lets callers
//!   know at once.
//! * Of an application each worker has an index, which whoever follows it inherits: so it has the same GPU.
//! * With the broker die the calls, so the workers go, too: they notice by themselves.

mod failures;
mod orders;
mod places;
mod plan;
mod reconcile;
mod record;
mod rest;
mod staffing;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

pub use self::failures::AppFailure;
use self::places::all_applications;
pub use self::places::applications_of;
pub use self::plan::{Outlook, PoolAction, PoolApp, PoolEvent, PoolPlan};
use self::record::{PoolWorker, State};
use crate::WorkerSignal;
use crate::backoff::Backoff;
use crate::event::Exit;
use crate::log::Level;
use crate::plan::timing::{ABORT_GRACE, RELOAD_DEATH_LIMIT, STOP_GRACE};
use crate::plan::{Generation, WorkerId};

/// Exit codes of a worker whose applications cannot be loaded.
const BOOT_FAILURES: [i32; 2] = [3, 4];

/// One load of the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Load {
    generation: Generation,
    plan: PoolPlan,
    wanted: u32,
    /// How many workers each application wants; `None`: not known yet.
    limits: Option<Vec<Option<u32>>>,
    /// Applications whose class could not be looked at when the others' were: their numbers are guesses.
    guessed: BTreeSet<usize>,
    /// Applications that could not be loaded, until they can.
    failures: BTreeMap<usize, AppFailure>,
    /// It has served, or it is known that it cannot as a whole.
    settled: bool,
    deaths: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Broker {
    Absent,
    Starting,
    Serving { pid: u32 },
    Stopping { kill_at: Duration },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    /// Workers are retired, then the broker is stopped.
    Stopping,
    Over,
}

/// The machine.
#[derive(Debug)]
pub struct Pool {
    phase: Phase,
    broker: Broker,
    broker_round: u32,
    broker_started: Duration,
    broker_backoff: Backoff,
    serving: Load,
    next: Option<Load>,
    last_generation: Generation,
    workers: BTreeMap<WorkerId, PoolWorker>,
    last_worker: u32,
    /// Places of what serves whose worker ended because nobody called it; the next call brings another.
    resting: BTreeSet<u32>,
    /// By place.
    backoffs: BTreeMap<u32, Backoff>,
    expected: Vec<Outlook>,
    reloads_refused: u64,
    /// Why, the last time.
    refusal: String,
    actions: VecDeque<PoolAction>,
    now: Duration,
}

/// Its use.
impl Pool {
    /// A pool that begins to start with the first [`Pool::poll_action`]s.
    pub fn new(plan: PoolPlan, now: Duration) -> Self {
        let generation = Generation(1);
        let mut pool = Self {
            phase: Phase::Running,
            broker: Broker::Absent,
            broker_round: 0,
            broker_started: now,
            broker_backoff: Backoff::default(),
            serving: Load::new(generation, plan),
            next: None,
            last_generation: generation,
            workers: BTreeMap::new(),
            last_worker: 0,
            resting: BTreeSet::new(),
            backoffs: BTreeMap::new(),
            expected: Vec::new(),
            reloads_refused: 0,
            refusal: String::new(),
            actions: VecDeque::new(),
            now,
        };
        pool.reconcile();
        pool
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<PoolAction> {
        self.actions.pop_front()
    }

    /// Something happened.
    pub fn handle(&mut self, event: PoolEvent, now: Duration) {
        self.now = now;
        match event {
            PoolEvent::BrokerSpawned { pid } => self.broker_spawned(pid),
            PoolEvent::BrokerSpawnFailed => {
                self.broker = Broker::Absent;
                self.broker_died();
            }
            PoolEvent::BrokerExited(exit) => self.broker_exited(exit),
            PoolEvent::WorkerSpawned { worker, pid } => self.worker_spawned(worker, pid),
            PoolEvent::WorkerSpawnFailed(worker) => {
                if let Some(gone) = self.workers.remove(&worker) {
                    self.count_death(&gone);
                }
            }
            PoolEvent::Limits { worker, limits } => self.learn_limits(worker, &limits),
            PoolEvent::Limit { worker, app, limit } => self.learn_limit(worker, app, limit),
            PoolEvent::AppLoading { worker, app } => {
                if let Some(record) = self.workers.get_mut(&worker) {
                    record.loading = Some(app);
                }
            }
            PoolEvent::AppFailed {
                worker,
                app,
                reason,
            } => self.app_failed(worker, app, &reason),
            PoolEvent::WorkerReady(worker) => self.worker_ready(worker),
            PoolEvent::WorkerExited {
                worker,
                exit,
                out_of_memory,
            } => {
                let how = if out_of_memory {
                    OUT_OF_MEMORY.to_owned()
                } else {
                    ended(exit)
                };
                self.worker_exited(worker, exit, how);
            }
            PoolEvent::WorkerIdle(worker) => self.worker_idle(worker),
            PoolEvent::Wanted { path } => self.wake(&path),
            PoolEvent::WorkerStuck { worker, call } => self.worker_stuck(worker, &call),
            PoolEvent::WorkerWantsReplacement(worker) => {
                if let Some(record) = self.workers.get_mut(&worker) {
                    record.outgoing = true;
                }
            }
            PoolEvent::Reload(plan) => self.reload(plan),
            PoolEvent::More(count) => self.change_wanted(i64::from(count)),
            PoolEvent::Fewer(count) => self.change_wanted(-i64::from(count)),
            PoolEvent::Reopen => self.signal_all(WorkerSignal::Reopen),
            PoolEvent::Stop => self.stop(),
            PoolEvent::StopQuickly => self.stop_quickly(),
        }
        self.reconcile();
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Duration) {
        self.now = now;
        self.enforce_deadlines();
        self.reconcile();
    }

    /// When [`Pool::handle_timeout`] is to be called at the latest.
    pub fn next_deadline(&self) -> Option<Duration> {
        let workers = self.workers.values().filter_map(PoolWorker::deadline);
        let broker = match self.broker {
            Broker::Stopping { kill_at } => Some(kill_at),
            Broker::Absent if self.phase == Phase::Running => {
                Some(self.broker_backoff.not_before())
            }
            _ => None,
        };
        workers.chain(broker).chain(self.next_start()).min()
    }

    /// Everything has ended.
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// How many workers there are to be.
    pub fn wanted(&self) -> u32 {
        self.newest().wanted
    }

    /// The fewest there can be: what one application wants.
    pub fn least(&self) -> u32 {
        self.newest().least()
    }

    /// How many workers can be of use: with more of them no application would have more; `None`: any number.
    pub fn most(&self) -> Option<u32> {
        self.newest().most()
    }

    /// The applications that a worker has or is about to have, by their places in the plan; none, while they are not known.
    pub fn applications(&self, worker: WorkerId) -> Vec<usize> {
        let found = self.workers.get(&worker);
        found.map_or_else(Vec::new, PoolWorker::held)
    }

    /// How many workers have ended because nobody called them, and come again when somebody does.
    pub fn resting(&self) -> usize {
        self.resting.len()
    }

    /// Which load of the settings serves.
    pub fn serving(&self) -> Generation {
        self.serving.generation
    }

    /// Which one is being loaded, also where nothing has served before.
    pub fn loading(&self) -> Option<Generation> {
        match &self.next {
            Some(next) => Some(next.generation),
            None => (!self.serving.settled).then_some(self.serving.generation),
        }
    }

    /// How many reloads were given up, and why the last one was.
    pub fn refused(&self) -> (u64, &str) {
        (self.reloads_refused, &self.refusal)
    }

    /// The applications of what serves that cannot be loaded.
    pub fn failures(&self) -> impl Iterator<Item = (&str, &AppFailure)> {
        let failures = self.serving.failures.iter();
        failures.map(|(&app, failure)| (self.serving.plan.apps[app].path.as_str(), failure))
    }

    fn newest(&self) -> &Load {
        self.next.as_ref().unwrap_or(&self.serving)
    }

    fn act(&mut self, action: PoolAction) {
        self.actions.push_back(action);
    }

    fn log(&mut self, level: Level, text: String) {
        self.act(PoolAction::Log(level, text));
    }
}

impl Load {
    fn new(generation: Generation, plan: PoolPlan) -> Self {
        let limits: Vec<_> = plan.apps.iter().map(|app| app.limit).collect();
        // Only applications without a number in the settings have one in their class.
        let is_known = plan.apps.iter().all(|app| app.limit.is_some());
        Self {
            generation,
            wanted: plan.workers,
            limits: is_known.then_some(limits),
            guessed: BTreeSet::new(),
            failures: BTreeMap::new(),
            settled: false,
            plan,
            deaths: 0,
        }
    }

    /// The sum of what applications want; `None`: one wants all workers, or it is not known yet.
    fn most(&self) -> Option<u32> {
        let mut limits = self.limits.as_ref()?.iter().copied();
        limits.try_fold(0_u32, |sum, limit| Some(sum.saturating_add(limit?)))
    }

    /// What a place has.
    fn applications(&self, place: u32, limits: &[Option<u32>]) -> Vec<usize> {
        if self.plan.one_process {
            all_applications(self.wanted, limits)
        } else {
            applications_of(place, self.wanted, limits)
        }
    }

    fn least(&self) -> u32 {
        let limits = self.limits.iter().flatten();
        limits.flatten().copied().max().unwrap_or(1).max(1)
    }
}

/// The broker.
impl Pool {
    fn broker_spawned(&mut self, pid: u32) {
        self.broker = Broker::Serving { pid };
        self.expected.clear();
    }

    fn broker_exited(&mut self, exit: Exit) {
        let before = std::mem::replace(&mut self.broker, Broker::Absent);
        if let Broker::Serving { pid } = before
            && self.phase == Phase::Running
        {
            let text = format!("The pool's broker (pid:{pid}) {}", ended(exit));
            self.log(Level::Error, text);
            self.broker_died();
        }
        // They notice by themselves, and have nothing to do any more.
        for worker in self.select(|record| !matches!(record.state, State::Stopping { .. })) {
            self.interrupt(worker);
        }
    }

    fn broker_died(&mut self) {
        self.broker_backoff
            .handle_death(self.broker_round, self.broker_started, self.now);
    }
}

/// Workers.
impl Pool {
    fn select(&self, is_wanted: impl Fn(&PoolWorker) -> bool) -> Vec<WorkerId> {
        let found = self.workers.iter().filter(|(_, record)| is_wanted(record));
        found.map(|(&worker, _)| worker).collect()
    }

    fn worker_spawned(&mut self, worker: WorkerId, pid: u32) {
        let Some(record) = self.workers.get_mut(&worker) else {
            return;
        };
        record.pid = pid;
        if let State::Starting = record.state {
            let limit = record.boot_limit;
            record.state = State::Booting {
                until: (!limit.is_zero()).then(|| self.now + limit),
            };
            // The first of a generation gets its applications when the numbers are known.
            if record.applications.is_some() {
                self.act(PoolAction::AttachWorker(worker));
            }
        }
    }

    fn load_of(&mut self, generation: Generation) -> Option<&mut Load> {
        let loads = [Some(&mut self.serving), self.next.as_mut()].into_iter();
        loads.flatten().find(|load| load.generation == generation)
    }

    fn learn_limits(&mut self, worker: WorkerId, limits: &[Option<u32>]) {
        let Some(record) = self.workers.get(&worker) else {
            return;
        };
        let (place, missing) = (record.place, record.missing.clone());
        let Some(load) = self.load_of(record.generation) else {
            return;
        };
        if load.limits.is_none() && limits.len() == load.plan.apps.len() {
            let given = load.plan.apps.iter().zip(limits);
            let mut limits: Vec<_> = given.map(|(app, found)| app.limit.or(*found)).collect();
            // Whose class cannot be looked at is tried in one worker, until it can.
            for &app in &missing {
                if load.plan.apps[app].limit.is_none() {
                    load.guessed.insert(app);
                    limits[app] = Some(1);
                }
            }
            load.limits = Some(limits);
        }
        let Some(limits) = &load.limits else { return };
        let applications = load.applications(place, limits);
        if let Some(record) = self.workers.get_mut(&worker)
            && record.applications.is_none()
        {
            // The first of its generation.
            record.indexes = applications.iter().map(|app| (*app, 0)).collect();
            record.applications = Some(applications);
            self.act(PoolAction::AttachWorker(worker));
        }
    }

    /// What the class of an application says, now that it can be looked at.
    fn learn_limit(&mut self, worker: WorkerId, app: usize, limit: Option<u32>) {
        let generation = self.workers.get(&worker).map(|record| record.generation);
        if let Some(load) = generation.and_then(|generation| self.load_of(generation))
            && load.guessed.remove(&app)
            && let Some(limits) = &mut load.limits
        {
            limits[app] = limit;
        }
    }

    fn worker_ready(&mut self, worker: WorkerId) {
        if let Some(record) = self.workers.get_mut(&worker)
            && let State::Booting { .. } = record.state
        {
            record.state = State::Ready { announced: false };
            record.loading = None;
            let (generation, held) = (record.generation, record.held());
            if generation == self.serving.generation {
                self.resting.remove(&record.place);
            }
            if let Some(load) = self.load_of(generation) {
                load.failures.retain(|app, _| !held.contains(app));
            }
        }
    }

    fn worker_exited(&mut self, worker: WorkerId, exit: Exit, how: String) {
        let Some(record) = self.workers.remove(&worker) else {
            return;
        };
        let how = match record.state {
            State::Stopping { .. } if record.lost => how,
            State::Stopping { .. } if self.phase == Phase::Running => "was stopped".to_owned(),
            State::Stopping { .. } => "was stopped with its server".to_owned(),
            _ => how,
        };
        let was_booting = matches!(record.state, State::Booting { .. });
        let expected = matches!(
            record.state,
            State::Retiring { .. } | State::Stopping { .. }
        );
        let is_boot_failure =
            was_booting && matches!(exit, Exit::Code(code) if BOOT_FAILURES.contains(&code));
        if is_boot_failure {
            let text = format!("Dirty worker failed to boot (pid:{})", record.pid);
            self.log(Level::Error, text);
        } else if !expected {
            let text = format!("Dirty worker (pid:{}) {how}", record.pid);
            self.log(Level::Error, text);
        }
        let blamed = was_booting && !record.failed && self.blame(worker, &record, &how);
        self.act(PoolAction::WorkerReaped { worker, how });
        if record.failed || blamed {
            // That was counted where it belongs: at its applications.
            return;
        }
        if !expected || record.lost {
            self.count_death(&record);
        }
        if is_boot_failure && self.is_next(record.generation) {
            self.give_up_reload("its applications cannot be loaded");
        }
    }

    fn is_next(&self, generation: Generation) -> bool {
        self.next
            .as_ref()
            .is_some_and(|next| next.generation == generation)
    }

    fn count_death(&mut self, record: &PoolWorker) {
        let backoff = self.backoffs.entry(record.place).or_default();
        backoff.handle_death(record.round, record.started, self.now);
        if record.generation == self.serving.generation {
            self.serving.settled = true;
        }
        if let Some(next) = &mut self.next
            && next.generation == record.generation
        {
            next.deaths += 1;
            if next.deaths >= RELOAD_DEATH_LIMIT {
                self.give_up_reload("its workers died");
            }
        }
    }

    /// A call does not end: nothing more is placed there. What else runs there may end first.
    fn worker_stuck(&mut self, worker: WorkerId, call: &str) {
        let Some(record) = self.workers.get_mut(&worker) else {
            return;
        };
        record.lost = true;
        let pid = record.pid;
        self.log(
            Level::Critical,
            format!("DIRTY WORKER TIMEOUT (pid:{pid}): {call}"),
        );
        self.act(PoolAction::DumpStacks(worker));
        self.abort(worker);
    }

    fn abort(&mut self, worker: WorkerId) {
        self.signal_to_end(worker, WorkerSignal::Abort, ABORT_GRACE);
    }

    fn interrupt(&mut self, worker: WorkerId) {
        self.signal_to_end(worker, WorkerSignal::Quick, STOP_GRACE);
    }

    fn signal_to_end(&mut self, worker: WorkerId, signal: WorkerSignal, grace: Duration) {
        let Some(record) = self.workers.get_mut(&worker) else {
            return;
        };
        if let State::Starting = record.state {
            record.state = State::Unwanted;
            return;
        }
        record.state = State::Stopping {
            kill_at: self.now + grace,
            killed: false,
        };
        self.act(PoolAction::SignalWorker { worker, signal });
    }

    /// It gets nothing more, finishes, and is released by the broker.
    fn retire(&mut self, worker: WorkerId) {
        let deadline = self.now + self.serving.plan.graceful_timeout;
        let Some(record) = self.workers.get_mut(&worker) else {
            return;
        };
        match record.state {
            State::Ready { .. } => {
                record.state = State::Retiring { deadline };
                self.act(PoolAction::RetireWorker(worker));
            }
            State::Starting | State::Booting { .. } => self.interrupt(worker),
            State::Unwanted | State::Retiring { .. } | State::Stopping { .. } => {}
        }
    }

    fn signal_all(&mut self, signal: WorkerSignal) {
        for worker in self.select(|record| record.pid != 0) {
            self.act(PoolAction::SignalWorker { worker, signal });
        }
    }

    fn enforce_deadlines(&mut self) {
        let now = self.now;
        for worker in self.select(|record| record.deadline().is_some_and(|at| at <= now)) {
            let record = &self.workers[&worker];
            let (pid, loading) = (record.pid, record.loading);
            match record.state {
                State::Booting { .. } => {
                    let text = format!("Dirty worker (pid:{pid}) was not ready in time");
                    self.log(Level::Critical, text);
                    if let Some(record) = self.workers.get_mut(&worker) {
                        record.lost = true;
                    }
                    self.act(PoolAction::DumpStacks(worker));
                    if let Some(app) = loading {
                        self.app_failed(worker, app, "it was not loaded within boot_timeout");
                    }
                    self.abort(worker);
                }
                State::Retiring { .. } => {
                    let text = format!(
                        "Dirty worker (pid:{pid}) did not finish its calls within \
                         dirty_graceful_timeout"
                    );
                    self.log(Level::Warning, text);
                    self.act(PoolAction::DumpStacks(worker));
                    self.interrupt(worker);
                }
                State::Stopping { .. } => {
                    if let Some(record) = self.workers.get_mut(&worker) {
                        record.state = State::Stopping {
                            kill_at: now,
                            killed: true,
                        };
                    }
                    self.act(PoolAction::SignalWorker {
                        worker,
                        signal: WorkerSignal::Kill,
                    });
                }
                State::Starting | State::Unwanted | State::Ready { .. } => {}
            }
        }
        if let Broker::Stopping { kill_at } = self.broker
            && kill_at <= now
        {
            self.broker = Broker::Stopping {
                kill_at: now + STOP_GRACE,
            };
            self.act(PoolAction::KillBroker);
        }
    }
}

/// How a worker ended that took the last memory there was.
const OUT_OF_MEMORY: &str = "was ended by the kernel: the memory of its control group was used up";

/// How a process ended, for a line in the log and for whoever called it.
fn ended(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("exited with code {code}"),
        Exit::Signal(signal) => format!("was ended by signal {signal}"),
    }
}

#[cfg(test)]
mod tests;
