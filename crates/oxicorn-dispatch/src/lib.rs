//! Who gets which request: the queue between the gateway's connections and the workers.
//!
//! This crate decides; it performs nothing. It knows no ring, no socket, no process and no clock: a
//! *driver* (the gateway, or the pool of heavy applications) tells it what happened and when, and
//! carries out what [`Dispatcher::poll_action`] asks for. Years of crashes, stalls and reloads can so
//! be simulated with a seed.
//!
//! # The driver's loop
//!
//! 1. Tell what happened, any number of events in a row: [`Dispatcher::submit`] and
//!    [`Dispatcher::cancel`] for clients, the `handle_*` family for workers, the verbs
//!    ([`Dispatcher::add_worker`], [`Dispatcher::retire_worker`] ...) for the arbiter's orders. `now` is
//!    the time since an arbitrary origin and never runs backwards; one reading per round of the driver's
//!    loop is enough.
//! 2. Call [`Dispatcher::poll_action`] until it returns `None`, and do what it says. Decisions are made
//!    there, with everything known that was told before.
//! 3. Arm one timer for [`Dispatcher::next_deadline`]; when it rings, call
//!    [`Dispatcher::handle_timeout`] and go on with 2.
//!
//! # What each action wants for an answer
//!
//! | action | the driver does | and answers |
//! |---|---|---|
//! | [`Action::Place`] | writes the request into the worker's ring | nothing now; [`Dispatcher::handle_completed`] at its end. Ring full: [`Dispatcher::handle_placement_refused`]. Not written and not wanted any more: [`Dispatcher::handle_lost`] |
//! | [`Action::Revoke`] | takes the claim word back | [`Dispatcher::handle_revoked`] or [`Dispatcher::handle_revoke_refused`], before anything else is decided: until then `poll_action` places and revokes nothing |
//! | [`Action::Reject`] | answers 503 with `Retry-After` | nothing: the request is forgotten |
//! | [`Action::Drained`] | tells the arbiter | nothing; [`Dispatcher::remove_worker`] when the process is gone |
//!
//! # A request's states
//!
//! ```text
//!   submit ──> Queued ───────────Place──────────> Placed ──completed──> (forgotten)
//!               │ ^                                │  │ ^
//!   Reject <────┘ ├──── placement refused ─────────┘  │ │ refused: it was claimed
//!   cancel <──────┤                                 Revoke
//!                 ├──── revoked ───────────────────── Revoking
//!                 └──── revoked ──── Orphaned <── remove_worker (from Placed or Revoking)
//!                                        └── lost ──> (forgotten)
//! ```
//!
//! Whatever comes back goes before everything that was never placed, in order of arrival. An event that
//! names an unknown request is ignored: a completion may cross a cancellation or a worker's death. A
//! completion or a death also answers the revocation that was ordered; the driver must not answer it again
//! once the request was placed anew. A placed request whose client leaves is taken back by the driver at
//! once, without an order, and answered as if there had been one; taken back it is forgotten.
//!
//! # What is promised
//!
//! * Requests are placed in order of arrival, each at one worker at a time; none is lost or forgotten
//!   before its end was told or ordered.
//! * None waits in the queue while a worker that may serve it has room (unless its ring is full).
//! * None is placed ahead while a worker has room, and never more than [`Policy`] allows.
//! * A request that is not yet claimed does not stay behind a slow one, or at a worker that hangs, while
//!   another worker is free, for much longer than [`Policy::stall_after`].
//! * What is placed ahead waits no longer than [`Policy::queue_timeout`] in all, unless its worker goes on.
//!
//! # What is not here
//!
//! Timeouts of requests in service, retries and whether a request may be served twice: the driver's and the
//! arbiter's. Priorities and affinity: all requests are equal, all workers of a generation too.

#![forbid(unsafe_code)]

mod action;
mod dispatcher;
mod in_flight;
mod index;
mod policy;
mod queue;
mod requests;
mod service_time;
mod time;
mod worker;
mod worker_table;

pub use action::{Action, Cancelled, Generation, RejectReason, RequestId, WorkerId};
pub use dispatcher::{Dispatcher, Staffing};
pub use policy::Policy;
