//! The gateway's process as the arbiter sees it, and the only file that changes its state.
//!
//! ```text
//!     Absent --ordered--> Starting --spawned--> Booting --ready--> Serving --TERM--> Draining
//!       ^                    |                     |                  |                 | drained
//!       |                    | spawn failed        +---- stopped -----+------+          v
//!       +--------------------+                                               +----> Stopping
//!       ^                                                                               | kill_at
//!       |                                                                               v
//!       +------------------------- reaped (from every state but Starting) ---------- Killed
//! ```

use std::time::Duration;

use crate::backoff::Backoff;
use crate::worker::Illegal;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) enum GatewayState {
    #[default]
    Absent,
    Starting,
    Booting,
    Serving,
    Draining {
        kill_at: Duration,
    },
    Stopping {
        kill_at: Duration,
    },
    Killed {
        since: Duration,
    },
}

/// How a gateway ended, told by the state it was in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Ended {
    pub(crate) pid: u32,
    /// It was told to go.
    pub(crate) expected: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Gateway {
    state: GatewayState,
    pid: u32,
    started: Duration,
    round: u32,
    /// Some gateway was ready once: from then on a dead one is replaced, before it the server does not start.
    was_ready: bool,
    backoff: Backoff,
}

impl Gateway {
    pub(crate) const fn state(&self) -> GatewayState {
        self.state
    }

    pub(crate) const fn pid(&self) -> u32 {
        self.pid
    }

    pub(crate) const fn was_ready(&self) -> bool {
        self.was_ready
    }

    pub(crate) fn is_absent(&self) -> bool {
        self.state == GatewayState::Absent
    }

    /// Messages can be sent, and what it has in flight counts.
    pub(crate) const fn is_serving(&self) -> bool {
        matches!(
            self.state,
            GatewayState::Serving | GatewayState::Draining { .. }
        )
    }

    pub(crate) const fn not_before(&self) -> Duration {
        self.backoff.not_before()
    }

    pub(crate) fn may_start(&self, now: Duration) -> bool {
        self.is_absent() && self.backoff.allows(now)
    }

    pub(crate) const fn deadline(&self) -> Option<Duration> {
        match self.state {
            GatewayState::Draining { kill_at } | GatewayState::Stopping { kill_at } => {
                Some(kill_at)
            }
            _ => None,
        }
    }
}

/// Transitions.
impl Gateway {
    pub(crate) fn order(&mut self, now: Duration) {
        debug_assert!(self.is_absent(), "one gateway at a time");
        self.state = GatewayState::Starting;
        self.started = now;
        self.round = self.backoff.round();
    }

    pub(crate) fn handle_spawned(&mut self, pid: u32) -> Result<(), Illegal> {
        let GatewayState::Starting = self.state else {
            return Err(Illegal);
        };
        self.state = GatewayState::Booting;
        self.pid = pid;
        Ok(())
    }

    pub(crate) fn handle_spawn_failed(&mut self, now: Duration) -> Result<(), Illegal> {
        let GatewayState::Starting = self.state else {
            return Err(Illegal);
        };
        self.state = GatewayState::Absent;
        self.backoff.handle_death(self.round, self.started, now);
        Ok(())
    }

    pub(crate) fn handle_ready(&mut self) -> Result<(), Illegal> {
        let GatewayState::Booting = self.state else {
            return Err(Illegal);
        };
        self.state = GatewayState::Serving;
        self.was_ready = true;
        Ok(())
    }

    pub(crate) fn drain(&mut self, kill_at: Duration) -> Result<(), Illegal> {
        let GatewayState::Serving = self.state else {
            return Err(Illegal);
        };
        self.state = GatewayState::Draining { kill_at };
        Ok(())
    }

    pub(crate) fn handle_drained(&mut self, kill_at: Duration) -> Result<(), Illegal> {
        let GatewayState::Draining { .. } = self.state else {
            return Err(Illegal);
        };
        self.state = GatewayState::Stopping { kill_at };
        Ok(())
    }

    /// It is told to exit at once.
    pub(crate) fn stop(&mut self, kill_at: Duration) -> Result<(), Illegal> {
        match self.state {
            GatewayState::Booting | GatewayState::Serving | GatewayState::Draining { .. } => {
                self.state = GatewayState::Stopping { kill_at };
                Ok(())
            }
            _ => Err(Illegal),
        }
    }

    pub(crate) fn kill(&mut self, now: Duration) -> Result<(), Illegal> {
        match self.state {
            GatewayState::Absent | GatewayState::Starting | GatewayState::Killed { .. } => {
                Err(Illegal)
            }
            _ => {
                self.state = GatewayState::Killed { since: now };
                Ok(())
            }
        }
    }

    pub(crate) fn handle_exited(&mut self, now: Duration) -> Result<Ended, Illegal> {
        let expected = match self.state {
            GatewayState::Absent | GatewayState::Starting => return Err(Illegal),
            GatewayState::Booting | GatewayState::Serving => false,
            GatewayState::Draining { .. }
            | GatewayState::Stopping { .. }
            | GatewayState::Killed { .. } => true,
        };
        self.state = GatewayState::Absent;
        if !expected {
            self.backoff.handle_death(self.round, self.started, now);
        }
        Ok(Ended {
            pid: self.pid,
            expected,
        })
    }

    /// It was killed and cannot be reaped; the shutdown goes on without it.
    pub(crate) fn give_up(&mut self) {
        self.state = GatewayState::Absent;
    }
}
