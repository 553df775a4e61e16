//! The WSGI bridge: a claimed request becomes an environ, the application is called, what it returns
//! becomes a response on the link (PEP 3333).
//!
//! Everything here runs attached to the interpreter, on the thread that serves the request; waiting
//! (for room in the ring, for a slow client's credit) is `worker::wait`'s affair.

mod access;
mod call;
mod client_socket;
mod environ;
mod exchange;
mod head;
mod hooks;
mod input;
mod plain_file;

pub(crate) use access::AccessLogging;
pub(crate) use call::Application;
pub(crate) use client_socket::LazySocket;
pub(crate) use environ::Constants;
pub(crate) use exchange::Exchange;
pub(crate) use head::error_response;
pub(crate) use hooks::{Hooks, make_request, make_response, server_of, set_trailers};
pub(crate) use input::Input;
