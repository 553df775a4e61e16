//! USR2: another arbiter on the same listeners, so that the server itself can be exchanged without a gap.
//!
//! ```text
//!   USR2 --> StartSuccessor --> both serve --> TERM to this one:       the successor is promoted
//!                                         \--> TERM to the successor: this one goes on alone, USR2 works again
//! ```
//!
//! There are never more than two: one that has a successor, or that is one itself, starts none. Who else has the listeners
//! matters when they are closed: what waits in their backlog is then the other's to serve.

use super::Arbiter;
use crate::action::Action;
use crate::log::{LogLine, Relative};
use crate::worker::Illegal;

/// The other arbiter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) enum Upgrade {
    /// There is none.
    #[default]
    Alone,
    /// The performer was told to start one.
    Starting,
    /// This one was started by it.
    HasPredecessor,
    /// It was started by this one.
    HasSuccessor,
}

impl Arbiter {
    /// This arbiter was started by another one, which still lives.
    #[must_use]
    pub fn with_predecessor(mut self) -> Self {
        self.upgrade = Upgrade::HasPredecessor;
        self
    }

    /// Whether another arbiter has the listeners too.
    pub fn shares_listeners(&self) -> bool {
        self.upgrade != Upgrade::Alone
    }

    pub(super) fn begin_upgrade(&mut self) {
        let relative = match self.upgrade {
            Upgrade::Alone => {
                self.upgrade = Upgrade::Starting;
                return self.act(Action::StartSuccessor);
            }
            Upgrade::Starting | Upgrade::HasSuccessor => Relative::Child,
            Upgrade::HasPredecessor => Relative::Parent,
        };
        self.log(LogLine::UpgradeIgnored(relative));
    }

    pub(super) fn handle_successor_started(&mut self) -> Result<(), Illegal> {
        self.change_upgrade(Upgrade::Starting, Upgrade::HasSuccessor)
    }

    pub(super) fn handle_successor_failed(&mut self) -> Result<(), Illegal> {
        self.change_upgrade(Upgrade::Starting, Upgrade::Alone)
    }

    pub(super) fn handle_successor_exited(&mut self) -> Result<(), Illegal> {
        self.change_upgrade(Upgrade::HasSuccessor, Upgrade::Alone)
    }

    pub(super) fn handle_predecessor_gone(&mut self) -> Result<(), Illegal> {
        self.change_upgrade(Upgrade::HasPredecessor, Upgrade::Alone)?;
        self.log(LogLine::Promoted);
        self.act(Action::Promote);
        Ok(())
    }

    fn change_upgrade(&mut self, from: Upgrade, to: Upgrade) -> Result<(), Illegal> {
        if self.upgrade != from {
            return Err(Illegal);
        }
        self.upgrade = to;
        Ok(())
    }
}
