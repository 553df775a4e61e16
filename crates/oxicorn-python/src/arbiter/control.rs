//! The control socket from the native loop's side: waiting for it, and gathering what answers need.
//!
//! Messages and commands are Python's (`oxicorn.control`). Some answers take something from other processes: the requests
//! of the gateway or the stacks of workers: those wait here, with a deadline, and the loop goes on meanwhile.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use oxicorn_arbiter::WorkerId;
use oxicorn_gateway::control::{
    self, FollowedList, RequestList, RequestShown, RequestSlow, ToGateway,
};
use oxicorn_link::scoreboard::{
    ArbiterCounter, ArbiterGauge, CallGauge, CallOutcome, Gauge, HistogramKind, Slot, StatusClass,
    WorkerState,
};
use oxicorn_os::{process, time};
use oxicorn_settings::Source;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use super::generation::with_settings;
use super::inquiry::{Answer, Inquiry};
use super::supervisor::Supervisor;
use super::workers::WorkerProcess;

/// Rounds of questions and answers before signals, workers and the gateway have their turn again: a client may have sent
/// any number of questions at once.
const ROUNDS_PER_TURN: usize = 4;

/// How long the gateway may take to list its requests.
const PATIENCE: Duration = Duration::from_secs(2);

/// What Python's side asks for: token, how many requests, whose stacks, and whether everybody's; who follows requests with
/// which pattern.
type Question = (i32, u32, Vec<i32>, bool, Option<(u64, String)>);

/// The desk in Python and what waits for its facts.
#[derive(Debug, Default)]
pub(crate) struct Control {
    desk: Option<Py<PyAny>>,
    descriptor: Option<OwnedFd>,
    waiting: Vec<Waiting>,
    next_token: u64,
    /// Whether it was tried to open the socket.
    tried: bool,
    /// Others had to have their turn before everything was answered.
    has_more: bool,
}

/// A command whose answer is not complete.
#[derive(Debug)]
struct Waiting {
    /// Python's.
    token: i32,
    /// The gateway's; none: it is not asked.
    list: Option<u64>,
    requests: Vec<RequestShown>,
    /// How many requests there are; none: the list is not complete.
    total: Option<usize>,
    inquiries: Vec<Inquiry>,
    /// The gateway's; none: it is not asked.
    follow: Option<u64>,
    followed: Option<FollowedList>,
    until: Duration,
}

impl Waiting {
    fn is_complete(&self, now: Duration) -> bool {
        let listed = self.list.is_none() || self.total.is_some();
        let followed = self.follow.is_none() || self.followed.is_some();
        now >= self.until || (listed && followed && self.inquiries.iter().all(Inquiry::is_over))
    }
}

impl Control {
    /// What the loop waits for.
    pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.descriptor.as_ref().map(AsFd::as_fd)
    }

    /// When the loop has to look again.
    pub(crate) fn next_look(&self) -> Option<Duration> {
        if self.has_more {
            return Some(Duration::ZERO);
        }
        let looks = self.waiting.iter().map(|waiting| {
            let inquiries = waiting.inquiries.iter().filter(|one| !one.is_over());
            let look = inquiries.map(Inquiry::next_look).min();
            look.unwrap_or(waiting.until).min(waiting.until)
        });
        looks.min()
    }

    /// Those that wait for answers of workers.
    pub(crate) fn inquiries(&mut self) -> impl Iterator<Item = &mut Inquiry> {
        self.waiting
            .iter_mut()
            .flat_map(|waiting| waiting.inquiries.iter_mut())
    }
}

impl<'py> Supervisor<'py> {
    /// Opens the socket, if one was asked for. A successor's path is its predecessor's until that has ended.
    pub(crate) fn open_control(&mut self) -> PyResult<()> {
        if self.control.tried || self.arbiter.shares_listeners() {
            return Ok(());
        }
        self.control.tried = true;
        let cfg = self.server.cfg()?;
        let wanted = with_settings(&cfg, |settings| {
            let settings = &settings.inner;
            let is_set = settings.source("control_socket") != Some(&Source::Default);
            let is_off = settings.get("control_socket_disable").is_true();
            let path = settings.get("control_socket").as_str().map(str::to_owned);
            let mode = settings
                .get("control_socket_mode")
                .as_int()
                .unwrap_or(0o600);
            path.filter(|path| is_set && !is_off && !path.is_empty())
                .map(|path| (path, mode))
        })?;
        let Some((path, mode)) = wanted else {
            return Ok(());
        };
        let desk = self.server.control_desk()?;
        let descriptor: Option<i32> = desk.call_method1("open", (path, mode))?.extract()?;
        if let Some(descriptor) = descriptor {
            // SAFETY: Python's object keeps this descriptor open until `close`, and it is copied at once.
            let borrowed = unsafe { BorrowedFd::borrow_raw(descriptor) };
            self.control.descriptor = Some(borrowed.try_clone_to_owned()?);
            self.control.desk = Some(desk.unbind());
        }
        Ok(())
    }

    /// Takes what clients ask for, and answers what can be answered by now.
    pub(crate) fn serve_control(&mut self) -> PyResult<()> {
        self.open_control()?;
        let Some(desk) = &self.control.desk else {
            return Ok(());
        };
        let desk = desk
            .clone_ref(self.server.py())
            .into_bound(self.server.py());
        self.control.has_more = false;
        for _ in 0..ROUNDS_PER_TURN {
            let questions: Vec<Question> = desk.call_method0("turn")?.extract()?;
            let none = questions.is_empty();
            for question in questions {
                self.gather(question);
            }
            let answered = self.answer_complete(&desk)?;
            if none && !answered {
                return Ok(());
            }
        }
        self.control.has_more = true;
        Ok(())
    }

    pub(crate) fn close_control(&mut self) -> PyResult<()> {
        self.control.descriptor = None;
        match self.control.desk.take() {
            Some(desk) => desk.call_method0(self.server.py(), "close").map(drop),
            None => Ok(()),
        }
    }

    /// A part of the gateway's answer to a list that was asked for.
    pub(crate) fn take_request_list(&mut self, part: RequestList) {
        let is_it = |waiting: &&mut Waiting| waiting.list == Some(part.token);
        if let Some(waiting) = self.control.waiting.iter_mut().find(is_it) {
            waiting.requests.extend(part.requests);
            waiting.total = (!part.more).then_some(part.total);
        }
    }

    /// The gateway's answer to a follower.
    pub(crate) fn take_followed(&mut self, list: FollowedList) {
        let is_it = |waiting: &&mut Waiting| waiting.follow == Some(list.token);
        if let Some(waiting) = self.control.waiting.iter_mut().find(is_it) {
            waiting.followed = Some(list);
        }
    }

    fn gather(&mut self, (token, most, pids, all, follower): Question) {
        let now = time::monotonic();
        let mut list = None;
        if most > 0 {
            self.control.next_token += 1;
            list = Some(self.control.next_token);
            self.tell_gateway(&ToGateway::ListRequests {
                token: self.control.next_token,
                most,
            });
        }
        let follow = follower.map(|(follower, pattern)| {
            self.control.next_token += 1;
            let token = self.control.next_token;
            self.tell_gateway(&ToGateway::Follow {
                token,
                follower,
                pattern,
            });
            token
        });
        let asked = |id: &WorkerId, pid: i32| {
            let known = self.workers.get(*id).is_some();
            known && (all || pids.contains(&pid))
        };
        let workers: Vec<WorkerId> = (self.workers.iter())
            .filter(|(id, worker)| asked(id, worker.pid))
            .map(|(id, _)| id)
            .collect();
        let inquiries = workers.into_iter().filter_map(|id| self.inquire(id));
        let inquiries = inquiries.collect();
        self.control.waiting.push(Waiting {
            token,
            list,
            requests: Vec::new(),
            total: None,
            inquiries,
            follow,
            followed: None,
            until: now + PATIENCE,
        });
    }

    fn answer_complete(&mut self, desk: &Bound<'_, PyAny>) -> PyResult<bool> {
        let now = time::monotonic();
        let mut waiting = std::mem::take(&mut self.control.waiting);
        for inquiry in waiting.iter_mut().flat_map(|one| one.inquiries.iter_mut()) {
            self.pursue(inquiry);
        }
        let complete: Vec<Waiting> = waiting
            .extract_if(.., |waiting| waiting.is_complete(now))
            .collect();
        self.control.waiting = waiting;
        let any = !complete.is_empty();
        for waiting in complete {
            let facts = self.facts(&waiting)?;
            desk.call_method1("answer", (waiting.token, facts))?;
        }
        Ok(any)
    }

    /// What commands are answered from.
    fn facts(&self, waiting: &Waiting) -> PyResult<Bound<'py, PyDict>> {
        let facts = PyDict::new(self.server.py());
        let workers = PyList::empty(self.server.py());
        let mut known: Vec<&WorkerProcess> = self.workers.iter().map(|(_, one)| one).collect();
        known.sort_unstable_by_key(|worker| worker.age);
        for worker in known {
            workers.append(self.worker_fact(worker)?)?;
        }
        facts.set_item("workers", workers)?;
        facts.set_item("counts", self.counts()?)?;
        facts.set_item("wanted", self.arbiter.wanted())?;
        let block = self.scoreboard.arbiter();
        facts.set_item("generation", block.gauge(ArbiterGauge::Generation))?;
        facts.set_item(
            "loading",
            self.arbiter.loading().map(|generation| generation.0),
        )?;
        let gateway = self.gateway.as_ref().map_or(0, |gateway| gateway.pid);
        facts.set_item("gateway_pid", gateway)?;
        let gauge = |gauge| {
            let block = self.scoreboard.gateway(0);
            block.map_or(0, |block| block.gauge(gauge))
        };
        facts.set_item("queued", gauge(Gauge::Queued))?;
        facts.set_item("in_flight", gauge(Gauge::InFlight))?;
        facts.set_item("connections", gauge(Gauge::Connections))?;
        if let Some(total) = waiting.total {
            let shown = PyList::empty(self.server.py());
            for request in &waiting.requests {
                shown.append(self.request_fact(request)?)?;
            }
            facts.set_item("requests", shown)?;
            facts.set_item("total", total)?;
        }
        let stacks = PyDict::new(self.server.py());
        for inquiry in &waiting.inquiries {
            stacks.set_item(inquiry.pid, self.answer_fact(&inquiry.answer)?)?;
        }
        facts.set_item("stacks", stacks)?;
        if let Some(followed) = &waiting.followed {
            // Of the gateway, which wrote it: Python reads it as it came.
            let text = control::encode(followed).unwrap_or_default();
            let text = String::from_utf8(text).unwrap_or_default();
            facts.set_item("followed", text)?;
        }
        self.add_figures(&facts)?;
        facts.set_item("pool", self.pool_fact()?)?;
        Ok(facts)
    }

    /// What the pool counts of each application's calls.
    fn pool_fact(&self) -> PyResult<Bound<'py, PyDict>> {
        let apps = PyDict::new(self.server.py());
        for row in self.scoreboard.pool().rows().skip(1) {
            let fact = PyDict::new(self.server.py());
            for (name, gauge) in [
                ("workers", CallGauge::Workers),
                ("queued", CallGauge::Queued),
                ("in_flight", CallGauge::InFlight),
            ] {
                fact.set_item(name, row.gauge(gauge))?;
            }
            for outcome in CallOutcome::ALL {
                fact.set_item(outcome.name(), row.outcomes(*outcome))?;
            }
            apps.set_item(row.name(), fact)?;
        }
        Ok(apps)
    }

    /// What the gateway counts, for who looks again and again.
    fn add_figures(&self, facts: &Bound<'py, PyDict>) -> PyResult<()> {
        let Some(block) = self.scoreboard.gateway(0) else {
            return Ok(());
        };
        let responses = PyDict::new(self.server.py());
        for class in StatusClass::ALL {
            responses.set_item(class.name(), block.responses_of(*class))?;
        }
        facts.set_item("responses", responses)?;
        let reading = block.histogram(HistogramKind::Latency);
        let buckets = reading.buckets().filter(|(_, values)| *values > 0);
        let buckets: Vec<(Option<u64>, u64)> = buckets.collect();
        facts.set_item("latency", buckets)
    }

    fn worker_fact(&self, worker: &WorkerProcess) -> PyResult<Bound<'py, PyDict>> {
        let now = time::monotonic();
        let since = |then: Duration| {
            let millis = now.saturating_sub(then).as_millis();
            f64::from(u32::try_from(millis).unwrap_or(u32::MAX)) / 1000.0
        };
        let reading = worker.slot.as_ref().and_then(Slot::read);
        let state = reading.and_then(|reading| reading.state);
        let fact = PyDict::new(self.server.py());
        fact.set_item("pid", worker.pid)?;
        fact.set_item("age", worker.age)?;
        fact.set_item("generation", worker.generation.0)?;
        fact.set_item("state", state.map_or("unknown", WorkerState::name))?;
        fact.set_item("uptime", reading.map(|reading| since(reading.since)))?;
        let beat = reading.map(|reading| since(reading.heartbeat));
        fact.set_item("last_heartbeat", beat)?;
        fact.set_item("busy", reading.map(|reading| reading.busy))?;
        fact.set_item("requests", reading.map(|reading| reading.requests))?;
        fact.set_item("capacity", worker.capacity)?;
        fact.set_item("rss", process::resident_bytes_of(worker.pid))?;
        Ok(fact)
    }

    /// What a worker has said of its calls.
    pub(crate) fn answer_fact(&self, answer: &Answer) -> PyResult<Bound<'py, PyDict>> {
        let fact = PyDict::new(self.server.py());
        fact.set_item("calls", &answer.calls)?;
        fact.set_item("stacks", &answer.stacks)?;
        fact.set_item("dump", &answer.dump)?;
        Ok(fact)
    }

    /// What the log says of a slow request.
    pub(crate) fn slow_fact(
        &self,
        request: &RequestSlow,
        answer: &Answer,
        pid: i32,
    ) -> PyResult<Bound<'py, PyDict>> {
        let fact = PyDict::new(self.server.py());
        fact.set_item("id", &request.id)?;
        fact.set_item("request", &request.request_line)?;
        fact.set_item("client", &request.client)?;
        fact.set_item("request_id", &request.ids.request_id)?;
        fact.set_item("trace_id", &request.ids.trace_id)?;
        fact.set_item("pid", pid)?;
        fact.set_item("age_ms", request.age_ms)?;
        fact.set_item("queued_ms", request.queued_ms)?;
        fact.set_item("received_ms", request.received_ms)?;
        fact.set_item("answer", self.answer_fact(answer)?)?;
        Ok(fact)
    }

    fn request_fact(&self, request: &RequestShown) -> PyResult<Bound<'py, PyDict>> {
        let fact = PyDict::new(self.server.py());
        fact.set_item("id", &request.id)?;
        fact.set_item("request", &request.request_line)?;
        fact.set_item("client", &request.client)?;
        fact.set_item("request_id", &request.ids.request_id)?;
        fact.set_item("trace_id", &request.ids.trace_id)?;
        fact.set_item("state", &request.state)?;
        fact.set_item("pid", request.pid)?;
        fact.set_item("age_ms", request.age_ms)?;
        fact.set_item("queued_ms", request.queued_ms)?;
        fact.set_item("received_ms", request.received_ms)?;
        Ok(fact)
    }

    fn counts(&self) -> PyResult<Bound<'py, PyDict>> {
        let block = self.scoreboard.arbiter();
        let counts = PyDict::new(self.server.py());
        counts.set_item("start_time", block.gauge(ArbiterGauge::StartTime))?;
        for (name, counter) in COUNTS {
            counts.set_item(name, block.counter(counter))?;
        }
        Ok(counts)
    }
}

/// What Python's side calls the arbiter's counters.
const COUNTS: [(&str, ArbiterCounter); 8] = [
    ("workers_spawned", ArbiterCounter::WorkersSpawned),
    ("gateways_spawned", ArbiterCounter::GatewaysSpawned),
    ("reloads", ArbiterCounter::Reloads),
    ("reloads_failed", ArbiterCounter::ReloadsFailed),
    ("exited", ArbiterCounter::ExitedNormally),
    ("failed", ArbiterCounter::ExitedWithError),
    ("signalled", ArbiterCounter::EndedBySignal),
    ("out_of_memory", ArbiterCounter::OutOfMemory),
];
