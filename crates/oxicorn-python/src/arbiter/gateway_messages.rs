//! What the gateway tells the arbiter.

use std::time::Duration;

use oxicorn_arbiter::{Event, Level, WorkerId};
use oxicorn_gateway::control::FromGateway;

use super::gateway::GatewayProcess;
use super::log;
use super::supervisor::Supervisor;

impl Supervisor<'_> {
    /// Takes what the gateway said, up to `most` messages: lines for the logs must not keep the loop
    /// from everything else.
    pub(crate) fn take_gateway_messages(&mut self, most: usize) {
        for _ in 0..most {
            let Some(message) = self.gateway.as_ref().and_then(GatewayProcess::receive) else {
                return;
            };
            match message {
                Ok(message) => self.handle_gateway_message(message),
                Err(text) => {
                    self.log(Level::Error, &text);
                    return;
                }
            }
        }
    }

    fn handle_gateway_message(&mut self, message: FromGateway) {
        match message {
            FromGateway::Ready => self.tell(Event::GatewayReady),
            FromGateway::Drained => self.tell(Event::GatewayDrained),
            FromGateway::WorkerDrained { worker } => {
                self.tell(Event::WorkerDrained(WorkerId(worker)));
            }
            FromGateway::RequestExpired(expired) => {
                let worker = WorkerId(expired.worker);
                let pid = self.workers.get(worker).map_or(0, |worker| worker.pid);
                let seconds = Duration::from_millis(expired.age_ms).as_secs_f64();
                let text = format!(
                    "Request timed out after {seconds:.1} s in worker (pid:{pid}): {} from {}{}",
                    expired.request_line, expired.client, expired.ids
                );
                self.log(Level::Error, &text);
                // It logs the stack of the request's task by itself; a loop that stands still is found by
                // its heartbeat.
                if expired.worker_goes_on {
                    return;
                }
                let in_flight_others = expired.others_in_flight;
                self.tell(Event::RequestExpired {
                    worker,
                    in_flight_others,
                });
            }
            FromGateway::RequestSlow(slow) => self.handle_slow_request(slow),
            FromGateway::WorkerFault { worker, reason } => {
                self.log(Level::Error, &format!("Link of worker {worker}: {reason}"));
                self.tell(Event::WorkerFault(WorkerId(worker)));
            }
            FromGateway::Requests(part) => self.take_request_list(part),
            FromGateway::Followed(list) => self.take_followed(list),
            FromGateway::WantStacks {
                token,
                pid,
                request,
            } => self.begin_stacks_for_dashboard(token, pid, request),
            FromGateway::Dashboard(order) => self.obey_dashboard(order),
            FromGateway::Refused { reason } => self.log(Level::Error, &reason),
            FromGateway::Log { level, text } => self.log(level_of(level), &text),
            FromGateway::Access(record) => log::write_access(&self.server, &record),
        }
    }
}

const fn level_of(level: oxicorn_gateway::Level) -> Level {
    match level {
        oxicorn_gateway::Level::Debug => Level::Debug,
        oxicorn_gateway::Level::Info => Level::Info,
        oxicorn_gateway::Level::Warning => Level::Warning,
        oxicorn_gateway::Level::Error => Level::Error,
        oxicorn_gateway::Level::Critical => Level::Critical,
    }
}
