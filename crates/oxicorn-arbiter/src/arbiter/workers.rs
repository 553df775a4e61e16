//! What happens to workers, and how each of them is made to leave.

use std::time::Duration;

use super::vanguard::Vanguard;
use super::{Arbiter, Boot};
use crate::action::{Action, ExitCode, WorkerSignal};
use crate::event::{BootFailure, Exit};
use crate::log::{LogLine, Reason};
use crate::plan::WorkerId;
use crate::plan::timing::{ABORT_GRACE, BACKOFF_TOLD, STOP_GRACE};
use crate::worker::{Illegal, WorkerRecord, WorkerState};

/// A worker's life.
impl Arbiter {
    pub(super) fn handle_worker_spawned(
        &mut self,
        worker: WorkerId,
        pid: u32,
    ) -> Result<(), Illegal> {
        let now = self.now;
        let wanted = self.workers.record(worker)?.handle_spawned(pid, now)?;
        self.note_fork_answered(worker);
        self.note_vanguard_forked();
        if wanted {
            self.attach(worker);
        } else {
            self.interrupt(worker);
        }
        Ok(())
    }

    /// A loss like others: the next fork may have more luck.
    pub(super) fn handle_worker_spawn_failed(&mut self, worker: WorkerId) -> Result<(), Illegal> {
        if let Some(record) = self.strike_unforked(worker)? {
            self.count_loss(&record);
        }
        Ok(())
    }

    /// The next one would fare no better: on the first boot the server ends, as Gunicorn does.
    pub(super) fn handle_pre_fork_failed(&mut self, worker: WorkerId) -> Result<(), Illegal> {
        if let Some(record) = self.strike_unforked(worker)? {
            self.judge(&record, Reason::PreForkHook, ExitCode::UNHANDLED);
        }
        Ok(())
    }

    /// There is no process, and will be none; `None`: nobody wanted one any more.
    fn strike_unforked(&mut self, worker: WorkerId) -> Result<Option<WorkerRecord>, Illegal> {
        let Some(WorkerState::Starting { unwanted }) =
            self.workers.find(worker).map(WorkerRecord::state)
        else {
            return Err(Illegal);
        };
        self.note_fork_answered(worker);
        self.log(LogLine::WorkerSpawnFailed { worker });
        Ok(self.workers.strike(worker).filter(|_| !unwanted))
    }

    pub(super) fn handle_worker_ready(&mut self, worker: WorkerId) -> Result<(), Illegal> {
        let record = self.workers.record(worker)?;
        record.handle_ready()?;
        let record = record.clone();
        self.vanguard = Vanguard::Over;
        let taken = self.now.saturating_sub(record.started());
        let timeout = self.boot_timeout_of(record.generation());
        self.patience.handle_ready(taken, timeout);
        if self.is_stopping() {
            self.announce_end(worker);
        }
        if record.attached {
            self.act(Action::AnnounceReady(worker));
        }
        Ok(())
    }

    /// It reached `max_requests`, or was told to stop by somebody else than the arbiter: it serves until a successor is
    /// ready. In a stop of the whole server, or when it is retiring anyway, that is no news.
    pub(super) fn handle_worker_wants_replacement(
        &mut self,
        worker: WorkerId,
    ) -> Result<(), Illegal> {
        let record = self.workers.record(worker)?;
        if record.is_told() {
            return Ok(());
        }
        record.mark_outgoing()
    }

    /// In Gunicorn the worker beyond the number wanted makes the oldest one leave. So it is the oldest that gets a
    /// successor; who boots already, or leaves, needs nobody to ask for it.
    pub(super) fn handle_spawn_requested(&mut self) -> Result<(), Illegal> {
        let serving = self.serving;
        let staying = self
            .workers
            .select(|r| r.is_ready() && !r.is_outgoing() && r.generation() == serving);
        let oldest = staying.into_iter().min().ok_or(Illegal)?;
        self.handle_worker_wants_replacement(oldest)
    }

    /// It says so before it exits. The exit code would tell the same, but only once its exit hooks have run.
    pub(super) fn handle_worker_boot_failed(
        &mut self,
        worker: WorkerId,
        failure: BootFailure,
    ) -> Result<(), Illegal> {
        let deadline = self.after(STOP_GRACE);
        let record = self.workers.record(worker)?;
        record.handle_boot_failed(deadline)?;
        let record = record.clone();
        self.judge_boot_failure(&record, failure);
        Ok(())
    }

    /// It makes room for one of the class that serves the application: no loss, and nothing to wait for.
    pub(super) fn handle_worker_misfit(&mut self, worker: WorkerId) -> Result<(), Illegal> {
        let deadline = self.after(STOP_GRACE);
        self.workers.record(worker)?.handle_misfit(deadline)
    }

    pub(super) fn handle_worker_exited(
        &mut self,
        worker: WorkerId,
        exit: Exit,
    ) -> Result<(), Illegal> {
        if let WorkerState::Starting { .. } = self.workers.record(worker)?.state() {
            return Err(Illegal);
        }
        let record = self.workers.strike(worker).ok_or(Illegal)?;
        self.log_exit(&record, exit);
        if record.attached && self.gateway.is_serving() {
            self.act(Action::ForgetWorker(worker));
        }
        self.act(Action::WorkerReaped { worker, exit });
        match BootFailure::of_boot(exit) {
            Some(failure) if record.is_booting() => self.judge_boot_failure(&record, failure),
            _ if record.is_active() => self.count_loss(&record),
            _ => {}
        }
        Ok(())
    }

    /// Nothing of it is in flight: it can exit, or is aborted if a request of it was given up.
    pub(super) fn handle_worker_drained(&mut self, worker: WorkerId) -> Result<(), Illegal> {
        match self.workers.record(worker)?.state() {
            WorkerState::Retiring { deadline } => self.finish(worker, deadline),
            WorkerState::Expiring { .. } => self.abort(worker),
            _ => return Err(Illegal),
        }
        Ok(())
    }

    pub(super) fn handle_request_expired(
        &mut self,
        worker: WorkerId,
        in_flight_others: u32,
    ) -> Result<(), Illegal> {
        let deadline = self.after(self.plan.graceful_timeout);
        let record = self.workers.record(worker)?;
        let was_ready = record.is_ready();
        record.expire(deadline)?;
        // Where there is no gateway any more, nobody waits for the others.
        let others = if record.attached { in_flight_others } else { 0 };
        let announce = was_ready && record.attached;
        let pid = record.log_pid();
        self.log(LogLine::WorkerTimeout { pid });
        self.act(Action::DumpStacks(worker));
        if announce {
            self.act(Action::RetireWorker(worker));
        }
        if others == 0 {
            self.abort(worker);
        }
        Ok(())
    }

    pub(super) fn handle_heartbeat_missed(&mut self, worker: WorkerId) -> Result<(), Illegal> {
        let before = self.abort_stalled(worker)?;
        if before.is_active() {
            self.count_loss(&before);
        }
        Ok(())
    }

    /// It is not ready after all the time it had. Of a new generation: that is given up, as for one that cannot boot.
    /// Else it is a loss like others, also on the first boot: the next one has more time, and may have more luck.
    pub(super) fn give_up_boot(&mut self, worker: WorkerId) {
        let Ok(before) = self.abort_stalled(worker) else {
            return;
        };
        let timeout = self.boot_timeout_of(before.generation());
        let within = before.boot_limit().unwrap_or_default();
        self.patience.handle_overdue(within, timeout);
        self.log(LogLine::WorkerBootOverdue {
            pid: before.log_pid(),
            within,
            next: self.patience.limit(timeout).unwrap_or_default(),
        });
        if self.loading() == Some(before.generation()) {
            self.give_up_reload(Reason::BootOverdue);
        } else {
            self.count_loss(&before);
        }
    }

    /// Breaks off what stands still; gives what was known of it.
    fn abort_stalled(&mut self, worker: WorkerId) -> Result<WorkerRecord, Illegal> {
        let deadline = self.after(ABORT_GRACE);
        let record = self.workers.record(worker)?;
        let before = record.clone();
        record.abort(deadline)?;
        self.log(LogLine::WorkerTimeout {
            pid: before.log_pid(),
        });
        self.act(Action::DumpStacks(worker));
        self.withdraw(&before);
        self.signal(worker, WorkerSignal::Abort);
        Ok(before)
    }

    /// What it writes cannot be trusted any more, so there is nothing to wait for.
    pub(super) fn handle_worker_fault(&mut self, worker: WorkerId) -> Result<(), Illegal> {
        let now = self.now;
        let record = self.workers.record(worker)?;
        let before = record.clone();
        record.kill(now)?;
        self.log(LogLine::WorkerFaulty {
            pid: before.log_pid(),
        });
        self.signal(worker, WorkerSignal::Kill);
        if before.is_active() {
            self.count_loss(&before);
        }
        Ok(())
    }
}

/// What a loss means.
impl Arbiter {
    /// A worker cannot boot. Of a new generation: it is given up. On the first boot: nobody would ever serve, so the server
    /// ends with the worker's code, as Gunicorn does. Later it is a loss like others: those who serve go on.
    fn judge_boot_failure(&mut self, record: &WorkerRecord, failure: BootFailure) {
        let code = ExitCode(failure.exit_code());
        self.judge(record, Reason::Boot(failure), code);
    }

    fn judge(&mut self, record: &WorkerRecord, reason: Reason, code: ExitCode) {
        if !self.is_running() || record.generation() < self.serving {
            return;
        }
        if self.loading() == Some(record.generation()) {
            self.give_up_reload(reason);
        } else if self.boot == Boot::Pending && self.reload.is_none() {
            self.halt(code, reason);
        } else {
            self.count_loss(record);
        }
    }

    /// A worker that was to serve will not. The comparison with what is wanted starts another one, when back-off lets it.
    fn count_loss(&mut self, record: &WorkerRecord) {
        let wait = self
            .backoff
            .handle_death(record.round(), record.started(), self.now);
        if let Some(wait) = wait.filter(|wait| *wait >= BACKOFF_TOLD) {
            self.log(LogLine::WorkersDieYoung {
                rounds: self.backoff.failures(),
                wait,
                none_served: self.boot == Boot::Pending,
            });
        }
        self.count_reload_death(record.generation());
    }

    fn log_exit(&mut self, record: &WorkerRecord, exit: Exit) {
        let pid = record.log_pid();
        if record.is_killed() {
            self.log(LogLine::WorkerKilled { pid });
        } else if record.is_booting()
            && let Exit::Code(code) = exit
            && BootFailure::from_exit(exit).is_none()
        {
            self.log(LogLine::WorkerEndedEarly { pid, code });
        } else if exit != Exit::Code(0) && !record.obeyed(exit) {
            self.log(LogLine::WorkerEnded { pid, exit });
        }
    }
}

/// Ways to leave. Each of them takes a worker in any state and does nothing where it does not apply.
impl Arbiter {
    /// Without haste: TERM, so that the application can end what would not end by itself; nothing new; and when it has
    /// drained, it is released. One without requests goes at once.
    pub(super) fn retire(&mut self, worker: WorkerId) {
        let deadline = self.after(self.plan.graceful_timeout);
        let Ok(record) = self.workers.record(worker) else {
            return;
        };
        if record.retire(deadline).is_err() {
            return self.dismiss(worker);
        }
        let attached = record.attached;
        self.announce_end(worker);
        if attached {
            self.act(Action::RetireWorker(worker));
        } else {
            self.finish(worker, deadline);
        }
    }

    /// One that has never had a request: there is nothing to drain.
    pub(super) fn dismiss(&mut self, worker: WorkerId) {
        let Ok(record) = self.workers.record(worker) else {
            return;
        };
        if record.disown().is_ok() {
            return;
        }
        match record.state() {
            WorkerState::Booting => self.interrupt(worker),
            WorkerState::Ready { .. } => self.finish(worker, self.now),
            _ => {}
        }
    }

    /// TERM, the first word of every end without haste; once.
    pub(super) fn announce_end(&mut self, worker: WorkerId) {
        if self
            .workers
            .record(worker)
            .is_ok_and(WorkerRecord::announce_end)
        {
            self.signal(worker, WorkerSignal::Graceful);
        }
    }

    /// It is released. It has until `deadline` to run its exit hooks (and to end what the gateway does not know of, such as
    /// a connection it was given for good), but never less than the usual grace.
    pub(super) fn finish(&mut self, worker: WorkerId, deadline: Duration) {
        let deadline = deadline.max(self.after(STOP_GRACE));
        if let Some(before) = self.leave(worker, WorkerSignal::Graceful, deadline) {
            self.announce_end(worker);
            self.withdraw(&before);
            self.act(Action::ReleaseWorker(worker));
        }
    }

    /// QUIT: breaks off whatever it does, an import or a request.
    pub(super) fn interrupt(&mut self, worker: WorkerId) {
        self.tell(worker, WorkerSignal::Quick, self.after(STOP_GRACE));
    }

    /// ABRT: breaks off, with a traceback.
    pub(super) fn abort(&mut self, worker: WorkerId) {
        self.tell(worker, WorkerSignal::Abort, self.after(ABORT_GRACE));
    }

    pub(super) fn kill(&mut self, worker: WorkerId) {
        let now = self.now;
        if self
            .workers
            .record(worker)
            .is_ok_and(|record| record.kill(now).is_ok())
        {
            self.signal(worker, WorkerSignal::Kill);
        }
    }

    fn tell(&mut self, worker: WorkerId, signal: WorkerSignal, deadline: Duration) {
        if let Some(before) = self.leave(worker, signal, deadline) {
            self.withdraw(&before);
            self.signal(worker, signal);
        }
    }

    /// From now on it is stopping; gives what was known of it, if this is a change.
    fn leave(
        &mut self,
        worker: WorkerId,
        signal: WorkerSignal,
        deadline: Duration,
    ) -> Option<WorkerRecord> {
        let record = self.workers.record(worker).ok()?;
        let before = record.clone();
        (record.stop(Some(signal), deadline) == Ok(true)).then_some(before)
    }

    /// A ready worker that leaves in a hurry must not be given anything in the meantime.
    fn withdraw(&mut self, before: &WorkerRecord) {
        if before.is_ready() && before.attached && self.gateway.is_serving() {
            self.act(Action::RetireWorker(before.id()));
        }
    }

    pub(super) fn signal(&mut self, worker: WorkerId, signal: WorkerSignal) {
        self.act(Action::SignalWorker { worker, signal });
    }
}
