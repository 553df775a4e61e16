//! The WSGI bridge: a claimed request becomes an environ, the application is called, what it returns
//! becomes a response on the link (PEP 3333).
//!
//! Everything here runs attached to the interpreter, on the thread that serves the request; waiting
//! (for room in the ring, for a slow client's credit) is `worker::wait`'s affair.

mod bridge;
mod call;
mod client_socket;
mod environ;
mod exchange;
mod handed;
mod handles;
mod head;
mod input;
mod known_addresses;
mod plain_file;
mod report;
mod server;

pub(crate) use bridge::Bridge;
pub(crate) use client_socket::LazySocket;
pub(crate) use exchange::Exchange;
pub(crate) use input::Input;
pub(crate) use server::WsgiServer;
