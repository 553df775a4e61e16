//! The vanguard: where processors are scarce, not all of the first workers boot at once.
//!
//! One ready worker is enough for the first answer, and whoever boots beside it takes its processor away. So when the
//! server starts only as many begin as find a processor each, one being left to the gateway and to this process. The
//! others follow as soon as somebody is ready, and [`VANGUARD`] after the first fork whatever has become of it. Where
//! there are processors for all nobody waits, nor does anybody in a reload, or later, or whose application is loaded
//! already by a template.

use std::time::Duration;

use super::Arbiter;
use crate::plan::timing::VANGUARD;

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Vanguard {
    /// Nobody has been forked yet.
    Forming,
    /// Nobody is ready yet; the others wait until then at most.
    BootsUntil(Duration),
    /// Somebody was ready.
    Over,
}

impl Arbiter {
    pub(super) fn note_vanguard_forked(&mut self) {
        if self.vanguard == Vanguard::Forming {
            self.vanguard = Vanguard::BootsUntil(self.after(VANGUARD));
        }
    }

    /// Whether those who are not ordered yet wait for those who are.
    pub(super) fn waits_for_vanguard(&self) -> bool {
        let boots = match self.vanguard {
            Vanguard::Forming => true,
            Vanguard::BootsUntil(until) => self.now < until,
            Vanguard::Over => false,
        };
        let on_their_way = self.workers.active(self.serving);
        let size = self.plan.processors.saturating_sub(1).max(1);
        boots && on_their_way >= size as usize && !self.is_templated(self.serving)
    }

    /// When nobody waits for it any more.
    pub(super) fn vanguard_deadline(&self) -> Option<Duration> {
        match self.vanguard {
            Vanguard::BootsUntil(until) if self.waits_for_vanguard() => Some(until),
            _ => None,
        }
    }
}
