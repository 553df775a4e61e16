//! gevent's hub in front of the WSGI bridge: each request is a greenlet.
//!
//! ```text
//!   doorbell -> GeventServer::wake (in the hub) -> events   -> inbox (worker::responder) -> greenlets that wait for them
//!                                               -> requests -> HubCall -> gevent.Greenlet -> wsgi::Bridge
//! ```
//!
//! Everything runs on the hub's thread. What a greenlet waits for on the link it waits for by switching to the hub
//! ([`Greenlets`] is the third kind of [`Wait`](crate::worker::wait::Wait)); no lock is held and nothing of other
//! calls is borrowed meanwhile. A greenlet's stack is moved away while others run: nothing outside of it may point
//! into it.

mod call;
mod greenlets;
mod server;

pub(crate) use call::HubCall;
use greenlets::Greenlets;
pub(crate) use server::GeventServer;
