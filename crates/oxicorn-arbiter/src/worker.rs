//! One worker in the arbiter's table, and the only file that changes its state.
//!
//! Decides which change is legal in which state. Does not decide when, nor what is ordered because of it: that is the
//! arbiter's. A call that the state does not know returns [`Illegal`] and changes nothing.
//!
//! ```text
//!             SpawnWorker ordered
//!                    |
//!                Starting -------- spawn failed -----------------------------+
//!                    | spawned                                               |
//!      unwanted      v                                                       |
//!     +---------- Booting ---- cannot boot (exits by itself) ---+            |
//!     | overdue:     | ready                                    |            |
//!     | ABRT         |                                          |            |
//!     |              v                                          |            |
//!     |            Ready  (outgoing: until its successor is     |            |
//!     |              |     ready it serves on)                  |            |
//!     |     retired / \ a request expired                       |            |
//!     |            v   v                                        |            |
//!     |     Retiring -> Expiring   (others are finished)        |            |
//!     |       TERM |     |                                      |            |
//!     | drained:   |     | drained, or deadline:                |            |
//!     | released   |     | ABRT                                 |            |
//!     | deadline:  |     |                                      |            |
//!     v QUIT       v     v                                      v            |
//!     +------------+-> Stopping <-------------------------------+            |
//!      released -> QUIT  | deadline                                          |
//!                        v                                                   |
//!                      Killed                                                |
//!                        |                                                   v
//!     every state but Starting ----- reaped ------------------------------> gone (off the table)
//! ```

use std::time::Duration;

use crate::action::WorkerSignal;
use crate::event::Exit;
use crate::plan::{Generation, WorkerId};

const SIGQUIT: i32 = 3;
const SIGTERM: i32 = 15;

/// Where a worker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WorkerState {
    /// Ordered; the performer has not reported its process.
    Starting {
        /// It is to be stopped as soon as it is there.
        unwanted: bool,
    },
    /// Loads the application.
    Booting,
    /// Takes requests if its generation serves.
    Ready {
        /// It serves until its successor is ready.
        outgoing: bool,
    },
    /// Gets nothing new; what it has is finished until the deadline.
    Retiring {
        /// When it is interrupted.
        deadline: Duration,
    },
    /// A request ran over its time; the others are finished until the deadline.
    Expiring {
        /// When it is aborted.
        deadline: Duration,
    },
    /// Was told to exit, or exits by itself.
    Stopping {
        /// What it was told last (TERM: it was released as well); `None` if it goes by itself.
        signal: Option<WorkerSignal>,
        /// When the next stronger signal follows: QUIT after TERM, KILL after all others.
        deadline: Duration,
    },
    /// SIGKILL was sent.
    Killed {
        /// When.
        since: Duration,
    },
}

/// The state does not know this; nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Illegal;

/// What the arbiter knows about a worker.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct WorkerRecord {
    id: WorkerId,
    generation: Generation,
    pid: Option<u32>,
    state: WorkerState,
    started: Duration,
    round: u32,
    /// What it may take until it is ready.
    boot_limit: Option<Duration>,
    /// When that is over.
    boot_until: Option<Duration>,
    lost: bool,
    /// It was sent TERM.
    told: bool,
    /// The present gateway was told about it.
    pub(crate) attached: bool,
}

impl WorkerRecord {
    /// Its number.
    pub const fn id(&self) -> WorkerId {
        self.id
    }

    /// Gunicorn's `worker.age`.
    pub const fn age(&self) -> u64 {
        self.id.0 as u64
    }

    /// The generation it was started for.
    pub const fn generation(&self) -> Generation {
        self.generation
    }

    /// Its process, once known.
    pub const fn pid(&self) -> Option<u32> {
        self.pid
    }

    /// Where it stands.
    pub const fn state(&self) -> WorkerState {
        self.state
    }

    /// It went (or is going) without a successor being there: a request of it ran over its time, its heart stood still, or
    /// it could not boot.
    pub(crate) const fn is_lost(&self) -> bool {
        self.lost
    }

    /// It serves, or is on its way to.
    pub const fn is_active(&self) -> bool {
        use WorkerState::{Booting, Ready, Starting};
        matches!(
            self.state,
            Starting { unwanted: false } | Booting | Ready { .. }
        )
    }

    pub(crate) const fn is_ready(&self) -> bool {
        matches!(self.state, WorkerState::Ready { .. })
    }

    pub(crate) const fn is_outgoing(&self) -> bool {
        matches!(self.state, WorkerState::Ready { outgoing: true })
    }

    pub(crate) const fn is_killed(&self) -> bool {
        matches!(self.state, WorkerState::Killed { .. })
    }

    pub(crate) const fn is_stopping(&self) -> bool {
        matches!(self.state, WorkerState::Stopping { .. })
    }

    /// It knows that it has to end.
    pub(crate) const fn is_told(&self) -> bool {
        self.told
    }

    /// Whether `exit` is by the very signal that told it to stop: in the middle of its own end no handler of its stands
    /// any more.
    pub(crate) fn obeyed(&self, exit: Exit) -> bool {
        let WorkerState::Stopping { signal, .. } = self.state else {
            return false;
        };
        let number = match signal {
            Some(WorkerSignal::Quick) => SIGQUIT,
            Some(WorkerSignal::Graceful) => SIGTERM,
            _ => return false,
        };
        exit == Exit::Signal(number)
    }

    /// Has a process that was not told to go.
    pub(crate) const fn is_booting(&self) -> bool {
        matches!(self.state, WorkerState::Booting)
    }

    pub(crate) const fn started(&self) -> Duration {
        self.started
    }

    pub(crate) const fn boot_limit(&self) -> Option<Duration> {
        self.boot_limit
    }

    pub(crate) const fn round(&self) -> u32 {
        self.round
    }

    /// What log lines call it.
    pub(crate) fn log_pid(&self) -> u32 {
        self.pid.unwrap_or_default()
    }
}

/// Transitions.
impl WorkerRecord {
    pub(crate) const fn ordered(
        id: WorkerId,
        generation: Generation,
        started: Duration,
        round: u32,
        boot_limit: Option<Duration>,
    ) -> Self {
        Self {
            id,
            generation,
            pid: None,
            state: WorkerState::Starting { unwanted: false },
            started,
            round,
            boot_limit,
            boot_until: None,
            lost: false,
            told: false,
            attached: false,
        }
    }

    /// There is a process. Gives whether it is still wanted.
    pub(crate) fn handle_spawned(&mut self, pid: u32, now: Duration) -> Result<bool, Illegal> {
        let WorkerState::Starting { unwanted } = self.state else {
            return Err(Illegal);
        };
        self.pid = Some(pid);
        self.boot_until = self.boot_limit.map(|limit| now.saturating_add(limit));
        self.state = WorkerState::Booting;
        Ok(!unwanted)
    }

    pub(crate) fn disown(&mut self) -> Result<(), Illegal> {
        let WorkerState::Starting { .. } = self.state else {
            return Err(Illegal);
        };
        self.state = WorkerState::Starting { unwanted: true };
        Ok(())
    }

    pub(crate) fn handle_ready(&mut self) -> Result<(), Illegal> {
        let WorkerState::Booting = self.state else {
            return Err(Illegal);
        };
        self.state = WorkerState::Ready { outgoing: false };
        Ok(())
    }

    /// Its end begins. Gives whether the signal is to be sent: once.
    pub(crate) fn announce_end(&mut self) -> bool {
        !std::mem::replace(&mut self.told, true)
    }

    pub(crate) fn mark_outgoing(&mut self) -> Result<(), Illegal> {
        let WorkerState::Ready { outgoing: false } = self.state else {
            return Err(Illegal);
        };
        self.state = WorkerState::Ready { outgoing: true };
        Ok(())
    }

    pub(crate) fn retire(&mut self, deadline: Duration) -> Result<(), Illegal> {
        let WorkerState::Ready { .. } = self.state else {
            return Err(Illegal);
        };
        self.state = WorkerState::Retiring { deadline };
        Ok(())
    }

    /// A request expired. One that is retiring gets no longer than it had; a further expired request no longer than the
    /// first one.
    pub(crate) fn expire(&mut self, deadline: Duration) -> Result<(), Illegal> {
        let deadline = match self.state {
            WorkerState::Ready { .. } => deadline,
            WorkerState::Retiring { deadline: own } | WorkerState::Expiring { deadline: own } => {
                own.min(deadline)
            }
            _ => return Err(Illegal),
        };
        self.state = WorkerState::Expiring { deadline };
        self.lost = true;
        Ok(())
    }

    /// It is told to exit. Gives whether the signal is to be sent: one that is on its way out is
    /// told again only where TERM becomes something stronger, because a second QUIT would break into its exit hooks.
    pub(crate) fn stop(
        &mut self,
        signal: Option<WorkerSignal>,
        deadline: Duration,
    ) -> Result<bool, Illegal> {
        let graceful = Some(WorkerSignal::Graceful);
        match self.state {
            WorkerState::Starting { .. } | WorkerState::Killed { .. } => return Err(Illegal),
            WorkerState::Stopping { signal: told, .. }
                if told != graceful || signal == graceful =>
            {
                return Ok(false);
            }
            _ => self.state = WorkerState::Stopping { signal, deadline },
        }
        Ok(true)
    }

    /// It cannot be made ready and exits by itself.
    pub(crate) fn handle_boot_failed(&mut self, deadline: Duration) -> Result<(), Illegal> {
        let WorkerState::Booting = self.state else {
            return Err(Illegal);
        };
        self.stop(None, deadline)?;
        self.lost = true;
        Ok(())
    }

    /// It is of the wrong class for the application and exits by itself.
    pub(crate) fn handle_misfit(&mut self, deadline: Duration) -> Result<(), Illegal> {
        let WorkerState::Booting = self.state else {
            return Err(Illegal);
        };
        self.stop(None, deadline).map(drop)
    }

    /// Its whole process stands still; it is being aborted.
    pub(crate) fn abort(&mut self, deadline: Duration) -> Result<(), Illegal> {
        if let WorkerState::Stopping { .. } = self.state {
            return Err(Illegal);
        }
        self.stop(Some(WorkerSignal::Abort), deadline)?;
        self.lost = true;
        Ok(())
    }

    pub(crate) fn kill(&mut self, now: Duration) -> Result<(), Illegal> {
        if let WorkerState::Starting { .. } | WorkerState::Killed { .. } = self.state {
            return Err(Illegal);
        }
        self.state = WorkerState::Killed { since: now };
        Ok(())
    }

    /// When its present state has lasted long enough. Being killed has no end of its own, only a shutdown's.
    pub(crate) const fn deadline(&self) -> Option<Duration> {
        use WorkerState::{Booting, Expiring, Killed, Ready, Retiring, Starting, Stopping};
        match self.state {
            Booting => self.boot_until,
            Starting { .. } | Ready { .. } | Killed { .. } => None,
            Retiring { deadline } | Expiring { deadline } | Stopping { deadline, .. } => {
                Some(deadline)
            }
        }
    }
}

#[cfg(test)]
#[path = "worker_tests.rs"]
mod tests;
