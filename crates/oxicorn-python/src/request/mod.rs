//! What both bridges need of a request: the hooks around it, the objects these get, who writes its access line.

mod access;
pub(crate) mod error_page;
pub(crate) mod headers;
mod hooks;
mod objects;

pub(crate) use access::{AccessLogging, Waits, Watched};
pub(crate) use hooks::Hooks;
pub(crate) use objects::{is_https, make_request, make_response, server_of, set_trailers};
