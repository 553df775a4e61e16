//! The worker processes from the arbiter's side: what is kept of each, and the notices they send.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::time::Duration;

use oxicorn_arbiter::{Generation, WorkerId};
use oxicorn_link::LinkParts;
use oxicorn_link::scoreboard::Slot;
use oxicorn_os::channel::Channel;
use oxicorn_os::eventfd::EventFd;
use oxicorn_settings::Traits;
use pyo3::prelude::*;

use crate::forked;

/// What is kept of a worker's link, to hand it to this gateway and to the next one.
#[derive(Debug)]
pub(crate) struct LinkEnds {
    pub(crate) memory: OwnedFd,
    pub(crate) gateway_doorbell: OwnedFd,
    pub(crate) worker_doorbell: OwnedFd,
    pub(crate) gateway_side: OwnedFd,
}

impl LinkEnds {
    /// Splits a new link: these ends stay here, the parts go to the worker.
    pub(crate) fn of(parts: &LinkParts) -> std::io::Result<Self> {
        let ends = Self {
            memory: parts.memory.try_clone()?,
            gateway_doorbell: parts.gateway_doorbell.try_clone()?,
            worker_doorbell: parts.worker_doorbell.try_clone()?,
            gateway_side: parts.gateway_side.try_clone()?,
        };
        // Its end of file tells the worker that arbiter and gateway are gone.
        forked::keep_from_children(&ends.gateway_side);
        forked::keep_from_children(&ends.memory);
        Ok(ends)
    }
}

/// A living worker process.
#[derive(Debug)]
pub(crate) struct WorkerProcess {
    pub(crate) pid: i32,
    pub(crate) age: u64,
    /// A template forked it.
    pub(crate) of_template: bool,
    pub(crate) generation: Generation,
    /// How many requests it takes at once.
    pub(crate) capacity: u32,
    /// What its class is.
    pub(crate) traits: Traits,
    /// The Python object hooks know it by.
    pub(crate) py_worker: Py<PyAny>,
    pub(crate) link: LinkEnds,
    /// Rung when it may exit.
    pub(crate) release: EventFd,
    /// It writes the access log's lines of its requests.
    pub(crate) logs: bool,
    /// Its place on the scoreboard, if there was one left.
    pub(crate) slot: Option<Slot>,
    /// Between two of its heartbeats.
    pub(crate) beat: Duration,
    /// Where its stacks appear.
    pub(crate) stack_dump: OwnedFd,
    /// What it is told besides.
    pub(crate) messages: Channel,
    /// It was told to leave its listeners: it ends by itself.
    pub(crate) is_leaving: bool,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Workers {
    by_id: HashMap<WorkerId, WorkerProcess>,
}

impl Workers {
    pub(crate) fn insert(&mut self, id: WorkerId, worker: WorkerProcess) {
        self.by_id.insert(id, worker);
    }

    pub(crate) fn get(&self, id: WorkerId) -> Option<&WorkerProcess> {
        self.by_id.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: WorkerId) -> Option<&mut WorkerProcess> {
        self.by_id.get_mut(&id)
    }

    pub(crate) fn remove(&mut self, id: WorkerId) -> Option<WorkerProcess> {
        self.by_id.remove(&id)
    }

    pub(crate) fn by_pid(&self, pid: i32) -> Option<WorkerId> {
        self.iter()
            .find(|(_, worker)| worker.pid == pid)
            .map(|(id, _)| id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (WorkerId, &WorkerProcess)> {
        self.by_id.iter().map(|(id, worker)| (*id, worker))
    }
}
