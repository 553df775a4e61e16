//! What the arbiter is told to do: signals, which a program may handle in its own way, and the orders they come to.

use oxicorn_arbiter::messages::ToWorker;
use oxicorn_arbiter::{Command, Event, ReplacementReason, WorkerId};
use oxicorn_os::channel::Blocking;
use pyo3::prelude::*;

use super::supervisor::Supervisor;
use crate::forked;

/// Signals that are orders, and the orders' names on the Python side.
pub(crate) const COMMANDS: [(i32, &str, Command); 9] = [
    (libc::SIGTERM, "term", Command::Terminate),
    (libc::SIGINT, "int", Command::Interrupt),
    (libc::SIGQUIT, "quit", Command::Quit),
    (libc::SIGHUP, "hup", Command::Reload),
    (libc::SIGTTIN, "ttin", Command::MoreWorkers),
    (libc::SIGTTOU, "ttou", Command::FewerWorkers),
    (libc::SIGUSR1, "usr1", Command::Reopen),
    (libc::SIGUSR2, "usr2", Command::Upgrade),
    (libc::SIGWINCH, "winch", Command::StopWorkers),
];

impl Supervisor<'_> {
    /// Each signal is a method of the Python arbiter, which a program may override; what it comes to is an order.
    pub(crate) fn take_signals(&mut self) -> PyResult<()> {
        while let Some(signal) = self.signals.next_signal()? {
            // Not among them is CHLD: reaping follows anyway.
            if COMMANDS.iter().any(|(number, ..)| *number == signal) {
                self.server.handle_signal(signal)?;
                forked::end_if_forked(&self.server, None);
            }
        }
        Ok(())
    }

    /// Takes what signals, hooks and programs asked for; whether there was anything.
    pub(crate) fn take_orders(&mut self) -> PyResult<bool> {
        let mut any = false;
        loop {
            let Some(order) = self.server.next_order()? else {
                return Ok(any);
            };
            any = true;
            match order.as_str() {
                "settings" => {
                    self.tell_settings()?;
                    continue;
                }
                "log_level" => {
                    self.tell_log_level();
                    continue;
                }
                "refork" => {
                    self.refork();
                    continue;
                }
                _ => {}
            }
            if let Some(by) = order.strip_prefix("dirty ") {
                self.scale_pool(by.parse().unwrap_or(0));
                continue;
            }
            let command = COMMANDS.iter().find(|(_, name, _)| *name == order);
            if let Some((.., Command::Interrupt | Command::Quit)) = command {
                self.ending.quickly = true;
                if self.ending.code.is_some() {
                    self.stop_pool(true);
                }
            }
            self.tell(match command {
                Some((.., command)) => Event::Command(*command),
                None => Event::SpawnRequested,
            });
        }
    }

    /// What is worth a line was changed: workers know it as well as the gateway.
    pub(crate) fn tell_log_level(&self) {
        let Some(level) = self.server.changed_log_level() else {
            return;
        };
        let message = ToWorker::LogLevel(level).encode();
        for (_, worker) in self.workers.iter() {
            // One whose socket is full has been told of others, and nothing else is sent there.
            let _ = worker.messages.send(&message, &[], Blocking::No);
        }
    }

    /// Replaces all workers by new ones of the same generation, one after the other.
    fn refork(&mut self) {
        let serving = self.arbiter.serving();
        let workers = self.workers.iter();
        let serving: Vec<WorkerId> = workers
            .filter(|(_, worker)| worker.generation == serving)
            .map(|(id, _)| id)
            .collect();
        for worker in serving {
            self.tell(Event::WorkerWantsReplacement {
                worker,
                reason: ReplacementReason::Requested,
            });
        }
    }
}
