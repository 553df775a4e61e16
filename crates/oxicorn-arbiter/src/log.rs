//! What the arbiter says, typed; `Display` gives the words.
//!
//! Where Gunicorn has a line for it, the words are Gunicorn's to the letter, because people search for them.

use std::fmt;
use std::time::Duration;

use crate::event::{BootFailure, Command, Exit};
use crate::plan::timing::HEALTHY_AGE;
use crate::plan::{Generation, WorkerId};

/// How loud.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// For developers of the server.
    Debug,
    /// The normal course of things.
    Info,
    /// Unusual, nothing lost.
    Warning,
    /// Something was lost or does not work.
    Error,
    /// A worker stands still.
    Critical,
}

/// One line for the error log.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[expect(
    missing_docs,
    reason = "the words below say what each line is; `pid` is the process spoken of"
)]
pub enum LogLine {
    HandlingSignal(Command),
    HangUp,
    QuickShutdownRequested,
    ActiveWorkers(usize),
    WorkerTimeout {
        pid: u32,
    },
    /// Follows `WorkerTimeout` where it was still booting.
    WorkerBootOverdue {
        pid: u32,
        within: Duration,
        next: Duration,
    },
    WorkerGracefulTimeout {
        pid: u32,
    },
    /// It ended by itself or by somebody else's signal.
    WorkerEnded {
        pid: u32,
        exit: Exit,
    },
    /// It ended by itself before it was ready, with a code that does not say why.
    WorkerEndedEarly {
        pid: u32,
        code: i32,
    },
    /// Follows the line of one that died young, where the next ones are made to wait.
    WorkersDieYoung {
        rounds: u32,
        wait: Duration,
        none_served: bool,
    },
    /// It ended by the SIGKILL the arbiter sent.
    WorkerKilled {
        pid: u32,
    },
    WorkerFaulty {
        pid: u32,
    },
    WorkerSpawnFailed {
        worker: WorkerId,
    },
    WorkerUnreapable {
        pid: u32,
    },
    TemplateSpawnFailed,
    /// It ended by itself or by somebody else's signal.
    TemplateEnded {
        pid: u32,
        exit: Exit,
    },
    TemplateTimeout {
        pid: u32,
    },
    /// Follows `TemplateTimeout` where it was still loading.
    TemplateOverdue {
        pid: u32,
        within: Duration,
        next: Duration,
    },
    /// Follows `TemplateTimeout` where it was forking a worker.
    TemplateStuck {
        pid: u32,
    },
    TemplateUnreapable {
        pid: u32,
    },
    GatewayEnded {
        pid: u32,
        exit: Exit,
    },
    GatewaySpawnFailed,
    GatewayUnreapable {
        pid: u32,
    },
    Reloaded {
        generation: Generation,
    },
    /// Its workers are started when some of those who are leaving have ended.
    ReloadWaits {
        generation: Generation,
        leaving: usize,
    },
    ReloadGivenUp {
        generation: Generation,
        serving: Generation,
        reason: Reason,
    },
    UpgradeIgnored(Relative),
    Promoted,
    GracefulStopOfWorkers,
    WindowChangeIgnored,
    ShuttingDown,
    ReasonForShutdown(Reason),
    /// An event that the state does not know: stale, or a fault of the performer.
    EventIgnored {
        event: &'static str,
    },
}

/// Why a generation, or the server, is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// A worker said so.
    Boot(BootFailure),
    /// A worker was not ready in time.
    BootOverdue,
    /// The application was not loaded in time, ahead of the workers.
    PreloadOverdue,
    /// Too many workers died before they served.
    WorkersDied,
    /// The configuration is not valid.
    Configuration,
    /// The hook `on_reload` raised.
    ReloadHook,
    /// The hook `pre_fork` raised, or the worker class did when it was made.
    PreForkHook,
    /// The gateway ended before it was ever ready.
    Gateway,
    /// The application could not be loaded ahead of the workers.
    Preload,
}

/// Another arbiter on the same listeners.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Relative {
    /// Its successor.
    Child,
    /// Its predecessor.
    Parent,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boot(failure) => failure.fmt(f),
            Self::BootOverdue => f.write_str("Worker was not ready in time (boot_timeout)."),
            Self::PreloadOverdue => f.write_str("App was not loaded in time (boot_timeout)."),
            Self::WorkersDied => f.write_str("Workers died before they were ready."),
            Self::Configuration => f.write_str("Configuration is not valid."),
            Self::PreForkHook => f.write_str("Hook pre_fork raised an exception."),
            Self::ReloadHook => f.write_str("Hook on_reload raised an exception."),
            Self::Gateway => f.write_str("Gateway failed to boot."),
            Self::Preload => f.write_str("App failed to load."),
        }
    }
}

impl LogLine {
    /// How loud this line is where nothing else is said.
    pub const fn level(&self) -> Level {
        match self {
            Self::ActiveWorkers(_) | Self::EventIgnored { .. } | Self::WindowChangeIgnored => {
                Level::Debug
            }
            Self::HandlingSignal(_)
            | Self::HangUp
            | Self::QuickShutdownRequested
            | Self::Reloaded { .. }
            | Self::Promoted
            | Self::GracefulStopOfWorkers
            | Self::ShuttingDown
            | Self::ReasonForShutdown(_) => Level::Info,
            Self::WorkerGracefulTimeout { .. }
            | Self::WorkerKilled { .. }
            | Self::ReloadWaits { .. }
            | Self::UpgradeIgnored(_) => Level::Warning,
            Self::WorkerEnded { exit, .. } | Self::TemplateEnded { exit, .. } => exit_level(*exit),
            Self::WorkerFaulty { .. }
            | Self::WorkerEndedEarly { .. }
            | Self::WorkersDieYoung { .. }
            | Self::WorkerBootOverdue { .. }
            | Self::WorkerSpawnFailed { .. }
            | Self::WorkerUnreapable { .. }
            | Self::TemplateSpawnFailed
            | Self::TemplateOverdue { .. }
            | Self::TemplateStuck { .. }
            | Self::TemplateUnreapable { .. }
            | Self::GatewayEnded { .. }
            | Self::GatewaySpawnFailed
            | Self::GatewayUnreapable { .. }
            | Self::ReloadGivenUp { .. } => Level::Error,
            Self::WorkerTimeout { .. } | Self::TemplateTimeout { .. } => Level::Critical,
        }
    }
}

/// Gunicorn's: killed and failed are errors, terminated is information, other signals are warnings.
const fn exit_level(exit: Exit) -> Level {
    match exit {
        Exit::Code(_) | Exit::Signal(SIGKILL) => Level::Error,
        Exit::Signal(SIGTERM) => Level::Info,
        Exit::Signal(_) => Level::Warning,
    }
}

impl fmt::Display for LogLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HandlingSignal(command) => {
                write!(f, "Handling signal: {}", command.signal_name())
            }
            Self::HangUp => f.write_str("Hang up: Master"),
            Self::QuickShutdownRequested => f.write_str("Quick shutdown requested"),
            Self::ActiveWorkers(count) => write!(f, "{count} workers"),
            Self::WorkerTimeout { pid } => write!(f, "WORKER TIMEOUT (pid:{pid})"),
            Self::WorkerBootOverdue { pid, within, next } => write!(
                f,
                "Worker (pid:{pid}) was not ready after {} s (boot_timeout). The next one has {} s.",
                within.as_secs(),
                next.as_secs()
            ),
            Self::WorkerGracefulTimeout { pid } => {
                write!(f, "Worker graceful timeout (pid:{pid})")
            }
            Self::WorkerEnded { pid, exit } => write_exit(f, "Worker", *pid, *exit),
            Self::WorkerEndedEarly { pid, code } => write!(
                f,
                "Worker (pid:{pid}) exited with code {code} before it was ready."
            ),
            Self::WorkersDieYoung {
                rounds,
                wait,
                none_served,
            } => write_young_deaths(f, *rounds, *wait, *none_served),
            Self::WorkerKilled { pid } => write!(f, "Worker (pid:{pid}) was sent SIGKILL!"),
            Self::WorkerFaulty { pid } => {
                write!(
                    f,
                    "Worker (pid:{pid}) wrote nonsense to the gateway; killing it."
                )
            }
            Self::WorkerSpawnFailed { worker } => {
                write!(f, "Worker {worker} could not be started.")
            }
            Self::WorkerUnreapable { pid } => {
                write!(f, "Worker (pid:{pid}) does not die; leaving it behind.")
            }
            Self::TemplateSpawnFailed => f.write_str("Template could not be started."),
            Self::TemplateEnded { pid, exit } => write_exit(f, "Template", *pid, *exit),
            Self::TemplateTimeout { pid } => write!(f, "TEMPLATE TIMEOUT (pid:{pid})"),
            Self::TemplateOverdue { pid, within, next } => write!(
                f,
                "Template (pid:{pid}) had not loaded the application after {} s (boot_timeout). \
                 The next one has {} s.",
                within.as_secs(),
                next.as_secs()
            ),
            Self::TemplateStuck { pid } => write!(
                f,
                "Template (pid:{pid}) stands still in a fork (a hook, or what the application does then)."
            ),
            Self::TemplateUnreapable { pid } => {
                write!(f, "Template (pid:{pid}) does not die; leaving it behind.")
            }
            Self::GatewayEnded { pid, exit } => write_exit(f, "Gateway", *pid, *exit),
            Self::GatewaySpawnFailed => f.write_str("Gateway could not be started."),
            Self::GatewayUnreapable { pid } => {
                write!(f, "Gateway (pid:{pid}) does not die; leaving it behind.")
            }
            Self::Reloaded { generation } => write!(f, "Reloaded: generation {generation} serves"),
            Self::ReloadWaits {
                generation,
                leaving,
            } => write!(
                f,
                "Reload: generation {generation} waits until some of {leaving} workers of earlier generations have ended \
                 (graceful_timeout at most)"
            ),
            Self::ReloadGivenUp {
                generation,
                serving,
                reason,
            } => write!(
                f,
                "Reload failed, generation {generation} is given up, \
                 generation {serving} goes on serving. Reason: {reason}"
            ),
            Self::UpgradeIgnored(Relative::Child) => {
                f.write_str("USR2 signal ignored. Child exists.")
            }
            Self::UpgradeIgnored(Relative::Parent) => {
                f.write_str("USR2 signal ignored. Parent exists.")
            }
            Self::Promoted => f.write_str("Master has been promoted."),
            Self::GracefulStopOfWorkers => f.write_str("graceful stop of workers"),
            Self::WindowChangeIgnored => f.write_str("SIGWINCH ignored. Not daemonized"),
            Self::ShuttingDown => f.write_str("Shutting down: Master"),
            Self::ReasonForShutdown(reason) => write!(f, "Reason: {reason}"),
            Self::EventIgnored { event } => write!(f, "Ignored in this state: {event}"),
        }
    }
}

fn write_young_deaths(
    f: &mut fmt::Formatter<'_>,
    rounds: u32,
    wait: Duration,
    none_served: bool,
) -> fmt::Result {
    let young = HEALTHY_AGE.as_secs();
    let seconds = wait.as_secs_f64();
    let state = if none_served {
        ", and none has served yet"
    } else {
        ""
    };
    write!(
        f,
        "Workers died within {young} s of their start, {rounds} times in a row{state}. \
         The next start is in {seconds:.1} s; a reload (HUP) tries at once."
    )
}

fn write_exit(f: &mut fmt::Formatter<'_>, who: &str, pid: u32, exit: Exit) -> fmt::Result {
    match exit {
        Exit::Code(code) => write!(f, "{who} (pid:{pid}) exited with code {code}."),
        Exit::Signal(signal) => {
            write!(f, "{who} (pid:{pid}) was sent {}!", SignalName(signal))?;
            // Somebody else's KILL; the arbiter's own is `WorkerKilled`.
            if signal == SIGKILL {
                f.write_str(" Perhaps out of memory?")
            } else {
                Ok(())
            }
        }
    }
}

const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

/// Signals by number: those that POSIX and custom number the same everywhere, and the ones that differ.
struct SignalName(i32);

impl fmt::Display for SignalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 {
            1 => "SIGHUP",
            2 => "SIGINT",
            3 => "SIGQUIT",
            4 => "SIGILL",
            5 => "SIGTRAP",
            6 => "SIGABRT",
            8 => "SIGFPE",
            SIGKILL => "SIGKILL",
            11 => "SIGSEGV",
            13 => "SIGPIPE",
            14 => "SIGALRM",
            SIGTERM => "SIGTERM",
            other => match platform_signal_name(other) {
                Some(name) => name,
                // Gunicorn's words for a number without a name.
                None => return write!(f, "code {other}"),
            },
        };
        f.write_str(name)
    }
}

#[cfg(not(target_vendor = "apple"))]
const fn platform_signal_name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        7 => "SIGBUS",
        10 => "SIGUSR1",
        12 => "SIGUSR2",
        16 => "SIGSTKFLT",
        24 => "SIGXCPU",
        25 => "SIGXFSZ",
        26 => "SIGVTALRM",
        27 => "SIGPROF",
        29 => "SIGIO",
        30 => "SIGPWR",
        31 => "SIGSYS",
        _ => return None,
    })
}

#[cfg(target_vendor = "apple")]
const fn platform_signal_name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        7 => "SIGEMT",
        10 => "SIGBUS",
        12 => "SIGSYS",
        24 => "SIGXCPU",
        25 => "SIGXFSZ",
        26 => "SIGVTALRM",
        27 => "SIGPROF",
        30 => "SIGUSR1",
        31 => "SIGUSR2",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_operators_search_for_are_gunicorns() {
        let ended = |exit| LogLine::WorkerEnded { pid: 7, exit };
        let cases = [
            (
                LogLine::HandlingSignal(Command::Reload),
                Level::Info,
                "Handling signal: hup",
            ),
            (
                LogLine::HandlingSignal(Command::Reopen),
                Level::Info,
                "Handling signal: usr1",
            ),
            (LogLine::HangUp, Level::Info, "Hang up: Master"),
            (
                LogLine::QuickShutdownRequested,
                Level::Info,
                "Quick shutdown requested",
            ),
            (LogLine::ActiveWorkers(3), Level::Debug, "3 workers"),
            (
                LogLine::WorkerTimeout { pid: 7 },
                Level::Critical,
                "WORKER TIMEOUT (pid:7)",
            ),
            (
                ended(Exit::Signal(9)),
                Level::Error,
                "Worker (pid:7) was sent SIGKILL! Perhaps out of memory?",
            ),
            (
                ended(Exit::Signal(15)),
                Level::Info,
                "Worker (pid:7) was sent SIGTERM!",
            ),
            (
                ended(Exit::Signal(11)),
                Level::Warning,
                "Worker (pid:7) was sent SIGSEGV!",
            ),
            (
                ended(Exit::Signal(64)),
                Level::Warning,
                "Worker (pid:7) was sent code 64!",
            ),
            (
                ended(Exit::Code(3)),
                Level::Error,
                "Worker (pid:7) exited with code 3.",
            ),
            (LogLine::ShuttingDown, Level::Info, "Shutting down: Master"),
            (
                LogLine::UpgradeIgnored(Relative::Child),
                Level::Warning,
                "USR2 signal ignored. Child exists.",
            ),
            (
                LogLine::UpgradeIgnored(Relative::Parent),
                Level::Warning,
                "USR2 signal ignored. Parent exists.",
            ),
            (LogLine::Promoted, Level::Info, "Master has been promoted."),
            (
                LogLine::GracefulStopOfWorkers,
                Level::Info,
                "graceful stop of workers",
            ),
            (
                LogLine::WindowChangeIgnored,
                Level::Debug,
                "SIGWINCH ignored. Not daemonized",
            ),
            (
                LogLine::ReasonForShutdown(Reason::Boot(BootFailure::Boot)),
                Level::Info,
                "Reason: Worker failed to boot.",
            ),
            (
                LogLine::ReasonForShutdown(Reason::Boot(BootFailure::Application)),
                Level::Info,
                "Reason: App failed to load.",
            ),
        ];
        for (line, level, words) in cases {
            assert_eq!(line.to_string(), words);
            assert_eq!(line.level(), level, "{words}");
        }
    }
}
