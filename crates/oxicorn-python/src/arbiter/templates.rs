//! The template processes from the arbiter's side: starting them, giving orders, hearing what they say.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use oxicorn_arbiter::messages::template::{LONGEST, Order, Word};
use oxicorn_arbiter::{Event, Exit, Generation, WorkerId, timing};
use oxicorn_link::scoreboard::Slot;
use oxicorn_link::{LinkParts, Sizes};
use oxicorn_os::channel::{Blocking, Channel, Received};
use oxicorn_os::eventfd::EventFd;
use oxicorn_os::{memfd, process, time};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use super::actions::{capacity_of, kind_of, traits_of};
use super::fork::{self, Side};
use super::generation::with_settings;
use super::heartbeat::Heartbeat;
use super::supervisor::Supervisor;
use super::template::{TemplateChild, WorkerOrder};
use super::workers::{LinkEnds, WorkerProcess};
use super::{Outcome, log};
use crate::forked;

/// A living template.
#[derive(Debug)]
pub(crate) struct TemplateProcess {
    pub(crate) pid: i32,
    channel: Channel,
    /// Where its stacks appear.
    stack_dump: OwnedFd,
    /// The worker it was ordered to fork.
    ordered: Option<Ordered>,
}

/// What is kept of a worker until it is there.
#[derive(Debug)]
struct Ordered {
    id: WorkerId,
    worker: WorkerProcess,
}

impl Supervisor<'_> {
    pub(crate) fn spawn_template(
        &mut self,
        py: Python<'_>,
        generation: Generation,
    ) -> Option<Outcome> {
        match self.try_spawn_template(py, generation) {
            Ok(outcome) => outcome,
            Err(error) => {
                log::write_exception(&self.server, "Cannot start a template", &error);
                self.tell(Event::TemplateSpawnFailed(generation));
                None
            }
        }
    }

    fn try_spawn_template(
        &mut self,
        py: Python<'_>,
        generation: Generation,
    ) -> PyResult<Option<Outcome>> {
        let Some(file) = self.generations.get(generation) else {
            return Err(PyRuntimeError::new_err("a generation without settings"));
        };
        let value = file.value.clone_ref(py);
        let kind = with_settings(file.cfg.bind(py), kind_of)?;
        let listeners = self.listeners_for(kind, generation)?;
        // What it forks on our behalf comes to us.
        process::adopt_orphans(true)?;
        self.adopts = true;
        let (channel, channel_of_template) = Channel::pair()?;
        let stack_dump = memfd::with_content("oxicorn-stacks", &[])?;
        let stack_dump_of_template = stack_dump.try_clone()?;
        let notices = self.notices_of_workers.as_fd().try_clone_to_owned()?;
        let parent = process::id();
        forked::keep_from_children(&channel);
        match fork::fork(&self.server)? {
            Side::Parent(pid) => {
                let template = TemplateProcess {
                    pid,
                    channel,
                    stack_dump,
                    ordered: None,
                };
                self.templates.insert(generation, template);
                self.tell(Event::TemplateSpawned {
                    generation,
                    pid: u32::try_from(pid).unwrap_or(0),
                });
                Ok(None)
            }
            Side::Child(signals) => Ok(Some(Outcome::Template(Box::new(TemplateChild {
                value,
                channel: channel_of_template,
                notices: notices.into(),
                scoreboard: self.scoreboard.clone(),
                listeners,
                stack_dump: stack_dump_of_template,
                parent,
                signals,
            })))),
        }
    }

    /// Its sockets, to be waited for.
    pub(crate) fn template_channels(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.templates
            .values()
            .map(|template| template.channel.as_fd())
    }

    /// It ends when it is through with what it does.
    pub(crate) fn stop_template(&self, generation: Generation) {
        if let Some(template) = self.templates.get(&generation) {
            // It fails if the template is gone, which is noticed anyway.
            let _ = template.channel.close_sending();
        }
    }

    pub(crate) fn kill_template(&self, generation: Generation) {
        if let Some(template) = self.templates.get(&generation) {
            // It may have ended by itself; its end is reaped either way.
            let _ = process::kill(template.pid, libc::SIGKILL);
        }
    }

    pub(crate) fn dump_stacks_of_template(&mut self, generation: Generation) {
        if let Some(template) = self.templates.get(&generation) {
            let (pid, file) = (template.pid, template.stack_dump.try_clone());
            self.ask_for_stacks("template", pid, file);
        }
    }

    /// SIGUSR1: their log files.
    pub(crate) fn reopen_logs_of_templates(&self) {
        for template in self.templates.values() {
            let _ = process::kill(template.pid, libc::SIGUSR1);
        }
    }

    /// Has the template of `generation`, if that has one, fork the worker. `false`: it has none.
    pub(crate) fn order_worker(
        &mut self,
        id: WorkerId,
        age: u64,
        generation: Generation,
    ) -> PyResult<bool> {
        if !self.templates.contains_key(&generation) {
            return Ok(false);
        }
        let cfg = match self.generations.get(generation) {
            Some(file) => file.cfg.bind(self.server.py()).clone(),
            None => self.server.cfg()?,
        };
        let (traits, capacity, beat) = with_settings(&cfg, |settings| {
            (
                traits_of(settings),
                capacity_of(settings),
                timing::heartbeat_interval(settings.inner.timeout()),
            )
        })?;
        let (number, slot) = self.scoreboard.free_slot().unzip();
        let link = LinkParts::create(Sizes::default())?;
        let stack_dump = memfd::with_content("oxicorn-stacks", &[])?;
        let release = EventFd::new()?;
        let (messages, messages_of_worker) = Channel::pair()?;
        forked::keep_from_children(&messages);
        let (py_worker, state) = self.server.make_ordered(age, cfg)?;
        if let Some(slot) = &slot {
            let heartbeat = Heartbeat::of(slot.clone());
            self.server.show_heartbeat(&py_worker, heartbeat)?;
        }
        let ends = LinkEnds::of(&link)?;
        let ordered = WorkerOrder {
            order: Order {
                worker: id.0,
                age,
                slot: number,
                state,
            },
            link,
            stack_dump: stack_dump.try_clone()?,
            release: release.as_fd().try_clone_to_owned()?,
            messages: messages_of_worker.into(),
        };
        let Some(template) = self.templates.get_mut(&generation) else {
            return Ok(false);
        };
        let (message, descriptors) = (ordered.order.encode(), ordered.descriptors());
        if message.len() > LONGEST {
            let text = "what hooks keep in server and worker objects is too much for preload_app";
            return Err(PyRuntimeError::new_err(text));
        }
        if let Some(slot) = &slot {
            // Its own from now on; the worker puts its pid in.
            slot.assign(template.pid, age, generation.0, time::monotonic());
        }
        let sent = template.channel.send(&message, &descriptors, Blocking::No);
        if !matches!(sent, Ok(true)) {
            slot.as_ref().map(Slot::clear);
        }
        if !sent? {
            return Err(PyRuntimeError::new_err("the template takes no orders"));
        }
        template.ordered = Some(Ordered {
            id,
            worker: WorkerProcess {
                pid: 0,
                age,
                generation,
                capacity,
                traits,
                py_worker,
                link: ends,
                logs: false,
                slot,
                beat,
                stack_dump,
                release,
                messages,
                of_template: true,
                is_leaving: false,
            },
        });
        Ok(true)
    }

    /// Whether `pid` is that of a worker whose parent is still the process by which a template forked it.
    pub(crate) fn is_on_its_way(&self, pid: i32) -> bool {
        let worker = self.workers.by_pid(pid).and_then(|id| self.workers.get(id));
        worker.is_some_and(|worker| worker.of_template) && process::exists(pid)
    }

    /// Hears all templates out.
    pub(crate) fn take_template_messages(&mut self) -> PyResult<()> {
        let generations: Vec<Generation> = self.templates.keys().copied().collect();
        for generation in generations {
            self.hear_template(generation)?;
        }
        Ok(())
    }

    fn hear_template(&mut self, generation: Generation) -> PyResult<()> {
        let mut message = vec![0; LONGEST];
        let mut none = Vec::new();
        loop {
            let Some(template) = self.templates.get_mut(&generation) else {
                return Ok(());
            };
            let received = template
                .channel
                .recv_into(&mut message, &mut none, Blocking::No);
            let Ok(Received::Message(length)) = received else {
                return Ok(());
            };
            match Word::decode(&message[..length]) {
                Some((Word::Loaded, _)) => self.tell(Event::TemplateReady(generation)),
                Some((Word::Forked { pid }, left)) => {
                    if let Some(ordered) = template.ordered.take() {
                        self.worker_forked(ordered, pid, left)?;
                    }
                }
                Some((word @ (Word::NotForked | Word::PreForkFailed), _)) => {
                    if let Some(ordered) = template.ordered.take() {
                        ordered.worker.slot.as_ref().map(Slot::clear);
                        self.tell(if word == Word::NotForked {
                            Event::WorkerSpawnFailed(ordered.id)
                        } else {
                            Event::PreForkFailed(ordered.id)
                        });
                    }
                }
                None => {}
            }
        }
    }

    fn worker_forked(&mut self, ordered: Ordered, pid: i32, left: &[u8]) -> PyResult<()> {
        let Ordered { id, mut worker } = ordered;
        worker.pid = pid;
        self.server.ordered_started(&worker.py_worker, pid, left)?;
        self.workers.insert(id, worker);
        self.tell(Event::WorkerSpawned {
            worker: id,
            pid: u32::try_from(pid).unwrap_or(0),
        });
        Ok(())
    }

    /// Whether `pid` was a template. What it had said before counts, what it might have said will not come any more.
    pub(crate) fn reap_template(&mut self, pid: i32, exit: Exit) -> PyResult<bool> {
        let of_pid = self.templates.iter().find(|(_, t)| t.pid == pid);
        let Some((&generation, template)) = of_pid else {
            return Ok(false);
        };
        template.channel.close_receiving()?;
        self.hear_template(generation)?;
        if let Some(template) = self.templates.remove(&generation)
            && let Some(ordered) = template.ordered
        {
            ordered.worker.slot.as_ref().map(Slot::clear);
        }
        self.tell(Event::TemplateExited { generation, exit });
        Ok(true)
    }
}
