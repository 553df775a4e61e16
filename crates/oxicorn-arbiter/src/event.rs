//! What can happen to the arbiter.

use std::fmt;

use crate::plan::{Generation, Plan, WorkerId};

/// Something happened. The performer reports it with the time it noticed it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Event {
    /// The listeners are bound; begin. Once.
    Started,
    /// The user wants something (a signal, later the control socket).
    Command(Command),

    /// A worker saw that a file of the application changed. The number stands for this change: other workers that see
    /// it give the same.
    SourceChanged(u64),

    /// A program of its own asks for one worker more than wanted (Gunicorn's `Arbiter.spawn_worker`).
    SpawnRequested,

    /// [`crate::Action::StartSuccessor`] was done.
    SuccessorStarted,
    /// It could not be done.
    SuccessorFailed,
    /// The successor was reaped.
    SuccessorExited,
    /// The arbiter whose successor this one is has ended.
    PredecessorGone,

    /// [`crate::Action::SpawnTemplate`] was done. Reported before anything else about this template.
    TemplateSpawned {
        /// Whose application it loads.
        generation: Generation,
        /// Its process.
        pid: u32,
    },
    /// The fork failed.
    TemplateSpawnFailed(Generation),
    /// The template of this generation has loaded the application.
    TemplateReady(Generation),
    /// It was reaped. Reported after everything it said, the pids of workers it forked above all.
    TemplateExited {
        /// Whose it was.
        generation: Generation,
        /// How it ended. (If it could not load the application, it has logged why.)
        exit: Exit,
    },
    /// Answer to [`crate::Action::LoadConfiguration`].
    ConfigurationLoaded(Plan),
    /// Answer to [`crate::Action::LoadConfiguration`]: it is not valid (the performer has logged why).
    ConfigurationRefused,
    /// Answer to [`crate::Action::LoadConfiguration`]: it is valid, but the hook that was called with it raised (the
    /// performer has logged what).
    ReloadHookFailed,

    /// [`crate::Action::SpawnGateway`] was done. Reported before anything else about this gateway.
    GatewaySpawned {
        /// Its process.
        pid: u32,
    },
    /// The fork failed.
    GatewaySpawnFailed,
    /// Its event loop runs and watches the listeners.
    GatewayReady,
    /// After [`crate::Action::DrainGateway`]: every connection has ended. The process exits next.
    GatewayDrained,
    /// It was reaped.
    GatewayExited(Exit),

    /// [`crate::Action::SpawnWorker`] was done. Reported before anything else about this worker.
    WorkerSpawned {
        /// The worker ordered.
        worker: WorkerId,
        /// Its process.
        pid: u32,
    },
    /// The fork (or the making of the link) failed; there is no process.
    WorkerSpawnFailed(WorkerId),
    /// The hook `pre_fork`, or the making of the worker's object, raised: there is no process.
    PreForkFailed(WorkerId),
    /// Application loaded, hooks run; the worker can take requests.
    WorkerReady(WorkerId),
    /// It cannot be made ready and exits by itself. Saying so is optional: the exit code says the same.
    WorkerBootFailed {
        /// Which one.
        worker: WorkerId,
        /// Why.
        failure: BootFailure,
    },
    /// It has found an application that another worker class serves, and exits by itself. Workers started from now on
    /// are of that class, so this is no failure.
    WorkerMisfit(WorkerId),
    /// It was reaped.
    WorkerExited {
        /// Which one.
        worker: WorkerId,
        /// How.
        exit: Exit,
    },
    /// The gateway, asked to retire it, has nothing of it in flight any more.
    WorkerDrained(WorkerId),
    /// It serves on, but wants a successor.
    WorkerWantsReplacement {
        /// Which one.
        worker: WorkerId,
        /// Why.
        reason: ReplacementReason,
    },
    /// The gateway gave up on a request of this worker that is older than `timeout`.
    RequestExpired {
        /// Which one.
        worker: WorkerId,
        /// Requests it still works on beside the expired one.
        in_flight_others: u32,
    },
    /// Its heartbeat on the scoreboard is older than `timeout`: the whole process stands still.
    HeartbeatMissed(WorkerId),
    /// The gateway found nonsense in its link and has let go of it.
    WorkerFault(WorkerId),
}

impl Event {
    /// What it is called in a debug line.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Started => "Started",
            Self::Command(command) => command.signal_name(),
            Self::SourceChanged(_) => "SourceChanged",
            Self::SpawnRequested => "SpawnRequested",
            Self::SuccessorStarted => "SuccessorStarted",
            Self::SuccessorFailed => "SuccessorFailed",
            Self::SuccessorExited => "SuccessorExited",
            Self::PredecessorGone => "PredecessorGone",
            Self::TemplateSpawned { .. } => "TemplateSpawned",
            Self::TemplateSpawnFailed(_) => "TemplateSpawnFailed",
            Self::TemplateReady(_) => "TemplateReady",
            Self::TemplateExited { .. } => "TemplateExited",
            Self::ConfigurationLoaded(_) => "ConfigurationLoaded",
            Self::ConfigurationRefused => "ConfigurationRefused",
            Self::ReloadHookFailed => "ReloadHookFailed",
            Self::GatewaySpawned { .. } => "GatewaySpawned",
            Self::GatewaySpawnFailed => "GatewaySpawnFailed",
            Self::GatewayReady => "GatewayReady",
            Self::GatewayDrained => "GatewayDrained",
            Self::GatewayExited(_) => "GatewayExited",
            Self::WorkerSpawned { .. } => "WorkerSpawned",
            Self::WorkerSpawnFailed(_) => "WorkerSpawnFailed",
            Self::PreForkFailed(_) => "PreForkFailed",
            Self::WorkerReady(_) => "WorkerReady",
            Self::WorkerBootFailed { .. } => "WorkerBootFailed",
            Self::WorkerMisfit(_) => "WorkerMisfit",
            Self::WorkerExited { .. } => "WorkerExited",
            Self::WorkerDrained(_) => "WorkerDrained",
            Self::WorkerWantsReplacement { .. } => "WorkerWantsReplacement",
            Self::RequestExpired { .. } => "RequestExpired",
            Self::HeartbeatMissed(_) => "HeartbeatMissed",
            Self::WorkerFault(_) => "WorkerFault",
        }
    }
}

/// What a user orders by a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Command {
    /// TERM: stop gracefully. A second one makes it quick.
    Terminate,
    /// INT: stop quickly.
    Interrupt,
    /// QUIT: stop quickly.
    Quit,
    /// HUP: load the configuration and the application anew.
    Reload,
    /// TTIN: one worker more.
    MoreWorkers,
    /// TTOU: one worker less.
    FewerWorkers,
    /// USR1: open the log files anew.
    Reopen,
    /// USR2: start a successor, the server as it is installed now, on the same listeners.
    Upgrade,
    /// WINCH: stop the workers gracefully and go on without, in the background.
    StopWorkers,
}

impl Command {
    /// Every order, as the reference page lists them.
    pub const ALL: [Self; 9] = [
        Self::Terminate,
        Self::Interrupt,
        Self::Quit,
        Self::Reload,
        Self::MoreWorkers,
        Self::FewerWorkers,
        Self::Reopen,
        Self::Upgrade,
        Self::StopWorkers,
    ];

    /// What it does, for the reference page.
    pub const fn effect(self) -> &'static str {
        match self {
            Self::Terminate => {
                "graceful stop: connections waiting in the backlog are served, listeners closed, requests in flight \
                 finished within `graceful_timeout`; exit code 0. A second one makes it quick"
            }
            Self::Interrupt | Self::Quit => "quick stop; exit code 0",
            Self::Reload => {
                "reload: settings are read again, a new generation of workers is started beside the old one. When all \
                 of it is ready it takes over and the old one finishes what it has. If it does not boot, or the \
                 settings are refused, the old one goes on and the error log says why"
            }
            Self::MoreWorkers => "one worker more",
            Self::FewerWorkers => "one worker less, never below one",
            Self::Reopen => "reopen all log files",
            Self::Upgrade => {
                "upgrade: starts the server as it is installed now beside this one, on the same listeners (see \
                 [Exchanging the server itself](../deployment.md#exchanging-the-server-itself))"
            }
            Self::StopWorkers => {
                "in the background (`daemon`): stop the workers gracefully and go on without; HUP starts them again, \
                 TTIN one of them. In the foreground, where terminals send it, ignored"
            }
        }
    }

    /// The signal's name as Gunicorn logs it.
    pub const fn signal_name(self) -> &'static str {
        match self {
            Self::Terminate => "term",
            Self::Interrupt => "int",
            Self::Quit => "quit",
            Self::Reload => "hup",
            Self::MoreWorkers => "ttin",
            Self::FewerWorkers => "ttou",
            Self::Reopen => "usr1",
            Self::Upgrade => "usr2",
            Self::StopWorkers => "winch",
        }
    }
}

/// Why a worker could not be made ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BootFailure {
    /// Any exception before it was booted (Gunicorn's `WORKER_BOOT_ERROR`, exit code 3).
    Boot,
    /// The application could not be found or made (Gunicorn's `APP_LOAD_ERROR`, exit code 4).
    Application,
}

impl BootFailure {
    /// What a worker's exit status says about its boot.
    pub const fn from_exit(exit: Exit) -> Option<Self> {
        match exit {
            Exit::Code(3) => Some(Self::Boot),
            Exit::Code(4) => Some(Self::Application),
            Exit::Code(_) | Exit::Signal(_) => None,
        }
    }

    /// What it says where the worker was still booting and nobody had told it to go: any code but 0 is a failure, such as
    /// that of a library that ends the process. A signal comes from outside (a lack of memory, an operator), and 0 also
    /// from a worker that a terminal's Ctrl-C reached first: the next one may have more luck.
    pub const fn of_boot(exit: Exit) -> Option<Self> {
        match exit {
            Exit::Code(0) | Exit::Signal(_) => None,
            Exit::Code(4) => Some(Self::Application),
            Exit::Code(_) => Some(Self::Boot),
        }
    }

    /// The code the worker, and on a first boot the server, exits with.
    pub const fn exit_code(self) -> i32 {
        match self {
            Self::Boot => 3,
            Self::Application => 4,
        }
    }
}

impl fmt::Display for BootFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Boot => "Worker failed to boot.",
            Self::Application => "App failed to load.",
        })
    }
}

/// How a process ended, as `waitpid` tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Exit {
    /// It exited with this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

/// Why a worker that works well is to be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReplacementReason {
    /// It served `max_requests`.
    MaxRequests,
    /// It uses more memory than it may.
    Memory,
    /// The user asked for it.
    Requested,
}
