//! What happens to the gateway, and what it has to be told about the workers.
//!
//! A dead gateway is replaced while the workers stay. What they have in flight at that moment has lost its client, so
//! whoever was waiting for a drain need not wait any longer; all others are attached to the successor and serve on.

use super::stop::Mode;
use super::{Arbiter, Phase};
use crate::action::{Action, ExitCode};
use crate::event::{BootFailure, Exit};
use crate::log::{LogLine, Reason};
use crate::plan::WorkerId;
use crate::plan::timing::STOP_GRACE;
use crate::worker::{Illegal, WorkerRecord, WorkerState};

impl Arbiter {
    pub(super) fn start_gateway(&mut self) {
        if self.gateway.may_start(self.now) {
            self.gateway.order(self.now);
            self.act(Action::SpawnGateway);
        }
    }

    pub(super) fn handle_gateway_spawned(&mut self, pid: u32) -> Result<(), Illegal> {
        self.gateway.handle_spawned(pid)?;
        if !self.is_running() {
            self.stop_gateway();
        }
        Ok(())
    }

    pub(super) fn handle_gateway_spawn_failed(&mut self) -> Result<(), Illegal> {
        self.gateway.handle_spawn_failed(self.now)?;
        self.log(LogLine::GatewaySpawnFailed);
        self.judge_gateway_loss(None);
        Ok(())
    }

    pub(super) fn handle_gateway_ready(&mut self) -> Result<(), Illegal> {
        self.gateway.handle_ready()?;
        for worker in self.workers.select(|r| r.pid().is_some() && r.is_active()) {
            self.attach(worker);
        }
        self.act(Action::ServeGeneration(self.serving));
        Ok(())
    }

    /// The clients have what they came for; the workers can go.
    pub(super) fn handle_gateway_drained(&mut self) -> Result<(), Illegal> {
        self.gateway.handle_drained(self.after(STOP_GRACE))?;
        self.release_workers();
        Ok(())
    }

    pub(super) fn handle_gateway_exited(&mut self, exit: Exit) -> Result<(), Illegal> {
        let ended = self.gateway.handle_exited(self.now)?;
        if !ended.expected || exit != Exit::Code(0) {
            self.log(LogLine::GatewayEnded {
                pid: ended.pid,
                exit,
            });
        }
        self.detach_workers();
        self.judge_gateway_loss(Some(exit));
        Ok(())
    }

    /// Before any gateway was ready it is a matter of the set-up (a log file that cannot be opened): the server does not
    /// start, and ends with the gateway's code where that is one of a failed boot (it may not change its user). Later the
    /// next one is started, as back-off allows. In a shutdown there is nobody left to wait for.
    fn judge_gateway_loss(&mut self, exit: Option<Exit>) {
        match &self.phase {
            Phase::Running if !self.gateway.was_ready() => {
                let failure = exit.and_then(BootFailure::from_exit);
                let code =
                    failure.map_or(ExitCode::FAILURE, |failure| ExitCode(failure.exit_code()));
                self.halt(code, Reason::Gateway);
            }
            Phase::Stopping(stop) if stop.mode == Mode::Draining => self.release_workers(),
            _ => {}
        }
    }

    fn detach_workers(&mut self) {
        for record in self.workers.iter_mut() {
            record.attached = false;
        }
        for worker in self.workers.select(|_| true) {
            match self.workers.find(worker).map(WorkerRecord::state) {
                Some(WorkerState::Retiring { deadline }) => self.finish(worker, deadline),
                Some(WorkerState::Expiring { .. }) => self.abort(worker),
                _ => {}
            }
        }
    }

    /// Makes the worker known to the gateway, if there is one to know it.
    pub(super) fn attach(&mut self, worker: WorkerId) {
        if !self.gateway.is_serving() {
            return;
        }
        let Ok(record) = self.workers.record(worker) else {
            return;
        };
        record.attached = true;
        let is_ready = record.is_ready();
        self.act(Action::AttachWorker(worker));
        if is_ready {
            self.act(Action::AnnounceReady(worker));
        }
    }

    pub(super) fn stop_gateway(&mut self) {
        if self.gateway.stop(self.after(STOP_GRACE)).is_ok() {
            self.act(Action::StopGateway);
        }
    }

    pub(super) fn kill_gateway(&mut self) {
        if self.gateway.kill(self.now).is_ok() {
            self.act(Action::KillGateway);
        }
    }
}
