//! What the pool's machine decides by, what it hears and what it orders.

use std::time::Duration;

use crate::WorkerSignal;
use crate::event::Exit;
use crate::log::Level;
use crate::plan::{Generation, WorkerId};

/// One application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolApp {
    /// `module:Class`
    pub path: String,
    /// How many workers it wants, if the settings say so (`module:Class:N`).
    pub limit: Option<u32>,
}

/// The part of the settings that decides about the pool's processes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolPlan {
    /// Setting `dirty_workers`.
    pub workers: u32,
    /// Setting `dirty_apps`.
    pub apps: Vec<PoolApp>,
    /// What running calls get when their worker is to go (setting `dirty_graceful_timeout`).
    pub graceful_timeout: Duration,
    /// What a worker may take until it is ready; zero: as long as it likes.
    pub boot_timeout: Duration,
    /// There is one process, which has the applications of all places run elsewhere (setting `dirty_pool`).
    pub one_process: bool,
}

/// What callers of an application may hope for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outlook {
    /// `module:Class`
    pub path: String,
    /// Somebody has it, or is about to.
    pub expected: bool,
    /// Why it could not be loaded, if it could not.
    pub failure: Option<String>,
}

/// Something happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PoolEvent {
    /// [`PoolAction::SpawnBroker`] was done.
    BrokerSpawned {
        /// Its process.
        pid: u32,
    },
    /// It could not be done.
    BrokerSpawnFailed,
    /// The broker was reaped.
    BrokerExited(Exit),
    /// [`PoolAction::SpawnWorker`] was done.
    WorkerSpawned {
        /// The worker ordered.
        worker: WorkerId,
        /// Its process.
        pid: u32,
    },
    /// It could not be done; there is no process.
    WorkerSpawnFailed(WorkerId),
    /// A worker has looked at the classes: how many workers each application wants (in the order of the plan).
    Limits {
        /// Who says so; it waits to be attached.
        worker: WorkerId,
        /// `None`: as many as there are.
        limits: Vec<Option<u32>>,
    },
    /// A worker begins to load an application (its place in the plan).
    AppLoading {
        /// Who.
        worker: WorkerId,
        /// Which.
        app: usize,
    },
    /// It could not be loaded there. The worker goes on with its others, if it has any.
    AppFailed {
        /// Where.
        worker: WorkerId,
        /// Which.
        app: usize,
        /// Why, in one line.
        reason: String,
    },
    /// How many workers the class of an application that is loaded wants.
    Limit {
        /// Who says so.
        worker: WorkerId,
        /// Of which.
        app: usize,
        /// `None`: as many as there are.
        limit: Option<u32>,
    },
    /// Those of its applications that can be loaded are.
    WorkerReady(WorkerId),
    /// It was reaped.
    WorkerExited {
        /// Who.
        worker: WorkerId,
        /// How it ended.
        exit: Exit,
        /// The kernel ended it, because the memory of its control group was used up.
        out_of_memory: bool,
    },
    /// Nobody has called its applications for so long that it is to end, until somebody does (setting
    /// `dirty_idle_timeout`).
    WorkerIdle(WorkerId),
    /// A call waits for an application: a worker of it that rests is wanted.
    Wanted {
        /// Its path.
        path: String,
    },
    /// A call there does not end although it was told to.
    WorkerStuck {
        /// Where.
        worker: WorkerId,
        /// Which call, in words.
        call: String,
    },
    /// It goes on, but wants a successor (it was told to stop, or has had its calls).
    WorkerWantsReplacement(WorkerId),
    /// The settings were loaded anew: so is the code.
    Reload(PoolPlan),
    /// So many workers more.
    More(u32),
    /// So many fewer.
    Fewer(u32),
    /// Log files are opened anew.
    Reopen,
    /// Finish and end.
    Stop,
    /// End.
    StopQuickly,
}

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PoolAction {
    /// Fork the broker; answer [`PoolEvent::BrokerSpawned`] or [`PoolEvent::BrokerSpawnFailed`].
    SpawnBroker,
    /// Tell it to exit.
    StopBroker,
    /// SIGKILL it.
    KillBroker,
    /// Fork a worker; answer [`PoolEvent::WorkerSpawned`] or [`PoolEvent::WorkerSpawnFailed`].
    SpawnWorker {
        /// Its number from now on.
        worker: WorkerId,
        /// With whose settings it runs.
        generation: Generation,
        /// Which of the pool's places it has, from 0 on; who dies is followed by one of the same place.
        place: u32,
        /// What it is to load, in this order; `None`: it reports [`PoolEvent::Limits`] and waits. Where there is one process
        /// ([`PoolPlan::one_process`]) an application is there as often as it is to be run.
        applications: Option<Vec<usize>>,
        /// Of each application of its place, which of the application's workers it is, from 0 on.
        indexes: Vec<(usize, u32)>,
    },
    /// Tell the broker about the worker, and the worker, if it waits, which applications it has.
    AttachWorker(WorkerId),
    /// Tell the broker that the pool ends: workers that are retired from now on finish all calls there are, those that wait
    /// and those that these calls make, too.
    Drain,
    /// Tell the broker that it can be given calls, of which applications ([`super::Pool::applications`]).
    AnnounceReady(WorkerId),
    /// Tell the broker to give it none any more and to release it when it has none.
    RetireWorker(WorkerId),
    /// Send a signal.
    SignalWorker {
        /// To whom.
        worker: WorkerId,
        /// Which.
        signal: WorkerSignal,
    },
    /// Have it write its Python stacks to the error log.
    DumpStacks(WorkerId),
    /// Tell the broker how it ended; the hook `dirty_worker_exit`. The last action about this worker.
    WorkerReaped {
        /// Who.
        worker: WorkerId,
        /// How, in words.
        how: String,
    },
    /// Tell the broker which applications have workers, or will have.
    Expect(Vec<Outlook>),
    /// This generation serves: its settings are the pool's, those before are not needed any more.
    ServeGeneration(Generation),
    /// This generation was given up.
    AbandonGeneration(Generation),
    /// Write to the error log.
    Log(Level, String),
}
