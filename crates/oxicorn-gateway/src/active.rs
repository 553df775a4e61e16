//! Settings made ready for use: what connections read all the time, worked out once.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use oxicorn_dispatch::Policy;
use oxicorn_proto::http1::{self, OwnLine};
use oxicorn_proto::proxy_protocol::Mode;
use oxicorn_proto::trust::{AddressSet, TrustRules};

use crate::buffer::spool::{MemoryFiles, Spool};
use crate::config::settings::{ProxyProtocol, Queue, Settings, Trust};
use crate::telemetry::tracing;

/// One reload's settings; connections keep those they started with.
#[derive(Debug)]
pub(crate) struct ActiveConfig {
    pub(crate) settings: Settings,
    pub(crate) rules: Arc<http1::Rules>,
    /// The Server line of responses.
    pub(crate) server_line: OwnLine,
    pub(crate) trust: TrustRules,
    /// Peers that may speak uwsgi.
    pub(crate) web_servers: AddressSet,
    pub(crate) body_memory: usize,
    pub(crate) spool: Spool,
    pub(crate) proxy_mode: Option<Mode>,
    /// What is looked for in requests beside what is needed to serve them.
    pub(crate) tracing: Option<Rc<tracing::Rules>>,
    /// Clients or a collector are told how long requests took where.
    pub(crate) is_timed: bool,
    /// Metrics and probes among the clients' requests.
    pub(crate) monitoring: Option<SharedMonitoring>,
}

impl ActiveConfig {
    /// `memory_files`: those that live through a reload.
    pub(crate) fn new(settings: Settings, memory_files: Rc<MemoryFiles>) -> Self {
        Self {
            rules: Arc::new(settings.rules.clone()),
            // A name that cannot stand in a line is none.
            server_line: OwnLine::new(b"Server", settings.server_header.as_bytes())
                .unwrap_or_default(),
            trust: trust_rules(&settings.trust),
            web_servers: AddressSet::new(&settings.trust.uwsgi_allow_ips),
            tracing: tracing::Rules::new(&settings.tracing),
            is_timed: settings.tracing.server_timing || settings.tracing.export.is_some(),
            monitoring: SharedMonitoring::of(&settings),
            body_memory: settings.body_memory,
            spool: Spool::new(&settings, memory_files),
            proxy_mode: match settings.trust.proxy_protocol {
                ProxyProtocol::Off => None,
                ProxyProtocol::V1 => Some(Mode::V1),
                ProxyProtocol::V2 => Some(Mode::V2),
                ProxyProtocol::Auto => Some(Mode::Auto),
            },
            settings,
        }
    }

    /// `now` plus a deadline of the settings; zero is no deadline.
    pub(crate) fn deadline(now: Duration, limit: Duration) -> Option<Duration> {
        (!limit.is_zero()).then(|| now + limit)
    }
}

/// Where metrics and probes are answered among the clients' requests (`monitoring_path`), and whom.
#[derive(Debug)]
pub(crate) struct SharedMonitoring {
    pub(crate) prefix: Vec<u8>,
    pub(crate) peers: AddressSet,
}

impl SharedMonitoring {
    /// `None`: nowhere.
    pub(crate) fn of(settings: &Settings) -> Option<Self> {
        let prefix = settings.monitoring_path.as_ref()?;
        Some(Self {
            prefix: prefix.as_bytes().to_vec(),
            peers: AddressSet::new(&settings.monitoring_allow_ips),
        })
    }
}

fn trust_rules(trust: &Trust) -> TrustRules {
    TrustRules::new(
        AddressSet::new(&trust.forwarded_allow_ips),
        AddressSet::new(&trust.proxy_allow_ips),
        &trust.secure_scheme_headers,
    )
}

pub(crate) fn policy(queue: &Queue) -> Policy {
    Policy {
        queue_limit: queue.limit,
        queue_timeout: queue.timeout,
        prefetch_limit: queue.prefetch_limit,
        prefetch_budget: queue.prefetch_budget,
        stall_after: queue.stall_after,
    }
}
