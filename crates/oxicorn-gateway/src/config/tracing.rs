//! What is decided by about ids and traces.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How requests are named and followed; by default not at all.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tracing {
    /// `request_id`: each request has an id.
    pub request_id: Option<RequestId>,
    /// `request_start`: what proxies say about the time before us counts.
    pub request_start: bool,
    /// `server_timing`: responses have a `Server-Timing` header.
    pub server_timing: bool,
    /// `trace_context`, and `tracing`, which needs it.
    pub context: TraceContext,
    /// Which traces that begin here are sampled.
    pub sampler: Sampler,
    /// Where spans go, if anywhere.
    pub export: Option<Export>,
    /// What is wrong in the environment, for the error log.
    pub complaints: Vec<String>,
}

/// The id of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestId {
    /// `request_id_header`
    pub header: String,
    /// `request_id_response`: the response has it too.
    pub respond: bool,
}

/// Whose `traceparent` is believed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TraceContext {
    /// It is passed on unread.
    #[default]
    Off,
    /// Anybody's.
    Any,
    /// That of peers whose forwarding headers are believed.
    Trusted,
}

/// Which traces are sampled.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sampler {
    /// A trace that began elsewhere is sampled if that was decided there.
    pub follows_parent: bool,
    /// Of the others, this part is: 0 to 1.
    pub ratio: f64,
}

impl Default for Sampler {
    fn default() -> Self {
        Self {
            follows_parent: true,
            ratio: 1.0,
        }
    }
}

/// A collector that takes OTLP over HTTP, and what it is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Export {
    /// Where spans are posted to: an `http` or `https` URL.
    pub endpoint: String,
    /// Whose certificates an `https` collector may have; none: those the system believes.
    pub authorities: Option<Authorities>,
    /// Further headers of those posts.
    pub headers: Vec<(String, String)>,
    /// Attributes of the resource.
    pub resource: Vec<(String, String)>,
    /// How long one post may take.
    pub timeout: Duration,
    /// How long spans are gathered.
    pub delay: Duration,
    /// Spans that wait at most; more are dropped.
    pub queue: usize,
    /// Spans in one post at most; not 0.
    pub batch: usize,
}

/// A file of certificates, PEM, and who has named it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authorities {
    /// The setting or the variable.
    pub name: String,
    /// Where the file is.
    pub path: PathBuf,
}
