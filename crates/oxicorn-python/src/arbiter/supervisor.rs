//! The arbiter's loop and what it holds.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use oxicorn_arbiter::{Arbiter, Event, Generation, Level, WorkerId};
use oxicorn_gateway::ListenerSetup;
use oxicorn_link::scoreboard::{Gauge, Scoreboard, Slot};
use oxicorn_os::cgroup::OutOfMemory;
use oxicorn_os::channel::Channel;
use oxicorn_os::signals::SignalPipe;
use oxicorn_os::{poll, sockets, time};
use pyo3::prelude::*;

use super::Outcome;
use super::binding::{announce, bind_all, inherit};
use super::certificates::Certificates;
use super::control::Control;
use super::dashboard::Dashboard;
use super::gateway::GatewayProcess;
use super::generation::{Generations, plan_of, with_settings};
use super::listeners::Listener;
use super::log;
use super::monitoring;
use super::orders::COMMANDS;
use super::pool::PoolProcesses;
use super::python::PyArbiter;
use super::slow_requests::Slow;
use super::stacks::PendingDump;
use super::templates::TemplateProcess;
use super::workers::{WorkerProcess, Workers};
use crate::forked;

/// The longest the loop sleeps: heartbeats are looked at so often.
const LOOK_AROUND: Duration = Duration::from_secs(1);

/// Messages of the gateway in one turn of the loop.
const MESSAGES_PER_TURN: usize = 64;

/// Places on the scoreboard, successors included; workers beyond them serve without figures.
const SLOTS: usize = 1024;

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
    pub(crate) quickly: bool,
}

/// Everything the arbiter process holds. Dropping it closes descriptors and does nothing else, since a
/// forked child drops its copy.
pub(crate) struct Supervisor<'py> {
    pub(crate) server: PyArbiter<'py>,
    pub(crate) arbiter: Arbiter,
    pub(crate) listeners: Vec<Listener>,
    /// The generation they came with.
    pub(crate) listeners_since: Generation,
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
    pub(crate) signals: SignalPipe,
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
            listeners_since: Generation(1),
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
