//! Who runs, who is replaced, and when: the decisions of the supervising process, as a pure state machine.
//!
//! It decides: how many workers there are and which generation serves; when a successor is started and its
//! predecessor retired; how long a dead process stays dead (back-off); the order and the deadlines of a shutdown;
//! what is logged about all this. It refuses to know: processes, signals, sockets, clocks, configuration files,
//! Python. Those belong to the performer, which turns what happens into an [`Event`], hands it over together with
//! the time, and does the [`Action`]s it gets back, in their order.
//!
//! # Theory of operation
//!
//! ```text
//!                 handle(event, now)                      poll_action()
//!   performer  ----------------------->  [ Arbiter ]  ----------------------->  performer
//!              handle_timeout(now)            |
//!                                        next_deadline()  "wake me at the latest then"
//! ```
//!
//! The performer's loop: wait for a signal, a notice or [`Arbiter::next_deadline`]; report it; then take actions until
//! [`Arbiter::poll_action`] gives `None`. An action may be reported on while others are still waiting (a
//! [`Action::SpawnWorker`] is answered by [`Event::WorkerSpawned`] at once). After [`Action::Exit`] nothing follows.
//!
//! Inside, every event changes the table of workers first, and then one function (`reconcile`) compares the table with
//! what is wanted and orders the difference. Nothing is scheduled step by step: a crash, a signal or a lost notice in
//! the middle of a reload only changes the table, and the next comparison takes it from there.
//!
//! # Rules
//!
//! * **Successor first.** A generation is served only when all its workers are ready; only then is the old one retired.
//!   The same holds for a single replacement (`max_requests`) and for TTOU: a ready worker is retired only while there
//!   are more ready ones than wanted.
//! * **A broken deploy takes nothing down.** A generation that does not boot is given up; the one before goes on. Only the
//!   first boot may end the server (exit code 3 or 4).
//! * **The first answer first.** Where processors are scarce the first worker boots before the others, for a moment at most
//!   ([`timing::VANGUARD`]).
//! * **How many at most.** See [`Plan::workers`].
//! * **Told first, released last.** Whatever makes a worker go without haste, TERM is the first thing it gets: the
//!   application may have streams that end only if it says so. The worker serves what it has, and what the gateway still
//!   gives it, until it is released.
//! * **Code that is being loaded harms nobody.** With [`Plan::preload_app`] a process of its own loads a generation's
//!   application and forks its workers; it may take long, fail or die, and those who serve go on. A dead one is replaced.
//! * **Every wait has an end.** A worker told to go is signalled gracefully, then quickly, then killed; the constants are in
//!   [`timing`]. After TERM everything is over within `graceful_timeout` + twice [`timing::STOP_GRACE`] + [`timing::REAP_GRACE`].
//! * **Illegal or stale events change nothing.** Notices cross with deaths (a worker reports ready and is reaped before the
//!   notice is read); such an event leaves a debug line and nothing else.

#![forbid(unsafe_code)]

mod action;
mod arbiter;
mod backoff;
mod boot_patience;
mod event;
mod gateway;
mod log;
pub mod messages;
mod plan;
pub mod pool;
mod template;
mod worker;
mod worker_table;

pub use crate::action::{Action, ExitCode, WorkerSignal};
pub use crate::arbiter::Arbiter;
pub use crate::event::{BootFailure, Command, Event, Exit, ReplacementReason};
pub use crate::log::{Level, LogLine, Reason, Relative};
pub use crate::plan::{Generation, Plan, WorkerId, timing};
pub use crate::template::{Template, TemplateState};
pub use crate::worker::{WorkerRecord, WorkerState};
