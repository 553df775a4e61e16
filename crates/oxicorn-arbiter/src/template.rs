//! The template of a generation as the arbiter sees it, and the only file that changes its state.
//!
//! With `preload_app` a template is the process that loads the application and from which the workers of its generation
//! are forked. It lives as long as its generation may need workers, and is replaced if it dies; workers serve on without
//! it. It forks one worker at a time.
//!
//! ```text
//!     ordered --> Starting --spawned--> Loading --ready--> Ready { forks a worker, or waits for an order }
//!                    |                     |  \                |     |
//!                    | spawn failed        |   \ overdue       |     | a fork is overdue
//!                    |            unwanted |    +---------> Stopping <--- unwanted
//!                    |                     v                   | kill_at
//!                    |                   Killed <--------------+
//!                    v                     |
//!                  gone <---- reaped (from every state but Starting)
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use crate::plan::Generation;
use crate::worker::Illegal;

/// Where a template stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TemplateState {
    /// Ordered; the performer has not reported its process.
    Starting,
    /// Loads the application.
    Loading {
        /// When that has taken too long; `None`: it may take any time.
        until: Option<Duration>,
    },
    /// Waits for orders.
    Ready,
    /// Forks a worker.
    Forking {
        /// When that has taken too long; `None`: it may take any time.
        until: Option<Duration>,
    },
    /// Was told to end, or stands still and is looked at before it is killed.
    Stopping {
        /// When it is killed.
        kill_at: Duration,
    },
    /// SIGKILL was sent.
    Killed {
        /// When.
        since: Duration,
    },
}

/// What the arbiter knows about a template.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Template {
    pid: u32,
    state: TemplateState,
    started: Duration,
    round: u32,
    /// What loading, or a fork, may take.
    limit: Option<Duration>,
}

impl Template {
    pub(crate) const fn ordered(started: Duration, round: u32, limit: Option<Duration>) -> Self {
        Self {
            pid: 0,
            state: TemplateState::Starting,
            started,
            round,
            limit,
        }
    }

    /// Its process; 0 before there is one.
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// Where it stands.
    pub const fn state(&self) -> TemplateState {
        self.state
    }

    pub(crate) const fn started(&self) -> Duration {
        self.started
    }

    pub(crate) const fn round(&self) -> u32 {
        self.round
    }

    pub(crate) const fn limit(&self) -> Option<Duration> {
        self.limit
    }

    /// The application is loaded, and it was not told to end.
    pub(crate) const fn is_loaded(&self) -> bool {
        matches!(
            self.state,
            TemplateState::Ready | TemplateState::Forking { .. }
        )
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.state == TemplateState::Ready
    }

    pub(crate) const fn deadline(&self) -> Option<Duration> {
        use TemplateState::{Forking, Killed, Loading, Ready, Starting, Stopping};
        match self.state {
            Loading { until } | Forking { until } => until,
            Stopping { kill_at } => Some(kill_at),
            Starting | Ready | Killed { .. } => None,
        }
    }
}

/// Transitions.
impl Template {
    pub(crate) fn handle_spawned(&mut self, pid: u32, now: Duration) -> Result<(), Illegal> {
        let TemplateState::Starting = self.state else {
            return Err(Illegal);
        };
        self.pid = pid;
        self.state = TemplateState::Loading {
            until: self.limit.map(|limit| now.saturating_add(limit)),
        };
        Ok(())
    }

    pub(crate) fn handle_ready(&mut self) -> Result<(), Illegal> {
        let TemplateState::Loading { .. } = self.state else {
            return Err(Illegal);
        };
        self.state = TemplateState::Ready;
        Ok(())
    }

    /// It is given an order.
    pub(crate) fn fork(&mut self, now: Duration) {
        debug_assert!(self.is_ready(), "one order at a time");
        self.state = TemplateState::Forking {
            until: self.limit.map(|limit| now.saturating_add(limit)),
        };
    }

    /// The order was answered.
    pub(crate) fn handle_forked(&mut self) {
        if let TemplateState::Forking { .. } = self.state {
            self.state = TemplateState::Ready;
        }
    }

    pub(crate) fn stop(&mut self, kill_at: Duration) -> Result<(), Illegal> {
        use TemplateState::{Forking, Loading, Ready};
        let (Loading { .. } | Ready | Forking { .. }) = self.state else {
            return Err(Illegal);
        };
        self.state = TemplateState::Stopping { kill_at };
        Ok(())
    }

    pub(crate) fn kill(&mut self, now: Duration) -> Result<(), Illegal> {
        if let TemplateState::Starting | TemplateState::Killed { .. } = self.state {
            return Err(Illegal);
        }
        self.state = TemplateState::Killed { since: now };
        Ok(())
    }
}

/// All of them: one at most for each generation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Templates {
    by_generation: BTreeMap<Generation, Template>,
}

impl Templates {
    pub(crate) fn enter(&mut self, generation: Generation, template: Template) {
        self.by_generation.insert(generation, template);
    }

    pub(crate) fn strike(&mut self, generation: Generation) -> Option<Template> {
        self.by_generation.remove(&generation)
    }

    pub(crate) fn find(&self, generation: Generation) -> Option<&Template> {
        self.by_generation.get(&generation)
    }

    /// None is as illegal as one in the wrong state.
    pub(crate) fn template(&mut self, generation: Generation) -> Result<&mut Template, Illegal> {
        self.by_generation.get_mut(&generation).ok_or(Illegal)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Generation, &Template)> {
        self.by_generation
            .iter()
            .map(|(generation, template)| (*generation, template))
    }

    /// The generations of all that match; for loops that change them.
    pub(crate) fn select(&self, wanted: impl Fn(&Template) -> bool) -> Vec<Generation> {
        self.iter()
            .filter(|(_, template)| wanted(template))
            .map(|(generation, _)| generation)
            .collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_generation.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(100);

    fn loading() -> Template {
        let mut template = Template::ordered(NOW, 0, Some(Duration::from_secs(7)));
        template.handle_spawned(42, NOW).expect("it was ordered");
        template
    }

    #[test]
    fn has_a_time_to_load_and_a_time_to_fork() {
        let mut template = loading();
        assert_eq!(template.deadline(), Some(NOW + Duration::from_secs(7)));
        template.handle_ready().expect("it loads");
        assert_eq!(template.deadline(), None);
        template.fork(NOW * 2);
        assert_eq!(template.deadline(), Some(NOW * 2 + Duration::from_secs(7)));
        template.handle_forked();
        assert!(template.is_ready());
    }

    #[test]
    fn an_answer_that_comes_late_does_not_bring_it_back() {
        let mut template = loading();
        template.handle_ready().expect("it loads");
        template.fork(NOW);
        template.stop(NOW * 2).expect("it lives");
        template.handle_forked();
        assert!(!template.is_loaded());
        assert_eq!(template.handle_ready(), Err(Illegal));
    }

    #[test]
    fn what_has_no_process_cannot_be_told_anything() {
        let mut template = Template::ordered(NOW, 0, None);
        assert_eq!(template.stop(NOW), Err(Illegal));
        assert_eq!(template.kill(NOW), Err(Illegal));
        template.handle_spawned(42, NOW).expect("it was ordered");
        assert_eq!(template.deadline(), None);
        template.kill(NOW).expect("it lives");
        assert_eq!(template.kill(NOW), Err(Illegal));
        assert_eq!(template.stop(NOW), Err(Illegal));
    }
}
