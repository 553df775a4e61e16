//! The start, and what a user orders.

use super::{Arbiter, Phase};
use crate::action::{Action, WorkerSignal};
use crate::event::Command;
use crate::log::LogLine;
use crate::worker::{Illegal, WorkerState};

impl Arbiter {
    /// The gateway is forked first, before any application code is in memory.
    pub(super) fn start(&mut self) -> Result<(), Illegal> {
        if self.phase != Phase::Idle {
            return Err(Illegal);
        }
        self.phase = Phase::Running;
        self.announce_wanted();
        self.start_gateway();
        Ok(())
    }

    pub(super) fn handle_command(&mut self, command: Command) -> Result<(), Illegal> {
        match command {
            Command::Terminate | Command::Interrupt | Command::Quit => {}
            _ if self.is_running() => {}
            // A server that stops does not reload or grow; log files it still has.
            Command::Reopen if self.phase != Phase::Idle => {}
            _ => return Err(Illegal),
        }
        self.log(LogLine::HandlingSignal(command));
        match command {
            Command::Terminate => self.terminate(),
            Command::Interrupt | Command::Quit => self.stop_quickly(),
            Command::Reload => {
                self.log(LogLine::HangUp);
                self.begin_reload();
            }
            Command::MoreWorkers => self.change_wanted(|wanted| wanted.saturating_add(1)),
            // Gunicorn never goes below one this way.
            Command::FewerWorkers => {
                self.change_wanted(|wanted| if wanted > 1 { wanted - 1 } else { wanted });
            }
            Command::Reopen => self.reopen_logs(),
            Command::Upgrade => self.begin_upgrade(),
            Command::StopWorkers => self.stop_workers(),
        }
        Ok(())
    }

    /// During a reload both generations get one more or one less: the old one serves on if the new one is given up.
    fn change_wanted(&mut self, change: impl Fn(u32) -> u32) {
        self.wanted = change(self.wanted);
        if let Some(reload) = &mut self.reload {
            reload.wanted = change(reload.wanted);
        }
    }

    /// Only in the background: a terminal sends this to whom it shows whenever it is resized.
    fn stop_workers(&mut self) {
        if !self.plan.daemon {
            return self.log(LogLine::WindowChangeIgnored);
        }
        self.log(LogLine::GracefulStopOfWorkers);
        self.idled = true;
        self.change_wanted(|_| 0);
    }

    fn reopen_logs(&mut self) {
        self.act(Action::ReopenLogs);
        for worker in self.workers.select(|r| {
            !matches!(
                r.state(),
                WorkerState::Starting { .. } | WorkerState::Killed { .. }
            )
        }) {
            self.signal(worker, WorkerSignal::Reopen);
        }
    }

    /// The `nworkers_changed` hook is told once per change.
    pub(super) fn announce_wanted(&mut self) {
        let new = self.wanted();
        let old = self.announced_wanted.replace(new);
        if old != Some(new) {
            self.act(Action::NumWorkersChanged { new, old });
        }
    }
}
