//! Where spans go and what they say of the service: settings first, then what the environment says in OpenTelemetry's words.
//!
//! The variables are those of the specification ("OpenTelemetry Environment Variable Specification" and "OpenTelemetry
//! Protocol Exporter"). What is wrong in a setting is refused; what is wrong in a variable is complained of and left out,
//! as the specification has it, because it may be meant for the application alone.

use std::time::Duration;

use crate::settings::Settings;
use crate::value::Quoted;

/// An exporter's port and path where nobody names another (OTLP/HTTP).
const DEFAULT_BASE: &str = "http://localhost:4318";
const TRACES_PATH: &str = "/v1/traces";

/// What `service.name` is where nobody names the service.
const UNKNOWN_SERVICE: &str = "unknown_service:oxicorn";

/// `OTEL_EXPORTER_OTLP_TIMEOUT`, in milliseconds.
const TIMEOUT: u64 = 10_000;
const MOST_TIMEOUT: u64 = 600_000;

/// `OTEL_BSP_SCHEDULE_DELAY`, in milliseconds.
const DELAY: u64 = 5_000;
const MOST_DELAY: u64 = 600_000;

/// `OTEL_BSP_MAX_QUEUE_SIZE` and `OTEL_BSP_MAX_EXPORT_BATCH_SIZE`, in spans.
const QUEUE: u64 = 2048;
const MOST_QUEUE: u64 = 65_536;
const BATCH: u64 = 512;

/// Everything the exporter of spans needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Otlp {
    /// The URL spans are posted to.
    pub endpoint: String,
    /// Whose certificates an `https` collector may have; none: those the system believes.
    pub authorities: Option<Authorities>,
    /// Further headers of those posts.
    pub headers: Vec<(String, String)>,
    /// Attributes of the resource, `service.name` first.
    pub resource: Vec<(String, String)>,
    /// Which requests have a span.
    pub sampler: Sampler,
    /// How long one post may take.
    pub timeout: Duration,
    /// How long spans are gathered.
    pub delay: Duration,
    /// How many wait at most; more are dropped.
    pub queue: usize,
    /// How many go in one post at most.
    pub batch: usize,
}

/// A file of certificates, PEM, and who has named it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorities {
    /// The setting or the variable.
    pub name: String,
    /// Where the file is.
    pub path: String,
}

/// Which traces are sampled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampler {
    /// A trace that began elsewhere is sampled if that was decided there.
    pub follows_parent: bool,
    /// Of the others, this part is (0 to 1).
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

/// Which traces are sampled, whether or not spans are exported. What is wrong in the environment is added to `complaints`.
pub fn sampler(
    settings: &Settings,
    variable: &dyn Fn(&str) -> Option<String>,
    complaints: &mut Vec<String>,
) -> Sampler {
    let ratio = |text: &str| parse_ratio(text).map(|text| text.parse().unwrap_or(1.0));
    if let Some(ratio) = settings.text("tracing_sample_ratio").and_then(ratio) {
        return Sampler {
            follows_parent: true,
            ratio,
        };
    }
    let filled = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
    let Some(word) = filled("OTEL_TRACES_SAMPLER") else {
        return Sampler::default();
    };
    let argument = filled("OTEL_TRACES_SAMPLER_ARG");
    let part = match argument.as_deref().map(ratio) {
        Some(None) => {
            complaints
                .push("OTEL_TRACES_SAMPLER_ARG is no number from 0 to 1: it is taken for 1".into());
            1.0
        }
        Some(Some(part)) => part,
        None => 1.0,
    };
    let word = word.trim();
    let (follows_parent, kind) = match word.strip_prefix("parentbased_") {
        Some(kind) => (true, kind),
        None => (false, word),
    };
    let ratio = match kind {
        "always_on" => 1.0,
        "always_off" => 0.0,
        "traceidratio" => part,
        _ => {
            complaints.push(format!(
                "OTEL_TRACES_SAMPLER {} is not known here: all traces that begin here are sampled",
                Quoted(word)
            ));
            return Sampler::default();
        }
    };
    Sampler {
        follows_parent,
        ratio,
    }
}

/// Where spans go; `None`: nowhere. `variable` is the environment as the application will see it.
pub fn otlp(
    settings: &Settings,
    variable: &dyn Fn(&str) -> Option<String>,
    complaints: &mut Vec<String>,
) -> Option<Otlp> {
    if !settings.switch("tracing") {
        return None;
    }
    let mut environment = Variables {
        variable,
        complaints,
    };
    if environment
        .filled("OTEL_SDK_DISABLED")
        .is_some_and(|value| value.eq_ignore_ascii_case("true"))
    {
        environment.complain("No spans are exported: OTEL_SDK_DISABLED is true".into());
        return None;
    }
    let endpoint = environment.endpoint(settings)?;
    environment.look_at_protocol();
    let authorities = environment.authorities(settings, &endpoint);
    let queue = environment.number("OTEL_BSP_MAX_QUEUE_SIZE", QUEUE, MOST_QUEUE);
    let batch = environment.number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", BATCH, MOST_QUEUE);
    let timeout = environment.number("OTEL_EXPORTER_OTLP_TIMEOUT", TIMEOUT, MOST_TIMEOUT);
    let timeout = environment.number("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", timeout, MOST_TIMEOUT);
    let delay = environment.number("OTEL_BSP_SCHEDULE_DELAY", DELAY, MOST_DELAY);
    let size = |number| usize::try_from(number).unwrap_or(usize::MAX);
    Some(Otlp {
        endpoint,
        authorities,
        headers: environment.headers(settings),
        resource: environment.resource(settings),
        sampler: sampler(settings, variable, environment.complaints),
        timeout: Duration::from_millis(timeout),
        delay: Duration::from_millis(delay),
        queue: size(queue),
        batch: size(batch.min(queue)),
    })
}

/// The environment, and what is to be said about it.
struct Variables<'a> {
    variable: &'a dyn Fn(&str) -> Option<String>,
    complaints: &'a mut Vec<String>,
}

impl Variables<'_> {
    /// An empty variable is one that is not set.
    fn filled(&self, name: &str) -> Option<String> {
        let value = (self.variable)(name)?.trim().to_owned();
        (!value.is_empty()).then_some(value)
    }

    fn complain(&mut self, complaint: String) {
        self.complaints.push(complaint);
    }

    fn number(&mut self, name: &str, default: u64, most: u64) -> u64 {
        let Some(text) = self.filled(name) else {
            return default;
        };
        match text.parse() {
            Ok(number) if (1..=most).contains(&number) => number,
            _ => {
                let text = Quoted(&text);
                self.complain(format!(
                    "{name} {text} is no number from 1 to {most}: it is taken for {default}"
                ));
                default
            }
        }
    }

    fn endpoint(&mut self, settings: &Settings) -> Option<String> {
        if let Some(url) = settings.text("tracing_endpoint") {
            return Some(with_path(url));
        }
        let (name, url) = if let Some(url) = self.filled("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") {
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", url)
        } else if let Some(base) = self.filled("OTEL_EXPORTER_OTLP_ENDPOINT") {
            let base = base.trim_end_matches('/');
            (
                "OTEL_EXPORTER_OTLP_ENDPOINT",
                format!("{base}{TRACES_PATH}"),
            )
        } else {
            return Some(with_path(DEFAULT_BASE));
        };
        match url_fault(&url) {
            None => Some(url),
            Some(fault) => {
                self.complain(format!("No spans are exported: {name} {fault}"));
                None
            }
        }
    }

    /// What is exported is protobuf over HTTP, whatever the application uses.
    fn look_at_protocol(&mut self) {
        let name = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL";
        let protocol = self
            .filled(name)
            .or_else(|| self.filled("OTEL_EXPORTER_OTLP_PROTOCOL"));
        if let Some(protocol) = protocol.filter(|protocol| protocol != "http/protobuf") {
            self.complain(format!(
                "OTEL_EXPORTER_OTLP_PROTOCOL is {}: the server's spans go as http/protobuf (tracing_endpoint says where)",
                Quoted(&protocol)
            ));
        }
    }

    /// Matters for `https` alone; what asks for more than that is complained of there.
    fn authorities(&mut self, settings: &Settings, endpoint: &str) -> Option<Authorities> {
        if !endpoint.starts_with("https://") {
            return None;
        }
        for name in [
            "OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE",
            "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
        ] {
            if self.filled(name).is_some() {
                self.complain(format!(
                    "{name} has no effect: the server shows a collector no certificate"
                ));
            }
        }
        let named = |name: &str, path| Authorities {
            name: name.into(),
            path,
        };
        let set = settings.text("tracing_ca_certs");
        let set = set.map(|path| named("tracing_ca_certs", path.to_owned()));
        set.or_else(|| {
            let variables = [
                "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE",
                "OTEL_EXPORTER_OTLP_CERTIFICATE",
            ];
            variables
                .iter()
                .find_map(|name| Some(named(name, self.filled(name)?)))
        })
    }

    /// The setting's pairs after the variables': of one name the last holds.
    fn joined(&mut self, variables: &[&str], setting: Option<&str>) -> Vec<(String, String)> {
        let mut all: Vec<(String, String)> = Vec::new();
        let mut add = |pairs: Vec<(String, String)>| {
            for (name, value) in pairs {
                all.retain(|(known, _)| *known != name);
                all.push((name, value));
            }
        };
        let named = variables
            .iter()
            .filter_map(|name| Some((*name, self.filled(name)?)));
        for (name, text) in named.collect::<Vec<_>>() {
            match parse_pairs(&text) {
                Ok(pairs) => add(pairs),
                Err(_) => self.complaints.push(format!(
                    "{name} is not NAME=VALUE separated by commas: it is left out"
                )),
            }
        }
        add(setting
            .and_then(|text| parse_pairs(text).ok())
            .unwrap_or_default());
        all
    }

    fn headers(&mut self, settings: &Settings) -> Vec<(String, String)> {
        // Those for traces replace the general ones, as the specification has it.
        let traces = "OTEL_EXPORTER_OTLP_TRACES_HEADERS";
        let name = match self.filled(traces) {
            Some(_) => traces,
            None => "OTEL_EXPORTER_OTLP_HEADERS",
        };
        let mut headers = self.joined(&[name], settings.text("tracing_headers"));
        let usable = |(name, value): &(String, String)| {
            is_token(name)
                && value
                    .bytes()
                    .all(|byte| matches!(byte, b'\t' | 0x20..=0x7e))
        };
        if let Some((bad, _)) = headers.iter().find(|header| !usable(header)) {
            // Not the value: it may be a secret.
            let text = format!(
                "The header {} for the collector cannot be sent: it is left out",
                Quoted(bad)
            );
            self.complain(text);
        }
        headers.retain(usable);
        headers
    }

    fn resource(&mut self, settings: &Settings) -> Vec<(String, String)> {
        let mut all = self.joined(
            &["OTEL_RESOURCE_ATTRIBUTES"],
            settings.text("tracing_resource"),
        );
        let at = all.iter().position(|(name, _)| name == "service.name");
        let listed = at.map(|at| all.remove(at).1);
        let set = settings
            .text("tracing_service_name")
            .filter(|name| !name.is_empty());
        let name = set
            .map(str::to_owned)
            .or_else(|| self.filled("OTEL_SERVICE_NAME"))
            .or(listed)
            .unwrap_or_else(|| UNKNOWN_SERVICE.into());
        all.insert(0, ("service.name".into(), name));
        all
    }
}

fn with_path(url: &str) -> String {
    let rest = without_scheme(url).unwrap_or(url);
    match rest.split_once('/') {
        None => format!("{url}{TRACES_PATH}"),
        Some((_, "")) => format!("{}{TRACES_PATH}", url.trim_end_matches('/')),
        Some(_) => url.into(),
    }
}

/// What is wrong with the URL of a collector, if anything is; to be said behind its name.
pub(crate) fn url_fault(url: &str) -> Option<String> {
    let authority = without_scheme(url).map(|rest| {
        rest.split_once('/')
            .map_or(rest, |(authority, _)| authority)
    });
    let is_good = url.bytes().all(|byte| byte.is_ascii_graphic())
        && authority.is_some_and(is_authority)
        && !url.contains('#');
    (!is_good)
        .then(|| "must be http://HOST:PORT or https://HOST:PORT, with or without a path".into())
}

fn without_scheme(url: &str) -> Option<&str> {
    url.strip_prefix("http://")
        .or_else(|| url.strip_prefix("https://"))
}

/// `HOST`, `HOST:PORT`, `[ADDRESS]:PORT`; names and passwords have headers of their own.
fn is_authority(authority: &str) -> bool {
    let (host, port) = match authority.strip_prefix('[') {
        Some(inside) => match inside.split_once(']') {
            Some((host, "")) => (host, None),
            Some((host, port)) => (host, Some(port.strip_prefix(':').unwrap_or("?"))),
            None => return false,
        },
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
    !host.is_empty() && !host.contains(['@', '?']) && port.is_none_or(is_port)
}

/// `name=value,name=value`, both percent-encoded (the form of W3C Baggage without properties). The pair that is none.
pub(crate) fn parse_pairs(text: &str) -> Result<Vec<(String, String)>, &str> {
    let pairs = text
        .split(',')
        .map(str::trim)
        .filter(|pair| !pair.is_empty());
    let read = |pair| {
        let (name, value) = str::split_once(pair, '=').ok_or(pair)?;
        let name = decoded(name.trim()).filter(|name| !name.is_empty());
        Ok((name.ok_or(pair)?, decoded(value.trim()).ok_or(pair)?))
    };
    pairs.map(read).collect()
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first == b'%' {
            let digits = std::str::from_utf8(after.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &after[2..];
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).ok()
}

/// A number from 0 to 1 in its shortest form.
pub(crate) fn parse_ratio(text: &str) -> Option<String> {
    let ratio: f64 = text.trim().parse().ok()?;
    (0.0..=1.0).contains(&ratio).then(|| ratio.to_string())
}

/// RFC 9110 section 5.6.2.
pub(crate) fn is_token(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_allowed)
}

#[cfg(test)]
mod tests;
