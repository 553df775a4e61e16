//! What a request to this listener is answered.

use oxicorn_link::metric_store::MetricStore;
use oxicorn_link::scoreboard::ArbiterGauge;
use oxicorn_proto::message::RequestHead;

use super::dashboard::Routed;
use super::negotiation::Format;
use super::probes::{Condition, Probe};
use super::{families, processes};
use crate::gateway::Gateway;

/// A response, whole.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) reason: &'static str,
    pub(super) content_type: &'static str,
    pub(super) body: String,
    /// Value of `Content-Security-Policy`: what a browser may do with it.
    pub(super) policy: Option<String>,
    /// The applications' own metrics follow.
    pub(super) followed_by: Option<(MetricStore, Format)>,
}

impl Answer {
    pub(super) fn text(status: u16, reason: &'static str, body: impl Into<String>) -> Self {
        Self {
            status,
            reason,
            content_type: "text/plain; charset=utf-8",
            body: body.into(),
            policy: None,
            followed_by: None,
        }
    }
}

/// What there is, for who asks for something else.
const PATHS: &str = "/metrics\n/livez\n/readyz\n/startupz\n";

/// What of a request matters here.
#[derive(Debug)]
pub(super) struct Asked {
    is_question: bool,
    path: Vec<u8>,
    format: Format,
}

impl Asked {
    /// `path`: without what stands before it on a listener of clients.
    pub(super) fn of(head: &RequestHead<'_>, path: &[u8]) -> Self {
        Self {
            is_question: matches!(head.method(), b"GET" | b"HEAD"),
            path: path.to_vec(),
            format: Format::accepted_by(accept(head)),
        }
    }
}

impl Gateway {
    /// Answers a request that came to the listener for metrics and probes, or says who does.
    pub(super) fn route_monitoring(&mut self, head: &RequestHead<'_>) -> Routed {
        if let Some(routed) = self.route_dashboard(head) {
            return routed;
        }
        let mut answer = self.answer_monitoring(&Asked::of(head, head.path()));
        if self.dashboard.is_some() && head.path() == b"/" {
            answer.body.push_str("/dashboard\n");
        }
        Routed::Answer(answer)
    }

    /// Answers a request for metrics or a probe.
    pub(super) fn answer_monitoring(&mut self, asked: &Asked) -> Answer {
        if !asked.is_question {
            return Answer::text(405, "Method Not Allowed", "use GET or HEAD\n");
        }
        if let Some(probe) = Probe::of_path(&asked.path) {
            return self.answer_probe(probe);
        }
        match &asked.path[..] {
            b"/metrics" => self.answer_scrape(asked.format),
            b"/" => Answer::text(200, "OK", PATHS),
            _ => Answer::text(404, "Not Found", format!("there are:\n{PATHS}")),
        }
    }

    fn answer_probe(&self, probe: Probe) -> Answer {
        let reasons = probe.reasons(&self.condition());
        if reasons.is_empty() {
            return Answer::text(200, "OK", "ok\n");
        }
        let body = reasons.join("\n") + "\n";
        Answer::text(503, "Service Unavailable", body)
    }

    fn condition(&self) -> Condition {
        let workers = self.dispatcher.staffing().workers;
        // A gateway that has taken over from another knows it from the arbiter.
        let has_served = self
            .metrics
            .scoreboard()
            .is_some_and(|scoreboard| scoreboard.arbiter().gauge(ArbiterGauge::Generation) > 0);
        Condition {
            stopping: self.drain.is_some(),
            drained: self.resolved.settings.out_of_rotation,
            started: workers > 0 || has_served,
            workers,
            queued: self.dispatcher.queued(),
            queue_limit: self.resolved.settings.queue.limit,
        }
    }

    fn answer_scrape(&mut self, format: Format) -> Answer {
        self.clock.tick();
        let now = self.clock.now();
        self.set_gauges(now);
        let Some(scoreboard) = self.metrics.scoreboard() else {
            let text = "nothing is counted: the scoreboard could not be attached\n";
            return Answer::text(503, "Service Unavailable", text);
        };
        let staffing = self.dispatcher.staffing();
        let processes = processes::all(scoreboard);
        let shared = self.proportional.of(processes, now);
        let mut body = families::write(format, scoreboard, staffing, &shared, now);
        let store = self.metrics.store();
        if store.is_none() {
            body.push_str(format.end());
        }
        Answer {
            status: 200,
            reason: "OK",
            content_type: format.content_type(),
            body,
            policy: None,
            followed_by: store.map(|store| (store.clone(), format)),
        }
    }
}

/// The lines of `Accept` are few: the first one speaks for all.
fn accept<'a>(head: &RequestHead<'a>) -> &'a [u8] {
    let found = (head.headers()).find(|header| header.name.eq_ignore_ascii_case(b"accept"));
    found.map_or(b"", |header| header.value)
}
