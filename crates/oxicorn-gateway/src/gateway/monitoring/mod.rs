//! Metrics and probes on a listener of their own (`metrics_bind`).
//!
//! | decides | module |
//! |---|---|
//! | what a request for them is answered | `answer` |
//! | whether the server lives, is ready, has started | `probes` |
//! | which figures there are and what they are called | `families`, `processes`, `proportional` |
//! | how they are written down | `exposition` |
//! | how the applications' own are | `application` |
//! | in which of two formats | `negotiation` |
//! | which requests there are (for the control socket) | `requests` |
//! | requests that are followed as they pass (the same) | `follow` |
//! | connections and their bounds | `endpoint` |
//! | the same on the listeners of the clients (`monitoring_path`) | `shared` |
//! | the page that shows it | `dashboard` |
//!
//! Nothing of it goes through the queue, and nothing of it counts as a client: it is answered while every
//! worker is busy, while clients are turned away, and during a graceful stop until the last request is done.

mod answer;
mod application;
pub(crate) mod dashboard;
mod endpoint;
mod exposition;
mod families;
mod follow;
mod negotiation;
mod pool;
mod probes;
mod processes;
mod proportional;
mod requests;
mod shared;

pub use application::application_metrics;
pub use dashboard::DashboardSetup;
pub(crate) use endpoint::serve;
pub(crate) use follow::Followers;
pub(crate) use proportional::ProportionalMemory;
