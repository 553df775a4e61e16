//! What the pool's machine orders, and how it is done.

use std::os::fd::AsFd;

use oxicorn_arbiter::pool::PoolAction;
use oxicorn_arbiter::{WorkerId, WorkerSignal};
use oxicorn_os::channel::Blocking;
use oxicorn_os::process;
use oxicorn_pool::control::{AddWorker, Application, ToBroker};
use pyo3::prelude::*;

use super::spawn::Order;
use crate::arbiter::Outcome;
use crate::arbiter::supervisor::Supervisor;

impl Supervisor<'_> {
    pub(super) fn perform_for_pool(&mut self, action: PoolAction) -> PyResult<Option<Outcome>> {
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
            PoolAction::Drain => pool.tell_broker(&ToBroker::Drain, &[]),
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
                    let py_arbiter = pool.py_arbiter.bind(self.server.py());
                    py_arbiter.call_method1("serve", (&file.cfg,))?;
                }
            }
            PoolAction::AbandonGeneration(generation) => {
                pool.files.remove(&generation);
            }
            PoolAction::Log(level, text) => self.log(level, &text),
        }
        Ok(None)
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
            let py_worker = found.py_worker.bind(self.server.py());
            // For hooks to see; the object is ours, and takes it.
            let _ = py_worker.setattr("app_paths", &applications);
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
        self.run_pool_hook("dirty_worker_exit", "worker_reaped", (gone.py_worker,))
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
