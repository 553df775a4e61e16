//! What is done to those who take too long, and when to look again.

use std::time::Duration;

use super::stop::{Haste, Mode};
use super::{Arbiter, Phase};
use crate::action::WorkerSignal;
use crate::gateway::GatewayState;
use crate::log::LogLine;
use crate::plan::WorkerId;
use crate::plan::timing::REAP_GRACE;
use crate::worker::{WorkerRecord, WorkerState};

impl Arbiter {
    pub(super) fn enforce_deadlines(&mut self) {
        let now = self.now;
        if self
            .shutdown_deadline()
            .is_some_and(|deadline| deadline <= now)
        {
            self.hurry(Haste::Deadline);
        }
        for worker in self
            .workers
            .select(|r| r.deadline().is_some_and(|deadline| deadline <= now))
        {
            self.escalate(worker);
        }
        if self
            .gateway
            .deadline()
            .is_some_and(|deadline| deadline <= now)
        {
            self.kill_gateway();
        }
        self.enforce_template_deadlines();
        self.leave_the_undead();
    }

    pub(super) fn earliest_deadline(&self) -> Option<Duration> {
        let workers = self
            .workers
            .iter()
            .filter_map(|r| r.deadline().or(self.reap_deadline(r)));
        workers
            .chain(self.gateway.deadline())
            .chain(self.template_deadline())
            .chain(self.gateway_reap_deadline())
            .chain(self.shutdown_deadline())
            .chain(self.respawn_time())
            .chain(self.vanguard_deadline())
            .min()
    }

    fn escalate(&mut self, worker: WorkerId) {
        let Some(record) = self.workers.find(worker) else {
            return;
        };
        let pid = record.log_pid();
        match record.state() {
            WorkerState::Booting => self.give_up_boot(worker),
            WorkerState::Retiring { .. } => {
                self.log(LogLine::WorkerGracefulTimeout { pid });
                self.interrupt(worker);
            }
            WorkerState::Expiring { .. } => self.abort(worker),
            WorkerState::Stopping {
                signal: Some(WorkerSignal::Graceful),
                ..
            } => {
                self.interrupt(worker);
            }
            WorkerState::Stopping { .. } => self.kill(worker),
            _ => {}
        }
    }

    /// A killed process that stays unreaped sits in the kernel, and nothing can be done about it. A running server can
    /// wait; a shutdown cannot.
    fn leave_the_undead(&mut self) {
        let now = self.now;
        for worker in self
            .workers
            .select(|r| self.reap_deadline(r).is_some_and(|at| at <= now))
        {
            if let Some(record) = self.workers.strike(worker) {
                self.log(LogLine::WorkerUnreapable {
                    pid: record.log_pid(),
                });
            }
        }
        if self
            .gateway_reap_deadline()
            .is_some_and(|deadline| deadline <= now)
        {
            self.gateway.give_up();
            self.log(LogLine::GatewayUnreapable {
                pid: self.gateway.pid(),
            });
        }
    }

    fn shutdown_deadline(&self) -> Option<Duration> {
        match &self.phase {
            Phase::Stopping(stop) if stop.mode != Mode::Quick => Some(stop.deadline),
            _ => None,
        }
    }

    fn reap_deadline(&self, record: &WorkerRecord) -> Option<Duration> {
        match record.state() {
            WorkerState::Killed { since } if self.is_stopping() => {
                Some(since.saturating_add(REAP_GRACE))
            }
            _ => None,
        }
    }

    fn gateway_reap_deadline(&self) -> Option<Duration> {
        match self.gateway.state() {
            GatewayState::Killed { since } if self.is_stopping() => {
                Some(since.saturating_add(REAP_GRACE))
            }
            _ => None,
        }
    }

    /// The end of a back-off that something waits for.
    fn respawn_time(&self) -> Option<Duration> {
        if !self.is_running() {
            return None;
        }
        let gateway = self.gateway.is_absent().then(|| self.gateway.not_before());
        let worker = self.has_vacancy().then(|| self.backoff.not_before());
        let template = self.template_respawn_time();
        gateway.into_iter().chain(worker).chain(template).min()
    }
}
