//! The arbiter's loop and what it holds.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use oxicorn_arbiter::{Arbiter, Command, Event, Generation, Level, ReplacementReason, WorkerId};
use oxicorn_gateway::ListenerSetup;
use oxicorn_gateway::control::{FromGateway, RequestSlow};
use oxicorn_link::scoreboard::{ArbiterCounter, Gauge, Scoreboard, Slot};
use oxicorn_os::cgroup::OutOfMemory;
use oxicorn_os::channel::{Blocking, Channel, Received};
use oxicorn_os::process::{self, Exit};
use oxicorn_os::signals::SignalPipe;
use oxicorn_os::{poll, sockets, time};
use oxicorn_settings::BindAddress;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyList;

use super::Outcome;
use super::certificates::Certificates;
use super::control::Control;
use super::dashboard::Dashboard;
use super::gateway::GatewayProcess;
use super::generation::{Generations, plan_of, with_settings};
use super::inquiry::{Answer, Inquiry, Part};
use super::listeners::{self, Listener, Origin};
use super::log;
use super::monitoring;
use super::pool::PoolProcesses;
use super::python::PyArbiter;
use super::stacks::PendingDump;
use super::templates::TemplateProcess;
use super::workers::{WorkerProcess, Workers};
use crate::forked;
use crate::settings::convert::address_to_python;
use oxicorn_arbiter::messages::ToWorker;
use oxicorn_arbiter::messages::notice::{Notice, PACKET};

/// The longest the loop sleeps: heartbeats are looked at so often.
const LOOK_AROUND: Duration = Duration::from_secs(1);

/// Messages of the gateway in one turn of the loop.
const MESSAGES_PER_TURN: usize = 64;

/// Places on the scoreboard, successors included; workers beyond them serve without figures.
const SLOTS: usize = 1024;

/// The first process of a container (or machine) is given those whose parents died.
const FIRST_PROCESS: i32 = 1;

/// Slow requests that are looked into at a time; those beyond are told without their stacks.
const SLOW_AT_ONCE: usize = 64;

/// A slow request, and what its worker was asked.
#[derive(Debug)]
pub(crate) struct Slow {
    request: RequestSlow,
    pub(crate) inquiry: Inquiry,
}

/// Signals that are orders, and the orders' names on the Python side.
const COMMANDS: [(i32, &str, Command); 9] = [
    (libc::SIGTERM, "term", Command::Terminate),
    (libc::SIGINT, "int", Command::Interrupt),
    (libc::SIGQUIT, "quit", Command::Quit),
    (libc::SIGHUP, "hup", Command::Reload),
    (libc::SIGTTIN, "ttin", Command::MoreWorkers),
    (libc::SIGTTOU, "ttou", Command::FewerWorkers),
    (libc::SIGUSR1, "usr1", Command::Reopen),
    (libc::SIGUSR2, "usr2", Command::Upgrade),
    (libc::SIGWINCH, "winch", Command::StopWorkers),
];

/// Methods of Gunicorn's arbiter that are called only where a program overrides them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Overrides {
    pub(crate) manage_workers: bool,
    pub(crate) kill_worker: bool,
}

impl Overrides {
    fn of(server: &PyArbiter<'_>) -> PyResult<Self> {
        let overrides = |name| server.overrides(name);
        Ok(Self {
            manage_workers: overrides("manage_workers")?,
            kill_worker: overrides("kill_worker")?,
        })
    }
}

/// The end of the server, which waits for that of the pool.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ending {
    /// The exit code, once everything else has ended.
    pub(crate) code: Option<i32>,
    /// It was told to end at once.
    quickly: bool,
}

/// Everything the arbiter process holds. Dropping it closes descriptors and does nothing else, since a
/// forked child drops its copy.
pub(crate) struct Supervisor<'py> {
    pub(crate) server: PyArbiter<'py>,
    pub(crate) arbiter: Arbiter,
    pub(crate) listeners: Vec<Listener>,
    /// For the listeners that speak TLS.
    pub(crate) certificates: Option<Certificates>,
    /// For metrics and probes.
    pub(crate) monitoring: Option<Listener>,
    /// The listeners are systemd's: no setting changes them.
    pub(crate) is_activated: bool,
    /// The process that takes over from this one (USR2).
    pub(crate) successor: Option<i32>,
    pub(crate) gateway: Option<GatewayProcess>,
    /// What the gateway was told of the listeners it was given: all, or none where workers accept connections themselves;
    /// `None`: they are others now.
    pub(crate) gateway_listens_at: Option<Vec<ListenerSetup>>,
    pub(crate) workers: Workers,
    pub(crate) templates: BTreeMap<Generation, TemplateProcess>,
    /// Whether orphans are given to this process, because of templates.
    pub(crate) adopts: bool,
    pub(crate) generations: Generations,
    pub(crate) scoreboard: Scoreboard,
    pub(crate) scoreboard_file: OwnedFd,
    /// The applications' own metrics.
    pub(crate) metric_store_file: OwnedFd,
    /// Workers send here; every one of them has the other end.
    pub(crate) notices: Channel,
    pub(crate) notices_of_workers: Channel,
    pub(crate) dumps: Vec<PendingDump>,
    /// Slow requests whose workers have been asked what they are doing.
    pub(crate) slow: Vec<Slow>,
    pub(crate) last_inquiry: u64,
    pub(crate) control: Control,
    /// The pool of heavy applications, if there is one.
    pub(crate) pool: Option<PoolProcesses>,
    pub(crate) ending: Ending,
    pub(crate) dashboard: Dashboard,
    pub(crate) out_of_memory: OutOfMemory,
    /// Whether the hook `when_ready` has run.
    pub(crate) was_ready: bool,
    /// What a program's own arbiter overrides.
    pub(crate) overrides: Overrides,
    /// When `manage_workers` of such an arbiter was called last; `None`: something has changed since.
    managed: Option<Duration>,
    /// When the backlog was measured last.
    backlog_seen: Duration,
    /// How many workers the logger was told of.
    reported_workers: Option<usize>,
    signals: SignalPipe,
}

impl<'py> Supervisor<'py> {
    /// Binds the listeners, says so, and takes over the signals.
    pub(crate) fn start(server: &PyArbiter<'py>) -> PyResult<Self> {
        let signals = SignalPipe::new()?;
        for (signal, ..) in COMMANDS {
            signals.catch(signal)?;
        }
        signals.catch(libc::SIGCHLD)?;
        server.init_signals()?;
        let cfg = server.cfg()?;
        let certificates = Certificates::at_start(server, &cfg)?;
        let (inherited, is_activated) = inherit(server, &cfg)?;
        let listeners = if is_activated {
            inherited
        } else {
            bind_all(server, &cfg, &inherited)?
        };
        announce(server, &listeners, true)?;
        let monitoring = monitoring::open(server, &cfg)?;
        if let Some(listener) = &monitoring {
            forked::keep_from_children(&listener.socket);
        }
        server.bound()?;
        let mut arbiter = Arbiter::new(plan_of(&cfg)?);
        if server.has_predecessor()? {
            arbiter = arbiter.with_predecessor();
        }
        let (notices, notices_of_workers) = Channel::pair()?;
        for channel in [&notices, &notices_of_workers] {
            forked::keep_from_children(channel);
        }
        let (scoreboard, scoreboard_file) = Scoreboard::create(SLOTS, 1)?;
        monitoring::begin(&scoreboard);
        let metric_store_file = monitoring::share_metrics(&cfg)?;
        Ok(Self {
            arbiter,
            server: server.clone(),
            listeners,
            certificates,
            monitoring,
            is_activated,
            successor: None,
            gateway: None,
            gateway_listens_at: None,
            workers: Workers::default(),
            templates: BTreeMap::new(),
            adopts: false,
            generations: Generations::default(),
            scoreboard,
            scoreboard_file,
            metric_store_file,
            notices,
            notices_of_workers,
            dumps: Vec::new(),
            slow: Vec::new(),
            last_inquiry: 0,
            control: Control::default(),
            pool: None,
            ending: Ending::default(),
            dashboard: Dashboard::of(&cfg)?,
            out_of_memory: OutOfMemory::watch(),
            was_ready: false,
            overrides: Overrides::of(server)?,
            managed: Some(time::monotonic()),
            backlog_seen: time::monotonic(),
            reported_workers: None,
            signals,
        })
    }

    /// The loop; ends when everything has ended, or in a forked child.
    pub(crate) fn run(mut self, py: Python<'py>) -> PyResult<Outcome> {
        self.file_first_generation()?;
        self.start_pool()?;
        self.tell(Event::Started);
        loop {
            if let Some(outcome) = self.perform_all(py)? {
                return Ok(outcome);
            }
            // Callbacks may have asked for something.
            if self.take_orders()? {
                continue;
            }
            self.wait(py)?;
            self.take_signals()?;
            self.look_for_predecessor()?;
            self.take_template_messages()?;
            self.take_notices()?;
            self.take_gateway_messages(MESSAGES_PER_TURN);
            self.take_pool_messages();
            self.reap()?;
            self.look_at_heartbeats();
            self.report_workers();
            self.show_wanted();
            self.log_finished_dumps();
            self.log_slow_requests();
            self.serve_control()?;
            self.answer_dashboard();
            forked::end_if_forked(&self.server, None);
            self.measure_backlog()?;
            self.look_at_certificates()?;
            self.manage_workers()?;
            self.arbiter.handle_timeout(time::monotonic());
        }
    }

    /// Does everything that was ordered; an outcome ends the loop. The pool outlives the workers, who may call it.
    fn perform_all(&mut self, py: Python<'py>) -> PyResult<Option<Outcome>> {
        // Its broker is forked before any hook that may start threads.
        if let Some(outcome) = self.run_pool()? {
            return Ok(Some(outcome));
        }
        while let Some(action) = self.arbiter.poll_action() {
            let outcome = self.perform(py, action)?;
            forked::end_if_forked(&self.server, None);
            match outcome {
                Some(Outcome::Exit(code)) => {
                    self.ending.code = Some(code);
                    self.stop_pool(self.ending.quickly);
                }
                Some(outcome) => return Ok(Some(outcome)),
                None => {}
            }
        }
        if let Some(outcome) = self.run_pool()? {
            return Ok(Some(outcome));
        }
        match self.ending.code {
            Some(code) if self.pool.as_ref().is_none_or(PoolProcesses::is_over) => {
                self.close_pool()?;
                self.end(code).map(Some)
            }
            _ => Ok(None),
        }
    }

    pub(crate) fn tell(&mut self, event: Event) {
        if matches!(
            event,
            Event::WorkerSpawned { .. } | Event::WorkerReady(_) | Event::WorkerExited { .. }
        ) {
            self.managed = None;
        }
        self.count(&event);
        self.arbiter.handle(event, time::monotonic());
    }

    pub(crate) fn log(&self, level: Level, text: &str) {
        log::write(&self.server, level, text);
    }

    fn wait(&self, py: Python<'_>) -> PyResult<()> {
        let now = time::monotonic();
        let dump = self.dumps.iter().map(PendingDump::next_look).min();
        let slow = self.slow.iter().map(|slow| slow.inquiry.next_look()).min();
        let deadlines = [
            self.arbiter.next_deadline(),
            dump,
            slow,
            self.control.next_look(),
            self.pool.as_ref().and_then(PoolProcesses::next_deadline),
            self.dashboard.next_look(),
        ];
        let deadline = deadlines.into_iter().flatten().min();
        let until = deadline.map_or(LOOK_AROUND, |deadline| deadline.saturating_sub(now));
        let mut watched: Vec<BorrowedFd<'_>> = vec![self.signals.as_fd(), self.notices.as_fd()];
        watched.extend(self.control.descriptor());
        watched.extend(self.template_channels());
        watched.extend(self.gateway.as_ref().map(|gateway| gateway.control.as_fd()));
        watched.extend(self.pool.iter().flat_map(PoolProcesses::descriptors));
        py.detach(|| poll::wait_readable(&watched, Some(until.min(LOOK_AROUND))))?;
        // A program may have set handlers of its own for signals it wants for itself.
        py.check_signals()
    }

    /// Each signal is a method of the Python arbiter, which a program may override; what it comes to is an order.
    fn take_signals(&mut self) -> PyResult<()> {
        while let Some(signal) = self.signals.next_signal()? {
            // Not among them is CHLD: reaping follows anyway.
            if COMMANDS.iter().any(|(number, ..)| *number == signal) {
                self.server.handle_signal(signal)?;
                forked::end_if_forked(&self.server, None);
            }
        }
        Ok(())
    }

    /// Takes what signals, hooks and programs asked for; whether there was anything.
    fn take_orders(&mut self) -> PyResult<bool> {
        let mut any = false;
        loop {
            let Some(order) = self.server.next_order()? else {
                return Ok(any);
            };
            any = true;
            match order.as_str() {
                "settings" => {
                    self.tell_settings()?;
                    continue;
                }
                "log_level" => {
                    self.tell_log_level();
                    continue;
                }
                "refork" => {
                    self.refork();
                    continue;
                }
                _ => {}
            }
            if let Some(by) = order.strip_prefix("dirty ") {
                self.scale_pool(by.parse().unwrap_or(0));
                continue;
            }
            let command = COMMANDS.iter().find(|(_, name, _)| *name == order);
            if let Some((.., Command::Interrupt | Command::Quit)) = command {
                self.ending.quickly = true;
                if self.ending.code.is_some() {
                    self.stop_pool(true);
                }
            }
            self.tell(match command {
                Some((.., command)) => Event::Command(*command),
                None => Event::SpawnRequested,
            });
        }
    }

    /// What is worth a line was changed: workers know it as well as the gateway.
    fn tell_log_level(&self) {
        let Some(level) = self.server.changed_log_level() else {
            return;
        };
        let message = ToWorker::LogLevel(level).encode();
        for (_, worker) in self.workers.iter() {
            // One whose socket is full has been told of others, and nothing else is sent there.
            let _ = worker.messages.send(&message, &[], Blocking::No);
        }
    }

    /// Replaces all workers by new ones of the same generation, one after the other.
    fn refork(&mut self) {
        let serving = self.arbiter.serving();
        let workers = self.workers.iter();
        let serving: Vec<WorkerId> = workers
            .filter(|(_, worker)| worker.generation == serving)
            .map(|(id, _)| id)
            .collect();
        for worker in serving {
            self.tell(Event::WorkerWantsReplacement {
                worker,
                reason: ReplacementReason::Requested,
            });
        }
    }

    /// Gunicorn's `manage_workers`, where a program has its own: each second, and when a worker came or went.
    fn manage_workers(&mut self) -> PyResult<()> {
        let now = time::monotonic();
        let is_due = |managed: Duration| now.saturating_sub(managed) >= LOOK_AROUND;
        if !self.overrides.manage_workers || !self.managed.is_none_or(is_due) {
            return Ok(());
        }
        self.managed = Some(now);
        self.run_hook("manage_workers", self.server.manage_workers())?;
        forked::end_if_forked(&self.server, None);
        Ok(())
    }

    fn take_notices(&mut self) -> PyResult<()> {
        let mut message = [0; PACKET];
        let mut files = Vec::new();
        while let Ok(Received::Message(length)) =
            self.notices
                .recv_into(&mut message, &mut files, Blocking::No)
        {
            let file = files.drain(..).next();
            if let Some((worker, notice)) = Notice::decode(&message[..length]) {
                let worker = WorkerId(worker);
                // Forked by a template, which has said so before the worker could say anything.
                if self.workers.get(worker).is_none() {
                    self.take_template_messages()?;
                }
                if let (Notice::Ready { logs }, Some(process)) =
                    (notice, self.workers.get_mut(worker))
                {
                    process.logs = logs;
                }
                if let Notice::Ready { .. } = notice {
                    self.tell_log_level();
                }
                self.tell(match notice {
                    Notice::Finding { finding, misfit } => {
                        self.handle_finding(worker, finding);
                        if !misfit {
                            continue;
                        }
                        Event::WorkerMisfit(worker)
                    }
                    Notice::Calls(number) => {
                        self.take_answer(worker, number, Part::Calls, file);
                        continue;
                    }
                    Notice::Stacks(number) => {
                        self.take_answer(worker, number, Part::Stacks, file);
                        continue;
                    }
                    Notice::Ready { .. } => Event::WorkerReady(worker),
                    Notice::SourceChanged(change) => Event::SourceChanged(change),
                    Notice::MaxRequests => Event::WorkerWantsReplacement {
                        worker,
                        reason: ReplacementReason::MaxRequests,
                    },
                    Notice::Told => Event::WorkerWantsReplacement {
                        worker,
                        reason: ReplacementReason::Requested,
                    },
                });
            }
        }
        Ok(())
    }

    /// A worker has looked at the application it has loaded: workers of its generation may have to be of another class.
    fn handle_finding(&self, worker: WorkerId, finding: u8) {
        let generation = self.workers.get(worker).map(|process| process.generation);
        let Some(file) = generation.and_then(|generation| self.generations.get(generation)) else {
            return;
        };
        let told = self
            .server
            .application_found(&file.cfg, finding)
            .and_then(|changed| {
                if changed {
                    self.tell_settings()
                } else {
                    Ok(())
                }
            });
        if let Err(error) = told {
            log::write_exception(&self.server, "Cannot settle the worker class", &error);
        }
    }

    /// Takes what the gateway said, up to `most` messages: lines for the logs must not keep the loop
    /// from everything else.
    fn take_gateway_messages(&mut self, most: usize) {
        for _ in 0..most {
            let Some(message) = self.gateway.as_ref().and_then(GatewayProcess::receive) else {
                return;
            };
            match message {
                Ok(message) => self.handle_gateway_message(message),
                Err(text) => {
                    self.log(Level::Error, &text);
                    return;
                }
            }
        }
    }

    fn handle_gateway_message(&mut self, message: FromGateway) {
        match message {
            FromGateway::Ready => self.tell(Event::GatewayReady),
            FromGateway::Drained => self.tell(Event::GatewayDrained),
            FromGateway::WorkerDrained { worker } => {
                self.tell(Event::WorkerDrained(WorkerId(worker)));
            }
            FromGateway::RequestExpired(expired) => {
                let worker = WorkerId(expired.worker);
                let pid = self.workers.get(worker).map_or(0, |worker| worker.pid);
                let seconds = Duration::from_millis(expired.age_ms).as_secs_f64();
                let text = format!(
                    "Request timed out after {seconds:.1} s in worker (pid:{pid}): {} from {}{}",
                    expired.request_line, expired.client, expired.ids
                );
                self.log(Level::Error, &text);
                // It logs the stack of the request's task by itself; a loop that stands still is found by
                // its heartbeat.
                if expired.worker_goes_on {
                    return;
                }
                let in_flight_others = expired.others_in_flight;
                self.tell(Event::RequestExpired {
                    worker,
                    in_flight_others,
                });
            }
            FromGateway::RequestSlow(slow) => self.handle_slow_request(slow),
            FromGateway::WorkerFault { worker, reason } => {
                self.log(Level::Error, &format!("Link of worker {worker}: {reason}"));
                self.tell(Event::WorkerFault(WorkerId(worker)));
            }
            FromGateway::Requests(part) => self.take_request_list(part),
            FromGateway::Followed(list) => self.take_followed(list),
            FromGateway::WantStacks {
                token,
                pid,
                request,
            } => self.begin_stacks_for_dashboard(token, pid, request),
            FromGateway::Dashboard(order) => self.obey_dashboard(order),
            FromGateway::Refused { reason } => self.log(Level::Error, &reason),
            FromGateway::Log { level, text } => self.log(level_of(level), &text),
            FromGateway::Access(record) => log::write_access(&self.server, &record),
        }
    }

    /// Setting `slow_request_time`: what is it doing? The worker goes on.
    fn handle_slow_request(&mut self, request: RequestSlow) {
        match self.inquire(WorkerId(request.worker)) {
            Some(inquiry) if self.slow.len() < SLOW_AT_ONCE => {
                self.slow.push(Slow { request, inquiry });
            }
            // It is told all the same.
            _ => self.log_slow_request(&request, &Answer::default(), 0),
        }
    }

    /// Those about which is known what they are doing.
    fn log_slow_requests(&mut self) {
        let mut slow = std::mem::take(&mut self.slow);
        for one in &mut slow {
            self.pursue(&mut one.inquiry);
        }
        for one in slow.extract_if(.., |one| one.inquiry.is_over()) {
            self.log_slow_request(&one.request, &one.inquiry.answer, one.inquiry.pid);
        }
        self.slow = slow;
    }

    fn log_slow_request(&self, request: &RequestSlow, answer: &Answer, pid: i32) {
        let told = self
            .slow_fact(request, answer, pid)
            .and_then(|fact| self.server.log_slow_request(fact));
        if let Err(error) = told {
            log::write_exception(&self.server, "Cannot tell of a slow request", &error);
        }
    }

    /// Only those the arbiter started: what a hook started, also on a thread of its own, waits for that hook.
    fn reap(&mut self) -> PyResult<()> {
        // The pids of those that templates have forked.
        self.take_template_messages()?;
        let gateway = self.gateway.as_ref().map(|gateway| gateway.pid);
        let workers = self.workers.iter().map(|(_, worker)| worker.pid);
        let templates = self.templates.values().map(|template| template.pid);
        let own: Vec<i32> = gateway
            .into_iter()
            .chain(self.successor)
            .chain(workers)
            .chain(templates)
            .chain(self.pool.iter().flat_map(PoolProcesses::pids))
            .collect();
        for pid in own {
            let exit = match process::wait_for(pid) {
                Ok(None) => continue,
                Ok(Some(Exit::Code(code))) => oxicorn_arbiter::Exit::Code(code),
                Ok(Some(Exit::Signal(signal))) => oxicorn_arbiter::Exit::Signal(signal),
                // Forked by a template a moment ago: it is about to become a child of this process.
                Err(_) if self.is_on_its_way(pid) => continue,
                // A hook has waited for it: how it ended nobody knows any more.
                Err(_) => oxicorn_arbiter::Exit::Code(0),
            };
            self.handle_end(pid, exit)?;
        }
        if process::id() == FIRST_PROCESS || self.adopts {
            self.reap_adopted()?;
        }
        Ok(())
    }

    /// Those that were given to this process, but for workers of templates: how they ended is asked for above.
    fn reap_adopted(&mut self) -> PyResult<()> {
        while let Some(pid) = process::ended_child() {
            // Whoever forked a worker has said so before the worker was given to this process.
            self.take_template_messages()?;
            let is_template = self.templates.values().any(|template| template.pid == pid);
            let gateway = self.gateway.as_ref().map(|gateway| gateway.pid);
            let is_of_pool = self
                .pool
                .iter()
                .flat_map(PoolProcesses::pids)
                .any(|own| own == pid);
            let is_own =
                is_template || is_of_pool || [gateway, self.successor].contains(&Some(pid));
            if is_own || self.workers.by_pid(pid).is_some() {
                return Ok(());
            }
            if process::wait_for(pid).is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn handle_end(&mut self, pid: i32, exit: oxicorn_arbiter::Exit) -> PyResult<()> {
        // What a process said before it ended counts.
        self.take_notices()?;
        if self
            .gateway
            .as_ref()
            .is_some_and(|gateway| gateway.pid == pid)
        {
            self.take_gateway_messages(usize::MAX);
            self.gateway = None;
            self.tell(Event::GatewayExited(exit));
        } else if self
            .successor
            .take_if(|successor| *successor == pid)
            .is_some()
        {
            self.server.set_successor(0)?;
            self.tell(Event::SuccessorExited);
            self.tell_settings()?;
        } else if let Some(worker) = self.workers.by_pid(pid) {
            self.explain_end(pid, exit);
            self.tell(Event::WorkerExited { worker, exit });
        } else if !self.handle_end_in_pool(pid, exit)? {
            self.reap_template(pid, exit)?;
        }
        Ok(())
    }

    /// Names the kernel where it has ended a worker because the memory of the control group was used up.
    fn explain_end(&mut self, pid: i32, exit: oxicorn_arbiter::Exit) {
        if exit != oxicorn_arbiter::Exit::Signal(libc::SIGKILL) || !self.out_of_memory.take_one() {
            return;
        }
        self.scoreboard.arbiter().count(ArbiterCounter::OutOfMemory);
        let text = format!(
            "Worker (pid:{pid}) was ended by the kernel: the memory of its control group was used up"
        );
        self.log(Level::Error, &text);
    }

    fn look_at_heartbeats(&mut self) {
        let Some(limit) = self
            .server
            .timeout()
            .filter(|limit| *limit != 0)
            .map(Duration::from_secs)
        else {
            return;
        };
        let now = time::monotonic();
        let is_late = |worker: &WorkerProcess| {
            let reading = worker.slot.as_ref().and_then(Slot::read);
            // A reload may have made `timeout` shorter than what older workers go by.
            let limit = limit.max(worker.beat * 2);
            reading.is_some_and(|reading| now.saturating_sub(reading.heartbeat) > limit)
        };
        let late = self.workers.iter().filter(|(_, worker)| is_late(worker));
        let missed: Vec<WorkerId> = late.map(|(id, _)| id).collect();
        for worker in missed {
            self.tell(Event::HeartbeatMissed(worker));
        }
    }

    /// Tells the logger, which may be a metrics client, how many workers there are.
    fn report_workers(&mut self) {
        let workers = self.workers.iter().count();
        if self.reported_workers != Some(workers) {
            self.reported_workers = Some(workers);
            log::report(&self.server, self.server.report_workers(workers as u64));
        }
    }

    /// Setting `enable_backlog_metric`: how many clients wait, once a second; to be accepted, or for a
    /// worker to take their request.
    fn measure_backlog(&mut self) -> PyResult<()> {
        let now = time::monotonic();
        if now.saturating_sub(self.backlog_seen) < LOOK_AROUND {
            return Ok(());
        }
        self.backlog_seen = now;
        let cfg = self.server.cfg()?;
        if !with_settings(&cfg, |settings| {
            settings.inner.get("enable_backlog_metric").is_true()
        })? {
            return Ok(());
        }
        let of_listener = |listener: &Listener| {
            let waiting = sockets::waiting_connections(&listener.socket);
            waiting.ok().flatten().map_or(0, u64::from)
        };
        let in_kernel: u64 = self.listeners.iter().map(of_listener).sum();
        let gateway = self.scoreboard.gateway(0);
        let queued = gateway.map_or(0, |block| block.gauge(Gauge::Queued));
        log::report(&self.server, self.server.report_backlog(in_kernel + queued));
        Ok(())
    }

    fn log_finished_dumps(&mut self) {
        let now = time::monotonic();
        let mut finished = Vec::new();
        self.dumps.retain_mut(|dump| match dump.poll(now) {
            Some(text) => {
                finished.push((dump.who, dump.pid, text));
                false
            }
            None => true,
        });
        for (who, pid, text) in finished {
            if text.is_empty() {
                let text = format!("The {who} (pid:{pid}) gave no stacks");
                self.log(Level::Error, &text);
            } else {
                self.log(
                    Level::Error,
                    &format!("Stacks of {who} (pid:{pid}):\n{}", text.trim_end()),
                );
            }
        }
    }
}

/// The listeners this process was started with, and whether they are systemd's.
fn inherit(server: &PyArbiter<'_>, cfg: &Bound<'_, PyAny>) -> PyResult<(Vec<Listener>, bool)> {
    let (descriptors, is_activated) = server.inherited_listeners()?;
    let (binds, options) = with_settings(cfg, |settings| {
        let options = listeners::Options::of(&settings.inner);
        (settings.inner.bind().to_vec(), options)
    })?;
    let origin = if is_activated {
        Origin::Activation
    } else {
        Origin::Predecessor
    };
    let listeners = listeners::inherit(&descriptors, &binds, origin, options)
        .map_err(|error| PyRuntimeError::new_err(format!("inherited listeners: {error}")))?;
    let speaks = |listener: &Listener| {
        with_settings(cfg, |settings| settings.inner.scheme_at(&listener.bind))
    };
    let listeners = listeners
        .into_iter()
        .map(|listener| {
            let scheme = speaks(&listener)?;
            Ok(listener.speaking(scheme)?)
        })
        .collect::<PyResult<_>>()?;
    Ok((listeners, is_activated))
}

/// Binds every address of `cfg`; those in `bound_before` are shared. On failure nothing is changed.
pub(crate) fn bind_all(
    server: &PyArbiter<'_>,
    cfg: &Bound<'_, PyAny>,
    bound_before: &[Listener],
) -> PyResult<Vec<Listener>> {
    let (binds, options) = with_settings(cfg, |settings| {
        let settings = &settings.inner;
        let binds = settings.bind().iter();
        let binds = binds.map(|bind| (bind.clone(), settings.scheme_at(bind)));
        (binds.collect::<Vec<_>>(), listeners::Options::of(settings))
    })?;
    let mut bound = Vec::with_capacity(binds.len());
    for (bind, scheme) in binds {
        let listener = match bound_before.iter().find(|listener| listener.bind == bind) {
            Some(listener) => listener.share()?,
            None => listeners::open(server, &bind, options).ok_or_else(|| {
                leave_no_files(&bound, bound_before);
                unbound(&bind)
            })?,
        };
        bound.push(listener.speaking(scheme)?);
    }
    Ok(bound)
}

/// Removes the files of sockets that were bound just now, and in vain.
fn leave_no_files(bound: &[Listener], before: &[Listener]) {
    let is_new = |one: &&Listener| before.iter().all(|old| old.bind != one.bind);
    bound.iter().filter(is_new).for_each(Listener::remove_file);
}

/// Lets hooks see the listeners. The descriptors stay ours: before they are closed hooks are shown others, or none.
pub(crate) fn show(server: &PyArbiter<'_>, listeners: &[Listener]) -> PyResult<()> {
    let shown = described(server.py(), listeners)?;
    server.listening(shown)
}

/// Listeners for Python: text, descriptor, address in the settings.
pub(crate) fn described<'py>(
    py: Python<'py>,
    listeners: &[Listener],
) -> PyResult<Bound<'py, PyList>> {
    let described = PyList::empty(py);
    for listener in listeners {
        let address = address_to_python(py, &listener.bind)?;
        described.append((&listener.text, listener.socket.as_raw_fd(), address))?;
    }
    Ok(described)
}

/// `Listening at: ...`; with the pid at the start, without after a reload, as Gunicorn.
pub(crate) fn announce(
    server: &PyArbiter<'_>,
    listeners: &[Listener],
    with_pid: bool,
) -> PyResult<()> {
    show(server, listeners)?;
    let texts: Vec<&str> = listeners
        .iter()
        .map(|listener| listener.text.as_str())
        .collect();
    for listener in listeners {
        forked::keep_from_children(&listener.socket);
    }
    let pid = if with_pid {
        format!(" ({})", process::id())
    } else {
        String::new()
    };
    log::write(
        server,
        Level::Info,
        &format!("Listening at: {}{pid}", texts.join(",")),
    );
    Ok(())
}

const fn level_of(level: oxicorn_gateway::Level) -> Level {
    match level {
        oxicorn_gateway::Level::Debug => Level::Debug,
        oxicorn_gateway::Level::Info => Level::Info,
        oxicorn_gateway::Level::Warning => Level::Warning,
        oxicorn_gateway::Level::Error => Level::Error,
        oxicorn_gateway::Level::Critical => Level::Critical,
    }
}

pub(crate) fn unbound(bind: &BindAddress) -> PyErr {
    PyRuntimeError::new_err(format!("cannot listen at {bind}"))
}
