//! A story about an arbiter: what happens is told by short verbs, what it orders is compared as short words.
//!
//! The performer here is the simplest one: every fork succeeds at once (worker 3 is process 103, the gateways are 11, 12
//! ...), and time stands still until the story says `after`.

use std::time::Duration;

use oxicorn_arbiter::{
    Action, Arbiter, BootFailure, Command, Event, Exit, Generation, Plan, ReplacementReason,
    WorkerId, WorkerSignal, WorkerState,
};

pub(crate) struct Scenario {
    pub(crate) arbiter: Arbiter,
    pub(crate) now: Duration,
    forks_fail: bool,
    pre_fork_raises: bool,
    gateways: u32,
    done: Vec<String>,
}

/// Boots may take any time, but where the story is about that.
pub(crate) fn plan(workers: u32) -> Plan {
    Plan {
        workers,
        boot_timeout: Duration::ZERO,
        ..Plan::default()
    }
}

#[allow(
    dead_code,
    reason = "every test binary uses other verbs of the language"
)]
impl Scenario {
    pub(crate) fn new(plan: Plan) -> Self {
        Self {
            arbiter: Arbiter::new(plan),
            now: Duration::from_secs(1000),
            forks_fail: false,
            pre_fork_raises: false,
            gateways: 10,
            done: Vec::new(),
        }
    }

    /// Started, nobody ready yet; what was done so far is forgotten.
    pub(crate) fn booting(plan: Plan) -> Self {
        let mut scenario = Self::new(plan);
        scenario.event(Event::Started);
        scenario.done.clear();
        scenario
    }

    /// Gateway and all workers ready.
    pub(crate) fn serving(workers: u32) -> Self {
        Self::serving_plan(plan(workers))
    }

    pub(crate) fn serving_plan(plan: Plan) -> Self {
        let workers = plan.workers;
        let mut scenario = Self::booting(plan);
        scenario.event(Event::GatewayReady);
        for worker in 1..=workers {
            scenario.ready(worker);
        }
        scenario.done.clear();
        scenario
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.arbiter.handle(event, self.now);
        self.perform();
    }

    pub(crate) fn command(&mut self, command: Command) {
        self.event(Event::Command(command));
    }

    pub(crate) fn term(&mut self) {
        self.command(Command::Terminate);
    }

    pub(crate) fn ready(&mut self, worker: u32) {
        self.event(Event::WorkerReady(WorkerId(worker)));
    }

    pub(crate) fn drained(&mut self, worker: u32) {
        self.event(Event::WorkerDrained(WorkerId(worker)));
    }

    pub(crate) fn exits(&mut self, worker: u32, code: i32) {
        self.event(Event::WorkerExited {
            worker: WorkerId(worker),
            exit: Exit::Code(code),
        });
    }

    pub(crate) fn is_killed(&mut self, worker: u32) {
        self.event(Event::WorkerExited {
            worker: WorkerId(worker),
            exit: Exit::Signal(9),
        });
    }

    pub(crate) fn cannot_boot(&mut self, worker: u32) {
        let failure = BootFailure::Boot;
        self.event(Event::WorkerBootFailed {
            worker: WorkerId(worker),
            failure,
        });
    }

    pub(crate) fn is_a_misfit(&mut self, worker: u32) {
        self.event(Event::WorkerMisfit(WorkerId(worker)));
    }

    pub(crate) fn wants_successor(&mut self, worker: u32) {
        let reason = ReplacementReason::MaxRequests;
        self.event(Event::WorkerWantsReplacement {
            worker: WorkerId(worker),
            reason,
        });
    }

    pub(crate) fn expires(&mut self, worker: u32, in_flight_others: u32) {
        self.event(Event::RequestExpired {
            worker: WorkerId(worker),
            in_flight_others,
        });
    }

    pub(crate) fn gateway_is_killed(&mut self) {
        self.event(Event::GatewayExited(Exit::Signal(9)));
    }

    pub(crate) fn reload(&mut self, plan: Plan) {
        self.command(Command::Reload);
        self.event(Event::ConfigurationLoaded(plan));
    }

    /// HUP and the whole way to its end, with this many workers before and after.
    pub(crate) fn complete_reload(&mut self, first: u32, workers: u32) {
        self.reload(plan(workers));
        for worker in first..first + workers {
            self.ready(worker);
        }
    }

    pub(crate) fn pre_fork_raises(&mut self, raises: bool) {
        self.pre_fork_raises = raises;
    }

    pub(crate) fn forks_fail(&mut self, fail: bool) {
        self.forks_fail = fail;
    }

    /// Time passes; every deadline on the way is kept to the nanosecond.
    pub(crate) fn after(&mut self, wait: Duration) {
        let end = self.now + wait;
        while let Some(deadline) = self.arbiter.next_deadline().filter(|&at| at <= end) {
            self.now = self.now.max(deadline);
            self.arbiter.handle_timeout(self.now);
            self.perform();
            let next = self.arbiter.next_deadline();
            assert!(
                next.is_none_or(|at| at > self.now),
                "a deadline that does not go away"
            );
        }
        self.now = end;
    }

    pub(crate) fn after_ms(&mut self, ms: u64) {
        self.after(Duration::from_millis(ms));
    }

    pub(crate) fn after_s(&mut self, seconds: u64) {
        self.after(Duration::from_secs(seconds));
    }

    /// What was ordered since the last look, without the debug lines.
    #[track_caller]
    pub(crate) fn expect<const N: usize>(&mut self, words: [&str; N]) {
        let done = std::mem::take(&mut self.done);
        assert_eq!(done, words, "at {:?}", self.now);
    }

    pub(crate) fn forget(&mut self) {
        self.done.clear();
    }

    pub(crate) fn did(&self, words: &str) -> bool {
        self.done.iter().any(|done| done == words)
    }

    pub(crate) fn take_done(&mut self) -> Vec<String> {
        std::mem::take(&mut self.done)
    }

    pub(crate) fn state(&self, worker: u32) -> Option<WorkerState> {
        self.arbiter
            .worker(WorkerId(worker))
            .map(oxicorn_arbiter::WorkerRecord::state)
    }

    pub(crate) fn ready_of(&self, generation: u32) -> usize {
        let ready = |state| matches!(state, WorkerState::Ready { .. });
        let of = self
            .arbiter
            .workers()
            .filter(|w| w.generation() == Generation(generation));
        of.filter(|w| ready(w.state())).count()
    }

    fn perform(&mut self) {
        while let Some(action) = self.arbiter.poll_action() {
            if let Some(words) = words(&action) {
                self.done.push(words);
            }
            if let Some(answer) = self.answer(&action) {
                self.arbiter.handle(answer, self.now);
            }
        }
    }

    fn answer(&mut self, action: &Action) -> Option<Event> {
        match *action {
            Action::SpawnGateway if self.forks_fail => Some(Event::GatewaySpawnFailed),
            Action::SpawnGateway => {
                self.gateways += 1;
                Some(Event::GatewaySpawned { pid: self.gateways })
            }
            Action::SpawnWorker { worker, .. } if self.forks_fail => {
                Some(Event::WorkerSpawnFailed(worker))
            }
            Action::SpawnWorker { worker, .. } if self.pre_fork_raises => {
                Some(Event::PreForkFailed(worker))
            }
            Action::SpawnTemplate(generation) if self.forks_fail => {
                Some(Event::TemplateSpawnFailed(generation))
            }
            Action::SpawnTemplate(generation) => Some(Event::TemplateSpawned {
                generation,
                pid: 50 + generation.0,
            }),
            // Its template answers, when the story says so.
            Action::SpawnWorker { generation, .. }
                if self.arbiter.template(generation).is_some() =>
            {
                None
            }
            Action::SpawnWorker { worker, .. } => Some(Event::WorkerSpawned {
                worker,
                pid: 100 + worker.0,
            }),
            _ => None,
        }
    }
}

/// `None` for debug lines.
pub(crate) fn words(action: &Action) -> Option<String> {
    Some(match action {
        Action::SpawnGateway => "spawn gateway".into(),
        Action::SpawnTemplate(generation) => format!("spawn template g{generation}"),
        Action::StopTemplate(generation) => format!("stop template g{generation}"),
        Action::KillTemplate(generation) => format!("kill template g{generation}"),
        Action::DumpStacksOfTemplate(generation) => format!("dump template g{generation}"),
        Action::SpawnWorker {
            worker, generation, ..
        } => format!("spawn w{worker} g{generation}"),
        Action::AttachWorker(worker) => format!("attach w{worker}"),
        Action::AnnounceReady(worker) => format!("announce w{worker}"),
        Action::ServeGeneration(generation) => format!("serve g{generation}"),
        Action::RetireWorker(worker) => format!("retire w{worker}"),
        Action::ForgetWorker(worker) => format!("forget w{worker}"),
        Action::ReleaseWorker(worker) => format!("release w{worker}"),
        Action::SignalWorker { worker, signal } => format!("{} w{worker}", signal_words(*signal)),
        Action::DumpStacks(worker) => format!("dump w{worker}"),
        Action::DrainGateway { within } => format!("drain gateway {}s", within.as_secs_f32()),
        Action::StopGateway => "stop gateway".into(),
        Action::KillGateway => "kill gateway".into(),
        Action::AnnounceBooted => "booted".into(),
        Action::StartSuccessor => "start successor".into(),
        Action::Promote => "promote".into(),
        Action::LoadConfiguration { generation } => format!("load g{generation}"),
        Action::AbandonGeneration { generation, failed } => {
            let why = if *failed { "failed" } else { "unneeded" };
            format!("abandon g{generation} {why}")
        }
        Action::ReopenLogs => "reopen".into(),
        Action::NumWorkersChanged {
            new,
            old: Some(old),
        } => format!("workers {old} -> {new}"),
        Action::NumWorkersChanged { new, old: None } => format!("workers {new}"),
        Action::WorkerReaped { worker, .. } => format!("reaped w{worker}"),
        Action::Log(_, oxicorn_arbiter::Level::Debug) => return None,
        Action::Log(line, _) => format!("# {line}"),
        Action::Exit(code) => format!("exit {}", code.0),
    })
}

fn signal_words(signal: WorkerSignal) -> &'static str {
    match signal {
        WorkerSignal::Graceful => "TERM",
        WorkerSignal::Quick => "QUIT",
        WorkerSignal::Abort => "ABRT",
        WorkerSignal::Kill => "KILL",
        WorkerSignal::Reopen => "USR1",
    }
}
