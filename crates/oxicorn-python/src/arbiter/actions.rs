//! Doing what the arbiter decided, action by action.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use oxicorn_arbiter::messages::ToWorker;
use oxicorn_arbiter::{Action, Event, Exit, Generation, WorkerId, WorkerSignal, timing};
use oxicorn_gateway::Setup;
use oxicorn_gateway::control::ToGateway;
use oxicorn_link::scoreboard::{ArbiterCounter, ArbiterGauge};
use oxicorn_link::{LinkParts, Sizes};
use oxicorn_os::channel::{Blocking, Channel};
use oxicorn_os::eventfd::EventFd;
use oxicorn_os::{memfd, process, time};
use oxicorn_settings::{Capacity, Engine, Traits};
use pyo3::exceptions::{PyException, PyRuntimeError};
use pyo3::prelude::*;

use super::binding::{announce, bind_all, show};
use super::certificates::Certificates;
use super::fork::{self, Side};
use super::gateway::{GatewayProcess, protocol_at};
use super::generation::{GenerationFile, plan_of, with_settings};
use super::heartbeat::Heartbeat;
use super::listeners::Listener;
use super::python::PyArbiter;
use super::stacks::PendingDump;
use super::supervisor::Supervisor;
use super::workers::{LinkEnds, WorkerProcess};
use super::{GatewayChild, Outcome, WorkerChild, log};
use crate::forked;
use crate::settings::Settings;
use crate::worker::{WorkerKind, WorkerSetup};

impl<'py> Supervisor<'py> {
    /// Does one action; an outcome ends the loop.
    pub(crate) fn perform(&mut self, py: Python<'py>, action: Action) -> PyResult<Option<Outcome>> {
        match action {
            Action::SpawnGateway => return self.spawn_gateway(),
            Action::SpawnWorker {
                worker,
                age,
                generation,
            } => {
                return self.spawn_worker(py, worker, age, generation);
            }
            Action::Exit(code) => return Ok(Some(Outcome::Exit(code.0))),
            Action::SpawnTemplate(generation) => return Ok(self.spawn_template(py, generation)),
            Action::StopTemplate(generation) => self.stop_template(generation),
            Action::KillTemplate(generation) => self.kill_template(generation),
            Action::DumpStacksOfTemplate(generation) => {
                self.dump_stacks_of_template(generation);
            }
            Action::AttachWorker(worker) => self.attach(worker),
            Action::AnnounceReady(worker) => {
                if self.workers.get(worker).is_some_and(|worker| worker.logs) {
                    self.tell_gateway(&ToGateway::WorkerLogs { worker: worker.0 });
                }
                self.tell_gateway(&ToGateway::WorkerReady { worker: worker.0 });
            }
            Action::ServeGeneration(generation) => self.serve_generation(py, generation)?,
            Action::RetireWorker(worker) => {
                self.tell_gateway(&ToGateway::RetireWorker { worker: worker.0 });
            }
            Action::ForgetWorker(worker) => {
                self.tell_gateway(&ToGateway::WorkerGone { worker: worker.0 });
            }
            Action::ReleaseWorker(worker) => {
                if let Some(worker) = self.workers.get(worker).filter(|one| !one.is_leaving) {
                    worker.release.ring();
                }
            }
            Action::SignalWorker { worker, signal } => self.signal_worker(worker, signal)?,
            Action::DumpStacks(worker) => self.dump_stacks(worker),
            Action::DrainGateway { within } => {
                let deadline_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
                self.server.stopping()?;
                // First: whoever finds a socket file is let in.
                self.remove_socket_files();
                self.tell_gateway(&ToGateway::Drain { deadline_ms });
                show(&self.server, &[])?;
                self.listeners.clear();
            }
            Action::AnnounceBooted => self.server.booted()?,
            Action::StartSuccessor => return self.start_successor(),
            Action::Promote => self.promote()?,
            Action::StopGateway => {
                self.server.stopping()?;
                self.tell_gateway(&ToGateway::Stop);
            }
            Action::KillGateway => self.kill_gateway(),
            Action::LoadConfiguration { generation } => self.load_configuration(generation)?,
            Action::AbandonGeneration { generation, failed } => {
                self.abandon(generation, failed)?;
            }
            Action::ReopenLogs => {
                self.server.reopen_logs()?;
                self.tell_gateway(&ToGateway::ReopenLogs);
                self.reopen_logs_of_templates();
                self.reopen_logs_of_pool();
            }
            // The first number was told before there was a loop, as Gunicorn does.
            Action::NumWorkersChanged { old: None, .. } => {}
            Action::NumWorkersChanged { new, old } => {
                self.run_hook("nworkers_changed", self.server.set_num_workers(new, old))?;
            }
            Action::WorkerReaped { worker, exit } => self.worker_reaped(worker, exit)?,
            Action::Log(line, level) => self.log(level, &line.to_string()),
        }
        Ok(None)
    }

    /// What the settings read at the start mean for the first workers.
    pub(crate) fn file_first_generation(&mut self) -> PyResult<()> {
        let file = self.current_file()?;
        self.generations.insert(Generation(1), file);
        Ok(())
    }

    fn current_file(&self) -> PyResult<GenerationFile> {
        Ok(GenerationFile {
            cfg: self.server.cfg()?.unbind(),
            value: self.server.generation()?.unbind(),
            listeners: None,
            certificates: None,
        })
    }

    pub(crate) fn tell_gateway(&self, message: &ToGateway) {
        if let Some(gateway) = &self.gateway {
            gateway.send(message, &[]);
        }
    }

    /// What came of a method of the server that runs a hook. What the hook raised is logged: a mistake in it does not take
    /// the server down, unless it is meant to (`SystemExit`, `HaltServer`).
    pub(crate) fn run_hook(&self, hook: &str, ran: PyResult<()>) -> PyResult<()> {
        let Err(error) = ran else {
            return Ok(());
        };
        if !error.is_instance_of::<PyException>(self.server.py()) {
            return Err(error);
        }
        log::write_exception(&self.server, &format!("Exception in hook {hook}"), &error);
        Ok(())
    }

    pub(crate) fn title(&self, role: &str) -> String {
        title(&self.server, role)
    }

    // The gateway.

    fn spawn_gateway(&mut self) -> PyResult<Option<Outcome>> {
        let (control, control_of_gateway) = Channel::pair()?;
        forked::keep_from_children(&control);
        let setup = self.gateway_setup(control_of_gateway)?;
        let settings = setup.settings.clone();
        let listening = setup.listeners.iter();
        let listening = listening.map(|(listener, _)| listener.clone()).collect();
        match fork::fork(&self.server) {
            Ok(Side::Parent(pid)) => {
                // What is the gateway's alone no hook may find open.
                drop(setup);
                self.gateway_listens_at = Some(listening);
                self.gateway = Some(GatewayProcess { pid, control });
                self.tell(Event::GatewaySpawned {
                    pid: u32::try_from(pid).unwrap_or(0),
                });
                self.when_ready()?;
                self.renew_gateway_logs(&settings)?;
                Ok(None)
            }
            Ok(Side::Child(signals)) => {
                let title = self.title("gateway");
                Ok(Some(Outcome::Gateway(Box::new(GatewayChild {
                    title,
                    setup,
                    signals,
                }))))
            }
            Err(error) => {
                log::write_exception(&self.server, "Cannot fork the gateway", &error);
                self.tell(Event::GatewaySpawnFailed);
                Ok(None)
            }
        }
    }

    /// The settings of the generation that serves.
    pub(crate) fn serving_cfg(&self) -> PyResult<Bound<'py, PyAny>> {
        match self.generations.get(self.arbiter.serving()) {
            Some(file) => Ok(file.cfg.bind(self.server.py()).clone()),
            None => self.server.cfg(),
        }
    }

    fn gateway_setup(&self, control: Channel) -> PyResult<Setup> {
        let cfg = self.serving_cfg()?;
        let settings = self.gateway_settings(&cfg)?;
        let mut listeners = Vec::with_capacity(self.listeners.len());
        for listener in self.listeners_of_gateway(&cfg)? {
            let protocol = with_settings(&cfg, |settings| protocol_at(settings, &listener.bind))?;
            listeners.push((listener.setup(protocol), listener.socket.try_clone()?));
        }
        let certificates = self.certificates.as_ref().map(Certificates::share);
        let monitoring = self.monitoring.as_ref();
        let monitoring = monitoring
            .map(|listener| listener.socket.try_clone())
            .transpose()?;
        let scoreboard = self.scoreboard_file.try_clone()?;
        let metric_store = self.metric_store_file.try_clone()?;
        let identity = self.server.identity()?;
        let log_files = self.server.offered_logs()?.map(|number| {
            // SAFETY: the arbiter's Python keeps it open as long as it lives, and so during this call.
            unsafe { BorrowedFd::borrow_raw(number) }.try_clone_to_owned()
        });
        Ok(Setup {
            log_files: log_files.transpose()?,
            settings,
            identity,
            control: control.into(),
            listeners,
            certificates: certificates.transpose()?,
            monitoring,
            dashboard: self.dashboard.setup()?,
            scoreboard,
            metric_store,
        })
    }

    /// Where the gateway listens: nowhere, if the workers accept connections themselves.
    fn listeners_of_gateway(&self, cfg: &Bound<'_, PyAny>) -> PyResult<&[Listener]> {
        let traits = with_settings(cfg, traits_of)?;
        Ok(match traits.engine {
            Engine::Own => &[],
            Engine::Threads | Engine::Loop | Engine::Hub => &self.listeners,
        })
    }

    /// A hook may have changed the logger: then the gateway must not write by itself any more.
    fn renew_gateway_logs(&self, before: &oxicorn_gateway::Settings) -> PyResult<()> {
        let settings = self.gateway_settings(&self.serving_cfg()?)?;
        if settings != *before {
            self.tell_gateway(&ToGateway::Settings(Box::new(settings)));
        }
        Ok(())
    }

    /// The hook `when_ready` runs once, after the gateway was forked: it may start threads.
    fn when_ready(&mut self) -> PyResult<()> {
        if std::mem::replace(&mut self.was_ready, true) {
            return Ok(());
        }
        let title = self.title("master");
        // A title is a help for people: that it cannot be set is no reason not to serve.
        let _ = oxicorn_os::title::set(&title);
        self.server.ready()
    }

    fn kill_gateway(&self) {
        if let Some(gateway) = &self.gateway {
            // It may have ended by itself; its end is reaped either way.
            let _ = process::kill(gateway.pid, libc::SIGKILL);
        }
    }

    // Workers.

    fn spawn_worker(
        &mut self,
        py: Python<'py>,
        id: WorkerId,
        age: u64,
        generation: Generation,
    ) -> PyResult<Option<Outcome>> {
        match self.try_spawn_worker(py, id, age, generation) {
            Ok(outcome) => Ok(outcome),
            Err(error) if !error.is_instance_of::<PyException>(py) => Err(error),
            Err(error) => {
                log::write_exception(&self.server, "Cannot start a worker", &error);
                self.tell(Event::WorkerSpawnFailed(id));
                Ok(None)
            }
        }
    }

    fn try_spawn_worker(
        &mut self,
        py: Python<'py>,
        id: WorkerId,
        age: u64,
        generation: Generation,
    ) -> PyResult<Option<Outcome>> {
        if self.order_worker(id, age, generation)? {
            return Ok(None);
        }
        let Some(file) = self.generations.get(generation) else {
            return Err(PyRuntimeError::new_err("a generation without settings"));
        };
        let (cfg, value) = (file.cfg.bind(py).clone(), file.value.clone_ref(py));
        let slot = self.scoreboard.free_slot().map(|(_, slot)| slot);
        let (kind, traits, capacity) = with_settings(&cfg, |settings| {
            (
                kind_of(settings),
                traits_of(settings),
                capacity_of(settings),
            )
        })?;
        let (graceful_timeout, beat) = with_settings(&cfg, |settings| {
            let inner = &settings.inner;
            let beat = timing::heartbeat_interval(inner.timeout());
            (inner.graceful_timeout(), beat)
        })?;
        let link = LinkParts::create(Sizes::default())?;
        let ends = LinkEnds::of(&link)?;
        let release = EventFd::new()?;
        let stack_dump = memfd::with_content("oxicorn-stacks", &[])?;
        let (messages, messages_of_worker) = Channel::pair()?;
        forked::keep_from_children(&messages);
        let py_worker = match self.server.make_worker(age, &value) {
            Ok(py_worker) => py_worker,
            Err(error) if !error.is_instance_of::<PyException>(py) => return Err(error),
            Err(error) => {
                log::write_exception(&self.server, "Exception in hook pre_fork", &error);
                self.tell(Event::PreForkFailed(id));
                return Ok(None);
            }
        };
        if let Some(slot) = &slot {
            // Before the worker is there, which may be ready before this process goes on.
            slot.assign(0, age, generation.0, time::monotonic());
            let heartbeat = Heartbeat::of(slot.clone());
            self.server.show_heartbeat(&py_worker, heartbeat)?;
        }
        match fork::fork(&self.server)? {
            Side::Parent(pid) => {
                self.server.worker_started(&py_worker, pid)?;
                if let Some(slot) = &slot {
                    slot.set_pid(pid);
                }
                self.workers.insert(
                    id,
                    WorkerProcess {
                        pid,
                        age,
                        of_template: false,
                        generation,
                        capacity,
                        traits,
                        py_worker,
                        link: ends,
                        release,
                        logs: false,
                        slot,
                        beat,
                        stack_dump,
                        messages,
                        is_leaving: false,
                    },
                );
                self.tell(Event::WorkerSpawned {
                    worker: id,
                    pid: u32::try_from(pid).unwrap_or(0),
                });
                Ok(None)
            }
            Side::Child(signals) => {
                let setup = WorkerSetup {
                    id: id.0,
                    link,
                    notices: self.notices_of_workers.as_fd().try_clone_to_owned()?.into(),
                    release,
                    stack_dump,
                    messages: messages_of_worker,
                    slot,
                    kind,
                    graceful_timeout,
                    beat,
                    signals,
                };
                let listeners = self.listeners_for(kind, generation)?;
                Ok(Some(Outcome::Worker(Box::new(WorkerChild {
                    py_worker,
                    generation: Some(value),
                    setup,
                    listeners,
                }))))
            }
        }
    }

    /// Handles of what `generation` listens at, for workers that accept connections themselves; for others none.
    pub(crate) fn listeners_for(
        &self,
        kind: WorkerKind,
        generation: Generation,
    ) -> std::io::Result<Vec<Listener>> {
        if kind != WorkerKind::Direct {
            return Ok(Vec::new());
        }
        let file = self.generations.get(generation);
        let own = file.and_then(|file| file.listeners.as_ref());
        let listeners = own.unwrap_or(&self.listeners);
        listeners.iter().map(Listener::share).collect()
    }

    /// What was in force before a reload is in force again.
    fn return_to(&self, generation: Generation) -> PyResult<()> {
        let Some(file) = self.generations.get(generation) else {
            return Ok(());
        };
        self.server.enter_generation(&file.value)
    }

    fn attach(&self, id: WorkerId) {
        if let (Some(gateway), Some(worker)) = (&self.gateway, self.workers.get(id)) {
            gateway.attach(id, worker);
        }
    }

    /// Whether it is told instead of signalled (`worker/leaving.rs`): it accepts connections itself, and where it does
    /// others go on.
    fn leaves_listeners(&mut self, id: WorkerId) -> bool {
        let others_listen = !self.arbiter.is_stopping();
        let since = self.listeners_since;
        let Some(worker) = self.workers.get_mut(id) else {
            return false;
        };
        worker.is_leaving = others_listen
            && worker.traits.engine == Engine::Own
            && worker.generation >= since
            && worker
                .messages
                .send(&ToWorker::LeaveListeners.encode(), &[], Blocking::No)
                .unwrap_or(false);
        worker.is_leaving
    }

    fn signal_worker(&mut self, id: WorkerId, signal: WorkerSignal) -> PyResult<()> {
        if signal == WorkerSignal::Graceful
            && !self.overrides.kill_worker
            && self.leaves_listeners(id)
        {
            return Ok(());
        }
        let signal = match signal {
            WorkerSignal::Graceful => libc::SIGTERM,
            WorkerSignal::Quick => libc::SIGQUIT,
            WorkerSignal::Abort => libc::SIGABRT,
            WorkerSignal::Kill => libc::SIGKILL,
            WorkerSignal::Reopen => libc::SIGUSR1,
        };
        let Some(worker) = self.workers.get(id) else {
            return Ok(());
        };
        if self.overrides.kill_worker {
            return self.run_hook("kill_worker", self.server.kill_worker(worker.pid, signal));
        }
        // It may have ended by itself; its end is reaped either way.
        let _ = process::kill(worker.pid, signal);
        Ok(())
    }

    pub(crate) fn dump_stacks(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.get(id) else {
            return;
        };
        let (pid, file) = (worker.pid, worker.stack_dump.try_clone());
        self.ask_for_stacks("worker", pid, file);
    }

    /// They appear in `file`.
    pub(crate) fn ask_for_stacks(
        &mut self,
        who: &'static str,
        pid: i32,
        file: std::io::Result<OwnedFd>,
    ) {
        let dump = file.ok().and_then(|file| self.begin_dump(who, pid, file));
        self.dumps.extend(dump);
    }

    /// Asks a process for its stacks; `None`: it cannot be asked.
    pub(crate) fn begin_dump(
        &self,
        who: &'static str,
        pid: i32,
        file: OwnedFd,
    ) -> Option<PendingDump> {
        let signal = self.server.stack_dump_signal()?;
        // What was asked for before is not to be shown again. Who writes shares the position.
        memfd::empty(&file).ok()?;
        let asked = process::kill(pid, signal).unwrap_or(false);
        asked.then(|| PendingDump::new(who, pid, file, time::monotonic()))
    }

    fn worker_reaped(&mut self, id: WorkerId, _exit: Exit) -> PyResult<()> {
        let Some(worker) = self.workers.remove(id) else {
            return Ok(());
        };
        if let Some(slot) = &worker.slot {
            slot.clear();
        }
        self.run_hook("child_exit", self.server.worker_reaped(worker.py_worker))
    }

    // Configuration.

    fn load_configuration(&mut self, generation: Generation) -> PyResult<()> {
        self.server.reloading()?;
        match self.try_load(generation) {
            Ok(plan) => {
                self.tell(Event::ConfigurationLoaded(plan));
                if let Err(error) = self.reload_pool() {
                    log::write_exception(&self.server, "Cannot reload the pool", &error);
                }
            }
            Err(error) => {
                let is_of_hook = self.server.reload_refused(error)?;
                self.forget_generation(generation);
                let serving = self.arbiter.serving();
                self.return_to(serving)?;
                self.settled()?;
                self.tell(if is_of_hook {
                    Event::ReloadHookFailed
                } else {
                    Event::ConfigurationRefused
                });
            }
        }
        Ok(())
    }

    fn try_load(&mut self, generation: Generation) -> PyResult<oxicorn_arbiter::Plan> {
        self.server.reload_settings()?;
        let cfg = self.server.cfg()?;
        // What makes no sense is refused here.
        self.pool_plan(&cfg)?;
        let certificates = Certificates::of(&self.server, &cfg)?;
        let listeners = self.listeners_of(&cfg)?;
        let mut file = self.current_file()?;
        file.certificates = certificates;
        let same = listeners.len() == self.listeners.len()
            && listeners
                .iter()
                .zip(&self.listeners)
                .all(|(new, old)| (&new.bind, new.scheme) == (&old.bind, old.scheme));
        file.listeners = (!same).then_some(listeners);
        self.generations.insert(generation, file);
        self.server.reloaded()?;
        plan_of(&cfg)
    }

    /// What `cfg` listens at; systemd's listeners stay whatever it says.
    fn listeners_of(&self, cfg: &Bound<'_, PyAny>) -> PyResult<Vec<Listener>> {
        if self.is_activated {
            let schemes = with_settings(cfg, |settings| {
                let speaks = |one: &Listener| settings.inner.scheme_at(&one.bind);
                self.listeners.iter().map(speaks).collect::<Vec<_>>()
            })?;
            let all = self.listeners.iter().zip(schemes);
            let shared = all.map(|(listener, scheme)| listener.share()?.speaking(scheme));
            return Ok(shared.collect::<std::io::Result<_>>()?);
        }
        bind_all(&self.server, cfg, &self.listeners)
    }

    fn abandon(&mut self, generation: Generation, failed: bool) -> PyResult<()> {
        if failed {
            let block = self.scoreboard.arbiter();
            block.count(ArbiterCounter::ReloadsFailed);
        }
        self.forget_generation(generation);
        let serving = self.arbiter.serving();
        self.return_to(serving)?;
        self.settled()
    }

    /// Nobody listens any more where only it did.
    fn forget_generation(&mut self, generation: Generation) {
        let Some(file) = self.generations.remove(generation) else {
            return;
        };
        for listener in file.listeners.iter().flatten() {
            if self.listeners.iter().all(|kept| kept.bind != listener.bind) {
                listener.remove_file();
            }
        }
    }

    /// No reload is under way any more.
    fn settled(&self) -> PyResult<()> {
        if self.arbiter.loading().is_none() {
            self.server.settled()?;
        }
        Ok(())
    }

    /// Follows every start of a gateway, and commits a reload.
    fn serve_generation(&mut self, py: Python<'py>, generation: Generation) -> PyResult<()> {
        let Some(file) = self.generations.get_mut(generation) else {
            return Ok(());
        };
        let cfg = file.cfg.clone_ref(py);
        let listeners = file.listeners.take();
        if let Some(certificates) = file.certificates.take() {
            self.certificates = Some(certificates);
        }
        if let Some(listeners) = listeners {
            self.change_listeners(listeners)?;
            self.listeners_since = generation;
        }
        // Before the listeners that need them.
        self.tell_certificates();
        let settings = self.gateway_settings(cfg.bind(py))?;
        self.tell_gateway(&ToGateway::Settings(Box::new(settings)));
        // Behind the settings, which say whether listeners that are closed stay open elsewhere.
        self.tell_listeners(cfg.bind(py))?;
        let block = self.scoreboard.arbiter();
        block.set(ArbiterGauge::Generation, generation.0.into());
        self.tell_gateway(&ToGateway::ServeGeneration {
            generation: generation.0,
        });
        self.generations.forget_before(generation);
        self.settled()
    }

    fn change_listeners(&mut self, listeners: Vec<super::listeners::Listener>) -> PyResult<()> {
        announce(&self.server, &listeners, false)?;
        let old = std::mem::replace(&mut self.listeners, listeners);
        for listener in old {
            if self.listeners.iter().all(|kept| kept.bind != listener.bind) {
                listener.remove_file();
            }
        }
        self.gateway_listens_at = None;
        Ok(())
    }

    /// Has the gateway listen where the workers of `cfg` want it to, if that has changed.
    fn tell_listeners(&mut self, cfg: &Bound<'_, PyAny>) -> PyResult<()> {
        let Some(gateway) = &self.gateway else {
            return Ok(());
        };
        let listeners = self.listeners_of_gateway(cfg)?;
        let setup = |settings: &crate::settings::Settings, listener: &Listener| {
            listener.setup(protocol_at(settings, &listener.bind))
        };
        let binds: Vec<_> = with_settings(cfg, |settings| {
            let setups = listeners.iter().map(|listener| setup(settings, listener));
            setups.collect()
        })?;
        if self.gateway_listens_at.as_ref() == Some(&binds) {
            return Ok(());
        }
        let told = Some(binds.clone());
        let sockets: Vec<_> = listeners
            .iter()
            .map(|listener| listener.socket.as_fd())
            .collect();
        let message = ToGateway::Listeners {
            binds,
            replace: true,
        };
        gateway.send(&message, &sockets);
        self.gateway_listens_at = told;
        Ok(())
    }

    /// Whoever finds such a file after the end would be refused; but a server that takes over is found by it.
    fn remove_socket_files(&self) {
        if !self.arbiter.shares_listeners() {
            for listener in &self.listeners {
                listener.remove_file();
            }
        }
    }

    /// Everything has ended.
    pub(crate) fn end(&mut self, code: i32) -> PyResult<Outcome> {
        self.remove_socket_files();
        // It answers to the last.
        if let Some(listener) = &self.monitoring
            && !self.arbiter.shares_listeners()
        {
            listener.remove_file();
        }
        self.close_control()?;
        self.run_hook("on_exit", self.server.ended())?;
        Ok(Outcome::Exit(code))
    }
}

/// How a process of this role is called in the list of processes.
pub(crate) fn title(server: &PyArbiter<'_>, role: &str) -> String {
    format!(
        "oxicorn: {role} [{}]",
        server.proc_name().unwrap_or_default()
    )
}

/// What the worker class in force is.
pub(crate) fn traits_of(settings: &Settings) -> Traits {
    settings.effective_class().traits()
}

/// How the workers of these settings take requests.
pub(crate) fn kind_of(settings: &Settings) -> WorkerKind {
    match traits_of(settings).engine {
        Engine::Threads => WorkerKind::Threads(capacity_of(settings) as usize),
        Engine::Loop => WorkerKind::Loop,
        Engine::Hub => WorkerKind::Hub,
        Engine::Own => WorkerKind::Direct,
    }
}

/// How many requests each of them takes at once.
pub(crate) fn capacity_of(settings: &Settings) -> u32 {
    match traits_of(settings).capacity {
        Capacity::One => 1,
        Capacity::Threads => settings.inner.threads(),
        Capacity::Connections => settings.inner.worker_connections(),
    }
}
