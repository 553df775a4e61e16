//! The shutdown.
//!
//! ```text
//!   TERM --> Draining  workers get TERM, and serve on: the gateway serves its backlog and finishes
//!               | drained, or no gateway
//!               v
//!            Leaving   workers are released and run their exit hooks
//!               |
//!               +-- graceful_timeout, or TERM/INT/QUIT (again): Quick  everybody breaks off; KILL after STOP_GRACE
//!               v
//!            everybody reaped: Exit
//! ```
//!
//! INT and QUIT begin with Quick. A deadline that passes during Draining or Leaving makes it Quick too, so that a worker
//! with a request that does not end still runs its exit hooks before it is killed.

use std::time::Duration;

use super::{Arbiter, Phase};
use crate::action::{Action, ExitCode};
use crate::log::{Level, LogLine, Reason};
use crate::plan::timing::STOP_GRACE;
use crate::worker::{WorkerRecord, WorkerState};

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Stop {
    pub(super) mode: Mode,
    /// When it becomes quick.
    pub(super) deadline: Duration,
    code: ExitCode,
    reason: Option<Reason>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Mode {
    Draining,
    Leaving,
    Quick,
}

/// Why it becomes quick.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Haste {
    /// Somebody wants it.
    Asked,
    /// The time for requests is over. Those who have none any more and run their exit hooks keep the time they were given.
    Deadline,
}

impl Arbiter {
    pub(super) fn terminate(&mut self) {
        match self.phase {
            Phase::Stopping(_) => self.stop_quickly(),
            _ => self.stop_gracefully(ExitCode::OK, None),
        }
    }

    /// INT, QUIT, or a second TERM.
    pub(super) fn stop_quickly(&mut self) {
        match &self.phase {
            Phase::Stopping(stop) if stop.mode == Mode::Quick => {}
            Phase::Stopping(_) => {
                self.log(LogLine::QuickShutdownRequested);
                self.hurry(Haste::Asked);
            }
            _ => {
                self.begin_stop(ExitCode::OK, None);
                self.hurry(Haste::Asked);
            }
        }
    }

    /// The server cannot go on. Those it serves are finished, if anybody is there to serve them.
    pub(super) fn halt(&mut self, code: ExitCode, reason: Reason) {
        if self.gateway.is_serving() && self.workers.ready(self.serving) > 0 {
            self.stop_gracefully(code, Some(reason));
        } else {
            self.begin_stop(code, Some(reason));
            self.hurry(Haste::Asked);
        }
    }

    fn stop_gracefully(&mut self, code: ExitCode, reason: Option<Reason>) {
        self.begin_stop(code, reason);
        for worker in self.workers.select(WorkerRecord::is_ready) {
            self.announce_end(worker);
        }
        let within = self.plan.graceful_timeout;
        if self
            .gateway
            .drain(self.after(within).saturating_add(STOP_GRACE))
            .is_ok()
        {
            self.act(Action::DrainGateway { within });
        } else {
            self.stop_gateway();
            self.release_workers();
        }
    }

    fn begin_stop(&mut self, code: ExitCode, reason: Option<Reason>) {
        self.forget_reload();
        let deadline = self.after(self.plan.graceful_timeout);
        self.phase = Phase::Stopping(Stop {
            mode: Mode::Draining,
            deadline,
            code,
            reason,
        });
    }

    /// From Draining to Leaving: nothing is in flight any more, so everybody can exit.
    pub(super) fn release_workers(&mut self) {
        let Phase::Stopping(stop) = &mut self.phase else {
            return;
        };
        if stop.mode != Mode::Draining {
            return;
        }
        stop.mode = Mode::Leaving;
        let deadline = stop.deadline;
        for worker in self.workers.select(|_| true) {
            match self.workers.find(worker).map(WorkerRecord::state) {
                Some(WorkerState::Ready { .. } | WorkerState::Retiring { .. }) => {
                    self.finish(worker, deadline);
                }
                Some(WorkerState::Expiring { .. }) => self.abort(worker),
                _ => self.dismiss(worker),
            }
        }
    }

    /// Everybody breaks off what they do.
    pub(super) fn hurry(&mut self, haste: Haste) {
        let Phase::Stopping(stop) = &mut self.phase else {
            return;
        };
        stop.mode = Mode::Quick;
        self.stop_gateway();
        for worker in self
            .workers
            .select(|r| haste == Haste::Asked || !r.is_stopping())
        {
            let disowned = self
                .workers
                .record(worker)
                .is_ok_and(|record| record.disown().is_ok());
            if !disowned {
                self.interrupt(worker);
            }
        }
    }

    pub(super) fn exit_if_done(&mut self) {
        if !self.workers.is_empty() || !self.gateway.is_absent() || !self.templates.is_empty() {
            return;
        }
        let Phase::Stopping(stop) = std::mem::replace(&mut self.phase, Phase::Exited) else {
            return;
        };
        let level = if stop.code == ExitCode::OK {
            Level::Info
        } else {
            Level::Error
        };
        self.act(Action::Log(LogLine::ShuttingDown, level));
        if let Some(reason) = stop.reason {
            self.act(Action::Log(LogLine::ReasonForShutdown(reason), level));
        }
        self.act(Action::Exit(stop.code));
    }
}
