//! The one owner of everything: connections, exchanges, workers, dispatcher, logs.
//!
//! Theory of operation: one thread, one value, a few ways in. Each way in (a connection's task, the
//! runtime's sleep hooks, a message of the arbiter, a new client, the coarse tick) borrows the
//! whole gateway, does what has to be done without ever waiting, calls [`Gateway::settle`] and
//! leaves. There are no borrows of parts across calls, so no order of events can find something
//! borrowed.
//!
//! ```text
//!   client bytes -> read -> exchange -> dispatcher --Place--> link
//!   link -> ring_reader -> apply -> write -> client bytes         (in the same turn, without a task in between)
//! ```

pub(crate) mod arbiter;
pub(crate) mod clients;
pub(crate) mod deadlines;
pub(crate) mod exchanges;
pub(crate) mod http2;
pub(crate) mod log_throttle;
pub(crate) mod monitoring;
pub(crate) mod tracer;
pub(crate) mod websocket;
pub(crate) mod workers;

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use oxicorn_dispatch::Dispatcher;
use slab::Slab;
use tokio::task::spawn_local;

use crate::active::ActiveConfig;
use crate::connection::Connection;
use crate::connection::lent::Lent;
use crate::control::end::ControlEnd;
use crate::exchange::Exchange;
use crate::exchange::response_spool::Spooled;
use crate::gateway::arbiter::drain::Drain;
use crate::gateway::arbiter::log_forwarding::AccessForwarding;
use crate::gateway::clients::admission::connections_by_descriptors;
use crate::gateway::clients::handshake::{Precedence, Secure};
use crate::gateway::clients::listener::{ConnectionTask, Listeners};
use crate::gateway::clients::memory_budget::MemoryBudget;
use crate::gateway::clients::unsent::Unsent;
use crate::gateway::deadlines::{Rest, Timer};
use crate::gateway::log_throttle::LogThrottle;
use crate::gateway::monitoring::dashboard::Dashboard;
use crate::gateway::monitoring::{Followers, ProportionalMemory};
use crate::gateway::tracer::Tracer;
use crate::gateway::workers::coalesce::WakeCoalescing;
use crate::limits::per_client::ClientCounts;
use crate::session::websocket::Shared;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::access_log::json::JsonLog;
use crate::telemetry::error_log::ErrorLog;
use crate::telemetry::log_files::LogFiles;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::statsd::Statsd;
use crate::time::clock::{Clock, TimeSource};
use crate::transport::tls;
use crate::workers::calls::Calls;
use crate::workers::pool::Pool;

/// Room for exchanges kept for reuse.
const SPARE_EXCHANGES: usize = 256;

/// How many turns of connections may pass before the rings are read, though the runtime never
/// sleeps.
const TURNS_BETWEEN_READS: u32 = 32;

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) resolved: Rc<ActiveConfig>,
    pub(crate) clock: Clock,
    pub(crate) connections: Slab<Connection>,
    /// How many of these are streams of others.
    pub(crate) streams: usize,
    pub(crate) client_counts: ClientCounts,
    pub(crate) memory: MemoryBudget,
    pub(crate) spooled: Spooled,
    pub(crate) log_throttle: LogThrottle,
    /// How many connections the limit on open files leaves room for.
    pub(crate) descriptor_limit: usize,
    pub(crate) calls: Calls,
    pub(crate) pool: Pool,
    pub(crate) dispatcher: Dispatcher,
    pub(crate) listeners: Listeners,
    /// What listeners that speak TLS offer.
    pub(crate) secure: Option<Secure>,
    pub(crate) access_log: Option<AccessLog>,
    /// The access log wants to see responses' heads.
    pub(crate) keep_head: bool,
    pub(crate) json_log: Option<JsonLog>,
    pub(crate) access_forwarding: AccessForwarding,
    pub(crate) statsd: Option<Statsd>,
    pub(crate) tracer: Tracer,
    pub(crate) error_log: ErrorLog,
    pub(crate) log_files: LogFiles,
    pub(crate) pid: u32,
    pub(crate) metrics: Metrics,
    pub(crate) dashboard: Option<Rc<Dashboard>>,
    pub(crate) control: ControlEnd,
    pub(crate) timer: Timer,
    pub(crate) drain: Option<Drain>,
    /// Who follows requests as they pass.
    pub(crate) followers: Followers,
    /// What processes share of their memory is counted once in it.
    pub(crate) proportional: ProportionalMemory,
    /// The end, and who waits for it.
    pub(crate) finished: bool,
    pub(crate) finished_waker: Waker,
    pub(crate) rest: Rest,
    pub(crate) scratch: Scratch,
    pub(crate) websockets: Shared,
    pub(crate) unsent: Unsent,
    pub(crate) next_serial: u64,
    /// When what need not be known at once is looked for next.
    pub(crate) next_look: Duration,
    turns: u32,
    /// Who has come again, and is served before handshakes are made.
    pub(crate) precedence: Precedence,
    pub(crate) coalescing: WakeCoalescing,
    /// The worker whose ring is being read.
    pub(crate) reading: Option<usize>,
}

/// Buffers that are empty between uses.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// A message of a link.
    pub(crate) message: Vec<u8>,
    /// A piece of a file.
    pub(crate) file: Vec<u8>,
    /// A decoded path.
    pub(crate) path: Vec<u8>,
    /// A time for the JSON log.
    pub(crate) time: Vec<u8>,
    /// Keys of connections.
    pub(crate) keys: Vec<usize>,
    /// Memory of connections that wait for a request.
    pub(crate) lent: Vec<Lent>,
    /// Exchanges that are over.
    #[expect(
        clippy::vec_box,
        reason = "a connection takes the box, not what is in it"
    )]
    exchanges: Vec<Box<Exchange>>,
}

impl Scratch {
    /// Room for an exchange that begins.
    pub(crate) fn new_exchange(&mut self) -> Box<Exchange> {
        self.exchanges.pop().unwrap_or_default()
    }

    /// Takes the room of an exchange that is over.
    pub(crate) fn keep_exchange(&mut self, exchange: Option<Box<Exchange>>) {
        if let Some(mut exchange) = exchange
            && self.exchanges.len() < SPARE_EXCHANGES
        {
            exchange.clear();
            self.exchanges.push(exchange);
        }
    }
}

/// What a gateway is made of.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) time: TimeSource,
    pub(crate) resolved: Rc<ActiveConfig>,
    pub(crate) error_log: ErrorLog,
    pub(crate) log_files: LogFiles,
    pub(crate) control: ControlEnd,
}

impl Gateway {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts {
            time,
            resolved,
            error_log,
            log_files,
            control,
        } = parts;
        Self {
            dispatcher: Dispatcher::new(crate::active::policy(&resolved.settings.queue)),
            resolved,
            clock: Clock::new(time),
            connections: Slab::new(),
            streams: 0,
            client_counts: ClientCounts::default(),
            memory: MemoryBudget::default(),
            spooled: Spooled::default(),
            log_throttle: LogThrottle::default(),
            descriptor_limit: connections_by_descriptors(),
            calls: Calls::default(),
            pool: Pool::default(),
            listeners: Listeners::default(),
            secure: None,
            access_log: None,
            keep_head: false,
            json_log: None,
            access_forwarding: AccessForwarding::default(),
            statsd: None,
            tracer: Tracer::default(),
            error_log,
            log_files,
            pid: std::process::id(),
            metrics: Metrics::default(),
            dashboard: None,
            control,
            timer: Timer::new(),
            drain: None,
            followers: Followers::default(),
            proportional: ProportionalMemory::default(),
            finished: false,
            finished_waker: Waker::noop().clone(),
            rest: Rest::new(),
            scratch: Scratch::default(),
            websockets: Shared::default(),
            unsent: Unsent::default(),
            next_serial: 0,
            next_look: Duration::ZERO,
            turns: 0,
            precedence: Precedence::default(),
            coalescing: WakeCoalescing::new(),
            reading: None,
        }
    }

    /// A turn of a connection's task.
    pub(crate) fn poll_connection(
        &mut self,
        key: usize,
        serial: u64,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let Some(connection) = self.connection(key, serial) else {
            return Poll::Ready(());
        };
        connection.waker.clone_from(cx.waker());
        if let Err(error) = connection.transport.watch() {
            self.error_log
                .error(format_args!("Connection cannot be watched: {error}"));
            self.close(key);
            return Poll::Ready(());
        }
        let stream = connection.transport.stream();
        let is_broken = stream.is_some_and(|stream| stream.pump(cx).is_err());
        let has_output = !connection.output.is_empty();
        if is_broken {
            self.clock.tick();
            self.rest.stir();
            self.handle_client_gone(key);
            return Poll::Ready(());
        }
        // The first turn after the rings were read, and the clock with them, begins at the same time.
        if self.turns > 0 {
            self.clock.tick();
        }
        self.rest.stir();
        if has_output {
            self.flush(key);
        }
        self.read(key, serial, cx);
        self.turns += 1;
        // Requests are placed together, before the runtime sleeps at the latest: a worker is then
        // woken once for all that came at once, not once for each.
        if self.turns >= TURNS_BETWEEN_READS {
            self.clock.tick();
            self.read_links();
            self.settle();
        }
        match self.connection(key, serial) {
            Some(_) => Poll::Pending,
            None => Poll::Ready(()),
        }
    }

    /// Gives a connection a turn soon, and a task to wait with if it has none.
    pub(crate) fn wake(&mut self, key: usize) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        if connection.has_task {
            connection.waker.wake_by_ref();
        } else {
            connection.has_task = true;
            spawn_local(ConnectionTask {
                key,
                serial: connection.serial,
            });
        }
    }

    /// A connection, if it is still the one it was.
    pub(crate) fn connection(&mut self, key: usize, serial: u64) -> Option<&mut Connection> {
        self.connections
            .get_mut(key)
            .filter(|connection| connection.serial == serial)
    }

    /// Before the runtime sleeps: leaves nothing unread, and asks the workers to ring.
    pub(crate) fn before_sleep(&mut self) {
        let mut is_needed = self.turns > 0;
        // Else no connection has had a turn since the clock was read.
        if is_needed {
            self.clock.tick();
        }
        // Without certificates nobody speaks TLS.
        if self.secure.is_some() {
            self.count_handshakes();
        }
        // Bounded, because clients must have their turn too. Where something is left after that,
        // the runtime is kept from sleeping.
        for _ in 0..MAX_READS_BEFORE_SLEEP {
            is_needed |= self.read_links();
            self.settle();
            if self.secure.is_some() && self.helps_threads(is_needed) {
                self.arm_timer();
                return;
            }
            if self.nap() {
                self.arm_timer();
                return;
            }
            if self.pool.sleep_begin() {
                self.arm_timer();
                return;
            }
        }
        self.timer.ring_now();
    }

    /// After the runtime slept.
    pub(crate) fn after_sleep(&mut self) {
        self.pool.sleep_end();
        if self.secure.is_some() {
            tls::renew();
        }
        self.clock.tick();
        // Else nothing has happened since the runtime fell asleep.
        if self.read_links() {
            self.settle();
        }
    }

    /// Reads all rings; whether there was anything to read.
    #[inline]
    pub(crate) fn read_links(&mut self) -> bool {
        self.turns = 0;
        // Far more often than not there is nothing: that must cost next to nothing.
        let has_something = self.pool.wants_reading();
        if has_something {
            self.read_those_that_want();
        }
        self.flush_unsent();
        has_something
    }

    #[inline(never)]
    fn read_those_that_want(&mut self) {
        for key in 0..self.pool.key_bound() {
            let worker = self.pool.get_mut(key);
            if worker.is_some_and(|worker| worker.wants_reading()) {
                self.read_link(key);
            }
        }
    }

    /// Does what follows from what happened: to be called at the end of every way in.
    #[inline]
    pub(crate) fn settle(&mut self) {
        // Far more often than not it is asked where nothing has happened.
        if !self.dispatcher.is_settled() {
            self.drive();
        }
        if self.has_lines() {
            self.forward_lines();
        }
        if self.drain.is_some() {
            self.check_drained();
        }
    }

    /// Connections of clients, without streams.
    pub(crate) fn socket_count(&self) -> usize {
        self.connections.len() - self.streams
    }

    /// A connection in whose turn something panicked.
    pub(crate) fn drop_connection(&mut self, key: usize, serial: u64) {
        if self.connection(key, serial).is_some() {
            self.close(key);
        }
    }

    /// Ends the process' work.
    pub(crate) fn finish(&mut self) {
        self.finished = true;
        self.finished_waker.wake_by_ref();
    }
}

/// Rounds of reading before the runtime may look at its sockets again.
const MAX_READS_BEFORE_SLEEP: u32 = 8;

thread_local! {
    static GATEWAY: RefCell<Option<Gateway>> = const { RefCell::new(None) };
}

/// Makes `gateway` this thread's.
pub(crate) fn install(gateway: Gateway) {
    GATEWAY.with_borrow_mut(|place| *place = Some(gateway));
}

/// Takes this thread's gateway away.
pub(crate) fn uninstall() -> Option<Gateway> {
    GATEWAY.with_borrow_mut(Option::take)
}

/// Runs `work` with this thread's gateway, if there is (still) one. A panic in it is a bug of ours:
/// it is logged, `None` is returned, and the gateway goes on with everything else.
pub(crate) fn with<T>(work: impl FnOnce(&mut Gateway) -> T) -> Option<T> {
    GATEWAY.with_borrow_mut(|place| {
        let gateway = place.as_mut()?;
        match catch_unwind(AssertUnwindSafe(|| work(gateway))) {
            Ok(value) => Some(value),
            Err(panic) => {
                gateway.survive(panic.as_ref());
                None
            }
        }
    })
}

impl Gateway {
    fn survive(&mut self, panic: &(dyn Any + Send)) {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("?");
        self.error_log
            .error(format_args!("Panic in the gateway: {text}"));
        // The message that did it is still in the ring: without its worker it cannot do it again.
        if let Some(key) = self.reading.take() {
            self.handle_worker_fault(key, &"its message could not be handled");
        }
    }
}
