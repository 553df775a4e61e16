//! Everything that happens because nothing happened.
//!
//! Two clocks. The *tick*, a coarse one, looks at every connection and call ten times a second:
//! no request ever sets a timer, a deadline is one number in the connection. The *timer*, a fine
//! one, is the dispatcher's: it notices stalled workers within a millisecond or two.
//!
//! The tick rests where nothing can become due: no request is in flight and nothing has happened for
//! [`SETTLED`]. It goes on with whatever happens next, or shortly before the first deadline of a connection.

use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use oxicorn_dispatch::WorkerId;
use oxicorn_link::scoreboard::Gauge;

use crate::connection::{Connection, Phase};
use crate::exchange::refusal::Refusal;
use crate::exchange::upload::Upload;
use crate::exchange::{Happened, Stage};
use crate::gateway::{Gateway, with};
use crate::limits::min_rate::MinRate;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::access_log::json::JsonLog;
use crate::telemetry::tracing::RequestIds;
use crate::transport::timer::{Sleep, sleep, timeout};
use crate::workers::calls::{CallId, Place};

/// How often deadlines are looked at. The shortest that anybody sets is a second.
const TICK: Duration = Duration::from_millis(100);

/// How often is looked for what need not be known at once.
const LOOK: Duration = Duration::from_secs(1);

/// How long ticks go on after the last thing that happened: the look above comes in this time, what was left
/// out of the log is told, and so is what went wrong in the threads that write.
const SETTLED: Duration = Duration::from_secs(1);

/// How far away is what is not due at all.
const NEVER: Duration = Duration::from_hours(24);

/// The dispatcher's timer.
#[derive(Debug)]
pub(crate) struct Timer {
    sleep: Sleep,
    armed: Option<Duration>,
    waker: Waker,
}

impl Timer {
    pub(crate) fn new() -> Self {
        Self {
            sleep: Sleep::new(NEVER),
            armed: None,
            waker: Waker::noop().clone(),
        }
    }

    /// Rings at `deadline` or before; ringing early is harmless, so it is only ever moved forward.
    pub(crate) fn arm(&mut self, now: Duration, deadline: Duration) {
        if self.armed.is_none_or(|armed| deadline < armed) {
            self.armed = Some(deadline);
            self.sleep.reset(deadline.saturating_sub(now));
        }
    }

    /// Keeps the runtime from sleeping now.
    pub(crate) fn ring_now(&self) {
        self.waker.wake_by_ref();
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.waker.clone_from(cx.waker());
        if Pin::new(&mut self.sleep).poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.armed = None;
        self.sleep.reset(NEVER);
        Poll::Ready(())
    }
}

/// Whether the tick may rest.
#[derive(Debug)]
pub(crate) struct Rest {
    /// Something has happened since the last tick.
    stirred: bool,
    /// Until then ticks go on.
    settled_at: Duration,
    /// Ends the rest.
    waker: Waker,
}

impl Rest {
    pub(crate) fn new() -> Self {
        Self {
            stirred: true,
            settled_at: Duration::ZERO,
            waker: Waker::noop().clone(),
        }
    }

    /// Something happens, from which a deadline or work for the tick may come.
    #[inline]
    pub(crate) fn stir(&mut self) {
        if !self.stirred {
            self.stirred = true;
            self.waker.wake_by_ref();
        }
    }

    fn handle_tick(&mut self, now: Duration) {
        if std::mem::take(&mut self.stirred) {
            self.settled_at = now + SETTLED;
        }
    }

    fn poll_stirred(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.stirred {
            return Poll::Ready(());
        }
        self.waker.clone_from(cx.waker());
        Poll::Pending
    }
}

/// The task of the timer.
pub(crate) async fn ring_for_ever() {
    poll_fn(|cx| with(|gateway| gateway.poll_timer(cx)).unwrap_or(Poll::Pending)).await;
}

/// The task of the tick.
pub(crate) async fn tick_for_ever() {
    loop {
        sleep(TICK).await;
        with(Gateway::tick);
        let length = with(|gateway| gateway.rest()).unwrap_or_default();
        if !length.is_zero() {
            with(Gateway::give_spare_back);
            let stirred = poll_fn(|cx| {
                with(|gateway| gateway.rest.poll_stirred(cx)).unwrap_or(Poll::Ready(()))
            });
            // Over in either case.
            let _ = timeout(length, stirred).await;
        }
    }
}

impl Gateway {
    /// Arms the timer for the dispatcher's next deadline.
    pub(crate) fn arm_timer(&mut self) {
        if let Some(deadline) = self.dispatcher.next_deadline() {
            self.timer.arm(self.clock.now(), deadline);
        }
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.timer.poll(cx).is_ready() {
            let now = self.clock.tick();
            self.dispatcher.handle_timeout(now);
            self.settle();
        }
        Poll::Pending
    }

    /// How long no tick is needed, if nothing happens meanwhile.
    fn rest(&self) -> Duration {
        let now = self.clock.now();
        let needed = now < self.rest.settled_at
            || self.calls.len() > 0
            || self.drain.is_some()
            || !self.control.is_flushed()
            || self.pool.has_inherited()
            // Nobody wakes us when such a clock is set.
            || self.clock.is_held();
        if needed {
            return Duration::ZERO;
        }
        let all = self.connections.iter();
        let deadlines = all.filter_map(|(_, one)| one.next_deadline());
        let deadlines = deadlines.chain(self.tracer.next_look(now));
        deadlines.min().map_or(NEVER, |deadline| {
            deadline.saturating_sub(now).saturating_sub(TICK)
        })
    }

    fn tick(&mut self) {
        let now = self.clock.tick();
        self.rest.handle_tick(now);
        self.check_connections(now);
        self.renew_plaints(now);
        if now >= self.next_look {
            self.next_look = now + LOOK;
            self.check_unread();
            self.give_memory_back();
        }
        self.check_calls(now);
        self.check_drain_deadline(now);
        self.dispatcher.handle_timeout(now);
        self.hand_logs_over();
        self.look_after_tracing(now);
        self.set_gauges(now);
        self.control.flush();
        self.settle();
    }

    fn check_connections(&mut self, now: Duration) {
        let mut due = std::mem::take(&mut self.scratch.keys);
        let is_due = |deadline: Option<Duration>| deadline.is_some_and(|deadline| deadline <= now);
        let all = self.connections.iter();
        due.extend(
            all.filter(|(_, one)| is_due(one.next_deadline()))
                .map(|(key, _)| key),
        );
        for key in due.drain(..) {
            self.handle_deadline(key);
        }
        // Whoever is served for so long is worth a look at whether the client is still there.
        let all = self.connections.iter();
        due.extend(all.filter(|(_, one)| !one.has_task).map(|(key, _)| key));
        for key in due.drain(..) {
            self.wake(key);
        }
        self.scratch.keys = due;
    }

    fn handle_deadline(&mut self, key: usize) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        if connection.session.is_carrier() {
            return self.handle_http2_deadline(key);
        }
        match (connection.phase, connection.stage()) {
            (_, Some(Stage::Talking)) => self.handle_websocket_deadline(key),
            (_, Some(stage)) => self.handle_exchange_deadline(key, stage),
            (Phase::Proxy, _) if connection.input.unread().is_empty() => self.close(key),
            (Phase::Proxy | Phase::Head, _) => self.refuse(key, Refusal::TOO_SLOW),
            (Phase::Idle | Phase::Lingering | Phase::Open, None) => {
                self.tell_of_slow_handshake(key);
                self.close(key);
            }
        }
    }

    fn handle_exchange_deadline(&mut self, key: usize, stage: Stage) {
        let now = self.clock.now();
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let timeouts = connection.resolved.settings.timeouts;
        let (sends, reads) = (timeouts.demand_on_body(), timeouts.demand_on_reader());
        let is_served = stage.is_served();
        let (has_output, owes) = (!connection.output.is_empty(), connection.owes_body());
        match stage {
            Stage::Discarding => self.close(key),
            Stage::Receiving if meets(connection, sends, connection.received, now) => {}
            Stage::Receiving => self.refuse(key, Refusal::BODY_TOO_SLOW),
            // It has left, or does not mean to read: the time for quick answers is over.
            _ if is_served && connection.has_left() => self.handle_client_gone(key),
            // It is not the client who makes the others wait, in either direction.
            _ if is_served && !has_output && !owes => {
                if let Some(exchange) = &mut connection.exchange {
                    exchange.deadline = None;
                }
            }
            _ if is_served && !has_output => {
                if !meets(connection, sends, connection.moved(), now) {
                    self.refuse(key, Refusal::BODY_TOO_SLOW);
                }
            }
            _ if meets(connection, reads, connection.moved(), now) => {}
            _ => {
                self.log_slow_reader(key);
                self.handle_client_gone(key);
            }
        }
    }

    pub(crate) fn log_slow_reader(&mut self, key: usize) {
        let Some(connection) = self.connections.get(key) else {
            return;
        };
        let address = connection.client().shown();
        let ids = RequestIds::of(connection.trace());
        self.warn_of_client(format_args!(
            "Cut off ip={address}: it takes its response too slowly (write_timeout, write_min_rate){ids}"
        ));
    }

    /// Learns which requests were taken, and finds those that take too long.
    fn check_calls(&mut self, now: Duration) {
        let limit = self.resolved.settings.timeouts.request;
        let slow_after = self.resolved.settings.timeouts.slow;
        let mut expired = Vec::new();
        let mut slow = Vec::new();
        for (id, call) in self.calls.iter_mut() {
            if call.may_take_its_time() {
                continue;
            }
            let Place::Worker {
                worker,
                placement,
                taken,
            } = &mut call.place
            else {
                continue;
            };
            let Some(since) = *taken else {
                let worker = self.pool.of_id(*worker);
                if worker.is_some_and(|worker| worker.link.is_claimed(*placement)) {
                    *taken = Some(now);
                    self.dispatcher.handle_claimed(id.request(), now);
                }
                continue;
            };
            let worker_goes_on = self
                .pool
                .of_id(*worker)
                .is_some_and(|worker| worker.goes_on);
            // A worker that waits for the client to read is not late, nor is a WebSocket.
            let connection = call.client.and_then(|key| self.connections.get(key));
            let exchange = connection.and_then(|one| one.exchange.as_deref());
            let talks = exchange.is_some_and(|one| one.stage() == Stage::Talking);
            let uploads = exchange
                .and_then(|one| one.request.upload.as_ref())
                .is_some_and(Upload::is_awaited);
            // A worker that goes on with others while one request waits may take its time once it
            // has begun to answer: streams of events have pauses.
            let streams = worker_goes_on && (call.answered || call.client.is_none());
            let waits = call.uncredited > 0 || talks || uploads || streams;
            let given = call.submitted + call.queued;
            let is_slow = !slow_after.is_zero() && now > given + slow_after;
            if is_slow && !waits && !call.answered && !call.told_slow {
                call.told_slow = true;
                slow.push((id, *worker, now.saturating_sub(given), call.queued));
            }
            if waits {
                *taken = Some(now);
            } else if !limit.is_zero() && now > since + limit {
                expired.push((id, *worker, now.saturating_sub(since)));
            }
        }
        for (id, worker, age, queued) in slow {
            self.tell_slow(id, worker, age, queued);
        }
        for (id, worker, age) in expired {
            self.expire(id, worker, age);
        }
        if !limit.is_zero() {
            self.check_inherited(now, limit);
        }
    }

    fn expire(&mut self, id: CallId, worker: WorkerId, age: Duration) {
        self.tell_expired(id, worker, age);
        let Some(call) = self.calls.get_mut(id) else {
            return;
        };
        call.expired = true;
        // Nobody waits: the worker was told so when the client left, or owes no response any more.
        let Some(client) = call.client else {
            return;
        };
        let now = self.clock.now();
        self.dispatcher.cancel(id.request(), now);
        self.dispatcher.handle_claimed(id.request(), now);
        self.happened(client, Happened::Expired);
    }

    pub(crate) fn set_gauges(&self, now: Duration) {
        let nanoseconds = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        self.metrics
            .set(Gauge::Queued, self.dispatcher.queued() as u64);
        self.metrics
            .set(Gauge::InFlight, self.dispatcher.total_in_flight() as u64);
        self.metrics
            .set(Gauge::Connections, self.socket_count() as u64);
        self.metrics.set(Gauge::Buffered, self.memory.held() as u64);
        self.metrics.set(Gauge::Heartbeat, nanoseconds);
    }

    fn hand_logs_over(&mut self) {
        let native = self.access_log.as_mut().map(AccessLog::writer);
        let json = self.json_log.as_mut().map(JsonLog::writer);
        let native = native.map(|writer| ("Access log", writer));
        let json = json.map(|writer| ("JSON access log", writer));
        for (name, writer) in native.into_iter().chain(json) {
            writer.hand_over();
            if let Some(failure) = writer.take_failure() {
                self.error_log.error(format_args!("{name} {failure}"));
            }
        }
        self.error_log.tell_failure();
        if let Some(statsd) = &mut self.statsd {
            statsd.hand_over();
        }
    }
}

/// A span of the exchange is over: whether enough has moved in it.
fn meets(connection: &mut Connection, demand: MinRate, moved: u64, now: Duration) -> bool {
    let exchange = connection.exchange.as_mut();
    exchange.is_none_or(|exchange| exchange.next_span(demand, moved, now))
}
