//! The dashboard from the arbiter's side: what it is made with, stacks it asks for, and what those who have its token
//! want done.
//!
//! The page is the gateway's. Orders are what the same signals are, with a line in the log.

use std::time::Duration;

use oxicorn_arbiter::Level;
use oxicorn_gateway::DashboardSetup;
use oxicorn_gateway::control::{DashboardOrder, ToGateway};
use oxicorn_os::process;
use pyo3::prelude::*;

use super::generation::with_settings;
use super::inquiry::{Answer, Inquiry};
use super::supervisor::Supervisor;
use crate::log_tail;

/// The longest stacks in bytes: they fit into a packet.
const LONGEST: usize = 48 * 1024;

/// What was decided at the start, and stacks that are under way.
#[derive(Debug, Default)]
pub(crate) struct Dashboard {
    is_wanted: bool,
    token: Option<String>,
    asked: Vec<Asked>,
}

/// Stacks that a worker was asked for.
#[derive(Debug)]
struct Asked {
    /// The gateway's.
    token: u64,
    request: String,
    inquiry: Inquiry,
}

impl Dashboard {
    /// A reload does not change it: where it is served was decided with it.
    pub(crate) fn of(cfg: &Bound<'_, PyAny>) -> PyResult<Self> {
        with_settings(cfg, |settings| {
            let settings = &settings.inner;
            Self {
                is_wanted: settings.get("dashboard").is_true(),
                token: settings.get("dashboard_token").as_str().map(str::to_owned),
                asked: Vec::new(),
            }
        })
    }

    /// What a gateway is given.
    pub(crate) fn setup(&self) -> PyResult<Option<DashboardSetup>> {
        if !self.is_wanted {
            return Ok(None);
        }
        Ok(Some(DashboardSetup {
            token: self.token.clone(),
            log_tail: log_tail::file()?,
        }))
    }

    /// When the loop has to look again.
    pub(crate) fn next_look(&self) -> Option<Duration> {
        let looks = self.asked.iter().map(|asked| asked.inquiry.next_look());
        looks.min()
    }

    pub(crate) fn inquiries(&mut self) -> impl Iterator<Item = &mut Inquiry> {
        self.asked.iter_mut().map(|asked| &mut asked.inquiry)
    }
}

impl Supervisor<'_> {
    /// The gateway asks for the stacks of a worker.
    pub(crate) fn begin_stacks_for_dashboard(&mut self, token: u64, pid: u32, request: String) {
        let worker = self.workers.by_pid(i32::try_from(pid).unwrap_or(0));
        match worker.and_then(|worker| self.inquire(worker)) {
            Some(inquiry) => self.dashboard.asked.push(Asked {
                token,
                request,
                inquiry,
            }),
            None => self.tell_gateway(&ToGateway::Stacks {
                token,
                text: String::new(),
            }),
        }
    }

    pub(crate) fn answer_dashboard(&mut self) {
        let mut asked = std::mem::take(&mut self.dashboard.asked);
        for one in &mut asked {
            self.pursue(&mut one.inquiry);
        }
        for one in asked.extract_if(.., |one| one.inquiry.is_over()) {
            let mut text = self.stacks_text(&one.inquiry.answer, &one.request);
            text.truncate(text.floor_char_boundary(LONGEST));
            let token = one.token;
            self.tell_gateway(&ToGateway::Stacks { token, text });
        }
        self.dashboard.asked = asked;
    }

    fn stacks_text(&self, answer: &Answer, request: &str) -> String {
        let text = self.answer_fact(answer).and_then(|fact| {
            let module = self.server.py().import("oxicorn.control.stacks")?;
            module.call_method1("text", (fact, request))?.extract()
        });
        text.unwrap_or_else(|error| {
            super::log::write_exception(&self.server, "Cannot show stacks", &error);
            String::new()
        })
    }

    pub(crate) fn obey_dashboard(&self, order: DashboardOrder) {
        match order {
            DashboardOrder::Reload => {
                self.log(Level::Info, "Dashboard: reload");
                if let Err(error) = self.server.handle_signal(libc::SIGHUP) {
                    super::log::write_exception(&self.server, "Cannot reload", &error);
                }
            }
            DashboardOrder::Recycle { pid } => {
                let pid = i32::try_from(pid).unwrap_or(0);
                if self.workers.by_pid(pid).is_some() {
                    let text = format!("Dashboard: worker (pid:{pid}) is to be replaced");
                    self.log(Level::Info, &text);
                    // It may have ended by itself; its end is reaped either way.
                    let _ = process::kill(pid, libc::SIGTERM);
                }
            }
        }
    }
}
