//! What workers tell the arbiter.

use oxicorn_arbiter::messages::notice::{Notice, PACKET};
use oxicorn_arbiter::{Event, ReplacementReason, WorkerId};
use oxicorn_os::channel::{Blocking, Received};
use pyo3::prelude::*;

use super::inquiry::Part;
use super::log;
use super::supervisor::Supervisor;

impl Supervisor<'_> {
    pub(crate) fn take_notices(&mut self) -> PyResult<()> {
        let mut message = [0; PACKET];
        let mut files = Vec::new();
        while let Ok(Received::Message(length)) =
            self.notices
                .recv_into(&mut message, &mut files, Blocking::No)
        {
            let file = files.drain(..).next();
            if let Some((worker, notice)) = Notice::decode(&message[..length]) {
                let worker = WorkerId(worker);
                // Forked by a template, which has said so before the worker could say anything.
                if self.workers.get(worker).is_none() {
                    self.take_template_messages()?;
                }
                if let (Notice::Ready { logs }, Some(process)) =
                    (notice, self.workers.get_mut(worker))
                {
                    process.logs = logs;
                }
                if let Notice::Ready { .. } = notice {
                    self.tell_log_level();
                }
                let event = match notice {
                    Notice::Finding { finding, misfit } => {
                        self.handle_finding(worker, finding);
                        if !misfit {
                            continue;
                        }
                        Event::WorkerMisfit(worker)
                    }
                    Notice::Calls(number) => {
                        self.take_answer(worker, number, Part::Calls, file);
                        continue;
                    }
                    Notice::Stacks(number) => {
                        self.take_answer(worker, number, Part::Stacks, file);
                        continue;
                    }
                    Notice::Ready { .. } => Event::WorkerReady(worker),
                    Notice::SourceChanged(change) => Event::SourceChanged(change),
                    Notice::MaxRequests => Event::WorkerWantsReplacement {
                        worker,
                        reason: ReplacementReason::MaxRequests,
                    },
                    Notice::Told => {
                        // Whoever told it may have told the server as well (a process group, a container's processes):
                        // then nobody takes its place.
                        self.take_signals()?;
                        self.take_orders()?;
                        Event::WorkerWantsReplacement {
                            worker,
                            reason: ReplacementReason::Requested,
                        }
                    }
                };
                self.tell(event);
            }
        }
        Ok(())
    }

    /// A worker has looked at the application it has loaded: workers of its generation may have to be of another class.
    fn handle_finding(&self, worker: WorkerId, finding: u8) {
        let generation = self.workers.get(worker).map(|process| process.generation);
        let Some(file) = generation.and_then(|generation| self.generations.get(generation)) else {
            return;
        };
        let told = self
            .server
            .application_found(&file.cfg, finding)
            .and_then(|changed| {
                if changed {
                    self.tell_settings()
                } else {
                    Ok(())
                }
            });
        if let Err(error) = told {
            log::write_exception(&self.server, "Cannot settle the worker class", &error);
        }
    }
}
