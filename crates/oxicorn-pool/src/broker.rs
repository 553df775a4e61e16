//! The loop and what it holds.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use oxicorn_os::channel::{Blocking, Channel, Received};
use oxicorn_os::epoll::{Epoll, Interest, Ready};
use oxicorn_os::signals::SignalPipe;
use oxicorn_os::stream::Stream;
use oxicorn_os::time;
use slab::Slab;

use crate::StashFiles;
use crate::callers::Caller;
use crate::calls::Call;
use crate::connection::READ;
use crate::control::{self, FromBroker, Settings, ToBroker};
use crate::figures::Figures;
use crate::queue::{CallId, Queue, WorkerId};
use crate::running::{Begun, Places};
use crate::stash::{Asked, Journal, Mirror, Stash};
use crate::workers::Worker;

const LISTENER: u64 = 0;
const CONTROL: u64 = 1;
const SIGNALS: u64 = 2;
/// Above these bits of a token stands whose it is.
const KIND: u32 = 48;
const CALLER: u64 = 1;
const LANE: u64 = 2;
/// Below these bits of a lane's token stands which lane of its worker it is.
const LANE_BITS: u32 = 16;

/// Connections taken in one turn of the loop.
const ACCEPTED_PER_TURN: usize = 64;
/// After the arbiter's end: how long callers may go on.
const ORPHANED: Duration = Duration::from_secs(30);

/// How the loop goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Going {
    On,
    Over,
}

#[derive(Debug)]
pub(crate) struct Broker {
    pub(crate) epoll: Epoll,
    listener: OwnedFd,
    control: Channel,
    signals: SignalPipe,
    pub(crate) settings: Settings,
    pub(crate) queue: Queue,
    pub(crate) callers: Slab<Caller>,
    pub(crate) workers: HashMap<WorkerId, Worker>,
    pub(crate) calls: HashMap<CallId, Call>,
    pub(crate) last_call: CallId,
    /// When something is to be done about a call.
    pub(crate) deadlines: BTreeSet<(Duration, CallId)>,
    /// Bytes of calls that wait.
    pub(crate) queued_bytes: usize,
    /// Applications for which a worker that rests was asked for.
    pub(crate) asked_for: HashSet<String>,
    /// Where short reads go first.
    pub(crate) scratch: Vec<u8>,
    pub(crate) stash: Stash,
    pub(crate) journal: Journal,
    /// The stash as callers see it.
    pub(crate) mirror: Mirror,
    pub(crate) figures: Figures,
    /// The calls that run: where they are shown, and since when they do.
    pub(crate) places: Places,
    pub(crate) begun: Begun,
    pub(crate) now: Duration,
    /// The pool ends: what is there is finished.
    pub(crate) drains: bool,
    /// Since when the arbiter is gone.
    orphaned: Option<Duration>,
}

impl Broker {
    pub(crate) fn new(
        listener: OwnedFd,
        control: Channel,
        signals: SignalPipe,
        files: StashFiles,
        figures: Figures,
    ) -> std::io::Result<Self> {
        let mut stash = Stash::default();
        let journal = Journal::open(files.journal, &mut stash)?;
        let (mirror, put) = Mirror::open(files.shared);
        let epoll = Epoll::new()?;
        let read = Interest {
            read: true,
            write: false,
        };
        // Nobody is listened to before it is known which applications there are: they would be told that there are none.
        let rest = Interest {
            read: false,
            write: false,
        };
        epoll.add(&listener, LISTENER, rest)?;
        epoll.add(&control, CONTROL, read)?;
        epoll.add(signals.as_fd(), SIGNALS, read)?;
        let mut broker = Self {
            epoll,
            listener,
            control,
            signals,
            settings: Settings::default(),
            queue: Queue::default(),
            callers: Slab::new(),
            workers: HashMap::new(),
            calls: HashMap::new(),
            last_call: 0,
            deadlines: BTreeSet::new(),
            queued_bytes: 0,
            asked_for: HashSet::new(),
            scratch: vec![0; READ],
            stash,
            journal,
            mirror,
            figures,
            places: Places::default(),
            begun: Begun::default(),
            now: time::monotonic(),
            drains: false,
            orphaned: None,
        };
        broker.take_over(put);
        Ok(broker)
    }

    pub(crate) fn run(mut self) -> i32 {
        let code = self.serve();
        self.mirror.close();
        code
    }

    fn serve(&mut self) -> i32 {
        let mut ready = Vec::new();
        loop {
            let timeout = self.next_deadline();
            let timeout = timeout.map(|deadline| deadline.saturating_sub(time::monotonic()));
            if self.epoll.wait(timeout, &mut ready).is_err() {
                return 1;
            }
            self.now = time::monotonic();
            for one in &ready {
                if self.handle(*one) == Going::Over {
                    return 0;
                }
            }
            self.enforce_deadlines();
            self.release_drained();
            self.tend_stash();
            self.report_idle();
            self.show_figures();
            if self.is_abandoned() {
                return 0;
            }
        }
    }

    fn next_deadline(&self) -> Option<Duration> {
        let call = self.deadlines.first().map(|(deadline, _)| *deadline);
        let end = self.orphaned.map(|since| since + ORPHANED);
        let life = self.stash.next_end().into_iter();
        let life = life.chain(self.mirror.lease_end());
        let rest = self.next_rest();
        call.into_iter().chain(end).chain(life).chain(rest).min()
    }

    /// The arbiter is gone, and nobody is left to serve, or it has been long enough.
    fn is_abandoned(&self) -> bool {
        let long_enough = |since: Duration| self.now >= since + ORPHANED;
        self.orphaned
            .is_some_and(|since| self.callers.is_empty() || long_enough(since))
    }

    fn handle(&mut self, ready: Ready) -> Going {
        match (ready.token, ready.token >> KIND) {
            (LISTENER, _) => self.accept(),
            (CONTROL, _) => return self.take_orders(),
            (SIGNALS, _) => self.pass_signals_on(),
            (token, CALLER) => self.handle_caller(index(token), ready),
            (token, LANE) => {
                let token = token & ((1 << KIND) - 1);
                let worker = WorkerId::try_from(token >> LANE_BITS).unwrap_or(WorkerId::MAX);
                let lane = usize::try_from(token & ((1 << LANE_BITS) - 1)).unwrap_or(usize::MAX);
                self.handle_lane(worker, lane, ready);
            }
            _ => {}
        }
        Going::On
    }

    fn accept(&mut self) {
        for _ in 0..ACCEPTED_PER_TURN {
            match Stream::accept(&self.listener) {
                Ok(Some(stream)) => self.add_caller(stream),
                Ok(None) => return,
                Err(error) => {
                    // Out of descriptors: who waits is taken when a caller has left. Said once for each turn in which it
                    // is met, and the loop does not spin: the listener rests until then.
                    self.rest_listener(true);
                    let text = format!("The pool's broker cannot take a connection: {error}");
                    return self.tell(&FromBroker::Warning(text));
                }
            }
        }
    }

    /// Whether the listener is left alone for now.
    pub(crate) fn rest_listener(&self, rests: bool) {
        let interest = Interest {
            read: !rests,
            write: false,
        };
        // It was added, so it can be changed.
        let _ = self.epoll.change(&self.listener, LISTENER, interest);
    }

    fn pass_signals_on(&mut self) {
        while let Ok(Some(signal)) = self.signals.next_signal() {
            self.tell(&FromBroker::Signal(signal));
        }
    }

    /// Tells the arbiter. One that does not listen (or is gone) is told nothing: what it does not hear it finds out.
    pub(crate) fn tell(&self, message: &FromBroker) {
        if let Some(packet) = control::encode(message) {
            let _ = self.control.send(&packet, &[], Blocking::No);
        }
    }

    fn take_orders(&mut self) -> Going {
        let (mut packet, mut descriptors) = (Vec::new(), Vec::new());
        loop {
            match self
                .control
                .recv(&mut packet, &mut descriptors, Blocking::No)
            {
                Ok(Received::Message(_)) => {}
                Ok(Received::Nothing) => return Going::On,
                Ok(Received::Closed) | Err(_) => {
                    let _ = self.epoll.remove(&self.control);
                    self.orphaned.get_or_insert(self.now);
                    return Going::On;
                }
            }
            let descriptors = std::mem::take(&mut descriptors);
            match control::decode(&packet) {
                Some(ToBroker::Stop) => return Going::Over,
                Some(order) => self.follow(order, descriptors),
                None => self.tell(&FromBroker::Warning(
                    "The pool's broker was told something it does not know".into(),
                )),
            }
        }
    }

    fn follow(&mut self, order: ToBroker, descriptors: Vec<OwnedFd>) {
        match order {
            ToBroker::Settings(settings) => {
                self.queue.set_limit(settings.queue_limit);
                self.with_stash(Asked::No, |stash| stash.set_limit(settings.stash_limit));
                self.settings = settings;
            }
            ToBroker::AddWorker(worker) => self.add_worker(worker, descriptors),
            ToBroker::WorkerReady {
                worker,
                applications,
            } => self.worker_ready(worker, applications),
            ToBroker::RetireWorker(worker) => self.retire(worker),
            ToBroker::Drain => self.drain(),
            ToBroker::WorkerGone { worker, reason } => self.worker_gone(worker, &reason),
            ToBroker::Applications(all) => {
                self.rest_listener(false);
                self.expect(&all);
            }
            ToBroker::Stop => {}
        }
    }
}

/// The token of a caller's connection.
pub(crate) const fn token_of_caller(caller: usize) -> u64 {
    CALLER << KIND | caller as u64
}

/// The token of a lane.
pub(crate) const fn token_of_lane(worker: WorkerId, lane: usize) -> u64 {
    LANE << KIND | (worker as u64) << LANE_BITS | lane as u64
}

fn index(token: u64) -> usize {
    usize::try_from(token & ((1 << KIND) - 1)).unwrap_or(usize::MAX)
}
