//! Templates: which generations have one, and what becomes of a generation whose template cannot load the application.

use std::time::Duration;

use super::{Arbiter, Boot};
use crate::action::{Action, ExitCode};
use crate::event::Exit;
use crate::log::{LogLine, Reason};
use crate::plan::timing::{ABORT_GRACE, REAP_GRACE, STOP_GRACE};
use crate::plan::{Generation, WorkerId};
use crate::template::{Template, TemplateState};
use crate::worker::{Illegal, WorkerRecord, WorkerState};

/// What happens to them.
impl Arbiter {
    pub(super) fn handle_template_spawned(
        &mut self,
        generation: Generation,
        pid: u32,
    ) -> Result<(), Illegal> {
        let now = self.now;
        self.templates
            .template(generation)?
            .handle_spawned(pid, now)
    }

    pub(super) fn handle_template_spawn_failed(
        &mut self,
        generation: Generation,
    ) -> Result<(), Illegal> {
        let TemplateState::Starting = self.templates.template(generation)?.state() else {
            return Err(Illegal);
        };
        self.log(LogLine::TemplateSpawnFailed);
        if let Some(template) = self.templates.strike(generation) {
            self.count_template_loss(generation, &template);
        }
        Ok(())
    }

    pub(super) fn handle_template_ready(&mut self, generation: Generation) -> Result<(), Illegal> {
        let template = self.templates.template(generation)?;
        template.handle_ready()?;
        let taken = self.now.saturating_sub(template.started());
        let timeout = self.boot_timeout_of(generation);
        self.patience.handle_ready(taken, timeout);
        Ok(())
    }

    pub(super) fn handle_template_exited(
        &mut self,
        generation: Generation,
        exit: Exit,
    ) -> Result<(), Illegal> {
        if let TemplateState::Starting = self.templates.template(generation)?.state() {
            return Err(Illegal);
        }
        let template = self.strike_template(generation).ok_or(Illegal)?;
        match template.state() {
            TemplateState::Loading { .. } => {
                self.log_template_exit(&template, exit);
                self.judge_load_failure(generation, &template);
            }
            TemplateState::Ready | TemplateState::Forking { .. } => {
                self.log_template_exit(&template, exit);
                self.count_template_loss(generation, &template);
            }
            _ => {}
        }
        Ok(())
    }

    /// The worker it was to fork is there, or never will be.
    pub(super) fn note_fork_answered(&mut self, worker: WorkerId) {
        if let Some(generation) = self.workers.find(worker).map(WorkerRecord::generation)
            && let Ok(template) = self.templates.template(generation)
        {
            template.handle_forked();
        }
    }

    /// What it had been ordered to fork and has not will never be; whoever is still wanted is ordered again.
    fn strike_template(&mut self, generation: Generation) -> Option<Template> {
        for worker in self.workers.select(|r| is_ordered(r, generation)) {
            self.workers.strike(worker);
        }
        self.templates.strike(generation)
    }

    fn log_template_exit(&mut self, template: &Template, exit: Exit) {
        let pid = template.pid();
        self.log(LogLine::TemplateEnded { pid, exit });
    }

    /// The application cannot be loaded: said so with a reason, or it ended the process. Of a new generation: that is
    /// given up. On the first boot the server ends, as Gunicorn does. Later it is tried again, those who serve go on.
    fn judge_load_failure(&mut self, generation: Generation, template: &Template) {
        if self.loading() == Some(generation) {
            self.give_up_reload(Reason::Preload);
        } else if self.is_running() && self.boot == Boot::Pending && self.reload.is_none() {
            self.halt(ExitCode::FAILURE, Reason::Preload);
        } else {
            self.count_template_loss(generation, template);
        }
    }

    fn count_template_loss(&mut self, generation: Generation, template: &Template) {
        self.template_backoff
            .handle_death(template.round(), template.started(), self.now);
        self.count_reload_death(generation);
    }
}

/// Which there are to be.
impl Arbiter {
    /// Part of the comparison of what there is with what is wanted.
    pub(super) fn staff_templates(&mut self) {
        self.release_templates();
        for generation in self.template_vacancies() {
            if self.template_backoff.allows(self.now) {
                self.start_template(generation);
            }
        }
    }

    /// Ends those that no generation needs any more. One that still loads has nothing to bring in order.
    pub(super) fn release_templates(&mut self) {
        let wanted = self.generations_with_template();
        let (now, kill_at) = (self.now, self.after(STOP_GRACE));
        for generation in self.templates.select(|_| true) {
            if wanted.contains(&Some(generation)) {
                continue;
            }
            let Ok(template) = self.templates.template(generation) else {
                continue;
            };
            if template.is_loaded() {
                if template.stop(kill_at).is_ok() {
                    self.act(Action::StopTemplate(generation));
                }
            } else if let TemplateState::Loading { .. } = template.state()
                && template.kill(now).is_ok()
            {
                self.act(Action::KillTemplate(generation));
            }
        }
    }

    fn start_template(&mut self, generation: Generation) {
        let limit = self.patience.limit(self.boot_timeout_of(generation));
        let round = self.template_backoff.round();
        let template = Template::ordered(self.now, round, limit);
        self.templates.enter(generation, template);
        self.act(Action::SpawnTemplate(generation));
    }

    /// The serving generation and the one to come, where they are preloaded.
    fn generations_with_template(&self) -> [Option<Generation>; 2] {
        if !self.is_running() {
            return [None; 2];
        }
        [Some(self.serving), self.loading()]
            .map(|generation| generation.filter(|generation| self.is_templated(*generation)))
    }

    fn template_vacancies(&self) -> Vec<Generation> {
        let wanted = self.generations_with_template().into_iter().flatten();
        wanted
            .filter(|generation| self.templates.find(*generation).is_none())
            .collect()
    }

    /// When the next template may be started, if one is wanted.
    pub(super) fn template_respawn_time(&self) -> Option<Duration> {
        let wanted = !self.template_vacancies().is_empty();
        wanted.then(|| self.template_backoff.not_before())
    }

    /// Whether a worker of this generation can be forked now: from a template only when it has nothing else to do.
    pub(super) fn can_fork(&self, generation: Generation) -> bool {
        let template = self.templates.find(generation);
        !self.is_templated(generation) || template.is_some_and(Template::is_ready)
    }

    /// Whether the application of this generation is loaded where its workers are forked.
    pub(super) fn is_preloaded(&self, generation: Generation) -> bool {
        let template = self.templates.find(generation);
        !self.is_templated(generation) || template.is_some_and(Template::is_loaded)
    }

    /// A worker of this generation was ordered.
    pub(super) fn occupy_template(&mut self, generation: Generation) {
        let now = self.now;
        if self.is_templated(generation)
            && let Ok(template) = self.templates.template(generation)
        {
            template.fork(now);
        }
    }
}

/// Those who take too long.
impl Arbiter {
    pub(super) fn enforce_template_deadlines(&mut self) {
        let now = self.now;
        for generation in self
            .templates
            .select(|template| template.deadline().is_some_and(|deadline| deadline <= now))
        {
            match self.templates.find(generation).map(Template::state) {
                Some(TemplateState::Loading { .. }) => self.give_up_loading(generation),
                Some(TemplateState::Forking { .. }) => self.give_up_forking(generation),
                _ => self.kill_template(generation),
            }
        }
        let left = |template: &Template| undead_since(template).is_some_and(|at| at <= now);
        if self.is_stopping() {
            for generation in self.templates.select(left) {
                if let Some(template) = self.strike_template(generation) {
                    let pid = template.pid();
                    self.log(LogLine::TemplateUnreapable { pid });
                }
            }
        }
    }

    pub(super) fn template_deadline(&self) -> Option<Duration> {
        let is_stopping = self.is_stopping();
        let deadlines = self.templates.iter().filter_map(|(_, template)| {
            let left = undead_since(template).filter(|_| is_stopping);
            template.deadline().or(left)
        });
        deadlines.min()
    }

    /// As with a worker that is not ready in time.
    fn give_up_loading(&mut self, generation: Generation) {
        let Some(template) = self.abort_template(generation) else {
            return;
        };
        let timeout = self.boot_timeout_of(generation);
        let within = template.limit().unwrap_or_default();
        self.patience.handle_overdue(within, timeout);
        self.log(LogLine::TemplateOverdue {
            pid: template.pid(),
            within,
            next: self.patience.limit(timeout).unwrap_or_default(),
        });
        if self.loading() == Some(generation) {
            self.give_up_reload(Reason::PreloadOverdue);
        } else {
            self.count_template_loss(generation, &template);
        }
    }

    /// A hook, or what the application does at a fork, hangs.
    fn give_up_forking(&mut self, generation: Generation) {
        let Some(template) = self.abort_template(generation) else {
            return;
        };
        self.log(LogLine::TemplateStuck {
            pid: template.pid(),
        });
        self.count_template_loss(generation, &template);
    }

    /// Has it write its stacks; it is killed when it had the time to. Gives what was known of it.
    fn abort_template(&mut self, generation: Generation) -> Option<Template> {
        let kill_at = self.after(ABORT_GRACE);
        let template = self.templates.template(generation).ok()?;
        let before = template.clone();
        template.stop(kill_at).ok()?;
        self.log(LogLine::TemplateTimeout { pid: before.pid() });
        self.act(Action::DumpStacksOfTemplate(generation));
        Some(before)
    }

    fn kill_template(&mut self, generation: Generation) {
        let now = self.now;
        if let Ok(template) = self.templates.template(generation)
            && template.kill(now).is_ok()
        {
            self.act(Action::KillTemplate(generation));
        }
    }
}

/// Killed and not reaped: when a shutdown goes on without it.
fn undead_since(template: &Template) -> Option<Duration> {
    match template.state() {
        TemplateState::Killed { since } => Some(since.saturating_add(REAP_GRACE)),
        _ => None,
    }
}

fn is_ordered(record: &WorkerRecord, generation: Generation) -> bool {
    record.generation() == generation && matches!(record.state(), WorkerState::Starting { .. })
}
