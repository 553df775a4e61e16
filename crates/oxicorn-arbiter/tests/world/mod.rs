//! A world around an arbiter that knows which processes there are and what each of them and the gateway was told, and
//! that checks every order against it.
//!
//! The rules checked at once, in `check`: nothing is ordered about a process that is not there; the gateway is told about
//! a worker in the right order, once, and only while it listens; a generation takes over only when it offers at least
//! what the old one did; a worker of the serving generation is retired only while enough others are ready; whoever
//! ends without haste gets TERM before anything else, once, and is released after it; the documented bounds on the number
//! of processes; on exit every process was reaped or killed. Rules about the long run are methods:
//! `assert_settles` and `assert_terminates`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use oxicorn_arbiter::{
    Action, Arbiter, Command, Event, Exit, Generation, LogLine, Plan, TemplateState, WorkerId,
    WorkerSignal, WorkerState, timing,
};

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one thing that is pending or was seen"
)]
pub(crate) struct World {
    pub(crate) arbiter: Arbiter,
    pub(crate) now: Duration,
    pub(crate) forks_fail: bool,
    pub(crate) workers: BTreeMap<WorkerId, Worker>,
    pub(crate) gateway: Option<Gateway>,
    pub(crate) templates: BTreeMap<Generation, Template>,
    /// What each configuration that was loaded says about preloading.
    preload_app: BTreeMap<Generation, bool>,
    pub(crate) loading: bool,
    /// A successor was ordered.
    pub(crate) upgrading: bool,
    pub(crate) has_successor: bool,
    booted: bool,
    pub(crate) exited: Option<i32>,
    /// Several events came before the actions were done: the state may be further than an action.
    at_once: bool,
    /// Ready workers of the serving generation before the last event.
    ready_before: usize,
    /// Ever started.
    pub(crate) spawned: u32,
    next_pid: u32,
    announced: Option<u32>,
    pub(crate) last_generation: Generation,
    served: Generation,
    served_wanted: usize,
    /// The most workers ever wanted.
    peak: usize,
    /// Something died, expired or was scaled: only the widest bound holds.
    troubled: bool,
}

/// A template that was not reaped.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one thing it was told or did"
)]
pub(crate) struct Template {
    pub(crate) loaded: bool,
    pub(crate) stopping: bool,
    pub(crate) killed: bool,
    /// The order it has not answered.
    pub(crate) forking: Option<WorkerId>,
    gone: bool,
}

/// A process that was not reaped.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one thing it was told"
)]
pub(crate) struct Worker {
    /// It got TERM.
    told: bool,
    released: bool,
    pub(crate) killed: bool,
    reaped: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one thing it was told"
)]
pub(crate) struct Gateway {
    pub(crate) ready: bool,
    pub(crate) draining: bool,
    pub(crate) stopping: bool,
    pub(crate) killed: bool,
    /// Reaped; kept until all that was ordered before has been done.
    gone: bool,
    attached: BTreeSet<WorkerId>,
    announced: BTreeSet<WorkerId>,
    pub(crate) retired: BTreeSet<WorkerId>,
    serves: Option<Generation>,
}

#[allow(dead_code, reason = "every test binary uses other parts")]
impl World {
    pub(crate) fn new(plan: Plan) -> Self {
        let workers = plan.workers as usize;
        let preload_app = BTreeMap::from([(Generation(1), plan.preload_app)]);
        Self {
            arbiter: Arbiter::new(plan),
            now: Duration::from_secs(1000),
            forks_fail: false,
            workers: BTreeMap::new(),
            gateway: None,
            templates: BTreeMap::new(),
            preload_app,
            loading: false,
            upgrading: false,
            has_successor: false,
            booted: false,
            exited: None,
            at_once: false,
            ready_before: 0,
            spawned: 0,
            next_pid: 100,
            announced: None,
            last_generation: Generation(1),
            served: Generation(1),
            served_wanted: workers,
            peak: workers,
            troubled: false,
        }
    }

    /// Several things happen before the performer comes to do anything.
    pub(crate) fn events(&mut self, events: Vec<Event>) -> Vec<Action> {
        self.at_once = true;
        for event in events {
            self.note(&event);
            self.arbiter.handle(event, self.now);
        }
        let done = self.perform();
        self.at_once = false;
        done
    }

    /// Something happens; gives what was done about it.
    pub(crate) fn event(&mut self, event: Event) -> Vec<Action> {
        self.note(&event);
        let before = self.arbiter.clone();
        self.arbiter.handle(event, self.now);
        let done = self.perform();
        if let [Action::Log(LogLine::EventIgnored { .. }, _)] = done[..] {
            assert!(
                self.arbiter == before || self.now_moved(&before),
                "an ignored event changed something"
            );
        }
        done
    }

    pub(crate) fn timeout(&mut self) -> Vec<Action> {
        self.arbiter.handle_timeout(self.now);
        let done = self.perform();
        let next = self.arbiter.next_deadline();
        assert!(
            next.is_none_or(|at| at > self.now),
            "a deadline that does not go away"
        );
        done
    }

    /// To the next deadline; `false` if there is none.
    pub(crate) fn wait(&mut self) -> bool {
        let Some(deadline) = self.arbiter.next_deadline() else {
            return false;
        };
        self.now = self.now.max(deadline);
        self.timeout();
        true
    }

    pub(crate) fn state(&self, worker: WorkerId) -> Option<WorkerState> {
        self.arbiter
            .worker(worker)
            .map(oxicorn_arbiter::WorkerRecord::state)
    }

    pub(crate) fn ready_of(&self, generation: Generation) -> usize {
        let of = self
            .arbiter
            .workers()
            .filter(|w| w.generation() == generation);
        of.filter(|w| matches!(w.state(), WorkerState::Ready { .. }))
            .count()
    }

    fn now_moved(&self, before: &Arbiter) -> bool {
        // The clock is the one thing an ignored event may move.
        let mut before = before.clone();
        before.handle(Event::WorkerReady(WorkerId(0)), self.now);
        while before.poll_action().is_some() {}
        before == self.arbiter
    }

    fn note(&mut self, event: &Event) {
        self.ready_before = self.ready_of(self.arbiter.serving());
        match event {
            Event::WorkerExited { worker, .. } => {
                let state = self.state(*worker);
                let expected = !matches!(
                    state,
                    Some(WorkerState::Booting | WorkerState::Ready { .. })
                );
                self.troubled |= !expected;
                self.workers
                    .get_mut(worker)
                    .expect("only what lives can die")
                    .reaped = true;
            }
            Event::GatewayExited(_) => {
                let gateway = self.gateway.as_mut().expect("only what lives can die");
                assert!(!std::mem::replace(&mut gateway.gone, true), "it dies once");
            }
            Event::GatewayReady => {
                if let Some(gateway) = &mut self.gateway {
                    gateway.ready = true;
                }
            }
            Event::RequestExpired { .. }
            | Event::HeartbeatMissed(_)
            | Event::WorkerFault(_)
            | Event::WorkerBootFailed { .. }
            | Event::WorkerMisfit(_)
            | Event::Command(Command::MoreWorkers | Command::FewerWorkers | Command::StopWorkers) =>
            {
                self.troubled = true;
            }
            Event::TemplateReady(generation) => {
                if let Some(template) = self.templates.get_mut(generation) {
                    template.loaded = true;
                }
            }
            Event::TemplateExited { generation, .. } => {
                self.troubled = true;
                let template = self.templates.get_mut(generation);
                let template = template.expect("only what lives can die");
                assert!(!std::mem::replace(&mut template.gone, true), "it dies once");
            }
            Event::WorkerSpawned { worker, .. } => self.note_spawned(*worker),
            Event::WorkerSpawnFailed(worker) => {
                self.troubled = true;
                for template in self.templates.values_mut() {
                    template.forking.take_if(|forking| forking == worker);
                }
            }
            Event::SuccessorStarted | Event::SuccessorFailed => {
                self.has_successor |=
                    std::mem::take(&mut self.upgrading) && matches!(event, Event::SuccessorStarted);
            }
            Event::SuccessorExited => self.has_successor = false,
            Event::ConfigurationLoaded(plan) => {
                self.loading = false;
                self.preload_app
                    .insert(self.last_generation, plan.preload_app);
            }
            Event::ConfigurationRefused | Event::ReloadHookFailed => self.loading = false,
            _ => {}
        }
    }

    fn perform(&mut self) -> Vec<Action> {
        let mut done = Vec::new();
        while let Some(action) = self.arbiter.poll_action() {
            assert_eq!(self.exited, None, "{action:?} after the exit");
            self.peak = self.peak.max(self.arbiter.wanted() as usize);
            let answer = self.check(&action);
            done.push(action);
            if let Some(event) = answer {
                self.note(&event);
                self.arbiter.handle(event, self.now);
            }
        }
        if self.gateway.as_ref().is_some_and(|gateway| gateway.gone) {
            self.gateway = None;
        }
        self.templates.retain(|_, template| !template.gone);
        // Reaped at last, after the arbiter had left it behind.
        self.workers.retain(|_, worker| !worker.reaped);
        self.check_book();
        done
    }

    /// Everybody in the table has a process and the other way round.
    fn check_book(&self) {
        if self.exited.is_none() {
            let book: Vec<_> = self
                .arbiter
                .workers()
                .map(|w| (w.id(), w.pid().is_some()))
                .collect();
            let of_killed = |id| {
                self.templates
                    .values()
                    .any(|t| t.forking == Some(id) && t.killed)
            };
            let left = |&(id, is_there): &(WorkerId, bool)| {
                if is_there {
                    self.workers[&id].killed
                } else {
                    of_killed(id)
                }
            };
            let there = self.workers.keys().map(|&id| (id, true));
            let ordered = self.templates.values().filter_map(|t| t.forking);
            let mut there: Vec<_> = there
                .chain(ordered.map(|id| (id, false)))
                .filter(|entry| {
                    book.contains(entry) || !(self.arbiter.is_stopping() && left(entry))
                })
                .collect();
            there.sort();
            assert_eq!(book, there, "the table and the processes");
        }
    }

    fn check(&mut self, action: &Action) -> Option<Event> {
        match *action {
            Action::SpawnGateway => return Some(self.spawn_gateway()),
            Action::SpawnWorker {
                worker, generation, ..
            } => {
                return self.order_worker(worker, generation);
            }
            Action::SpawnTemplate(generation) => return Some(self.spawn_template(generation)),
            Action::StopTemplate(generation) => {
                let template = self.living_template(generation);
                assert!(template.loaded, "only who is loaded listens");
                assert!(!std::mem::replace(&mut template.stopping, true), "once");
            }
            Action::KillTemplate(generation) => self.living_template(generation).killed = true,
            Action::DumpStacksOfTemplate(generation) => {
                self.living_template(generation);
                self.troubled = true;
            }
            Action::AttachWorker(worker) => {
                self.process(worker);
                assert!(self.listening().attached.insert(worker), "attached once");
            }
            Action::AnnounceReady(worker) => {
                let gateway = self.listening();
                assert!(gateway.attached.contains(&worker));
                assert!(gateway.announced.insert(worker), "announced once");
            }
            Action::ServeGeneration(generation) => self.check_change(generation),
            Action::RetireWorker(worker) => self.check_retirement(worker),
            Action::ForgetWorker(worker) => {
                let gateway = self.listening();
                assert!(gateway.attached.remove(&worker));
                gateway.announced.remove(&worker);
                gateway.retired.remove(&worker);
            }
            Action::SignalWorker { worker, signal } => self.check_signal(worker, signal),
            Action::ReleaseWorker(worker) => self.check_release(worker),
            Action::DumpStacks(worker) => {
                self.process(worker);
            }
            Action::Log(LogLine::WorkerBootOverdue { .. }, _) => self.troubled = true,
            Action::DrainGateway { .. } => {
                self.check_all_told();
                let gateway = self.listening();
                assert!(
                    !std::mem::replace(&mut gateway.draining, true),
                    "drained once"
                );
            }
            Action::StopGateway => {
                let gateway = self.gateway.as_mut().expect("a gateway to stop");
                assert!(
                    !std::mem::replace(&mut gateway.stopping, true),
                    "stopped once"
                );
            }
            Action::KillGateway => {
                let gateway = self.gateway.as_mut().expect("a gateway to kill");
                assert!(!std::mem::replace(&mut gateway.killed, true), "killed once");
            }
            Action::AnnounceBooted => {
                assert!(!std::mem::replace(&mut self.booted, true), "booted once");
            }
            Action::StartSuccessor => {
                assert!(!self.has_successor, "never more than two");
                assert!(
                    !std::mem::replace(&mut self.upgrading, true),
                    "one at a time"
                );
            }
            Action::LoadConfiguration { generation } => {
                assert!(!std::mem::replace(&mut self.loading, true), "one at a time");
                assert!(generation > self.last_generation);
                self.last_generation = generation;
            }
            Action::AbandonGeneration { generation, .. } => {
                assert_ne!(generation, self.arbiter.serving());
            }
            Action::NumWorkersChanged { new, old } => {
                assert_eq!(old, self.announced);
                assert_ne!(old, Some(new));
                self.announced = Some(new);
            }
            Action::WorkerReaped { worker, .. } => {
                assert!(self.workers.remove(&worker).expect("reaped once").reaped);
            }
            Action::Exit(code) => {
                self.check_nobody_is_left();
                self.exited = Some(code.0);
            }
            Action::Promote | Action::ReopenLogs | Action::Log(..) => {}
        }
        None
    }

    fn spawn_gateway(&mut self) -> Event {
        let free = self.gateway.as_ref().is_none_or(|gateway| gateway.gone);
        assert!(free, "one gateway at a time");
        if self.forks_fail {
            return Event::GatewaySpawnFailed;
        }
        self.gateway = Some(Gateway::default());
        self.next_pid += 1;
        Event::GatewaySpawned { pid: self.next_pid }
    }

    fn check_nobody_is_left(&self) {
        let workers = self.workers.values().all(|w| w.killed || w.reaped);
        let templates = self.templates.values().all(|t| t.killed || t.gone);
        let gateway = self.gateway.as_ref().is_none_or(|g| g.killed || g.gone);
        assert!(workers && templates && gateway, "no orphans");
    }

    fn spawn_template(&mut self, generation: Generation) -> Event {
        let before = self.templates.get(&generation);
        assert!(before.is_none_or(|t| t.gone), "one for a generation");
        if self.forks_fail {
            return Event::TemplateSpawnFailed(generation);
        }
        self.templates.insert(generation, Template::default());
        self.next_pid += 1;
        let pid = self.next_pid;
        Event::TemplateSpawned { generation, pid }
    }

    fn living_template(&mut self, generation: Generation) -> &mut Template {
        let template = self.templates.get_mut(&generation).expect("a template");
        assert!(!template.killed, "the dead are left in peace");
        template
    }

    /// Forked at once; or by a template, which answers when it comes to it.
    fn order_worker(&mut self, worker: WorkerId, generation: Generation) -> Option<Event> {
        assert!(Some(generation) == self.arbiter.loading() || generation == self.arbiter.serving());
        if !self.preload_app[&generation] {
            return Some(self.spawn_worker(worker, generation));
        }
        let template = self.living_template(generation);
        assert!(template.loaded && !template.stopping, "it takes orders");
        assert_eq!(template.forking.replace(worker), None, "one at a time");
        None
    }

    /// The template does what it was ordered.
    pub(crate) fn answer_order(&mut self, generation: Generation) {
        let template = self.templates.get(&generation);
        if let Some(worker) = template.and_then(|template| template.forking) {
            self.next_pid += 1;
            let pid = self.next_pid;
            self.event(Event::WorkerSpawned { worker, pid });
        }
    }

    /// By a template: those forked at once are known already.
    fn note_spawned(&mut self, worker: WorkerId) {
        let of_template = self
            .templates
            .values_mut()
            .find(|t| t.forking == Some(worker));
        if let Some(template) = of_template {
            template.forking = None;
            self.spawned += 1;
            self.workers.insert(worker, Worker::default());
        }
    }

    fn spawn_worker(&mut self, worker: WorkerId, generation: Generation) -> Event {
        assert!(Some(generation) == self.arbiter.loading() || generation == self.arbiter.serving());
        self.spawned += 1;
        if self.forks_fail {
            return Event::WorkerSpawnFailed(worker);
        }
        assert_eq!(
            self.workers.insert(worker, Worker::default()),
            None,
            "a new number"
        );
        let alive = self
            .workers
            .values()
            .filter(|w| !w.killed && !w.reaped)
            .count();
        assert!(
            alive <= 3 * self.peak,
            "{alive} processes for {} wanted",
            self.peak
        );
        if !self.troubled && self.arbiter.loading().is_none() {
            let wanted = self.arbiter.wanted() as usize;
            let bound = wanted + (wanted / 4).max(1);
            assert!(alive <= bound, "{alive} processes, bound {bound}");
        }
        self.next_pid += 1;
        Event::WorkerSpawned {
            worker,
            pid: self.next_pid,
        }
    }

    /// A takeover must not make the server smaller than it was, unless that is wanted.
    fn check_change(&mut self, generation: Generation) {
        if generation != self.served {
            // A further reload may have begun by now, so what this one wanted is not known.
            self.troubled |= self.at_once;
            let floor = self.ready_before.min(self.arbiter.wanted() as usize);
            let ready = self.ready_of(generation);
            // Taken over early, because the old one had lost its workers: the rest is started as if it had died.
            self.troubled |= ready < self.arbiter.wanted() as usize;
            assert!(
                self.at_once || ready >= floor,
                "{ready} ready, below the floor of {floor}"
            );
            self.served = generation;
            self.served_wanted = self.arbiter.wanted() as usize;
        }
        if let Some(gateway) = self.gateway.as_mut().filter(|g| g.ready) {
            gateway.serves = Some(generation);
        }
    }

    fn check_retirement(&mut self, worker: WorkerId) {
        let gateway = self.listening();
        assert!(
            gateway.announced.contains(&worker),
            "only who was ready can retire"
        );
        assert!(gateway.retired.insert(worker), "retired once");
        let is_told = self.workers[&worker].told;
        let Some(record) = self.arbiter.worker(worker) else {
            assert!(self.at_once, "it is in the table");
            return;
        };
        let at_leisure = matches!(record.state(), WorkerState::Retiring { .. });
        assert!(is_told || !at_leisure, "told first");
        if at_leisure && !self.at_once && record.generation() == self.arbiter.serving() {
            let left = self.ready_of(self.arbiter.serving());
            let wanted = self.arbiter.wanted() as usize;
            assert!(
                left >= wanted || self.arbiter.loading().is_some(),
                "successor first"
            );
        }
    }

    fn check_signal(&mut self, worker: WorkerId, signal: WorkerSignal) {
        let process = self.process(worker);
        assert!(
            !process.killed && !process.reaped,
            "the dead are left in peace"
        );
        process.killed = signal == WorkerSignal::Kill;
        if signal == WorkerSignal::Graceful {
            assert!(!std::mem::replace(&mut process.told, true), "told once");
        }
    }

    fn check_release(&mut self, worker: WorkerId) {
        let process = self.process(worker);
        assert!(process.told, "told first");
        assert!(
            !std::mem::replace(&mut process.released, true),
            "released once"
        );
    }

    /// The application hears of a stop before the clients do.
    fn check_all_told(&self) {
        for record in self.arbiter.workers() {
            let serves = matches!(record.state(), WorkerState::Ready { .. });
            // One that a template has not forked yet is none that serves.
            let process = self.workers.get(&record.id());
            let is_told = process.is_some_and(|process| process.told);
            assert!(is_told || !serves || self.at_once, "told first");
        }
    }

    fn process(&mut self, worker: WorkerId) -> &mut Worker {
        self.workers.get_mut(&worker).expect("a living process")
    }

    fn listening(&mut self) -> &mut Gateway {
        let gateway = self.gateway.as_mut().expect("a gateway to tell");
        let listens = gateway.ready && !gateway.stopping && !gateway.killed;
        assert!(listens || gateway.gone, "it listens");
        gateway
    }
}

/// The long run.
#[allow(dead_code, reason = "every test binary uses other parts")]
impl World {
    /// From here on everybody does what he is told, at once: the server must come to rest with what is wanted, or exit.
    pub(crate) fn assert_settles(mut self) {
        self.forks_fail = false;
        let steps = 500 + 20 * self.workers.len();
        for _ in 0..steps {
            if self.exited.is_some() {
                return;
            }
            if !self.cooperate() && !self.wait() {
                return self.assert_at_rest();
            }
        }
        panic!("never comes to rest: {:#?}", self.arbiter);
    }

    fn assert_at_rest(&self) {
        assert!(!self.arbiter.is_stopping(), "stops and never exits");
        if self.announced.is_none() {
            return;
        }
        let wanted = self.arbiter.wanted() as usize;
        let serving = self.arbiter.serving();
        assert_eq!(self.arbiter.loading(), None);
        assert_eq!(self.ready_of(serving), wanted);
        assert_eq!(self.workers.len(), wanted, "nobody else");
        let templates: Vec<_> = self.templates.keys().copied().collect();
        let expected = self.preload_app[&serving].then_some(serving);
        assert_eq!(templates, Vec::from_iter(expected), "nobody else");
        let gateway = self.gateway.as_ref().expect("a gateway");
        assert_eq!(gateway.serves, Some(serving));
        assert_eq!(gateway.announced, self.workers.keys().copied().collect());
        assert_eq!(gateway.attached, gateway.announced);
        assert_eq!(gateway.retired, BTreeSet::new());
    }

    /// One thing that somebody owes the arbiter.
    fn cooperate(&mut self) -> bool {
        let due = self
            .due_from_gateway()
            .or_else(|| self.due_from_templates())
            .or_else(|| self.due_from_workers());
        let Some(event) = due else {
            return false;
        };
        self.event(event);
        true
    }

    fn due_from_gateway(&self) -> Option<Event> {
        let gateway = self.gateway.as_ref()?;
        if gateway.killed || gateway.stopping || gateway.draining {
            Some(Event::GatewayExited(Exit::Code(0)))
        } else {
            (!gateway.ready).then_some(Event::GatewayReady)
        }
    }

    fn due_from_templates(&self) -> Option<Event> {
        self.templates.iter().find_map(|(&generation, template)| {
            let exit = Exit::Code(0);
            if template.killed || template.stopping {
                return Some(Event::TemplateExited { generation, exit });
            }
            if let Some(worker) = template.forking {
                let pid = 1000 + worker.0;
                return Some(Event::WorkerSpawned { worker, pid });
            }
            match self.arbiter.template(generation)?.state() {
                TemplateState::Loading { .. } => Some(Event::TemplateReady(generation)),
                // It stands still and is looked at.
                TemplateState::Stopping { .. } => Some(Event::TemplateExited { generation, exit }),
                _ => None,
            }
        })
    }

    fn due_from_workers(&self) -> Option<Event> {
        if self.loading {
            return Some(Event::ConfigurationRefused);
        }
        self.arbiter.workers().find_map(|record| {
            let worker = record.id();
            let is_released = self.workers[&worker].released;
            match record.state() {
                WorkerState::Booting => Some(Event::WorkerReady(worker)),
                WorkerState::Retiring { .. } | WorkerState::Expiring { .. } => {
                    Some(Event::WorkerDrained(worker))
                }
                WorkerState::Stopping { signal, .. } => {
                    let by_itself = signal == Some(WorkerSignal::Graceful);
                    assert!(is_released || !by_itself, "it waits to be released");
                    Some(Event::WorkerExited {
                        worker,
                        exit: Exit::Code(0),
                    })
                }
                WorkerState::Killed { .. } => Some(Event::WorkerExited {
                    worker,
                    exit: Exit::Signal(9),
                }),
                WorkerState::Starting { .. } | WorkerState::Ready { .. } => None,
            }
        })
    }

    /// TERM, and nobody cooperates: over in time all the same. `reaped`: whether KILL works.
    pub(crate) fn assert_terminates(mut self, graceful_timeout: Duration, reaped: bool) {
        let reaping = if reaped {
            Duration::ZERO
        } else {
            timing::REAP_GRACE
        };
        let latest = self.now + graceful_timeout + 2 * timing::STOP_GRACE + reaping;
        if self.exited.is_none() {
            self.event(Event::Command(Command::Terminate));
        }
        while self.exited.is_none() {
            if !(reaped && self.reap_one()) {
                assert!(self.wait(), "stops and never exits: {:#?}", self.arbiter);
            }
        }
        assert!(self.now <= latest, "too late");
    }

    fn reap_one(&mut self) -> bool {
        let exit = Exit::Signal(9);
        let worker = self
            .workers
            .iter()
            .find(|(_, w)| w.killed)
            .map(|(&id, _)| id);
        let event = match worker {
            Some(worker) => Event::WorkerExited { worker, exit },
            None if self.templates.values().any(|t| t.killed) => {
                let killed = self.templates.iter().find(|(_, t)| t.killed);
                let generation = *killed.expect("there is one").0;
                Event::TemplateExited { generation, exit }
            }
            None if self.gateway.as_ref().is_some_and(|g| g.killed) => Event::GatewayExited(exit),
            None => return false,
        };
        self.event(event);
        true
    }
}
