//! HUP: a new generation beside the old one, until it is ready or given up.
//!
//! ```text
//!   HUP --> Loading --refused--> (nothing changes)
//!              | loaded
//!              v
//!         generation g+1 boots, g serves --all ready--> g+1 serves, g retires
//!              |            |
//!              |            +-- a newer HUP is loaded: g+1 is dismissed, g+2 boots
//!              +-- a worker cannot boot, or too many die: g+1 is dismissed, g goes on
//! ```
//!
//! While a generation boots the old one gets no new workers: started now they would run the new code under the old
//! generation's name. (From a template they run the old code, so there they are replaced.)
//! If the old one runs out of workers meanwhile, the new one serves as soon as it has more to offer. Workers of a generation
//! before the old one may still be leaving; where there are too many of them the reload waits, and says so.

use std::time::Duration;

use super::Arbiter;
use crate::action::Action;
use crate::log::{LogLine, Reason};
use crate::plan::timing::{CHANGES_REMEMBERED, RELOAD_DEATH_LIMIT};
use crate::plan::{Generation, Plan};
use crate::worker::Illegal;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Reload {
    pub(super) generation: Generation,
    pub(super) wanted: u32,
    plan: Plan,
    deaths: u32,
    /// It was said that its workers wait for room.
    pub(super) waited: bool,
}

/// Whether the performer has been asked for a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Configuration {
    Settled,
    Loading {
        generation: Generation,
        /// Another HUP came; what is being read may already be old.
        again: bool,
    },
}

impl Arbiter {
    /// A change of the source is a reload, once: all workers that watch report it, and one may be late.
    pub(super) fn handle_source_changed(&mut self, change: u64) -> Result<(), Illegal> {
        if !self.is_running() {
            return Err(Illegal);
        }
        if self.changes.contains(&change) {
            return Ok(());
        }
        if self.changes.len() == CHANGES_REMEMBERED {
            self.changes.pop_front();
        }
        self.changes.push_back(change);
        self.begin_reload();
        Ok(())
    }

    pub(super) fn begin_reload(&mut self) {
        if let Configuration::Loading { again, .. } = &mut self.configuration {
            *again = true;
        } else {
            self.load_configuration();
        }
    }

    fn load_configuration(&mut self) {
        let generation = Generation(self.last_generation.0 + 1);
        self.last_generation = generation;
        self.configuration = Configuration::Loading {
            generation,
            again: false,
        };
        self.act(Action::LoadConfiguration { generation });
    }

    /// An error: it cannot be used. A generation already booting goes on then: its configuration can.
    pub(super) fn handle_configuration(
        &mut self,
        plan: Result<Plan, Reason>,
    ) -> Result<(), Illegal> {
        let Configuration::Loading { generation, again } = self.configuration else {
            return Err(Illegal);
        };
        self.configuration = Configuration::Settled;
        match plan {
            Err(reason) => self.log_given_up(generation, reason),
            Ok(_) if again => self.act(Action::AbandonGeneration {
                generation,
                failed: false,
            }),
            Ok(plan) => self.open_generation(generation, plan),
        }
        if again {
            self.load_configuration();
        }
        Ok(())
    }

    fn open_generation(&mut self, generation: Generation, plan: Plan) {
        // TTIN and TTOU are remembered unless the setting itself was changed; WINCH is not.
        let newest = self
            .reload
            .as_ref()
            .map_or(&self.plan, |reload| &reload.plan);
        let idled = std::mem::take(&mut self.idled);
        let wanted = if plan.workers == newest.workers && !idled {
            self.wanted()
        } else {
            plan.workers
        };
        self.drop_reload(false);
        self.backoff.forgive();
        self.template_backoff.forgive();
        self.reload = Some(Reload {
            generation,
            wanted,
            plan,
            deaths: 0,
            waited: false,
        });
    }

    /// The moment the server changes over, if it has come.
    pub(super) fn adopt_generation_if_ready(&mut self) {
        let Some(reload) = &self.reload else { return };
        let ready = self.workers.ready(reload.generation);
        let serving = self.workers.ready(self.serving);
        // With no worker wanted, the template still says whether the code can be loaded.
        let loaded = reload.wanted > 0 || self.is_preloaded(reload.generation);
        let complete = loaded && ready >= reload.wanted as usize;
        let needed = serving < self.wanted as usize && ready > serving;
        if (complete || needed)
            && let Some(reload) = self.reload.take()
        {
            self.adopt(reload);
        }
    }

    /// Dispatch moves first, then the old workers are retired, so that there is no moment in which nobody serves.
    fn adopt(&mut self, reload: Reload) {
        let predecessors = self.workers.select(|r| r.generation() != reload.generation);
        self.serving = reload.generation;
        self.plan = reload.plan;
        self.wanted = reload.wanted;
        self.act(Action::ServeGeneration(self.serving));
        for worker in predecessors {
            self.retire(worker);
        }
        self.log(LogLine::Reloaded {
            generation: self.serving,
        });
    }

    /// The setting `boot_timeout` the workers of this generation run with.
    pub(super) fn boot_timeout_of(&self, generation: Generation) -> Duration {
        self.plan_of(generation).boot_timeout
    }

    /// Whether this generation's workers are forked from a template.
    pub(super) fn is_templated(&self, generation: Generation) -> bool {
        self.plan_of(generation).preload_app
    }

    fn plan_of(&self, generation: Generation) -> &Plan {
        let reload = self.reload.as_ref();
        let loading = reload.filter(|reload| reload.generation == generation);
        loading.map_or(&self.plan, |reload| &reload.plan)
    }

    pub(super) fn count_reload_death(&mut self, generation: Generation) {
        let Some(reload) = &mut self.reload else {
            return;
        };
        if reload.generation == generation {
            reload.deaths += 1;
            if reload.deaths >= RELOAD_DEATH_LIMIT {
                self.give_up_reload(Reason::WorkersDied);
            }
        }
    }

    pub(super) fn give_up_reload(&mut self, reason: Reason) {
        if let Some(generation) = self.drop_reload(true) {
            self.log_given_up(generation, reason);
        }
    }

    /// Its workers have not served: they can go at once.
    fn drop_reload(&mut self, failed: bool) -> Option<Generation> {
        let generation = self.reload.take()?.generation;
        for worker in self.workers.select(|r| r.generation() == generation) {
            self.dismiss(worker);
        }
        self.act(Action::AbandonGeneration { generation, failed });
        Some(generation)
    }

    /// A shutdown does not wait for a configuration.
    pub(super) fn forget_reload(&mut self) {
        self.drop_reload(false);
        self.configuration = Configuration::Settled;
    }

    fn log_given_up(&mut self, generation: Generation, reason: Reason) {
        self.log(LogLine::ReloadGivenUp {
            generation,
            serving: self.serving,
            reason,
        });
    }
}
