//! The gateway process from the arbiter's side: what it is given, how it is spoken to.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use oxicorn_arbiter::WorkerId;
use oxicorn_gateway::control::{self, AttachWorker, FromGateway, ToGateway};
use oxicorn_gateway::{
    AccessLog, Authorities, ErrorLog, Export, Http2, JsonAccessLog, Level, LogForwarding, Protocol,
    ProxyProtocol, RequestId, Sampler, Settings as GatewaySettings, Statsd, StatsdAddress,
    TemporaryDirectory, TraceContext, Tracing, WebSocket, WebSocketCompression,
};
use oxicorn_os::channel::{Blocking, Channel, Received};
use oxicorn_os::{poll, process};
use oxicorn_proto::http1::{self, HeaderMap, Limits};
use oxicorn_settings::{BindAddress, Settings, Value};
use pyo3::prelude::*;

use super::generation::with_settings;
use super::python::PyArbiter;
use super::workers::WorkerProcess;

/// Everything a user may send to a process group: the arbiter tells the gateway what to do.
pub(crate) const IGNORED_SIGNALS: [i32; 9] = [
    libc::SIGTERM,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGHUP,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGTTIN,
    libc::SIGTTOU,
    libc::SIGWINCH,
];

/// How long the gateway may take to make room for a message.
const PATIENCE: Duration = Duration::from_secs(2);

/// Exit code of a gateway that panicked outside of any connection.
pub(crate) const PANICKED: i32 = 101;

/// A living gateway.
#[derive(Debug)]
pub(crate) struct GatewayProcess {
    pub(crate) pid: i32,
    pub(crate) control: Channel,
}

impl GatewayProcess {
    /// Sends one message. A gateway that does not take it in time stands still and is killed, to be
    /// replaced; one that is gone already will be reaped.
    pub(crate) fn send(&self, message: &ToGateway, descriptors: &[BorrowedFd<'_>]) {
        let Ok(packet) = control::encode(message) else {
            return;
        };
        let send = || self.control.send(&packet, descriptors, Blocking::No);
        if let Ok(false) = send() {
            let _ = poll::wait_writable(self.control.as_fd(), Some(PATIENCE));
            if let Ok(false) = send() {
                let _ = process::kill(self.pid, libc::SIGKILL);
            }
        }
    }

    /// Hands a worker's link over.
    pub(crate) fn attach(&self, id: WorkerId, worker: &WorkerProcess) {
        let message = ToGateway::AttachWorker(AttachWorker {
            worker: id.0,
            pid: u32::try_from(worker.pid).unwrap_or(0),
            age: worker.age,
            generation: worker.generation.0,
            capacity: worker.capacity,
            streams: worker.traits.streams_requests,
            goes_on: worker.traits.goes_on(),
        });
        let link = &worker.link;
        let descriptors = [
            link.memory.as_fd(),
            link.gateway_doorbell.as_fd(),
            link.worker_doorbell.as_fd(),
            link.gateway_side.as_fd(),
        ];
        self.send(&message, &descriptors);
    }

    /// The next message, if there is one. What cannot be understood is given as text for the log.
    pub(crate) fn receive(&self) -> Option<Result<FromGateway, String>> {
        let (mut packet, mut descriptors): (Vec<u8>, Vec<OwnedFd>) = (Vec::new(), Vec::new());
        match self
            .control
            .recv(&mut packet, &mut descriptors, Blocking::No)
        {
            Ok(Received::Message(_)) => {
                Some(control::decode(&packet).map_err(|fault| fault.to_string()))
            }
            Ok(Received::Nothing | Received::Closed) => None,
            Err(error) => Some(Err(format!("gateway's control channel: {error}"))),
        }
    }
}

/// What the gateway may write by itself, as `oxicorn.log_routing.gateway_logging` decides.
#[derive(Debug)]
pub(crate) struct GatewayLogging {
    native_access: bool,
    log_forwarding: LogForwarding,
    level: Level,
    statsd: Option<Statsd>,
}

impl GatewayLogging {
    pub(crate) fn of(server: &PyArbiter<'_>) -> PyResult<Self> {
        let found = server.gateway_logging()?;
        let flag = |name: &str| found.getattr(name)?.is_truthy();
        Ok(Self {
            native_access: flag("native_access")?,
            log_forwarding: LogForwarding {
                access: flag("relayed_access")?,
                errors: flag("relayed_errors")?,
            },
            level: level_of_number(found.getattr("error_level")?.extract()?),
            statsd: match found.getattr("statsd")? {
                none if none.is_none() => None,
                some => Some(statsd(&some)?),
            },
        })
    }
}

/// `(address, prefix, tags)`, where the address is a path or a host and a port.
fn statsd(found: &Bound<'_, PyAny>) -> PyResult<Statsd> {
    let (address, prefix, tags): (Bound<'_, PyAny>, String, String) = found.extract()?;
    let address = match address.extract::<(String, u16)>() {
        Ok((host, port)) => StatsdAddress::Udp(host, port),
        Err(_) => StatsdAddress::Unix(address.extract()?),
    };
    Ok(Statsd {
        address,
        prefix,
        tags,
    })
}

/// Python's levels.
const fn level_of_number(number: u32) -> Level {
    match number {
        0..=10 => Level::Debug,
        11..=20 => Level::Info,
        21..=30 => Level::Warning,
        31..=40 => Level::Error,
        _ => Level::Critical,
    }
}

/// What the settings behind a `Config` mean for the gateway, and what the server calls itself.
pub(crate) fn gateway_settings(
    cfg: &Bound<'_, PyAny>,
    logging: GatewayLogging,
) -> PyResult<GatewaySettings> {
    let mut settings = with_settings(cfg, |settings| settings_for(&settings.inner, logging))?;
    let name = cfg.py().import("oxicorn")?.getattr("SERVER")?;
    settings.server_header = name.extract()?;
    Ok(settings)
}

/// What is spoken at an address; any other word of `protocol` means http, as for Gunicorn.
pub(crate) fn protocol_at(settings: &crate::settings::Settings, bind: &BindAddress) -> Protocol {
    match settings.inner.protocol_at(bind) {
        "uwsgi" => Protocol::Uwsgi,
        "fastcgi" => Protocol::FastCgi,
        "scgi" => Protocol::Scgi,
        _ => Protocol::Http,
    }
}

/// What the settings mean for the gateway.
fn settings_for(settings: &Settings, logging: GatewayLogging) -> GatewaySettings {
    let mut result = GatewaySettings::default();
    set_limits(settings, &mut result);
    set_strictness(settings, &mut result);
    set_trust(settings, &mut result);
    set_timeouts(settings, &mut result);
    set_queue(settings, &mut result);
    result.connection_limit = size(settings, "limit_connections");
    result.client_connection_limit = settings.count("limit_client_connections");
    result.requests_per_connection = settings.number("keepalive_requests");
    result.buffer_limit = size(settings, "buffer_limit");
    result.monitoring_path = text(settings, "monitoring_path").map(str::to_owned);
    result.monitoring_allow_ips = list(settings, "monitoring_allow_ips");
    let access_log = text(settings, "accesslog").map(|path| AccessLog {
        path: path.into(),
        format: text(settings, "access_log_format")
            .unwrap_or_default()
            .into(),
    });
    result.access_log = access_log.filter(|_| logging.native_access);
    result.json_access_log = text(settings, "json_accesslog").map(|path| JsonAccessLog {
        path: path.into(),
        fields: list(settings, "json_accesslog_fields"),
    });
    result.error_log = ErrorLog {
        path: text(settings, "errorlog").unwrap_or("-").into(),
        level: logging.level,
    };
    result.log_forwarding = logging.log_forwarding;
    result.statsd = logging.statsd;
    result.body_memory = size(settings, "body_memory");
    result.temporary_directories = temporary_directories(settings);
    result.response_buffer = size(settings, "response_buffer");
    result.response_spool = size(settings, "response_spool") as u64;
    result.threads = size(settings, "gateway_threads");
    result.io_uring = settings.get("io_uring").is_true();
    result.https_redirect = u16::try_from(settings.number("https_redirect"))
        .ok()
        .filter(|port| *port > 0);
    result.suppress_ragged_eofs = settings.get("suppress_ragged_eofs").is_true();
    result.http2 = http2(settings);
    result.websocket = websocket(settings);
    result.tracing = tracing(settings);
    result.stream_requests = settings.worker_class().traits().streams_requests;
    result
}

/// Ids and traces of requests. The environment is that of the application, `raw_env` included.
fn tracing(settings: &Settings) -> Tracing {
    let variable = |name: &str| {
        let own = settings
            .application_environment()
            .filter(|(key, _)| *key == name);
        let own = own.last().map(|(_, value)| value.to_owned());
        own.or_else(|| std::env::var(name).ok())
    };
    let mut complaints = Vec::new();
    let export = oxicorn_settings::otlp(settings, &variable, &mut complaints);
    let context = match text(settings, "trace_context") {
        Some("trusted") => TraceContext::Trusted,
        Some("any") => TraceContext::Any,
        _ if export.is_some() => TraceContext::Any,
        _ => TraceContext::Off,
    };
    let sampler = match &export {
        Some(export) => export.sampler,
        None if context == TraceContext::Off => oxicorn_settings::Sampler::default(),
        None => oxicorn_settings::sampler(settings, &variable, &mut complaints),
    };
    Tracing {
        request_id: settings.switch("request_id").then(|| RequestId {
            header: text(settings, "request_id_header")
                .unwrap_or_default()
                .into(),
            respond: settings.switch("request_id_response"),
        }),
        request_start: settings.switch("request_start"),
        server_timing: settings.switch("server_timing"),
        context,
        sampler: Sampler {
            follows_parent: sampler.follows_parent,
            ratio: sampler.ratio,
        },
        export: export.map(|export| Export {
            endpoint: export.endpoint,
            authorities: export.authorities.map(|file| Authorities {
                name: file.name,
                path: file.path.into(),
            }),
            headers: export.headers,
            resource: export.resource,
            timeout: export.timeout,
            delay: export.delay,
            queue: export.queue,
            batch: export.batch,
        }),
        complaints,
    }
}

/// Where temporary files may be made, in the order of Python's `tempfile` but for the two settings. The
/// working directory, where the application lies, is the last.
fn temporary_directories(settings: &Settings) -> Vec<TemporaryDirectory> {
    let setting = |name: &str| {
        text(settings, name).map(|path| TemporaryDirectory {
            path: path.into(),
            source: name.into(),
            is_setting: true,
        })
    };
    let variable = |name: &str| {
        let path = std::env::var_os(name).filter(|path| !path.is_empty())?;
        Some(TemporaryDirectory {
            path: path.into(),
            source: name.into(),
            is_setting: false,
        })
    };
    let working = std::env::current_dir().ok().map(|path| TemporaryDirectory {
        path,
        source: "the working directory".into(),
        is_setting: false,
    });
    let of_system = ["/tmp", "/var/tmp", "/usr/tmp"].map(TemporaryDirectory::system);
    setting("tmp_upload_dir")
        .into_iter()
        .chain(["TMPDIR", "TEMP", "TMP"].into_iter().filter_map(variable))
        .chain(of_system)
        .chain(setting("worker_tmp_dir"))
        .chain(working)
        .collect()
}

/// The same for `--check-config`: (path, who names it, whether that is a setting).
#[pyfunction]
pub(crate) fn temporary_directory_choices(
    cfg: &Bound<'_, PyAny>,
) -> PyResult<Vec<(OsString, String, bool)>> {
    with_settings(cfg, |settings| {
        temporary_directories(&settings.inner)
            .into_iter()
            .map(|choice| (choice.path.into(), choice.source, choice.is_setting))
            .collect()
    })
}

/// Whether this process can make temporary files in `directory`.
#[pyfunction]
#[expect(
    clippy::needless_pass_by_value,
    reason = "a new path is what Python's is turned into"
)]
pub(crate) fn holds_temporary_files(directory: PathBuf) -> bool {
    oxicorn_gateway::can_be_used(&directory)
}

/// WebSockets, where the workers leave them to the gateway.
/// HTTP/2, if `http_protocols` has it.
fn http2(settings: &Settings) -> Option<Http2> {
    let protocols = settings.list("http_protocols");
    let speaks = |name: &str| protocols.iter().any(|protocol| protocol == name);
    let cleartext = text(settings, "http2_cleartext").unwrap_or("off");
    let number = |name| u32::try_from(settings.number(name)).unwrap_or(u32::MAX);
    speaks("h2").then(|| Http2 {
        prior_knowledge: matches!(cleartext, "prior-knowledge" | "both"),
        upgrade: matches!(cleartext, "upgrade" | "both"),
        http1: speaks("h1"),
        max_concurrent_streams: number("http2_max_concurrent_streams"),
        initial_window_size: number("http2_initial_window_size"),
        max_frame_size: number("http2_max_frame_size"),
        max_header_list_size: number("http2_max_header_list_size"),
    })
}

fn websocket(settings: &Settings) -> Option<WebSocket> {
    let speaks = settings.worker_class().traits().speaks_websocket;
    speaks.then(|| WebSocket {
        max_message_size: Some(settings.number("websocket_max_message_size"))
            .filter(|limit| *limit > 0),
        ping_interval: settings.seconds("websocket_ping_interval"),
        ping_timeout: settings.seconds("websocket_ping_timeout"),
        compression: match text(settings, "websocket_compression") {
            Some("off") => WebSocketCompression::Off,
            Some("dedicated") => WebSocketCompression::Dedicated,
            _ => WebSocketCompression::Shared,
        },
        ..WebSocket::default()
    })
}

/// What the settings warn of is what the gateway does.
const _: () = assert!(
    http1::REQUEST_LINE_MAX == oxicorn_settings::REQUEST_LINE_MAX as usize
        && http1::FIELDS_MAX == oxicorn_settings::FIELDS_MAX as usize
);

/// What the settings accept as a field of the JSON log is what the gateway writes.
const _: () = assert!(
    same_texts(
        &oxicorn_settings::LOG_FIELDS,
        oxicorn_gateway::JSON_LOG_FIELDS
    ),
    "oxicorn-settings/src/log_fields.rs and oxicorn-gateway/src/telemetry/json_log.rs name different fields"
);

const fn same_texts(one: &[&str], other: &[&str]) -> bool {
    let mut number = 0;
    while number < one.len() && number < other.len() {
        let (one, other) = (one[number].as_bytes(), other[number].as_bytes());
        let mut at = 0;
        while at < one.len() && at < other.len() && one[at] == other[at] {
            at += 1;
        }
        if at != one.len() || at != other.len() {
            return false;
        }
        number += 1;
    }
    number == one.len() && number == other.len()
}

fn set_limits(settings: &Settings, result: &mut GatewaySettings) {
    let size = |name| size(settings, name);
    result.rules.limits = Limits {
        body: Some(settings.number("limit_request_body")).filter(|limit| *limit > 0),
        ..Limits::from_settings(
            size("limit_request_line"),
            size("limit_request_fields"),
            size("limit_request_field_size"),
        )
    };
}

fn set_timeouts(settings: &Settings, result: &mut GatewaySettings) {
    let timeouts = &mut result.timeouts;
    timeouts.keep_alive = settings.keep_alive();
    timeouts.kept_in_drain = settings.seconds("keepalive_drain");
    timeouts.head = settings.seconds("header_timeout");
    timeouts.body = settings.seconds("body_timeout");
    timeouts.body_rate = settings.count("body_min_rate");
    timeouts.write = settings.seconds("write_timeout");
    timeouts.write_rate = settings.count("write_min_rate");
    timeouts.request = settings.timeout();
    timeouts.slow = settings.seconds("slow_request_time");
    timeouts.graceful = settings.graceful_timeout();
}

fn set_strictness(settings: &Settings, result: &mut GatewaySettings) {
    let strictness = &mut result.rules.strictness;
    strictness.header_map = match text(settings, "header_map") {
        Some("refuse") => HeaderMap::Refuse,
        Some("dangerous") => HeaderMap::Dangerous,
        _ => HeaderMap::Drop,
    };
    let on = |name| settings.get(name).is_true();
    strictness.permit_obsolete_folding = on("permit_obsolete_folding");
    strictness.strip_header_spaces = on("strip_header_spaces");
    strictness.permit_unconventional_http_method = on("permit_unconventional_http_method");
    strictness.permit_unconventional_http_version = on("permit_unconventional_http_version");
    strictness.permit_connect = on("permit_connect");
    strictness.casefold_http_method = on("casefold_http_method");
    strictness.forwarder_headers = list(settings, "forwarder_headers")
        .into_iter()
        .map(Into::into)
        .collect();
}

fn set_trust(settings: &Settings, result: &mut GatewaySettings) {
    let trust = &mut result.trust;
    trust.forwarded_allow_ips = list(settings, "forwarded_allow_ips");
    trust.proxy_allow_ips = list(settings, "proxy_allow_ips");
    trust.uwsgi_allow_ips = list(settings, "uwsgi_allow_ips");
    if let Value::Dict(pairs) = settings.get("secure_scheme_headers") {
        trust.secure_scheme_headers.clone_from(pairs);
    }
    trust.proxy_protocol = match text(settings, "proxy_protocol") {
        Some("v1") => ProxyProtocol::V1,
        Some("v2") => ProxyProtocol::V2,
        Some("auto") => ProxyProtocol::Auto,
        _ => ProxyProtocol::Off,
    };
}

fn set_queue(settings: &Settings, result: &mut GatewaySettings) {
    result.queue.limit = size(settings, "queue_limit");
    result.queue.timeout = Duration::from_secs(size(settings, "queue_timeout") as u64);
    result.queue.prefetch_limit = if settings.worker_class().traits().prefetches() {
        u32::try_from(size(settings, "prefetch")).unwrap_or(u32::MAX)
    } else {
        0
    };
}

fn text<'a>(settings: &'a Settings, name: &str) -> Option<&'a str> {
    settings.get(name).as_str()
}

/// Negative numbers do not pass the validators.
fn size(settings: &Settings, name: &str) -> usize {
    settings
        .get(name)
        .as_int()
        .and_then(|number| usize::try_from(number).ok())
        .unwrap_or(0)
}

/// A list, or what stands between the commas of a text.
fn list(settings: &Settings, name: &str) -> Vec<String> {
    match settings.get(name) {
        Value::List(items) => items.clone(),
        Value::Str(text) => text
            .split(',')
            .map(|item| item.trim().to_owned())
            .filter(|item| !item.is_empty())
            .collect(),
        _ => Vec::new(),
    }
}
