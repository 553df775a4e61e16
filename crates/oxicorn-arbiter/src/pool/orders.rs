//! What users order: a reload, more and fewer workers, the end.

use super::record::State;
use super::{Load, Phase, Pool, PoolAction, PoolPlan};
use crate::log::Level;
use crate::plan::Generation;

impl Pool {
    pub(super) fn reload(&mut self, plan: PoolPlan) {
        if self.phase != Phase::Running {
            return;
        }
        self.log(Level::Info, "Reloading dirty workers".to_owned());
        self.drop_reload();
        // Workers that were added or removed by hand stay so, unless the setting itself has changed.
        let wanted = if plan.workers == self.serving.plan.workers {
            self.serving.wanted
        } else {
            plan.workers
        };
        self.last_generation = Generation(self.last_generation.0 + 1);
        let mut load = Load::new(self.last_generation, plan);
        load.wanted = wanted;
        for backoff in self.backoffs.values_mut() {
            backoff.forgive();
        }
        self.broker_backoff.forgive();
        self.next = Some(load);
    }

    pub(super) fn drop_reload(&mut self) {
        let Some(next) = self.next.take() else {
            return;
        };
        for worker in self.select(|record| record.generation == next.generation) {
            self.interrupt(worker);
        }
        self.act(PoolAction::AbandonGeneration(next.generation));
    }

    pub(super) fn give_up_reload(&mut self, why: &str) {
        self.drop_reload();
        self.reloads_refused += 1;
        why.clone_into(&mut self.refusal);
        let text = format!("Dirty workers were not reloaded, the old ones go on: {why}");
        self.log(Level::Error, text);
    }

    pub(super) fn change_wanted(&mut self, by: i64) {
        if self.phase != Phase::Running {
            return;
        }
        let (least, most) = (self.least(), self.most());
        let (mut too_few, mut too_many) = (false, false);
        let loads = [Some(&mut self.serving), self.next.as_mut()];
        for load in loads.into_iter().flatten() {
            let asked = (i64::from(load.wanted) + by).max(0);
            let asked = u32::try_from(asked).unwrap_or(u32::MAX);
            let new = if by < 0 {
                asked.max(least.min(load.wanted))
            } else {
                asked.min(most.map_or(u32::MAX, |most| most.max(load.wanted)))
            };
            too_few |= new > asked;
            too_many |= new < asked;
            load.wanted = new;
        }
        if too_few {
            let text =
                format!("Cannot decrease below {least} dirty workers (required by app specs)");
            self.log(Level::Warning, text);
        }
        if let Some(most) = most.filter(|_| too_many) {
            let text = format!(
                "More than {most} dirty workers would have no application: each has as many as it wants"
            );
            self.log(Level::Warning, text);
        }
    }

    pub(super) fn stop(&mut self) {
        if self.phase == Phase::Running {
            self.phase = Phase::Stopping;
            self.drop_reload();
            self.act(PoolAction::Drain);
            for worker in self.select(|_| true) {
                self.retire(worker);
            }
        }
    }

    pub(super) fn stop_quickly(&mut self) {
        if self.phase == Phase::Over {
            return;
        }
        self.phase = Phase::Stopping;
        self.next = None;
        for worker in self.select(|record| !matches!(record.state, State::Stopping { .. })) {
            self.interrupt(worker);
        }
    }
}
