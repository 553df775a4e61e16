//! Requests that take long (setting `slow_request_time`): their workers are asked what they are doing, and it is told.

use oxicorn_arbiter::WorkerId;
use oxicorn_gateway::control::RequestSlow;

use super::inquiry::{Answer, Inquiry};
use super::log;
use super::supervisor::Supervisor;

/// Slow requests that are looked into at a time; those beyond are told without their stacks.
const SLOW_AT_ONCE: usize = 64;

/// A slow request, and what its worker was asked.
#[derive(Debug)]
pub(crate) struct Slow {
    request: RequestSlow,
    pub(crate) inquiry: Inquiry,
}

impl Supervisor<'_> {
    /// Setting `slow_request_time`: what is it doing? The worker goes on.
    pub(crate) fn handle_slow_request(&mut self, request: RequestSlow) {
        match self.inquire(WorkerId(request.worker)) {
            Some(inquiry) if self.slow.len() < SLOW_AT_ONCE => {
                self.slow.push(Slow { request, inquiry });
            }
            // It is told all the same.
            _ => self.log_slow_request(&request, &Answer::default(), 0),
        }
    }

    /// Those about which is known what they are doing.
    pub(crate) fn log_slow_requests(&mut self) {
        let mut slow = std::mem::take(&mut self.slow);
        for one in &mut slow {
            self.pursue(&mut one.inquiry);
        }
        for one in slow.extract_if(.., |one| one.inquiry.is_over()) {
            self.log_slow_request(&one.request, &one.inquiry.answer, one.inquiry.pid);
        }
        self.slow = slow;
    }

    fn log_slow_request(&self, request: &RequestSlow, answer: &Answer, pid: i32) {
        let told = self
            .slow_fact(request, answer, pid)
            .and_then(|fact| self.server.log_slow_request(fact));
        if let Err(error) = told {
            log::write_exception(&self.server, "Cannot tell of a slow request", &error);
        }
    }
}
