//! What the arbiter orders, done.

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use oxicorn_dispatch::{Generation, WorkerId};
use tokio::task::spawn_local;

use crate::ListenerSetup;
use crate::active::{ActiveConfig, policy};
use crate::config::settings::Settings;
use crate::control::end::Packet;
use crate::control::{AttachWorker, FromGateway, ToGateway};
use crate::gateway::clients::handshake::Secure;
use crate::gateway::{Gateway, with};
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::access_log::json::JsonLog;
use crate::telemetry::error_log::ErrorLog;
use crate::telemetry::statsd::Statsd;
use crate::transport::readiness::Watched;
use crate::workers::pool::worker_id;

/// The task that receives orders; ends with the channel.
pub(crate) async fn obey(watched: Watched) {
    let mut buffer = Vec::new();
    while let Ok(mut guard) = watched.readable().await {
        match with(|gateway| gateway.receive_order(&mut buffer)) {
            Some(Order::Done) => {}
            Some(Order::None) => guard.clear_ready(),
            Some(Order::Last) | None => return,
        }
    }
}

/// What `receive_order` found.
enum Order {
    Done,
    None,
    Last,
}

impl Gateway {
    fn receive_order(&mut self, buffer: &mut Vec<u8>) -> Order {
        self.clock.tick();
        self.rest.stir();
        match self.control.receive(buffer) {
            Packet::Nothing => return Order::None,
            Packet::Closed => {
                self.handle_arbiter_gone();
                return Order::Last;
            }
            Packet::Undecodable(fault) => self.refuse_order(fault.to_string()),
            Packet::Message(message, descriptors) => self.obey(message, descriptors),
        }
        self.settle();
        Order::Done
    }

    fn handle_arbiter_gone(&mut self) {
        self.error_log.set_forwarding(false);
        self.access_forwarding.alone = true;
        if self.drain.is_none() {
            let text = "Arbiter is gone: finishing what is in flight";
            self.error_log.warning(format_args!("{text}"));
            self.start_drain(self.resolved.settings.timeouts.graceful);
        }
    }

    fn refuse_order(&mut self, reason: String) {
        self.error_log
            .error(format_args!("Order of the arbiter not followed: {reason}"));
        self.control.send(&FromGateway::Refused { reason });
    }

    fn obey(&mut self, message: ToGateway, descriptors: Vec<OwnedFd>) {
        let now = self.clock.now();
        match message {
            ToGateway::AttachWorker(about) => self.attach_worker(about, descriptors),
            ToGateway::WorkerReady { worker } => {
                if let Some(id) = self.worker(worker) {
                    self.dispatcher.worker_ready(id, now);
                }
            }
            ToGateway::WorkerLogs { worker } => {
                if let Some(record) = self
                    .pool
                    .find(worker)
                    .and_then(|key| self.pool.get_mut(key))
                {
                    record.logs = true;
                }
            }
            ToGateway::ServeGeneration { generation } => {
                self.dispatcher
                    .serve_generation(Generation(generation), now);
            }
            ToGateway::RetireWorker { worker } => match self.worker(worker) {
                Some(id) => self.retire_worker(id),
                // Lost before: nothing of it is in flight.
                None => self.control.send(&FromGateway::WorkerDrained { worker }),
            },
            ToGateway::WorkerGone { worker } => {
                if let Some(key) = self.pool.find(worker) {
                    self.handle_worker_gone(key);
                }
            }
            ToGateway::Listeners { binds, replace } => {
                self.change_listeners(binds, descriptors, replace);
            }
            ToGateway::Certificates => self.change_certificates(descriptors),
            ToGateway::Settings(settings) => self.change_settings(*settings),
            ToGateway::ReopenLogs => self.reopen_logs(),
            ToGateway::ListRequests { token, most } => self.list_requests(token, most),
            ToGateway::Follow {
                token,
                follower,
                pattern,
            } => self.tell_follower(token, follower, &pattern),
            ToGateway::Stacks { token, text } => {
                if let Some(dashboard) = &self.dashboard {
                    dashboard.take_stacks(token, text);
                }
            }
            ToGateway::Drain { deadline_ms } => {
                self.start_drain(Duration::from_millis(deadline_ms));
            }
            ToGateway::Stop => {
                self.break_all_off();
                self.finish();
            }
        }
    }

    fn worker(&self, number: u32) -> Option<WorkerId> {
        self.pool.find(number).map(worker_id)
    }

    fn retire_worker(&mut self, id: WorkerId) {
        self.dispatcher.retire_worker(id, self.clock.now());
        if let Some(record) = self.pool.of_id(id) {
            record.retired = true;
        }
        self.close_websockets_of(id);
    }

    fn attach_worker(&mut self, about: AttachWorker, descriptors: Vec<OwnedFd>) {
        let Ok(descriptors) = descriptors.try_into() else {
            return self.refuse_order("a worker without the descriptors of its link".into());
        };
        let key = match self.pool.attach(about, descriptors) {
            Ok(key) => key,
            Err(fault) => {
                let reason = fault.to_string();
                let worker = about.worker;
                self.error_log
                    .error(format_args!("Worker {worker} not attached: {reason}"));
                return self
                    .control
                    .send(&FromGateway::WorkerFault { worker, reason });
            }
        };
        let generation = Generation(about.generation);
        self.dispatcher
            .add_worker(worker_id(key), generation, about.capacity);
        let Some(record) = self.pool.get_mut(key) else {
            return;
        };
        if let Ok(watched) = record.watched_socket() {
            let task = spawn_local(watch_worker(watched, about.worker));
            record.watcher = Some(task.abort_handle());
        }
    }

    fn change_listeners(
        &mut self,
        binds: Vec<ListenerSetup>,
        descriptors: Vec<OwnedFd>,
        replace: bool,
    ) {
        if binds.len() != descriptors.len() {
            return self.refuse_order("as many listeners as descriptors are needed".into());
        }
        if replace {
            self.close_listeners(|listener| binds.iter().any(|bind| listener.is_at(&bind.name)));
        }
        for (bind, socket) in binds.into_iter().zip(descriptors) {
            if self.listeners.change(&bind) {
                continue;
            }
            let name = bind.name.clone();
            if let Err(error) = self.open_listener(bind, socket) {
                self.refuse_order(format!("cannot watch {name}: {error}"));
            }
        }
    }

    /// Connections that are open keep what they have agreed on.
    fn change_certificates(&mut self, descriptors: Vec<OwnedFd>) {
        let before = self.secure.as_ref();
        let secure = match descriptors.into_iter().next() {
            Some(file) => Secure::read(&file, before),
            None => return self.refuse_order("certificates without their descriptor".into()),
        };
        match secure {
            Ok(secure) => self.secure = Some(secure),
            Err(reason) => self.refuse_order(reason),
        }
    }

    fn change_settings(&mut self, settings: Settings) {
        self.dispatcher.set_policy(policy(&settings.queue));
        self.change_logs(&settings);
        let (said, _) = self.resolved.spool.describe();
        let memory_files = self.resolved.spool.memory_files();
        let before = self.resolved.settings.io_uring;
        self.resolved = Rc::new(ActiveConfig::new(settings, memory_files));
        if before != self.resolved.settings.io_uring {
            self.choose_sending();
        }
        self.tell_of_spool(Some(&said));
        self.start_threads();
    }

    /// A log that stays where it is is only opened anew.
    fn change_logs(&mut self, settings: &Settings) {
        let before = Rc::clone(&self.resolved);
        if before.settings.error_log == settings.error_log {
            self.error_log.reopen();
        } else {
            match ErrorLog::open(&settings.error_log, &self.log_files) {
                Ok(log) => self.error_log.replace(log),
                Err(error) => {
                    self.error_log
                        .error(format_args!("Error log cannot be opened: {error}"));
                }
            }
        }
        self.error_log
            .set_forwarding(settings.log_forwarding.errors);
        match &mut self.access_log {
            Some(log) if before.settings.access_log == settings.access_log => {
                log.writer().reopen();
            }
            _ => self.open_access_log(settings),
        }
        match &mut self.json_log {
            Some(log) if before.settings.json_access_log == settings.json_access_log => {
                log.writer().reopen();
            }
            _ => self.open_json_log(settings),
        }
        self.look_at_shown_headers();
        if before.settings.statsd != settings.statsd {
            self.start_statsd(settings);
        }
        if before.settings.tracing != settings.tracing {
            self.start_tracing(&settings.tracing);
        }
    }

    /// Opens everything that is told about requests; `settings` are the first ones.
    pub(crate) fn open_logs(&mut self, settings: &Settings) {
        self.open_access_log(settings);
        self.open_json_log(settings);
        self.look_at_shown_headers();
        self.start_statsd(settings);
        self.start_tracing(&settings.tracing);
    }

    /// Heads of responses are kept for logs that show headers of theirs only.
    fn look_at_shown_headers(&mut self) {
        let access = self.access_log.as_ref();
        let json = self.json_log.as_ref();
        self.keep_head = access.is_some_and(AccessLog::shows_response_headers)
            || json.is_some_and(JsonLog::shows_response_headers);
    }

    fn open_json_log(&mut self, settings: &Settings) {
        let wanted = settings.json_access_log.as_ref();
        match wanted
            .map(|log| JsonLog::open(log, &self.log_files))
            .transpose()
        {
            Ok(log) => self.json_log = log,
            Err(error) => self
                .error_log
                .error(format_args!("JSON access log cannot be opened: {error}")),
        }
    }

    fn start_statsd(&mut self, settings: &Settings) {
        match settings.statsd.as_ref().map(Statsd::start).transpose() {
            Ok(statsd) => self.statsd = statsd,
            Err(error) => self
                .error_log
                .error(format_args!("No metrics are sent: {error}")),
        }
    }

    /// Opens the access log of `settings`; if that fails the one before stays.
    fn open_access_log(&mut self, settings: &Settings) {
        let opened = settings
            .access_log
            .as_ref()
            .map(|log| AccessLog::open(log, &self.log_files))
            .transpose();
        match opened {
            Ok(log) => self.access_log = log,
            Err(error) => {
                return self
                    .error_log
                    .error(format_args!("Access log cannot be opened: {error}"));
            }
        }
        if let Some(fault) = self.access_log.as_mut().and_then(AccessLog::take_fault) {
            self.error_log
                .error(format_args!("{fault}: the default format is used"));
        }
    }

    fn reopen_logs(&mut self) {
        self.error_log.reopen();
        if let Some(log) = &mut self.access_log {
            log.writer().reopen();
        }
        if let Some(log) = &mut self.json_log {
            log.writer().reopen();
        }
    }
}

/// Waits for the worker's end of the link's socket to be closed: often earlier than the arbiter's
/// word, and it comes even if the arbiter is gone.
async fn watch_worker(watched: Watched, worker: u32) {
    while let Ok(mut guard) = watched.readable().await {
        if !guard.ready().is_read_closed() {
            guard.clear_ready();
            continue;
        }
        with(|gateway| {
            gateway.clock.tick();
            gateway.rest.stir();
            if let Some(key) = gateway.pool.find(worker) {
                gateway.handle_worker_gone(key);
            }
            gateway.settle();
        });
        return;
    }
}

impl Gateway {
    /// Says where temporary files go, if that has not been said.
    pub(crate) fn tell_of_spool(&mut self, said: Option<&str>) {
        let (text, matters) = self.resolved.spool.describe();
        if said == Some(text.as_str()) {
            return;
        }
        if matters {
            self.error_log.warning(format_args!("{text}"));
        } else {
            self.error_log.debug(format_args!("{text}"));
        }
    }
}
