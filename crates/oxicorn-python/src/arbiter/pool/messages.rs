//! What the broker and the workers of the pool say.

use oxicorn_arbiter::pool::PoolEvent;
use oxicorn_arbiter::{Level, WorkerId};
use oxicorn_os::channel::{Blocking, Received};
use oxicorn_os::time;
use oxicorn_pool::control::{self, FromBroker};

use super::{PoolProcesses, figures};
use crate::arbiter::log;
use crate::arbiter::supervisor::Supervisor;
use crate::pool::DirtyNotice;

impl Supervisor<'_> {
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
                    figures::count_replacement(&pool.figures, reason);
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
}

impl PoolProcesses {
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
