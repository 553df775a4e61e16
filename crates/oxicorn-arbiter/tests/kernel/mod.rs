//! A simulated kernel with misbehaving processes, driven by a seed.
//!
//! Templates load slowly, fail, hang or die, also while they fork. Workers boot slowly, fail, hang or die; ready ones crash, ask for a successor, let requests expire, stand still, write
//! nonsense; they may ignore every signal but KILL. The gateway dies, hangs, never says that it has drained. Notices are
//! late, so they arrive after the death of who sent them. The performer wakes late and reports several things at once; its
//! clock jumps. The rules are checked by the world (`../world/mod.rs`) at every step.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use oxicorn_arbiter::{
    Action, BootFailure, Command, Event, Exit, Generation, Plan, ReplacementReason, WorkerId,
    WorkerSignal,
};

use crate::world::World;

/// `SplitMix64`: small, seedable, good enough to choose troubles.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub(crate) fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }

    /// Up to this long, to the millisecond.
    pub(crate) fn within_ms(&mut self, limit: u64) -> Duration {
        Duration::from_millis(self.below(limit + 1))
    }
}

/// How bad it is, in percent.
#[derive(Debug, Clone, Default)]
pub(crate) struct Habits {
    pub(crate) boot_ms: u64,
    pub(crate) boot_fails: u64,
    pub(crate) boot_dies: u64,
    pub(crate) boot_hangs: u64,
    /// A ready worker comes to some trouble within this time.
    pub(crate) trouble: u64,
    pub(crate) trouble_ms: u64,
    /// It dies, whatever the trouble might be.
    pub(crate) only_dies: bool,
    pub(crate) ignores_signals: u64,
    pub(crate) never_drains: u64,
    pub(crate) gateway_dies: u64,
    pub(crate) forks_fail: u64,
    pub(crate) late_ms: u64,
    pub(crate) clock_jumps: u64,
}

impl Habits {
    pub(crate) fn any(random: &mut Random) -> Self {
        let mut some = |limit| {
            if random.percent(50) {
                random.below(limit)
            } else {
                0
            }
        };
        Self {
            boot_ms: 1 + some(20_000),
            boot_fails: some(30),
            boot_dies: some(30),
            boot_hangs: some(10),
            trouble: some(100),
            trouble_ms: 1 + some(60_000),
            only_dies: false,
            ignores_signals: some(60),
            never_drains: some(50),
            gateway_dies: some(60),
            forks_fail: some(20),
            late_ms: some(3_000),
            clock_jumps: some(5),
        }
    }
}

/// Something that will be reported, if who reports it still can.
#[derive(Debug, Clone)]
enum Happening {
    Worker(Event),
    /// By the how many-th gateway.
    Gateway(u32, Event),
    /// By the how many-th template.
    Template(u32, Event),
    Arbiter(Event),
}

pub(crate) struct Kernel {
    pub(crate) world: World,
    pub(crate) random: Random,
    pub(crate) habits: Habits,
    /// When workers were started.
    pub(crate) starts: Vec<Duration>,
    happenings: BTreeMap<(Duration, u64), Happening>,
    sequence: u64,
    gateways: u32,
    /// How many templates were started, and which of them each generation has.
    started_templates: u32,
    templates: BTreeMap<Generation, u32>,
    /// The time here, and how far the performer's clock is off. It never is behind what it was.
    pub(crate) time: Duration,
    clock_ahead: Duration,
    log: VecDeque<String>,
}

/// What a failed run tells about its end.
const LOG_LINES: usize = 60;

impl Kernel {
    pub(crate) fn boot(plan: Plan, habits: Habits, random: Random) -> Self {
        let world = World::new(plan);
        let mut kernel = Self {
            time: world.now,
            world,
            random,
            habits,
            starts: Vec::new(),
            happenings: BTreeMap::new(),
            sequence: 0,
            gateways: 0,
            started_templates: 0,
            templates: BTreeMap::new(),
            clock_ahead: Duration::ZERO,
            log: VecDeque::new(),
        };
        kernel.report(vec![Event::Started]);
        kernel
    }

    /// Lets things happen until this much later, or the exit.
    pub(crate) fn run(&mut self, wait: Duration) {
        let end = self.time + wait;
        while self.world.exited.is_none() && self.step(end) {}
        self.time = self.time.max(end);
    }

    pub(crate) fn command(&mut self, command: Command) {
        self.report(vec![Event::Command(command)]);
    }

    /// To whatever comes first: a happening or the arbiter's deadline (which the performer may oversleep).
    fn step(&mut self, end: Duration) -> bool {
        let next = self.happenings.first_key_value().map(|(&(at, _), _)| at);
        let late = self.random.within_ms(self.habits.late_ms);
        let deadline = self.world.arbiter.next_deadline();
        let deadline = deadline.map(|at| at.saturating_sub(self.clock_ahead).max(self.time) + late);
        match (next, deadline) {
            (Some(at), wake) if at <= end && wake.is_none_or(|wake| at <= wake) => {
                self.pass(at);
                self.deliver();
            }
            (_, Some(wake)) if wake <= end => {
                self.pass(wake);
                self.note(format!("{:?} timeout", self.time));
                self.decide_forks();
                let done = self.world.timeout();
                self.follow(&done);
            }
            _ => return false,
        }
        true
    }

    fn pass(&mut self, to: Duration) {
        self.time = self.time.max(to);
        if self.random.percent(self.habits.clock_jumps) {
            self.clock_ahead += self.random.within_ms(600_000);
        }
        self.world.now = self.time + self.clock_ahead;
    }

    /// Reports what is due; now and then all of it in one go.
    fn deliver(&mut self) {
        let together = self.random.percent(30);
        let window = self.time
            + if together {
                self.random.within_ms(500)
            } else {
                Duration::ZERO
            };
        let mut events = Vec::new();
        while let Some((&key, _)) = self.happenings.first_key_value() {
            if key.0 > window || (!together && !events.is_empty()) {
                break;
            }
            let happening = self.happenings.remove(&key).expect("it was the first");
            self.time = self.time.max(key.0);
            if self.can_be_told(&happening, &events) {
                events.push(event_of(happening));
            }
        }
        self.world.now = self.time + self.clock_ahead;
        self.report(events);
    }

    /// Only a living process can die, and only once; only the present gateway is heard. A worker's notice may come after
    /// its death.
    fn can_be_told(&self, happening: &Happening, before: &[Event]) -> bool {
        match happening {
            Happening::Worker(Event::WorkerExited { worker, .. }) => {
                let dies = |e: &Event| matches!(e, Event::WorkerExited { worker: other, .. } if other == worker);
                self.world.workers.contains_key(worker) && !before.iter().any(dies)
            }
            Happening::Gateway(gateway, _) => {
                let dies = |e: &Event| matches!(e, Event::GatewayExited(_));
                *gateway == self.gateways
                    && self.world.gateway.is_some()
                    && !before.iter().any(dies)
            }
            Happening::Template(template, event) => {
                self.template_can_tell(*template, event, before)
            }
            _ => true,
        }
    }

    /// Whoever was reaped has said everything before.
    fn template_can_tell(&self, template: u32, event: &Event, before: &[Event]) -> bool {
        let present = self
            .templates
            .iter()
            .find(|(_, number)| **number == template);
        let Some((generation, _)) = present else {
            return false;
        };
        let Some(process) = self.world.templates.get(generation) else {
            return false;
        };
        let dies = |e: &Event| matches!(e, Event::TemplateExited { generation: other, .. } if other == generation);
        let answers = match event {
            Event::WorkerSpawned { worker, .. } | Event::WorkerSpawnFailed(worker) => {
                process.forking == Some(*worker) && !before.contains(event)
            }
            _ => true,
        };
        answers && !before.iter().any(dies)
    }

    fn report(&mut self, events: Vec<Event>) {
        for event in &events {
            self.note(format!("{:?} {event:?}", self.time));
        }
        self.decide_forks();
        let done = match <[Event; 1]>::try_from(events) {
            Ok([event]) => self.world.event(event),
            Err(events) => self.world.events(events),
        };
        self.follow(&done);
    }

    fn decide_forks(&mut self) {
        self.world.forks_fail = self.random.percent(self.habits.forks_fail);
    }

    fn note(&mut self, line: String) {
        if self.log.len() == LOG_LINES {
            self.log.pop_front();
        }
        self.log.push_back(line);
    }

    pub(crate) fn last_lines(&self) -> String {
        self.log
            .iter()
            .flat_map(|line| [line.as_str(), "\n"])
            .collect()
    }

    fn later(&mut self, wait: Duration, happening: Happening) {
        self.sequence += 1;
        self.happenings
            .insert((self.time + wait, self.sequence), happening);
    }

    fn later_worker(&mut self, wait: Duration, event: Event) {
        self.later(wait, Happening::Worker(event));
    }

    fn later_gateway(&mut self, wait: Duration, event: Event) {
        self.later(wait, Happening::Gateway(self.gateways, event));
    }
}

/// What comes of what was done.
impl Kernel {
    fn follow(&mut self, done: &[Action]) {
        for action in done {
            self.note(format!("    {action:?}"));
            self.follow_one(action);
        }
    }

    fn follow_one(&mut self, action: &Action) {
        match *action {
            Action::SpawnGateway if self.world.gateway.is_some() => self.start_gateway(),
            Action::SpawnWorker { worker, .. } => {
                self.starts.push(self.time);
                if self.world.workers.contains_key(&worker) {
                    self.start_worker(worker);
                } else if let Some(generation) = self.ordered_of(worker) {
                    self.fork_from_template(generation, worker);
                }
            }
            Action::SpawnTemplate(generation) if self.world.templates.contains_key(&generation) => {
                self.start_template(generation);
            }
            Action::StopTemplate(generation)
                if !self.random.percent(self.habits.ignores_signals) =>
            {
                let wait = self.random.within_ms(3_000);
                self.later_template(generation, wait, Exit::Code(0));
            }
            Action::KillTemplate(generation) => {
                let wait = self.random.within_ms(20);
                self.later_template(generation, wait, Exit::Signal(9));
            }
            Action::LoadConfiguration { .. } => {
                let event = self.configuration();
                self.answer(event);
            }
            Action::RetireWorker(worker) if !self.random.percent(self.habits.never_drains) => {
                let wait = self.random.within_ms(40_000);
                self.later_gateway(wait, Event::WorkerDrained(worker));
            }
            Action::SignalWorker { worker, signal } => self.signal(worker, signal),
            Action::ReleaseWorker(worker) => self.leave(worker, Exit::Code(0), 3_000),
            Action::DrainGateway { .. } if !self.random.percent(self.habits.never_drains) => {
                let wait = self.random.within_ms(40_000);
                self.later_gateway(wait, Event::GatewayDrained);
                self.later_gateway(wait * 2, Event::GatewayExited(Exit::Code(0)));
            }
            Action::StopGateway if !self.random.percent(self.habits.ignores_signals) => {
                let wait = self.random.within_ms(3_000);
                self.later_gateway(wait, Event::GatewayExited(Exit::Code(0)));
            }
            Action::KillGateway => {
                let wait = self.random.within_ms(20);
                self.later_gateway(wait, Event::GatewayExited(Exit::Signal(9)));
            }
            _ => {}
        }
    }

    fn answer(&mut self, event: Event) {
        let wait = self.random.within_ms(500);
        self.later(wait, Happening::Arbiter(event));
    }

    fn configuration(&mut self) -> Event {
        if self.random.percent(self.habits.boot_fails) {
            return Event::ConfigurationRefused;
        }
        let workers = u32::try_from(self.random.below(6)).expect("small");
        let preload_app = self.random.percent(40);
        Event::ConfigurationLoaded(Plan {
            workers,
            preload_app,
            processors: 2,
            ..plan()
        })
    }

    fn ordered_of(&self, worker: WorkerId) -> Option<Generation> {
        let ordered = |(_, template): &(&Generation, &crate::world::Template)| {
            template.forking == Some(worker)
        };
        self.world
            .templates
            .iter()
            .find(ordered)
            .map(|(&generation, _)| generation)
    }

    /// Loads slowly, fails, hangs or dies; a loaded one may die.
    fn start_template(&mut self, generation: Generation) {
        self.started_templates += 1;
        self.templates.insert(generation, self.started_templates);
        let boot = self.random.within_ms(self.habits.boot_ms);
        if self.random.percent(self.habits.boot_fails) {
            self.later_template(generation, boot, Exit::Code(1));
        } else if self.random.percent(self.habits.boot_dies) {
            self.later_template(generation, boot, Exit::Signal(11));
        } else if !self.random.percent(self.habits.boot_hangs) {
            let template = self.started_templates;
            let ready = Event::TemplateReady(generation);
            self.later(boot, Happening::Template(template, ready));
            if self.random.percent(self.habits.trouble) {
                let wait = boot + self.random.within_ms(self.habits.trouble_ms);
                self.later_template(generation, wait, Exit::Signal(9));
            }
        }
    }

    fn fork_from_template(&mut self, generation: Generation, worker: WorkerId) {
        let template = self.templates[&generation];
        let wait = self.random.within_ms(20);
        if self.random.percent(self.habits.forks_fail) {
            let failed = Event::WorkerSpawnFailed(worker);
            self.later(wait, Happening::Template(template, failed));
        } else if !self.random.percent(self.habits.boot_hangs) {
            let pid = 1000 + worker.0;
            let spawned = Event::WorkerSpawned { worker, pid };
            self.later(wait, Happening::Template(template, spawned));
            // It begins its life when it is there.
            let before = self.time;
            self.time += wait;
            self.start_worker(worker);
            self.time = before;
        }
    }

    fn later_template(&mut self, generation: Generation, wait: Duration, exit: Exit) {
        let template = self.templates[&generation];
        let event = Event::TemplateExited { generation, exit };
        self.later(wait, Happening::Template(template, event));
    }

    /// The first one comes up, or there would be nothing to see.
    fn start_gateway(&mut self) {
        self.gateways += 1;
        let ready = self.random.within_ms(50);
        self.later_gateway(ready, Event::GatewayReady);
        if self.random.percent(self.habits.gateway_dies) {
            let wait = ready + self.random.within_ms(60_000);
            self.later_gateway(wait, Event::GatewayExited(Exit::Signal(9)));
        }
    }

    fn start_worker(&mut self, worker: WorkerId) {
        let boot = self.random.within_ms(self.habits.boot_ms);
        if self.random.percent(self.habits.boot_fails) {
            self.boot_fails(worker, boot);
        } else if self.random.percent(self.habits.boot_dies) {
            self.later_worker(boot, exited(worker, Exit::Signal(11)));
        } else if self.random.percent(self.habits.boot_hangs) {
            if self.random.percent(50) {
                self.later_worker(
                    boot + Duration::from_secs(30),
                    Event::HeartbeatMissed(worker),
                );
            }
        } else {
            let notice = self.random.within_ms(200);
            self.later_worker(boot + notice, Event::WorkerReady(worker));
            self.plan_trouble(worker, boot);
        }
    }

    fn boot_fails(&mut self, worker: WorkerId, boot: Duration) {
        let failure = if self.random.percent(50) {
            BootFailure::Boot
        } else {
            BootFailure::Application
        };
        if self.random.percent(20) {
            // It finds an application of another class.
            self.later_worker(boot, Event::WorkerMisfit(worker));
            return self.later_worker(boot, exited(worker, Exit::Code(0)));
        }
        if self.random.percent(50) {
            self.later_worker(boot, Event::WorkerBootFailed { worker, failure });
        }
        let hooks = self.random.within_ms(3_000);
        self.later_worker(
            boot + hooks,
            exited(worker, Exit::Code(failure.exit_code())),
        );
    }

    fn plan_trouble(&mut self, worker: WorkerId, ready: Duration) {
        if !self.random.percent(self.habits.trouble) {
            return;
        }
        let wait = ready + self.random.within_ms(self.habits.trouble_ms);
        let in_flight_others = u32::try_from(self.random.below(3)).expect("small");
        let reason = ReplacementReason::MaxRequests;
        let event = match self.random.below(7) {
            _ if self.habits.only_dies => exited(worker, Exit::Signal(9)),
            0 => exited(worker, Exit::Signal(9)),
            1 => exited(worker, Exit::Code(0)),
            2 => Event::WorkerWantsReplacement { worker, reason },
            3 => Event::RequestExpired {
                worker,
                in_flight_others,
            },
            4 => Event::HeartbeatMissed(worker),
            5 => Event::SpawnRequested,
            _ => Event::WorkerFault(worker),
        };
        self.later_worker(wait, event);
    }

    fn signal(&mut self, worker: WorkerId, signal: WorkerSignal) {
        let (exit, longest) = match signal {
            WorkerSignal::Kill => (Exit::Signal(9), 20),
            WorkerSignal::Abort => (Exit::Code(1), 2_000),
            WorkerSignal::Quick => (Exit::Code(0), 3_000),
            // It serves on, but where the application's own handler exits.
            WorkerSignal::Graceful if self.random.percent(10) => (Exit::Code(0), 3_000),
            WorkerSignal::Graceful | WorkerSignal::Reopen => return,
        };
        if signal == WorkerSignal::Kill {
            let wait = self.random.within_ms(longest);
            self.later_worker(wait, exited(worker, exit));
        } else {
            self.leave(worker, exit, longest);
        }
    }

    /// It exits, if it hears what it is told.
    fn leave(&mut self, worker: WorkerId, exit: Exit, longest_ms: u64) {
        if !self.random.percent(self.habits.ignores_signals) {
            let wait = self.random.within_ms(longest_ms);
            self.later_worker(wait, exited(worker, exit));
        }
    }
}

pub(crate) fn plan() -> Plan {
    Plan {
        workers: 1,
        graceful_timeout: Duration::from_secs(30),
        boot_timeout: Duration::from_secs(15),
        preload_app: false,
        processors: u32::MAX,
        daemon: true,
    }
}

const fn exited(worker: WorkerId, exit: Exit) -> Event {
    Event::WorkerExited { worker, exit }
}

fn event_of(happening: Happening) -> Event {
    match happening {
        Happening::Worker(event)
        | Happening::Gateway(_, event)
        | Happening::Template(_, event)
        | Happening::Arbiter(event) => event,
    }
}
