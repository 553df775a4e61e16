//! The pool of heavy applications from the arbiter's side: does what [`oxicorn_arbiter::pool`] decides.
//!
//! Broker and pool workers are forked here, like all others. What hooks see is Python's (`oxicorn.dirty.arbiter`).

use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use oxicorn_arbiter::pool::{Pool, PoolAction, PoolApp, PoolEvent, PoolPlan};
use oxicorn_arbiter::{Exit, Generation, Level, WorkerId, WorkerSignal};
use oxicorn_link::scoreboard::{PoolBlock, PoolCounter};
use oxicorn_os::channel::{self, Blocking, Channel, Received};
use oxicorn_os::signals::Blocked;
use oxicorn_os::stream::Stream;
use oxicorn_os::{memfd, poll, process, sockets, time};
use oxicorn_pool::control::{self, AddWorker, Application, FromBroker, Settings, ToBroker};
use oxicorn_settings::POOL_THREADS_MAX;
use pyo3::prelude::*;

use super::fork::{self, Side};
use super::log;
use super::pool_figures;
use super::supervisor::Supervisor;
use super::{DirtyChild, Outcome, PoolBrokerChild};
use crate::forked;
use crate::pool::{DirtyNotice, DirtySetup};

/// Callers that wait for the broker to take their connections.
const BACKLOG: u32 = 4096;
/// How long the broker may take to make room for a message.
const PATIENCE: Duration = Duration::from_secs(2);

const _: () = assert!(
    POOL_THREADS_MAX < channel::MAX_DESCRIPTORS,
    "the lanes of a worker and its control channel are the descriptors of one message"
);

/// A living broker.
#[derive(Debug)]
struct BrokerProcess {
    pid: i32,
    control: Channel,
}

/// A living pool worker.
#[derive(Debug)]
struct DirtyProcess {
    pid: i32,
    generation: Generation,
    /// What hooks know it by.
    face: Py<PyAny>,
    /// The broker's ends, until it has them.
    of_broker: Vec<OwnedFd>,
    /// By which it is told its applications, if it waits for that.
    assignment: Option<Channel>,
    stack_dump: OwnedFd,
    /// Its applications, while it is given calls.
    serves: Vec<String>,
}

/// What belongs to one load of the settings.
#[derive(Debug)]
struct PoolFile {
    cfg: Py<PyAny>,
    apps: Vec<String>,
    /// Calls that each worker, or each of what one process runs elsewhere, may run at once.
    threads: usize,
    one_process: bool,
    broker: Settings,
    unpickles: bool,
}

/// What Python is told whenever it has changed.
#[derive(Debug, Clone, Default, PartialEq)]
struct Told {
    /// How many workers there are to be, the fewest there can be, and the most that are of use.
    wanted: u32,
    least: u32,
    most: Option<u32>,
    serving: u32,
    loading: Option<u32>,
    /// Reloads that were given up, and why the last one was.
    refused: u64,
    refusal: String,
    resting: usize,
    /// Applications that cannot be loaded: path, reason, how often, when it is tried again (seconds of the monotonic clock).
    failures: Vec<(String, String, u32, f64)>,
}

impl Told {
    fn of(machine: &Pool) -> Self {
        let (refused, refusal) = machine.refused();
        let failures = machine.failures().map(|(path, failure)| {
            let again = failure.not_before.as_secs_f64();
            (
                path.to_owned(),
                failure.reason.clone(),
                failure.count,
                again,
            )
        });
        Self {
            wanted: machine.wanted(),
            least: machine.least(),
            most: machine.most(),
            serving: machine.serving().0,
            loading: machine.loading().map(|generation| generation.0),
            refused,
            refusal: refusal.to_owned(),
            resting: machine.resting(),
            failures: failures.collect(),
        }
    }
}

impl PoolFile {
    /// How many lanes a process has where there are to be so many workers.
    fn lanes(&self, workers: u32) -> usize {
        if !self.one_process {
            return self.threads;
        }
        let most = usize::try_from(workers).unwrap_or(usize::MAX);
        let most = most.saturating_mul(self.apps.len());
        most.saturating_mul(self.threads).clamp(1, POOL_THREADS_MAX)
    }

    /// Applications by their places in the plan, each once, with how many calls of it a process may run at once.
    fn capacity(&self, places: &[usize]) -> (Vec<String>, Vec<usize>) {
        let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
        for place in places {
            *counts.entry(*place).or_default() += 1;
        }
        let each = counts.iter().map(|(&place, count)| {
            let path = self.apps[place].clone();
            (path, count.saturating_mul(self.threads))
        });
        each.unzip()
    }
}

/// A worker to be forked: see [`PoolAction::SpawnWorker`].
#[derive(Debug)]
struct Order {
    worker: WorkerId,
    generation: Generation,
    place: u32,
    applications: Option<Vec<usize>>,
    indexes: Vec<(usize, u32)>,
}

/// Everything of the pool.
#[derive(Debug)]
pub(crate) struct PoolProcesses {
    machine: Pool,
    /// `oxicorn.dirty.arbiter.DirtyArbiter`.
    face: Py<PyAny>,
    listener: OwnedFd,
    /// In which the stash outlives a broker.
    stash: [OwnedFd; 2],
    broker: Option<BrokerProcess>,
    workers: HashMap<WorkerId, DirtyProcess>,
    files: BTreeMap<Generation, PoolFile>,
    last_file: Generation,
    /// What Python was told.
    told: Told,
    notices: Channel,
    notices_of_workers: Channel,
    figures: PoolBlock,
}

impl PoolProcesses {
    /// What the loop waits for.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let broker = self.broker.as_ref().map(|broker| broker.control.as_fd());
        std::iter::once(self.notices.as_fd()).chain(broker)
    }

    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        self.machine.next_deadline()
    }

    pub(crate) fn is_over(&self) -> bool {
        self.machine.is_over()
    }

    pub(crate) fn pids(&self) -> impl Iterator<Item = i32> {
        let broker = self.broker.as_ref().map(|broker| broker.pid);
        self.workers.values().map(|worker| worker.pid).chain(broker)
    }

    fn by_pid(&self, pid: i32) -> Option<WorkerId> {
        let mut workers = self.workers.iter();
        workers
            .find(|(_, worker)| worker.pid == pid)
            .map(|(id, _)| *id)
    }

    fn handle(&mut self, event: PoolEvent) {
        pool_figures::count(&self.figures, &event);
        self.machine.handle(event, time::monotonic());
    }

    /// Sends one message. A broker that does not take it in time stands still and is killed, to be replaced.
    fn tell_broker(&self, message: &ToBroker, descriptors: &[BorrowedFd<'_>]) {
        let Some(broker) = &self.broker else { return };
        let Some(packet) = control::encode(message) else {
            return;
        };
        let send = || broker.control.send(&packet, descriptors, Blocking::No);
        if let Ok(false) = send() {
            let _ = poll::wait_writable(broker.control.as_fd(), Some(PATIENCE));
            if let Ok(false) = send() {
                let _ = process::kill(broker.pid, libc::SIGKILL);
            }
        }
    }

    fn set_serves(&mut self, worker: WorkerId, serves: bool) {
        let paths = self.paths_of(worker);
        let Some(found) = self.workers.get_mut(&worker) else {
            return;
        };
        found.serves = if serves { paths } else { Vec::new() };
        self.show_workers();
    }

    fn show_workers(&self) {
        let serving = self.workers.values().flat_map(|worker| &worker.serves);
        pool_figures::show_workers(&self.figures, serving);
    }

    /// The applications that a worker has or is about to have, by their paths.
    fn paths_of(&self, worker: WorkerId) -> Vec<String> {
        let found = self.workers.get(&worker);
        let file = found.and_then(|found| self.files.get(&found.generation));
        let places = self.machine.applications(worker).into_iter();
        let paths = file.map(|file| places.map(|place| file.apps[place].clone()).collect());
        paths.unwrap_or_default()
    }

    fn serving_settings(&self) -> Settings {
        let file = self.files.get(&self.machine.serving());
        file.map(|file| file.broker.clone()).unwrap_or_default()
    }
}

/// What Python says of the settings: workers, applications with their numbers, threads, then seconds: timeout, graceful,
/// boot, idle; then queue limit, stash size, whether values may be pickled, and whether one process has all applications.
type Said = (
    u32,
    Vec<(String, Option<u32>)>,
    usize,
    (f64, f64, f64, f64),
    (usize, usize),
    bool,
    bool,
);

impl<'py> Supervisor<'py> {
    /// Starts the pool, if the settings want one.
    pub(crate) fn start_pool(&mut self) -> PyResult<()> {
        let cfg = self.server.cfg()?;
        let Some((file, plan)) = self.pool_settings(&cfg)? else {
            return Ok(());
        };
        self.open_pool(file, plan)
    }

    fn open_pool(&mut self, file: PoolFile, plan: PoolPlan) -> PyResult<()> {
        let face = self.server.make_dirty_arbiter(&file.cfg)?;
        let path: String = face.getattr("socket_path")?.extract()?;
        let listener = sockets::bind_unix(path.as_bytes(), Some(0o177))?;
        sockets::listen(&listener, BACKLOG)?;
        sockets::set_nonblocking(&listener, true)?;
        face.call_method0("bound")?;
        let (notices, notices_of_workers) = Channel::pair()?;
        for channel in [&notices, &notices_of_workers] {
            forked::keep_from_children(channel);
        }
        forked::keep_from_children(&listener);
        let stash = [
            memfd::empty_file("oxicorn-stash")?,
            memfd::empty_file("oxicorn-stash")?,
        ];
        let first = Generation(1);
        self.pool = Some(PoolProcesses {
            machine: Pool::new(plan, time::monotonic()),
            face: face.unbind(),
            listener,
            stash,
            broker: None,
            workers: HashMap::new(),
            files: BTreeMap::from([(first, file)]),
            last_file: first,
            told: Told::default(),
            notices,
            notices_of_workers,
            figures: self.scoreboard.pool(),
        });
        self.run_pool_hook("on_dirty_starting", "starting", ())
    }

    /// What the settings say of the pool; `None`: they want none. An error: they make no sense.
    pub(crate) fn pool_plan(&self, cfg: &Bound<'py, PyAny>) -> PyResult<Option<PoolPlan>> {
        Ok(self.pool_settings(cfg)?.map(|(_, plan)| plan))
    }

    fn pool_settings(&self, cfg: &Bound<'py, PyAny>) -> PyResult<Option<(PoolFile, PoolPlan)>> {
        let said = self.server.dirty_plan(cfg)?;
        let Some(said) = said.extract::<Option<Said>>()? else {
            return Ok(None);
        };
        let (workers, apps, threads, seconds, bounds, unpickles, one_process) = said;
        let (timeout, graceful, boot, idle) = seconds;
        let duration = |seconds: f64| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
        let file = PoolFile {
            cfg: cfg.clone().unbind(),
            apps: apps.iter().map(|(path, _)| path.clone()).collect(),
            threads: threads.clamp(1, POOL_THREADS_MAX),
            one_process,
            broker: Settings {
                timeout: (timeout > 0.0).then(|| duration(timeout)),
                queue_limit: bounds.0,
                idle_timeout: (idle > 0.0).then(|| duration(idle)),
                stash_limit: bounds.1,
            },
            unpickles,
        };
        let apps = apps.into_iter();
        let plan = PoolPlan {
            workers,
            apps: apps.map(|(path, limit)| PoolApp { path, limit }).collect(),
            graceful_timeout: duration(graceful),
            boot_timeout: duration(boot),
            one_process,
        };
        Ok(Some((file, plan)))
    }

    /// The settings were loaded anew.
    pub(crate) fn reload_pool(&mut self) -> PyResult<()> {
        let cfg = self.server.cfg()?;
        let wanted = self.pool_settings(&cfg)?;
        match (&mut self.pool, wanted) {
            (None, Some((file, plan))) => self.open_pool(file, plan)?,
            (Some(pool), Some((file, plan))) => pool.reload(file, plan),
            (Some(pool), None) => pool.handle(PoolEvent::Stop),
            (None, None) => {}
        }
        Ok(())
    }

    /// Does what the pool's machine has ordered; an outcome ends the loop.
    pub(crate) fn run_pool(&mut self) -> PyResult<Option<Outcome>> {
        while let Some(action) = self
            .pool
            .as_mut()
            .and_then(|pool| pool.machine.poll_action())
        {
            let outcome = self.perform_for_pool(action)?;
            forked::end_if_forked(&self.server, None);
            if outcome.is_some() {
                return Ok(outcome);
            }
        }
        self.tell_numbers()?;
        // Stopped by a reload that wants none.
        if self.ending.code.is_none() && self.pool.as_ref().is_some_and(PoolProcesses::is_over) {
            self.close_pool()?;
        }
        Ok(None)
    }

    fn tell_numbers(&mut self) -> PyResult<()> {
        let Some(pool) = &mut self.pool else {
            return Ok(());
        };
        let told = Told::of(&pool.machine);
        if pool.told != told {
            let face = pool.face.bind(self.server.py());
            face.call_method1("set_numbers", (told.wanted, told.least, told.most))?;
            let reload = (told.serving, told.loading, told.refused, &told.refusal);
            let failures = told.failures.clone();
            face.call_method1("set_state", (reload, told.resting, failures))?;
            pool.told = told;
        }
        Ok(())
    }

    /// Everything of it has ended.
    pub(crate) fn close_pool(&mut self) -> PyResult<()> {
        if self.pool.take().is_some() {
            self.server.dirty_arbiter_ended()?;
        }
        Ok(())
    }

    fn run_pool_hook<A>(&self, hook: &str, method: &str, arguments: A) -> PyResult<()>
    where
        A: for<'a> pyo3::call::PyCallArgs<'a>,
    {
        let Some(pool) = &self.pool else {
            return Ok(());
        };
        let face = pool.face.bind(self.server.py());
        let Err(error) = face.call_method1(method, arguments) else {
            return Ok(());
        };
        if !error.is_instance_of::<pyo3::exceptions::PyException>(self.server.py()) {
            return Err(error);
        }
        log::write_exception(&self.server, &format!("Exception in hook {hook}"), &error);
        Ok(())
    }

    fn perform_for_pool(&mut self, action: PoolAction) -> PyResult<Option<Outcome>> {
        let Some(pool) = &mut self.pool else {
            return Ok(None);
        };
        match action {
            PoolAction::SpawnBroker => return Ok(self.spawn_broker()),
            PoolAction::SpawnWorker {
                worker,
                generation,
                place,
                applications,
                indexes,
            } => {
                let order = Order {
                    worker,
                    generation,
                    place,
                    applications,
                    indexes,
                };
                return self.spawn_dirty_worker(&order);
            }
            PoolAction::StopBroker => pool.tell_broker(&ToBroker::Stop, &[]),
            PoolAction::KillBroker => {
                if let Some(broker) = &pool.broker {
                    let _ = process::kill(broker.pid, libc::SIGKILL);
                }
            }
            PoolAction::AttachWorker(worker) => self.attach_dirty_worker(worker),
            PoolAction::AnnounceReady(worker) => {
                pool.set_serves(worker, true);
                let mut applications = pool.paths_of(worker);
                applications.dedup();
                let message = ToBroker::WorkerReady {
                    worker: worker.0,
                    applications,
                };
                pool.tell_broker(&message, &[]);
            }
            PoolAction::RetireWorker(worker) => {
                pool.set_serves(worker, false);
                pool.tell_broker(&ToBroker::RetireWorker(worker.0), &[]);
            }
            PoolAction::SignalWorker { worker, signal } => {
                if let Some(worker) = pool.workers.get(&worker) {
                    // It may have ended by itself; its end is reaped either way.
                    let _ = process::kill(worker.pid, number_of(signal));
                }
            }
            PoolAction::DumpStacks(worker) => {
                let found = pool.workers.get(&worker);
                if let Some((pid, file)) = found.map(|one| (one.pid, one.stack_dump.try_clone())) {
                    self.ask_for_stacks("dirty worker", pid, file);
                }
            }
            PoolAction::WorkerReaped { worker, how } => self.dirty_worker_reaped(worker, &how)?,
            PoolAction::Expect(applications) => {
                for one in &applications {
                    pool.figures.give_row(&one.path);
                }
                let applications = applications.into_iter().map(|one| Application {
                    path: one.path,
                    expected: one.expected,
                    failure: one.failure,
                });
                pool.tell_broker(&ToBroker::Applications(applications.collect()), &[]);
            }
            PoolAction::ServeGeneration(generation) => {
                pool.files = pool.files.split_off(&generation);
                let settings = pool.serving_settings();
                pool.tell_broker(&ToBroker::Settings(settings), &[]);
                if let Some(file) = pool.files.get(&generation) {
                    let face = pool.face.bind(self.server.py());
                    face.call_method1("serve", (&file.cfg,))?;
                }
            }
            PoolAction::AbandonGeneration(generation) => {
                pool.files.remove(&generation);
            }
            PoolAction::Log(level, text) => self.log(level, &text),
        }
        Ok(None)
    }

    fn spawn_broker(&mut self) -> Option<Outcome> {
        self.try_spawn_broker().unwrap_or_else(|error| {
            log::write_exception(&self.server, "Cannot start the pool's broker", &error);
            if let Some(pool) = &mut self.pool {
                pool.handle(PoolEvent::BrokerSpawnFailed);
            }
            None
        })
    }

    fn try_spawn_broker(&mut self) -> PyResult<Option<Outcome>> {
        let (control, of_broker) = Channel::pair()?;
        forked::keep_from_children(&control);
        let identity = self.server.identity()?;
        let title = self.title("dirty-arbiter");
        let Some(pool) = &mut self.pool else {
            return Ok(None);
        };
        let setup = oxicorn_pool::Setup {
            identity,
            listener: pool.listener.try_clone()?,
            control: of_broker.into(),
            stash: [pool.stash[0].try_clone()?, pool.stash[1].try_clone()?],
            scoreboard: self.scoreboard_file.try_clone()?,
        };
        match fork::fork(&self.server)? {
            Side::Parent(pid) => {
                drop(setup);
                pool.broker = Some(BrokerProcess { pid, control });
                pool.handle(PoolEvent::BrokerSpawned {
                    pid: u32::try_from(pid).unwrap_or(0),
                });
                let settings = pool.serving_settings();
                pool.tell_broker(&ToBroker::Settings(settings), &[]);
                let face = pool.face.bind(self.server.py());
                face.call_method1("broker_started", (pid,))?;
                self.server.set_broker(pid)?;
                Ok(None)
            }
            Side::Child(signals) => Ok(Some(Outcome::PoolBroker(Box::new(PoolBrokerChild {
                title,
                setup,
                signals,
            })))),
        }
    }

    fn spawn_dirty_worker(&mut self, order: &Order) -> PyResult<Option<Outcome>> {
        match self.try_spawn_dirty_worker(order) {
            Ok(outcome) => Ok(outcome),
            Err(error)
                if !error.is_instance_of::<pyo3::exceptions::PyException>(self.server.py()) =>
            {
                Err(error)
            }
            Err(error) => {
                log::write_exception(&self.server, "Cannot start a dirty worker", &error);
                if let Some(pool) = &mut self.pool {
                    pool.handle(PoolEvent::WorkerSpawnFailed(order.worker));
                }
                Ok(None)
            }
        }
    }

    fn try_spawn_dirty_worker(&mut self, order: &Order) -> PyResult<Option<Outcome>> {
        let &Order {
            worker,
            generation,
            place,
            ..
        } = order;
        let applications = order.applications.as_deref();
        let py = self.server.py();
        let title = self.title("dirty-worker");
        let Some(pool) = &mut self.pool else {
            return Ok(None);
        };
        let Some(file) = pool.files.get(&generation) else {
            pool.handle(PoolEvent::WorkerSpawnFailed(worker));
            return Ok(None);
        };
        let paths: Option<Vec<&String>> =
            applications.map(|places| places.iter().map(|&place| &file.apps[place]).collect());
        let indexes = order.indexes.iter();
        let indexes: HashMap<&String, u32> = indexes
            .map(|&(app, index)| (&file.apps[app], index))
            .collect();
        let face = pool.face.bind(py);
        let face = face.call_method1(
            "make_worker",
            (worker.0, place, paths, indexes, &file.cfg, &file.apps),
        )?;
        let (mut lanes, mut of_broker) = (Vec::new(), Vec::new());
        for _ in 0..file.lanes(pool.machine.wanted()) {
            let (broker, lane) = Stream::pair()?;
            lanes.push(lane);
            of_broker.push(broker.into());
        }
        let (broker_end, control) = Channel::pair()?;
        of_broker.push(OwnedFd::from(broker_end));
        for descriptor in &of_broker {
            forked::keep_from_children(descriptor);
        }
        let (assignment, of_worker) = if applications.is_none() {
            let (here, there) = Channel::pair()?;
            (Some(here), Some(there))
        } else {
            (None, None)
        };
        let stack_dump = memfd::with_content("oxicorn-stacks", &[])?;
        let unpickles = file.unpickles;
        match fork::fork(&self.server)? {
            Side::Parent(pid) => {
                pool.workers.insert(
                    worker,
                    DirtyProcess {
                        pid,
                        generation,
                        face: face.clone().unbind(),
                        of_broker,
                        assignment,
                        stack_dump,
                        serves: Vec::new(),
                    },
                );
                pool.handle(PoolEvent::WorkerSpawned {
                    worker,
                    pid: u32::try_from(pid).unwrap_or(0),
                });
                self.run_pool_hook("dirty_post_fork", "worker_started", (face.unbind(), pid))?;
                Ok(None)
            }
            Side::Child(signals) => {
                let notices = pool.notices_of_workers.as_fd().try_clone_to_owned()?;
                let setup = DirtySetup {
                    id: worker.0,
                    lanes,
                    control,
                    notices: notices.into(),
                    assignment: of_worker,
                    stack_dump,
                    signals,
                    unpickles,
                };
                Ok(Some(Outcome::DirtyWorker(Box::new(DirtyChild {
                    face: face.unbind(),
                    title,
                    setup,
                }))))
            }
        }
    }

    fn attach_dirty_worker(&mut self, worker: WorkerId) {
        let Some(pool) = &mut self.pool else {
            return;
        };
        let places = pool.machine.applications(worker);
        let Some(found) = pool.workers.get_mut(&worker) else {
            return;
        };
        let Some(file) = pool.files.get(&found.generation) else {
            return;
        };
        let (applications, calls_each) = file.capacity(&places);
        if let Some(assignment) = found.assignment.take() {
            let mut packet = b"A".to_vec();
            let numbers = places
                .iter()
                .map(|&place| u32::try_from(place).unwrap_or(0));
            packet.extend(numbers.flat_map(u32::to_ne_bytes));
            // One that is gone is reaped.
            let _ = assignment.send(&packet, &[], Blocking::No);
            let face = found.face.bind(self.server.py());
            // For hooks to see; the object is ours, and takes it.
            let _ = face.setattr("app_paths", &applications);
        }
        let descriptors = std::mem::take(&mut found.of_broker);
        let message = ToBroker::AddWorker(AddWorker {
            worker: worker.0,
            pid: found.pid,
            age: u64::from(worker.0),
            generation: found.generation.0,
            applications,
            calls_each,
        });
        let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        pool.tell_broker(&message, &borrowed);
    }

    fn dirty_worker_reaped(&mut self, worker: WorkerId, how: &str) -> PyResult<()> {
        let Some(pool) = &mut self.pool else {
            return Ok(());
        };
        let Some(gone) = pool.workers.remove(&worker) else {
            return Ok(());
        };
        let reason = format!("The dirty worker (pid:{}) {how}", gone.pid);
        let message = ToBroker::WorkerGone {
            worker: worker.0,
            reason,
        };
        pool.tell_broker(&message, &[]);
        pool.show_workers();
        self.run_pool_hook("dirty_worker_exit", "worker_reaped", (gone.face,))
    }

    /// What broker and pool workers said.
    pub(crate) fn take_pool_messages(&mut self) {
        self.take_dirty_notices();
        while let Some(message) = self.pool.as_ref().and_then(PoolProcesses::receive) {
            self.handle_broker_message(message);
        }
        if let Some(pool) = &mut self.pool {
            pool.machine.handle_timeout(time::monotonic());
        }
    }

    fn take_dirty_notices(&mut self) {
        let Some(pool) = &mut self.pool else { return };
        let (mut packet, mut none) = (Vec::new(), Vec::new());
        while let Ok(Received::Message(_)) = pool.notices.recv(&mut packet, &mut none, Blocking::No)
        {
            let Some((worker, notice)) = DirtyNotice::decode(&packet) else {
                continue;
            };
            let worker = WorkerId(worker);
            let app = |path: &str| {
                let found = pool.workers.get(&worker)?;
                let mut apps = pool.files.get(&found.generation)?.apps.iter();
                apps.position(|one| one == path)
            };
            let event = match notice {
                DirtyNotice::Loading(path) => {
                    app(&path).map(|app| PoolEvent::AppLoading { worker, app })
                }
                DirtyNotice::Failed(path, reason) => app(&path).map(|app| PoolEvent::AppFailed {
                    worker,
                    app,
                    reason,
                }),
                DirtyNotice::Limit(path, limit) => {
                    app(&path).map(|app| PoolEvent::Limit { worker, app, limit })
                }
                DirtyNotice::Ready => Some(PoolEvent::WorkerReady(worker)),
                DirtyNotice::WantsReplacement(reason) => {
                    pool_figures::count_replacement(&pool.figures, reason);
                    Some(PoolEvent::WorkerWantsReplacement(worker))
                }
                DirtyNotice::Limits(limits) => Some(PoolEvent::Limits { worker, limits }),
            };
            if let Some(event) = event {
                pool.handle(event);
            }
        }
    }

    fn handle_broker_message(&mut self, message: FromBroker) {
        let Some(pool) = &mut self.pool else { return };
        match message {
            FromBroker::Ready => {}
            FromBroker::Stuck { worker, call } => pool.handle(PoolEvent::WorkerStuck {
                worker: WorkerId(worker),
                call,
            }),
            FromBroker::Manage(by) => self.scale_pool(by),
            FromBroker::Idle(worker) => pool.handle(PoolEvent::WorkerIdle(WorkerId(worker))),
            FromBroker::Wanted(path) => pool.handle(PoolEvent::Wanted { path }),
            FromBroker::Signal(signal) => match signal {
                libc::SIGTTIN => pool.handle(PoolEvent::More(1)),
                libc::SIGTTOU => pool.handle(PoolEvent::Fewer(1)),
                libc::SIGUSR1 => pool.handle(PoolEvent::Reopen),
                // Gunicorn's pool ends with TERM and is started anew: new workers either way.
                _ => {
                    if let Err(error) = self.reload_pool() {
                        log::write_exception(&self.server, "Cannot reload the pool", &error);
                    }
                }
            },
            FromBroker::Warning(text) => self.log(Level::Warning, &text),
        }
    }

    /// So many workers more, or fewer with a negative number.
    pub(crate) fn scale_pool(&mut self, by: i32) {
        if let Some(pool) = &mut self.pool {
            let count = by.unsigned_abs();
            pool.handle(if by > 0 {
                PoolEvent::More(count)
            } else {
                PoolEvent::Fewer(count)
            });
        }
    }

    /// USR1.
    pub(crate) fn reopen_logs_of_pool(&mut self) {
        if let Some(pool) = &mut self.pool {
            pool.handle(PoolEvent::Reopen);
        }
    }

    /// The server ends, when the pool has: `true`, it has, or there is none.
    pub(crate) fn stop_pool(&mut self, quickly: bool) -> bool {
        let Some(pool) = &mut self.pool else {
            return true;
        };
        pool.handle(if quickly {
            PoolEvent::StopQuickly
        } else {
            PoolEvent::Stop
        });
        pool.is_over()
    }

    /// One of the pool's processes has ended; `false`: it is not of the pool.
    pub(crate) fn handle_end_in_pool(&mut self, pid: i32, exit: Exit) -> PyResult<bool> {
        // What it said before counts.
        self.take_pool_messages();
        let Some(pool) = &mut self.pool else {
            return Ok(false);
        };
        if pool.broker.take_if(|broker| broker.pid == pid).is_some() {
            self.server.set_broker(0)?;
            pool.handle(PoolEvent::BrokerExited(exit));
            return Ok(true);
        }
        let Some(worker) = pool.by_pid(pid) else {
            return Ok(false);
        };
        let out_of_memory = exit == Exit::Signal(libc::SIGKILL) && self.out_of_memory.take_one();
        if out_of_memory {
            pool.figures.count(PoolCounter::OutOfMemory);
        }
        pool.handle(PoolEvent::WorkerExited {
            worker,
            exit,
            out_of_memory,
        });
        Ok(true)
    }
}

impl PoolProcesses {
    fn reload(&mut self, file: PoolFile, plan: PoolPlan) {
        // The machine counts the same way.
        self.last_file = Generation(self.last_file.0 + 1);
        self.files.insert(self.last_file, file);
        self.handle(PoolEvent::Reload(plan));
    }

    fn receive(&self) -> Option<FromBroker> {
        let broker = self.broker.as_ref()?;
        let mut packet = Vec::new();
        loop {
            match broker
                .control
                .recv(&mut packet, &mut Vec::new(), Blocking::No)
            {
                Ok(Received::Message(_)) => {}
                _ => return None,
            }
            if let Some(message) = control::decode(&packet) {
                return Some(message);
            }
        }
    }
}

const fn number_of(signal: WorkerSignal) -> i32 {
    match signal {
        WorkerSignal::Graceful => libc::SIGTERM,
        WorkerSignal::Quick => libc::SIGQUIT,
        WorkerSignal::Abort => libc::SIGABRT,
        WorkerSignal::Kill => libc::SIGKILL,
        WorkerSignal::Reopen => libc::SIGUSR1,
    }
}

/// The life of a broker's process, detached from the interpreter for good.
pub(crate) fn run_broker(py: Python<'_>, child: PoolBrokerChild) -> ! {
    let _ = oxicorn_os::title::set(&child.title);
    let signals: Blocked = child.signals;
    let code = py.detach(|| {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            oxicorn_pool::run(child.setup, || drop(signals))
        }))
        .unwrap_or(super::gateway::PANICKED)
    });
    process::exit_now(code)
}
