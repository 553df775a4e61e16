//! What the arbiter orders.
//!
//! The performer does these in order. "Tells the gateway" means one message on its control channel; the arbiter orders
//! such messages only while there is a gateway that said it is ready.

use std::time::Duration;

use crate::event::Exit;
use crate::log::{Level, LogLine};
use crate::plan::{Generation, WorkerId};

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Action {
    /// Fork the gateway; answer [`crate::Event::GatewaySpawned`] or [`crate::Event::GatewaySpawnFailed`].
    SpawnGateway,
    /// Fork the process that loads the application of this generation and forks its workers; answer
    /// [`crate::Event::TemplateSpawned`] or [`crate::Event::TemplateSpawnFailed`] at once.
    SpawnTemplate(Generation),
    /// Tell the loaded template of this generation to end.
    StopTemplate(Generation),
    /// SIGKILL it.
    KillTemplate(Generation),
    /// Have it write its Python stacks to the error log.
    DumpStacksOfTemplate(Generation),
    /// Make a link and have a worker forked with the configuration of this generation, by its template if it has one;
    /// answer [`crate::Event::WorkerSpawned`] or [`crate::Event::WorkerSpawnFailed`], unless the template ends before.
    SpawnWorker {
        /// Its number from now on.
        worker: WorkerId,
        /// Gunicorn's `worker.age`: the how many-th worker this is.
        age: u64,
        /// Whose configuration it runs with.
        generation: Generation,
    },

    /// Tell the gateway about this worker and hand over its link. It is not ready yet.
    AttachWorker(WorkerId),
    /// Tell the gateway that this attached worker is ready.
    AnnounceReady(WorkerId),
    /// Tell the gateway, if there is one, to give requests to this generation only. Follows every start of a gateway, and
    /// commits a reload: this generation's configuration is the server's from now on.
    ServeGeneration(Generation),
    /// Tell the gateway to give this worker nothing new and to answer with [`crate::Event::WorkerDrained`].
    RetireWorker(WorkerId),
    /// Tell the gateway that this attached worker's process is gone.
    ForgetWorker(WorkerId),
    /// Tell the worker that nothing more comes and nothing is in flight: it takes no more requests and exits. It was sent
    /// [`WorkerSignal::Graceful`] before.
    ReleaseWorker(WorkerId),

    /// Send a signal.
    SignalWorker {
        /// To whom.
        worker: WorkerId,
        /// Which.
        signal: WorkerSignal,
    },
    /// Have the worker write its Python stacks to the error log.
    DumpStacks(WorkerId),

    /// Tell the gateway to serve its backlog, accept nothing more, finish, say [`crate::Event::GatewayDrained`], exit; and
    /// to cut what is left after this time (from now).
    DrainGateway {
        /// How long it may take.
        within: Duration,
    },
    /// Tell the gateway to cut everything and exit. It may not be ready yet.
    StopGateway,
    /// SIGKILL the gateway.
    KillGateway,

    /// The gateway and every worker of the first generation are ready: the server is up. Once.
    AnnounceBooted,

    /// Start the server anew beside this one, with the listeners; answer [`crate::Event::SuccessorStarted`] or
    /// [`crate::Event::SuccessorFailed`].
    StartSuccessor,
    /// The predecessor is gone: take over its name and its pid file.
    Promote,

    /// Load the configuration; answer [`crate::Event::ConfigurationLoaded`] or
    /// [`crate::Event::ConfigurationRefused`] or [`crate::Event::ReloadHookFailed`]. Keep it filed under this generation.
    LoadConfiguration {
        /// What the workers started from it will be called.
        generation: Generation,
    },
    /// The generation did not boot, or was overtaken by a newer one; its configuration is not needed any more. (The other
    /// end of a reload is [`Action::ServeGeneration`].)
    AbandonGeneration {
        /// Which one.
        generation: Generation,
        /// It could not be brought to serve; else a newer one, or the end of the server, came in between.
        failed: bool,
    },
    /// Open the arbiter's log files anew and tell the gateway, if there is one, to do so.
    ReopenLogs,
    /// The `nworkers_changed` hook.
    NumWorkersChanged {
        /// Wanted from now on.
        new: u32,
        /// Wanted before; `None` at the start.
        old: Option<u32>,
    },
    /// The `child_exit` hook. The last action about this worker: what is kept for it can go.
    WorkerReaped {
        /// Who.
        worker: WorkerId,
        /// How it ended.
        exit: Exit,
    },
    /// Write to the error log.
    Log(LogLine, Level),
    /// Everything has ended; exit. The last action of all.
    Exit(ExitCode),
}

/// Signals to workers, by meaning.
///
/// A worker may be signalled as soon as it was reported spawned. The performer forks with signals blocked, and the child
/// unblocks them when its own handlers stand: until then nothing is lost and nothing meets a default action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WorkerSignal {
    /// TERM: its end has begun. The application hears of it now, and can end streams and long polls; the worker still
    /// takes what the gateway gives it, until [`Action::ReleaseWorker`].
    Graceful,
    /// QUIT: exit now (`worker_int`).
    Quick,
    /// ABRT: expired (`worker_abort`).
    Abort,
    /// KILL.
    Kill,
    /// USR1: open the log files anew.
    Reopen,
}

/// What the server exits with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ExitCode(pub i32);

impl ExitCode {
    /// Stopped as told.
    pub const OK: Self = Self(0);
    /// The arbiter's own start failed.
    pub const FAILURE: Self = Self(1);
    /// A hook raised before anything served: what Gunicorn exits with then.
    pub const UNHANDLED: Self = Self(255);
}
