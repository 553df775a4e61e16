//! Broker and workers of the pool as processes.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};

use oxicorn_arbiter::pool::PoolEvent;
use oxicorn_arbiter::{Generation, WorkerId};
use oxicorn_os::channel::Channel;
use oxicorn_os::memfd;
use oxicorn_os::signals::Blocked;
use oxicorn_os::stream::Stream;
use oxicorn_pool::control::ToBroker;
use pyo3::prelude::*;

use super::{BrokerProcess, DirtyProcess};
use crate::arbiter::fork::{self, Side};
use crate::arbiter::supervisor::Supervisor;
use crate::arbiter::{DirtyChild, Outcome, PoolBrokerChild, log, without_python};
use crate::forked;
use crate::pool::DirtySetup;

/// A worker to be forked: see [`PoolAction::SpawnWorker`].
#[derive(Debug)]
pub(super) struct Order {
    pub(super) worker: WorkerId,
    pub(super) generation: Generation,
    pub(super) place: u32,
    pub(super) applications: Option<Vec<usize>>,
    pub(super) indexes: Vec<(usize, u32)>,
}

impl Supervisor<'_> {
    pub(super) fn spawn_broker(&mut self) -> Option<Outcome> {
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
            stash: pool.stash.try_clone()?,
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
                let py_arbiter = pool.py_arbiter.bind(self.server.py());
                py_arbiter.call_method1("broker_started", (pid,))?;
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

    pub(super) fn spawn_dirty_worker(&mut self, order: &Order) -> PyResult<Option<Outcome>> {
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
        let py_arbiter = pool.py_arbiter.bind(py);
        let py_worker = py_arbiter.call_method1(
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
                        py_worker: py_worker.clone().unbind(),
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
                self.run_pool_hook(
                    "dirty_post_fork",
                    "worker_started",
                    (py_worker.unbind(), pid),
                )?;
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
                    py_worker: py_worker.unbind(),
                    title,
                    setup,
                }))))
            }
        }
    }
}

/// The life of a broker's process.
pub(crate) fn run_broker(py: Python<'_>, child: PoolBrokerChild) -> ! {
    let _ = oxicorn_os::title::set(&child.title);
    let signals: Blocked = child.signals;
    without_python::run(py, || oxicorn_pool::run(child.setup, || drop(signals)))
}
