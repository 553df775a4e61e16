//! The life of a call: taken, queued, placed, answered; or over its time, cancelled, lost.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use oxicorn_link::scoreboard::{CallHistogram, CallOutcome};
use oxicorn_proto::pool::{Fields, Header, Item, Kind, Reader};

use crate::answer::Failure;
use crate::broker::Broker;
use crate::connection::Frame;
use crate::control::{Application, FromBroker, ToWorker};
use crate::queue::{AppId, CallId, Fate, Refusal, WorkerId};

/// How long a call that was cancelled may take to end before its worker is given up.
const RETURN_GRACE: Duration = Duration::from_secs(2);
/// Bytes of all calls that wait.
const QUEUED_BYTES_MAX: usize = 256 << 20;
/// Bytes of an action's name that are kept, for errors and lists.
const ACTION_KEPT: usize = 200;

/// What is sent to a worker.
#[derive(Debug, Default)]
pub(crate) struct Request {
    payload: Vec<u8>,
    descriptor: Option<OwnedFd>,
}

#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) caller: usize,
    /// The caller's number for it.
    pub(crate) id: u64,
    pub(crate) app: AppId,
    pub(crate) action: String,
    pub(crate) received: Duration,
    /// Since when it runs, and where.
    pub(crate) begun: Option<(Duration, WorkerId, usize)>,
    /// Kept until it ends: a worker may die before it has read it.
    request: Request,
    is_queued: bool,
    /// Nobody waits for it any more: it was answered, or not wanted.
    pub(crate) abandoned: bool,
    /// Its time was over once: the next time its worker is given up.
    overdue: bool,
    deadline: Option<Duration>,
    /// Where it is shown while it runs.
    pub(crate) place: Option<usize>,
}

impl Broker {
    pub(crate) fn take_request(&mut self, caller: usize, frame: Frame) -> Result<(), &'static str> {
        let (app, action) = addressee(&frame.payload).ok_or("A call has app_path and action")?;
        let id = frame.header.id;
        let Some(app_id) = self.queue.app(app) else {
            self.figures.count_unknown();
            self.refuse(caller, id, app, Refusal::NoWorkers);
            return Ok(());
        };
        if !self.takes_calls_of(caller) {
            self.count_end(app_id, CallOutcome::NoWorkers);
            self.refuse(caller, id, app, Refusal::NoWorkers);
            return Ok(());
        }
        let call = self.last_call + 1;
        if !self.note_call(caller, id, call) {
            return Err("A call with this id is under way, or too many are");
        }
        self.last_call = call;
        let app = app.to_owned();
        let mut action = action.to_owned();
        action.truncate(action.floor_char_boundary(ACTION_KEPT));
        let entry = Call {
            caller,
            id,
            app: app_id,
            action,
            received: self.now,
            begun: None,
            request: Request {
                payload: frame.payload,
                descriptor: frame.descriptor,
            },
            is_queued: false,
            abandoned: false,
            overdue: false,
            deadline: None,
            place: None,
        };
        let length = entry.request.payload.len();
        self.calls.insert(call, entry);
        match self.queue.enter(call, app_id) {
            Fate::Placed(worker, lane) => self.begin(call, worker, lane),
            Fate::Queued if self.queued_bytes + length > QUEUED_BYTES_MAX => {
                self.queue.leave(call, app_id);
                self.calls.remove(&call);
                self.forget_call(caller, id);
                self.count_end(app_id, CallOutcome::QueueFull);
                let payload = Failure::QueueBytes { app: &app }.payload();
                self.answer(caller, Kind::Error, id, &payload, None);
            }
            Fate::Queued => self.note_queued(call),
            Fate::Refused(refusal) => {
                self.calls.remove(&call);
                self.forget_call(caller, id);
                self.count_end(app_id, outcome_of(refusal));
                self.refuse(caller, id, &app, refusal);
            }
        }
        Ok(())
    }

    fn note_queued(&mut self, call: CallId) {
        if let Some(entry) = self.calls.get_mut(&call) {
            entry.is_queued = true;
            self.queued_bytes += entry.request.payload.len();
            let app = entry.app;
            self.ask_for_worker(app);
        }
    }

    /// Its worker died before it had read it.
    pub(crate) fn queue_again(&mut self, call: CallId) {
        self.set_deadline(call, None);
        let Some(mut entry) = self.calls.remove(&call) else {
            return;
        };
        self.hide_running(call, &mut entry);
        if entry.abandoned {
            return;
        }
        entry.begun = None;
        entry.overdue = false;
        let app = entry.app;
        self.calls.insert(call, entry);
        match self.queue.enter_again(call, app) {
            Fate::Placed(worker, lane) => self.begin(call, worker, lane),
            Fate::Queued => self.note_queued(call),
            Fate::Refused(_) => self.fail_without_workers(call),
        }
    }

    fn refuse(&mut self, caller: usize, id: u64, app: &str, refusal: Refusal) {
        let payload = match refusal {
            Refusal::NoWorkers => {
                let known: Vec<&str> = self.queue.apps().map(|(path, ..)| path).collect();
                let failure = self.queue.failure(app);
                Failure::NoWorkers {
                    app,
                    known: &known,
                    failure,
                }
                .payload()
            }
            Refusal::Full(limit) => Failure::QueueFull { app, limit }.payload(),
        };
        self.answer(caller, Kind::Error, id, &payload, None);
    }

    /// These are all applications there are; calls that wait for one that has no worker and will have none end.
    pub(crate) fn expect(&mut self, all: &[Application]) {
        for call in self.queue.expect(all) {
            self.fail_without_workers(call);
        }
    }

    /// A call that waits gets no worker any more.
    pub(crate) fn fail_without_workers(&mut self, call: CallId) {
        if let Some(entry) = self.remove_call(call) {
            self.forget_call(entry.caller, entry.id);
            self.count_end(entry.app, CallOutcome::NoWorkers);
            let app = self.queue.path(entry.app).to_owned();
            self.refuse(entry.caller, entry.id, &app, Refusal::NoWorkers);
        }
    }

    /// Takes what waits for the free lanes of this worker.
    pub(crate) fn fill(&mut self, worker: WorkerId) {
        while let Some((lane, call)) = self.queue.next_for(worker) {
            self.begin(call, worker, lane);
        }
    }

    fn begin(&mut self, call: CallId, worker: WorkerId, lane: usize) {
        let Some(entry) = self.calls.get_mut(&call) else {
            self.queue.end(worker, lane);
            return;
        };
        entry.begun = Some((self.now, worker, lane));
        let (app, waited) = (entry.app, self.now.saturating_sub(entry.received));
        if std::mem::take(&mut entry.is_queued) {
            self.queued_bytes -= entry.request.payload.len();
        }
        let request = std::mem::take(&mut entry.request);
        self.record(app, CallHistogram::Wait, waited);
        let header = Header {
            kind: Kind::Request,
            length: request.payload.len(),
            id: call,
            descriptor: request.descriptor.is_some(),
        };
        let descriptor = request.descriptor.as_ref().map(AsFd::as_fd);
        self.send_to_lane(worker, lane, header, &request.payload, descriptor);
        if let Some(entry) = self.calls.get_mut(&call) {
            entry.request = request;
        }
        self.note_busy(worker);
        self.show_running(call);
        if let Some(timeout) = self.settings.timeout {
            self.set_deadline(call, Some(self.now + timeout));
        }
    }

    fn set_deadline(&mut self, call: CallId, deadline: Option<Duration>) {
        let Some(entry) = self.calls.get_mut(&call) else {
            return;
        };
        if let Some(before) = std::mem::replace(&mut entry.deadline, deadline) {
            self.deadlines.remove(&(before, call));
        }
        if let Some(deadline) = deadline {
            self.deadlines.insert((deadline, call));
        }
    }

    pub(crate) fn remove_call(&mut self, call: CallId) -> Option<Call> {
        self.set_deadline(call, None);
        let mut entry = self.calls.remove(&call)?;
        self.hide_running(call, &mut entry);
        if entry.is_queued {
            self.queued_bytes -= entry.request.payload.len();
        }
        Some(entry)
    }

    /// A frame of a worker: for the caller of what runs on this lane. `false`: nothing does, or not that.
    pub(crate) fn take_answer(&mut self, worker: WorkerId, lane: usize, frame: &Frame) -> bool {
        let call = frame.header.id;
        if self.queue.running_at(worker, lane) != Some(call) {
            return false;
        }
        let Some(entry) = self.calls.get(&call) else {
            return false;
        };
        let end = match frame.header.kind {
            Kind::Response | Kind::End => Some(CallOutcome::Ok),
            Kind::Error => Some(CallOutcome::Error),
            Kind::Chunk => None,
            _ => return false,
        };
        let is_last = end.is_some();
        if !entry.abandoned {
            let (caller, id, app) = (entry.caller, entry.id, entry.app);
            if let Some(outcome) = end {
                self.count_end(app, outcome);
            }
            let kind = frame.header.kind;
            let descriptor = frame.descriptor.as_ref().map(AsFd::as_fd);
            let is_full = self.answer(caller, kind, id, &frame.payload, descriptor);
            if is_last {
                self.forget_call(caller, id);
            } else if is_full {
                self.listen_to(call, false);
            }
        }
        if is_last {
            let ended = self.remove_call(call);
            self.record_run(ended.as_ref());
            self.queue.end(worker, lane);
            self.lane_is_free(worker);
        }
        true
    }

    fn record_run(&mut self, ended: Option<&Call>) {
        if let Some(entry) = ended
            && let Some((begun, ..)) = entry.begun
        {
            let took = self.now.saturating_sub(begun);
            self.record(entry.app, CallHistogram::Run, took);
        }
    }

    /// Its caller does not want it any more.
    pub(crate) fn cancel(&mut self, call: CallId) {
        if let Some(entry) = self.calls.get(&call)
            && !entry.abandoned
        {
            self.count_end(entry.app, CallOutcome::Cancelled);
            self.abandon(call);
        }
    }

    /// Nobody waits for it any more: forgotten if it waits, else it is asked to end.
    fn abandon(&mut self, call: CallId) {
        let Some(entry) = self.calls.get_mut(&call) else {
            return;
        };
        let Some((_, worker, _)) = entry.begun else {
            if let Some(entry) = self.remove_call(call) {
                self.queue.leave(call, entry.app);
            }
            return;
        };
        if !std::mem::replace(&mut entry.abandoned, true) {
            // What it sends is thrown away, so that it hears that it is to end. Its time goes on.
            self.listen_to(call, true);
            self.tell_worker(worker, ToWorker::Cancel(call));
        }
    }

    pub(crate) fn enforce_deadlines(&mut self) {
        while let Some(&(deadline, call)) = self.deadlines.first() {
            if deadline > self.now {
                return;
            }
            self.deadlines.remove(&(deadline, call));
            if let Some(entry) = self.calls.get_mut(&call) {
                entry.deadline = None;
            }
            self.handle_overdue(call);
        }
    }

    /// The first time its caller gets the error and the call is cancelled, the second time its worker is given up.
    fn handle_overdue(&mut self, call: CallId) {
        let Some(entry) = self.calls.get_mut(&call) else {
            return;
        };
        let Some((begun, worker, _)) = entry.begun else {
            return;
        };
        let app_id = entry.app;
        let app = self.queue.path(app_id).to_owned();
        let age = self.now.saturating_sub(begun);
        if std::mem::replace(&mut entry.overdue, true) {
            let text = format!("{app}.{}, {:.1} s", entry.action, age.as_secs_f64());
            return self.give_up(worker, text);
        }
        if !entry.abandoned {
            let (caller, id, action) = (entry.caller, entry.id, entry.action.clone());
            let failure = Failure::Timeout {
                app: &app,
                action: &action,
                seconds: self.settings.timeout.unwrap_or(age).as_secs_f64(),
            };
            self.answer(caller, Kind::Error, id, &failure.payload(), None);
            self.forget_call(caller, id);
            self.count_end(app_id, CallOutcome::Timeout);
            self.abandon(call);
        }
        self.set_deadline(call, Some(self.now + RETURN_GRACE));
    }

    /// The worker of this call died, with the reason.
    pub(crate) fn lose(&mut self, call: CallId, pid: i32, reason: &str) {
        let Some(entry) = self.remove_call(call) else {
            return;
        };
        self.record_run(Some(&entry));
        if !entry.abandoned {
            self.count_end(entry.app, CallOutcome::WorkerLost);
            let payload = Failure::WorkerDied { pid, reason }.payload();
            self.answer(entry.caller, Kind::Error, entry.id, &payload, None);
            self.forget_call(entry.caller, entry.id);
        }
    }

    pub(crate) fn give_up(&mut self, worker: WorkerId, call: String) {
        if let Some(found) = self.workers.get_mut(&worker)
            && !std::mem::replace(&mut found.given_up, true)
        {
            self.queue.set_takes_calls(worker, false);
            self.tell(&FromBroker::Stuck { worker, call });
        }
    }
}

const fn outcome_of(refusal: Refusal) -> CallOutcome {
    match refusal {
        Refusal::NoWorkers => CallOutcome::NoWorkers,
        Refusal::Full(_) => CallOutcome::QueueFull,
    }
}

/// Application and action of a call; what follows them is the worker's to read.
fn addressee(payload: &[u8]) -> Option<(&str, &str)> {
    let mut fields = Fields::new(payload).ok()?;
    let (mut app, mut action) = (None, None);
    while let Some((name, value)) = fields.next_field().ok()? {
        if !matches!(name, "app_path" | "action") {
            continue;
        }
        let Some(Item::Text(text)) = Reader::new(value).next_item().ok()? else {
            return None;
        };
        if name == "action" {
            action = Some(text);
        } else {
            app = Some(text);
        }
        if let (Some(app), Some(action)) = (app, action) {
            return Some((app, action));
        }
    }
    None
}
