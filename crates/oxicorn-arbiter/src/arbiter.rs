//! The machine itself: what it remembers, and which event goes where.
//!
//! One file a concern below this one: `commands` (what a user orders), `workers` (what happens to workers), `gateway`,
//! `reload`, `templates`, `staffing` (the comparison of what is there with what is wanted), `vanguard`, `stop`, `deadlines`. None of them assigns a
//! worker's, the gateway's or a template's state: that is `worker.rs`, `gateway.rs` and `template.rs`.

mod commands;
mod deadlines;
mod gateway;
mod reload;
mod staffing;
mod stop;
mod templates;
mod upgrade;
mod vanguard;
mod workers;

use std::collections::VecDeque;
use std::time::Duration;

use self::reload::{Configuration, Reload};
use self::stop::Stop;
use self::upgrade::Upgrade;
use self::vanguard::Vanguard;
use crate::action::Action;
use crate::backoff::Backoff;
use crate::boot_patience::BootPatience;
use crate::event::Event;
use crate::gateway::Gateway;
use crate::log::{LogLine, Reason};
use crate::plan::{Generation, Plan, WorkerId};
use crate::template::{Template, Templates};
use crate::worker::{Illegal, WorkerRecord, WorkerState};
use crate::worker_table::WorkerTable;

/// The supervising process's decisions. See the crate's description for how to drive it.
///
/// Kinds of method: `handle*` is told what happened, `poll_action` and `next_deadline` say what to do and when to wake
/// up, the rest only looks.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Arbiter {
    phase: Phase,
    /// The latest time heard of. Times that go back are taken as this one.
    now: Duration,

    /// The serving generation, its plan, and how many workers of it are wanted (TTIN and TTOU applied).
    serving: Generation,
    plan: Plan,
    wanted: u32,
    /// The generation being booted beside it.
    reload: Option<Reload>,
    configuration: Configuration,
    last_generation: Generation,
    last_worker: WorkerId,

    workers: WorkerTable,
    /// The most workers wanted since last nobody was on his way out.
    peak: u32,
    gateway: Gateway,
    backoff: Backoff,
    patience: BootPatience,
    /// All wanted workers of a serving generation were ready once. Before it, a worker that cannot boot ends the server.
    boot: Boot,
    /// Whether workers wait for the first ones.
    vanguard: Vanguard,
    templates: Templates,
    template_backoff: Backoff,

    /// What `NumWorkersChanged` and the debug line said last.
    upgrade: Upgrade,
    /// WINCH has stopped the workers; a reload starts them again.
    idled: bool,
    /// Changes of source files that were acted upon, the oldest first.
    changes: VecDeque<u64>,
    announced_wanted: Option<u32>,
    announced_active: usize,
    actions: VecDeque<Action>,
}

/// How far the first boot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Boot {
    Pending,
    /// All workers of the first generation have been ready at once.
    Done,
    /// The gateway too, and it was said.
    Announced,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Phase {
    /// Waits for `Started`.
    Idle,
    Running,
    Stopping(Stop),
    Exited,
}

impl Arbiter {
    /// An arbiter that waits for [`Event::Started`].
    pub fn new(plan: Plan) -> Self {
        Self {
            phase: Phase::Idle,
            now: Duration::ZERO,
            serving: Generation(1),
            wanted: plan.workers,
            plan,
            reload: None,
            configuration: Configuration::Settled,
            last_generation: Generation(1),
            last_worker: WorkerId(0),
            workers: WorkerTable::default(),
            peak: 0,
            gateway: Gateway::default(),
            backoff: Backoff::default(),
            patience: BootPatience::default(),
            boot: Boot::Pending,
            vanguard: Vanguard::Forming,
            templates: Templates::default(),
            template_backoff: Backoff::default(),
            upgrade: Upgrade::default(),
            idled: false,
            changes: VecDeque::new(),
            announced_wanted: None,
            announced_active: 0,
            actions: VecDeque::new(),
        }
    }

    /// Something happened.
    pub fn handle(&mut self, event: Event, now: Duration) {
        if self.phase == Phase::Exited {
            return;
        }
        self.advance(now);
        let name = event.name();
        match self.accept(event) {
            Ok(()) => self.reconcile(),
            Err(Illegal) => self.log(LogLine::EventIgnored { event: name }),
        }
    }

    /// The deadline of [`Self::next_deadline`] has come (being early does no harm).
    pub fn handle_timeout(&mut self, now: Duration) {
        self.advance(now);
        self.enforce_deadlines();
        self.reconcile();
    }

    /// The next thing to do. Ask until there is none.
    pub fn poll_action(&mut self) -> Option<Action> {
        loop {
            match self.actions.pop_front() {
                Some(Action::SpawnWorker { worker, .. }) if self.is_disowned(worker) => {
                    self.cancel_order(worker);
                }
                // Its template has ended before it was told.
                Some(Action::SpawnWorker { worker, .. }) if self.workers.find(worker).is_none() => {
                }
                Some(
                    Action::StopTemplate(generation)
                    | Action::KillTemplate(generation)
                    | Action::DumpStacksOfTemplate(generation),
                ) if self.templates.find(generation).is_none() => {}
                // Reaped since: its pid may be somebody else's by now.
                Some(
                    Action::SignalWorker { worker, .. }
                    | Action::ReleaseWorker(worker)
                    | Action::DumpStacks(worker),
                ) if self.workers.find(worker).is_none() => {}
                action => return action,
            }
        }
    }

    /// When [`Self::handle_timeout`] is to be called if nothing happens before. Ask after every `handle`; a time already
    /// past means at once.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.earliest_deadline()
    }

    /// Every worker not yet reaped, the oldest first.
    pub fn workers(&self) -> impl Iterator<Item = &WorkerRecord> {
        self.workers.iter()
    }

    /// One of them.
    pub fn worker(&self, worker: WorkerId) -> Option<&WorkerRecord> {
        self.workers.find(worker)
    }

    /// The process that loads the application of this generation and forks its workers.
    pub fn template(&self, generation: Generation) -> Option<&Template> {
        self.templates.find(generation)
    }

    /// The generation that gets the requests.
    pub fn serving(&self) -> Generation {
        self.serving
    }

    /// The generation being booted beside it, if a reload is under way.
    pub fn loading(&self) -> Option<Generation> {
        self.reload.as_ref().map(|reload| reload.generation)
    }

    /// How many workers are wanted (`plan.workers`, TTIN and TTOU applied); during a reload, of the generation to come.
    pub fn wanted(&self) -> u32 {
        self.reload
            .as_ref()
            .map_or(self.wanted, |reload| reload.wanted)
    }

    /// A shutdown has begun.
    pub fn is_stopping(&self) -> bool {
        matches!(self.phase, Phase::Stopping(_) | Phase::Exited)
    }
}

impl Arbiter {
    fn accept(&mut self, event: Event) -> Result<(), Illegal> {
        match self.phase {
            Phase::Idle if !matches!(event, Event::Started | Event::Command(_)) => {
                return Err(Illegal);
            }
            _ => {}
        }
        match event {
            Event::Started => self.start(),
            Event::Command(command) => self.handle_command(command),
            Event::SourceChanged(change) => self.handle_source_changed(change),
            Event::SpawnRequested => self.handle_spawn_requested(),
            Event::SuccessorStarted => self.handle_successor_started(),
            Event::SuccessorFailed => self.handle_successor_failed(),
            Event::SuccessorExited => self.handle_successor_exited(),
            Event::PredecessorGone => self.handle_predecessor_gone(),
            Event::TemplateSpawned { generation, pid } => {
                self.handle_template_spawned(generation, pid)
            }
            Event::TemplateSpawnFailed(generation) => self.handle_template_spawn_failed(generation),
            Event::TemplateReady(generation) => self.handle_template_ready(generation),
            Event::TemplateExited { generation, exit } => {
                self.handle_template_exited(generation, exit)
            }
            Event::ConfigurationLoaded(plan) => self.handle_configuration(Ok(plan)),
            Event::ConfigurationRefused => self.handle_configuration(Err(Reason::Configuration)),
            Event::ReloadHookFailed => self.handle_configuration(Err(Reason::ReloadHook)),
            Event::GatewaySpawned { pid } => self.handle_gateway_spawned(pid),
            Event::GatewaySpawnFailed => self.handle_gateway_spawn_failed(),
            Event::GatewayReady => self.handle_gateway_ready(),
            Event::GatewayDrained => self.handle_gateway_drained(),
            Event::GatewayExited(exit) => self.handle_gateway_exited(exit),
            Event::WorkerSpawned { worker, pid } => self.handle_worker_spawned(worker, pid),
            Event::WorkerSpawnFailed(worker) => self.handle_worker_spawn_failed(worker),
            Event::PreForkFailed(worker) => self.handle_pre_fork_failed(worker),
            Event::WorkerReady(worker) => self.handle_worker_ready(worker),
            Event::WorkerBootFailed { worker, failure } => {
                self.handle_worker_boot_failed(worker, failure)
            }
            Event::WorkerMisfit(worker) => self.handle_worker_misfit(worker),
            Event::WorkerExited { worker, exit } => self.handle_worker_exited(worker, exit),
            Event::WorkerDrained(worker) => self.handle_worker_drained(worker),
            Event::WorkerWantsReplacement { worker, reason: _ } => {
                self.handle_worker_wants_replacement(worker)
            }
            Event::RequestExpired {
                worker,
                in_flight_others,
            } => self.handle_request_expired(worker, in_flight_others),
            Event::HeartbeatMissed(worker) => self.handle_heartbeat_missed(worker),
            Event::WorkerFault(worker) => self.handle_worker_fault(worker),
        }
    }

    /// Time only goes forward, whatever the performer's clock does.
    fn advance(&mut self, now: Duration) {
        self.now = self.now.max(now);
    }

    fn is_disowned(&self, worker: WorkerId) -> bool {
        let state = self.workers.find(worker).map(WorkerRecord::state);
        matches!(state, Some(WorkerState::Starting { unwanted: true }))
    }

    /// Nobody has begun to start it yet, and nobody needs to.
    fn cancel_order(&mut self, worker: WorkerId) {
        self.note_fork_answered(worker);
        self.workers.strike(worker);
        self.reconcile();
    }

    /// This much later. Saturating: the settings may name any time.
    fn after(&self, wait: Duration) -> Duration {
        self.now.saturating_add(wait)
    }

    fn is_running(&self) -> bool {
        self.phase == Phase::Running
    }

    fn act(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    fn log(&mut self, line: LogLine) {
        let level = line.level();
        self.act(Action::Log(line, level));
    }
}
