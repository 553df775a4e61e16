//! The pool of heavy applications from the arbiter's side: does what [`oxicorn_arbiter::pool`] decides.
//!
//! Broker and pool workers are forked here, like all others. What hooks see is Python's (`oxicorn.dirty.arbiter`).
//!
//! * `settings`: what the settings want
//! * `actions`: what the machine orders
//! * `spawn`: broker and workers as processes
//! * `messages`: what they say
//! * `told`: what Python is told of it all
//! * `figures`: what is counted, on the scoreboard

mod actions;
mod figures;
mod messages;
mod settings;
mod spawn;
mod told;

use std::collections::{BTreeMap, HashMap};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use oxicorn_arbiter::pool::{Pool, PoolEvent, PoolPlan};
use oxicorn_arbiter::{Exit, Generation, WorkerId};
use oxicorn_link::scoreboard::{PoolBlock, PoolCounter};
use oxicorn_os::channel::{Blocking, Channel};
use oxicorn_os::{poll, process, sockets, time};
use oxicorn_pool::control::{self, Settings, ToBroker};
use pyo3::prelude::*;

use self::settings::PoolFile;
pub(super) use self::spawn::run_broker;
use self::told::Told;
use super::supervisor::Supervisor;
use super::{Outcome, log};
use crate::forked;

/// Callers that wait for the broker to take their connections.
const BACKLOG: u32 = 4096;
/// How long the broker may take to make room for a message.
const PATIENCE: Duration = Duration::from_secs(2);

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
    py_worker: Py<PyAny>,
    /// The broker's ends, until it has them.
    of_broker: Vec<OwnedFd>,
    /// By which it is told its applications, if it waits for that.
    assignment: Option<Channel>,
    stack_dump: OwnedFd,
    /// Its applications, while it is given calls.
    serves: Vec<String>,
}

/// Everything of the pool.
#[derive(Debug)]
pub(crate) struct PoolProcesses {
    machine: Pool,
    /// `oxicorn.dirty.arbiter.DirtyArbiter`.
    py_arbiter: Py<PyAny>,
    listener: OwnedFd,
    /// In which the stash outlives a broker.
    stash: oxicorn_pool::StashFiles,
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
        figures::count(&self.figures, &event);
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
        figures::show_workers(&self.figures, serving);
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

    fn reload(&mut self, file: PoolFile, plan: PoolPlan) {
        // The machine counts the same way.
        self.last_file = Generation(self.last_file.0 + 1);
        self.files.insert(self.last_file, file);
        self.handle(PoolEvent::Reload(plan));
    }
}

impl Supervisor<'_> {
    /// Starts the pool, if the settings want one.
    pub(crate) fn start_pool(&mut self) -> PyResult<()> {
        let cfg = self.server.cfg()?;
        let Some((file, plan)) = self.pool_settings(&cfg)? else {
            return Ok(());
        };
        self.open_pool(file, plan)
    }

    fn open_pool(&mut self, file: PoolFile, plan: PoolPlan) -> PyResult<()> {
        let py_arbiter = self.server.make_dirty_arbiter(&file.cfg)?;
        let path: String = py_arbiter.getattr("socket_path")?.extract()?;
        let listener = sockets::bind_unix(path.as_bytes(), Some(0o177))?;
        sockets::listen(&listener, BACKLOG)?;
        sockets::set_nonblocking(&listener, true)?;
        py_arbiter.call_method0("bound")?;
        let (notices, notices_of_workers) = Channel::pair()?;
        for channel in [&notices, &notices_of_workers] {
            forked::keep_from_children(channel);
        }
        forked::keep_from_children(&listener);
        let stash = oxicorn_pool::StashFiles::create()?;
        let first = Generation(1);
        self.pool = Some(PoolProcesses {
            machine: Pool::new(plan, time::monotonic()),
            py_arbiter: py_arbiter.unbind(),
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
        let py_arbiter = pool.py_arbiter.bind(self.server.py());
        let Err(error) = py_arbiter.call_method1(method, arguments) else {
            return Ok(());
        };
        if !error.is_instance_of::<pyo3::exceptions::PyException>(self.server.py()) {
            return Err(error);
        }
        log::write_exception(&self.server, &format!("Exception in hook {hook}"), &error);
        Ok(())
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
