//! The ends of processes: whose they were, and what the arbiter makes of them.

use oxicorn_arbiter::{Event, Level};
use oxicorn_link::scoreboard::ArbiterCounter;
use oxicorn_os::process::{self, Exit};
use pyo3::prelude::*;

use super::pool::PoolProcesses;
use super::supervisor::Supervisor;

/// The first process of a container (or machine) is given those whose parents died.
const FIRST_PROCESS: i32 = 1;

impl Supervisor<'_> {
    /// Only those the arbiter started: what a hook started, also on a thread of its own, waits for that hook.
    pub(crate) fn reap(&mut self) -> PyResult<()> {
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
}
