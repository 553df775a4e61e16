//! All settings, resolved: a value and its source for each, and typed getters for those Rust code asks for.

use std::sync::Arc;
use std::time::Duration;

use crate::bind_address::{BindAddress, BindAddressError, Scheme, parse_bind};
use crate::environment::{Environment, Host};
use crate::network::Network;
use crate::resolver::{SettingError, known};
use crate::table::{TABLE, position};
use crate::validate::{parse_statsd_address, validate};
use crate::value::{Quoted, Raw, Source, Value};
use crate::worker_class::WorkerClass;

/// Least characters of `dashboard_token`: nobody guesses so many.
const TOKEN_LEAST: usize = 16;

/// The words of `loglevel`; whatever else is written there means the second.
pub(crate) const LOG_LEVELS: [&str; 5] = ["debug", "info", "warning", "error", "critical"];

/// The settings in force.
#[derive(Debug, Clone)]
pub struct Settings {
    environment: Environment,
    host: Arc<dyn Host>,
    /// By position in the table.
    values: Vec<(Value, Source)>,
    /// `bind`, read.
    bind: Vec<BindAddress>,
    /// What is spoken there, where `bind` says so.
    schemes: Vec<Option<Scheme>>,
    /// `metrics_bind`, read.
    metrics_bind: Option<BindAddress>,
    /// What a worker class of the user's has turned out to be.
    served_as: Option<WorkerClass>,
}

impl Settings {
    /// Checks what Gunicorn only finds out when it uses the values.
    pub(crate) fn new(
        values: Vec<(Value, Source)>,
        environment: Environment,
        host: Arc<dyn Host>,
    ) -> Result<Self, SettingError> {
        let mut settings = Self {
            environment,
            host,
            values,
            bind: Vec::new(),
            schemes: Vec::new(),
            metrics_bind: None,
            served_as: None,
        };
        (settings.schemes, settings.bind) = settings.read_bind()?;
        settings.metrics_bind = settings.read_metrics_bind()?;
        settings.check_monitoring_path()?;
        settings.check_dashboard()?;
        settings.check_assignments("raw_env")?;
        settings.check_assignments("raw_paste_global_conf")?;
        Ok(settings)
    }

    /// Sets one value whoever set it before (`cfg.set` of Gunicorn). A refused value changes nothing.
    pub fn set(&mut self, name: &str, raw: Raw, source: Source) -> Result<(), SettingError> {
        let position = known(name)?;
        let value = validate(
            &TABLE[position],
            raw,
            &source,
            &self.environment,
            &*self.host,
        )?;
        let mut values = self.values.clone();
        values[position] = (value, source);
        let served_as = self.served_as.take();
        *self = Self::new(values, self.environment.clone(), Arc::clone(&self.host))?;
        if !matches!(name, "worker_class" | "threads") {
            self.served_as = served_as;
        }
        Ok(())
    }

    /// The value of a setting of the table.
    ///
    /// # Panics
    /// If there is no such setting: names that come from outside go through [`Settings::find`].
    pub fn get(&self, name: &str) -> &Value {
        self.find(name).expect("the name is in the table")
    }

    /// The value of a setting, if there is such a setting.
    pub fn find(&self, name: &str) -> Option<&Value> {
        position(name).map(|position| &self.values[position].0)
    }

    /// Who set it; none for a name that is no setting's.
    pub fn source(&self, name: &str) -> Option<&Source> {
        position(name).map(|position| &self.values[position].1)
    }

    /// Every name and value, in the order of the table.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Value)> {
        TABLE
            .iter()
            .zip(&self.values)
            .map(|(definition, (value, _))| (definition.name, value))
    }

    /// What the machine was asked by when the settings were read.
    pub(crate) fn host(&self) -> &dyn Host {
        &*self.host
    }

    /// The environment the defaults were computed from.
    pub(crate) fn environment(&self) -> &Environment {
        &self.environment
    }

    // Getters by type. A setting that holds something else, or nothing, gives the type's empty value.

    /// A switch.
    pub fn switch(&self, name: &str) -> bool {
        self.get(name).is_true()
    }

    /// A text, if it is set.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).as_str()
    }

    /// A number; no setting of the table may be negative.
    pub fn number(&self, name: &str) -> u64 {
        self.get(name)
            .as_int()
            .and_then(|number| u64::try_from(number).ok())
            .unwrap_or_default()
    }

    /// A number that counts things of which there are never 2^32.
    pub fn count(&self, name: &str) -> u32 {
        u32::try_from(self.number(name)).unwrap_or(u32::MAX)
    }

    /// A number of bytes.
    pub fn bytes(&self, name: &str) -> usize {
        usize::try_from(self.number(name)).unwrap_or(usize::MAX)
    }

    /// A number of seconds.
    pub fn seconds(&self, name: &str) -> Duration {
        Duration::from_secs(self.number(name))
    }

    /// Several texts.
    pub fn list(&self, name: &str) -> &[String] {
        self.get(name).as_list().unwrap_or_default()
    }

    /// Texts by name.
    pub fn dict(&self, name: &str) -> &[(String, String)] {
        match self.get(name) {
            Value::Dict(entries) => entries,
            _ => &[],
        }
    }

    /// Handle of a hook, if it is set.
    pub fn hook(&self, name: &str) -> Option<u32> {
        match self.get(name) {
            Value::Object(object) => Some(*object),
            _ => None,
        }
    }

    /// Addresses and networks (`ADDRESS/LENGTH`) of a setting such as `forwarded_allow_ips`, or `*`.
    pub fn networks(&self, name: &str) -> Vec<String> {
        let normal = |entry: &String| {
            Network::parse(entry).map_or_else(|_| entry.clone(), |network| network.to_string())
        };
        self.list(name).iter().map(normal).collect()
    }

    // Getters by name, for what more than one room asks.

    /// `bind`, read.
    pub fn bind(&self) -> &[BindAddress] {
        &self.bind
    }

    /// Whether certificates are named, which turns TLS on.
    pub fn names_certificates(&self) -> bool {
        self.text("certfile").is_some() || self.text("keyfile").is_some()
    }

    /// Whether TLS is spoken at an address: `bind` says so by a scheme, else it is where certificates are named.
    pub fn speaks_tls_at(&self, address: &BindAddress) -> bool {
        self.scheme_at(address).is_secure()
    }

    /// The protocol below TLS that is spoken at an address: `bind` says so by a scheme, else `protocol` does.
    pub fn protocol_at(&self, address: &BindAddress) -> &'static str {
        self.scheme_at(address).protocol()
    }

    /// What is spoken at an address, as the line `Listening at: ...` says it.
    pub fn scheme_at(&self, address: &BindAddress) -> Scheme {
        let place = self.bind.iter().position(|bind| bind == address);
        let named = place.and_then(|place| self.schemes[place]);
        named.unwrap_or_else(|| {
            let protocol = self.text("protocol").unwrap_or_default();
            Scheme::of(&protocol.to_lowercase(), self.names_certificates())
        })
    }

    /// Whether TLS is spoken anywhere.
    pub fn speaks_tls(&self) -> bool {
        self.bind.iter().any(|address| self.speaks_tls_at(address))
    }

    /// `metrics_bind`, read.
    pub const fn metrics_bind(&self) -> Option<&BindAddress> {
        self.metrics_bind.as_ref()
    }

    /// `workers`.
    pub fn workers(&self) -> u32 {
        self.count("workers")
    }

    /// `threads`, at least one.
    pub fn threads(&self) -> u32 {
        self.count("threads").max(1)
    }

    /// `worker_connections`.
    pub fn worker_connections(&self) -> u32 {
        self.count("worker_connections")
    }

    /// `max_requests`; none: a worker is never replaced for its age.
    pub fn max_requests(&self) -> Option<u64> {
        Some(self.number("max_requests")).filter(|limit| *limit > 0)
    }

    /// `timeout`; zero switches it off.
    pub fn timeout(&self) -> Duration {
        self.seconds("timeout")
    }

    /// `boot_timeout`; zero switches it off.
    pub fn boot_timeout(&self) -> Duration {
        self.seconds("boot_timeout")
    }

    /// `graceful_timeout`.
    pub fn graceful_timeout(&self) -> Duration {
        self.seconds("graceful_timeout")
    }

    /// `keepalive`; zero closes connections after each response.
    pub fn keep_alive(&self) -> Duration {
        self.seconds("keepalive")
    }

    /// The worker class that is asked for: `sync` with more than one thread is `gthread`.
    pub fn asked_worker_class(&self) -> WorkerClass {
        WorkerClass::in_force(self.get("worker_class"), self.threads())
    }

    /// The worker class in force: what was asked for, or what that has turned out to be.
    pub fn worker_class(&self) -> WorkerClass {
        let served_as = self.served_as.clone();
        served_as.unwrap_or_else(|| self.asked_worker_class())
    }

    /// Workers are served as `class`, whatever was asked for: a class of the user's derives from it. It holds until
    /// `worker_class` or `threads` is set again.
    pub fn serve_as(&mut self, class: WorkerClass) {
        self.served_as = Some(class);
    }

    /// `loglevel`, in lower case; `info` where it is no level.
    pub fn log_level(&self) -> &'static str {
        let level = self.text("loglevel").unwrap_or_default().to_lowercase();
        LOG_LEVELS
            .into_iter()
            .find(|word| *word == level)
            .unwrap_or("info")
    }

    /// The name in process titles: `proc_name`, else `default_proc_name`.
    pub fn process_name(&self) -> &str {
        self.text("proc_name")
            .or_else(|| self.text("default_proc_name"))
            .unwrap_or_default()
    }

    /// Whether files are sent with `sendfile(2)`: the setting, else the variable `SENDFILE`, else yes.
    pub fn sendfile(&self) -> bool {
        match (self.get("sendfile"), self.environment.variable("SENDFILE")) {
            (Value::Bool(value), _) => *value,
            (_, Some(word)) => ["y", "1", "yes", "true"].contains(&word.to_lowercase().as_str()),
            (_, None) => true,
        }
    }

    /// Whether an ASGI application is told the client that X-Forwarded-For names (`asgi_proxy_headers`).
    pub fn believes_forwarded_clients(&self) -> bool {
        match self.text("asgi_proxy_headers") {
            Some("on") => true,
            Some("off") => false,
            _ => self
                .text("worker_class")
                .is_some_and(WorkerClass::is_replaced),
        }
    }

    /// `raw_env`, split at the first `=`.
    pub fn application_environment(&self) -> impl Iterator<Item = (&str, &str)> {
        self.list("raw_env")
            .iter()
            .filter_map(|entry| entry.split_once('='))
    }

    /// `statsd_host`, read.
    pub fn statsd_address(&self) -> Option<BindAddress> {
        self.text("statsd_host").and_then(parse_statsd_address)
    }

    fn read_bind(&self) -> Result<(Vec<Option<Scheme>>, Vec<BindAddress>), SettingError> {
        let entries = self.list("bind");
        if entries.is_empty() {
            return Err(self.refusal("bind", "must have at least one address".into()));
        }
        let read = |entry: &String| {
            parse_bind(entry).map_err(|fault| self.refused_address("bind", entry, &fault))
        };
        let read: Vec<_> = entries.iter().map(read).collect::<Result<_, _>>()?;
        let secure = read
            .iter()
            .filter_map(|(scheme, _)| *scheme)
            .find(|scheme| scheme.is_secure());
        if let Some(scheme) = secure
            && !self.names_certificates()
            && self.hook("ssl_context").is_none()
        {
            let allowed = format!(
                "must not say {} without a certificate: set certfile",
                scheme.prefix()
            );
            return Err(self.refusal("bind", allowed));
        }
        Ok(read.into_iter().unzip())
    }

    fn read_metrics_bind(&self) -> Result<Option<BindAddress>, SettingError> {
        let entry = self.text("metrics_bind").filter(|text| !text.is_empty());
        let Some(address) = entry
            .map(|entry| self.read_address("metrics_bind", entry))
            .transpose()?
        else {
            return Ok(None);
        };
        if self.bind.contains(&address) {
            let allowed = format!("must be another address than bind, not {address}");
            return Err(self.refusal("metrics_bind", allowed));
        }
        Ok(Some(address))
    }

    fn check_monitoring_path(&self) -> Result<(), SettingError> {
        let Some(path) = self.text("monitoring_path") else {
            return Ok(());
        };
        let is_path = path.starts_with('/')
            && !path.ends_with('/')
            && (path.bytes()).all(|byte| byte.is_ascii_graphic() && !b"?#%".contains(&byte));
        if !is_path {
            let allowed = "must be the beginning of a path, such as /-".to_owned();
            return Err(self.refusal("monitoring_path", allowed));
        }
        if self.list("monitoring_allow_ips").is_empty() {
            let allowed = "needs monitoring_allow_ips: nobody would be answered".to_owned();
            return Err(self.refusal("monitoring_path", allowed));
        }
        Ok(())
    }

    /// Where the dashboard is, its figures are for whoever reaches it; so it is not just anybody.
    fn check_dashboard(&self) -> Result<(), SettingError> {
        let token = self.text("dashboard_token");
        if let Some(token) = token
            && (token.len() < TOKEN_LEAST || !token.bytes().all(|byte| byte.is_ascii_graphic()))
        {
            let allowed = format!(
                "must have at least {TOKEN_LEAST} printable ASCII characters and no spaces"
            );
            return Err(self.secret_refusal("dashboard_token", allowed));
        }
        if !self.get("dashboard").is_true() {
            return Ok(());
        }
        let Some(address) = &self.metrics_bind else {
            let allowed = "must be off, or metrics_bind set: the dashboard is served there";
            return Err(self.refusal("dashboard", allowed.into()));
        };
        if token.is_none() && !address.is_local() {
            let allowed = format!(
                "must be off, or dashboard_token set, or metrics_bind a loopback address or a unix socket: others may \
                 reach {address}"
            );
            return Err(self.refusal("dashboard", allowed));
        }
        Ok(())
    }

    fn read_address(
        &self,
        setting: &'static str,
        entry: &str,
    ) -> Result<BindAddress, SettingError> {
        BindAddress::parse(entry).map_err(|fault| self.refused_address(setting, entry, &fault))
    }

    fn refused_address(
        &self,
        setting: &'static str,
        entry: &str,
        fault: &BindAddressError,
    ) -> SettingError {
        let allowed = format!(
            "must be HOST:PORT, unix:PATH or fd://N: {fault}, in {}",
            Quoted(entry)
        );
        self.refusal(setting, allowed)
    }

    fn check_assignments(&self, name: &'static str) -> Result<(), SettingError> {
        match self.list(name).iter().find(|entry| !entry.contains('=')) {
            Some(entry) => Err(self.refusal(
                name,
                format!("must be NAME=VALUE, unlike {}", Quoted(entry)),
            )),
            None => Ok(()),
        }
    }

    /// A refusal that does not repeat the value.
    fn secret_refusal(&self, setting: &'static str, allowed: String) -> SettingError {
        let mut refusal = self.refusal(setting, allowed);
        if let SettingError::NotAllowed { value, .. } = &mut refusal {
            *value = "(not shown)".into();
        }
        refusal
    }

    fn refusal(&self, setting: &'static str, allowed: String) -> SettingError {
        let source = self
            .source(setting)
            .expect("the name is in the table")
            .clone();
        SettingError::NotAllowed {
            setting,
            value: self.get(setting).to_string(),
            allowed,
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{environment, file, refused, resolve, text, texts, try_resolve};

    #[test]
    fn gives_numbers_as_what_they_mean() {
        let settings = resolve(&[
            ("workers", Raw::Int(4)),
            ("threads", Raw::Int(0)),
            ("timeout", Raw::Int(0)),
            ("keepalive", text("5")),
            ("max_requests", Raw::Int(i64::MAX)),
            ("worker_connections", Raw::Int(i64::MAX)),
        ]);
        assert_eq!((settings.workers(), settings.threads()), (4, 1));
        assert_eq!(settings.timeout(), Duration::ZERO);
        assert_eq!(settings.keep_alive(), Duration::from_secs(5));
        assert_eq!(settings.graceful_timeout(), Duration::from_secs(30));
        assert_eq!(settings.max_requests(), Some(i64::MAX.unsigned_abs()));
        assert_eq!(settings.worker_connections(), u32::MAX);
        assert_eq!(resolve(&[]).max_requests(), None);
    }

    #[test]
    fn dashboard_is_for_this_machine_or_for_who_has_the_token() {
        let on = ("dashboard", Raw::Bool(true));
        let token = "0123456789abcdef";
        let is_fine = |bind: &str, token: Option<&str>| {
            let mut pairs = vec![on.clone(), ("metrics_bind", text(bind))];
            pairs.extend(token.map(|token| ("dashboard_token", text(token))));
            try_resolve(&[], &pairs).is_ok()
        };
        for local in ["127.0.0.1:1", "[::1]:1", "localhost:1", "unix:m", "unix:@m"] {
            assert!(is_fine(local, None), "{local}");
        }
        for open in [
            "0.0.0.0:1",
            ":1",
            "10.0.0.1:1",
            "[::]:1",
            "shop.local:1",
            "fd://3",
        ] {
            assert!(!is_fine(open, None), "{open}");
            assert!(is_fine(open, Some(token)), "{open}");
        }
        assert!(
            try_resolve(&[], std::slice::from_ref(&on))
                .is_err_and(|error| error.to_string().contains("metrics_bind set"))
        );
        for bad in [
            "short",
            "with spaces in it, and long",
            "ääääääääääääääää",
            "",
        ] {
            assert!(!is_fine("127.0.0.1:1", Some(bad)), "{bad}");
            let Err(error) = try_resolve(&[], &[("dashboard_token", text(bad))]) else {
                panic!("accepted: {bad}");
            };
            let error = error.to_string();
            assert!(error.contains("at least 16"), "{error}");
            assert!(bad.is_empty() || !error.contains(bad), "{error}");
        }
    }

    #[test]
    fn reads_metrics_bind_which_is_another_address() {
        assert_eq!(resolve(&[]).metrics_bind(), None);
        let settings = resolve(&[("metrics_bind", text("unix:/m"))]);
        let shown = settings.metrics_bind().map(ToString::to_string);
        assert_eq!(shown.as_deref(), Some("unix:/m"));
        assert!(refused("metrics_bind", text("a:b")).contains("must be HOST:PORT"));
        assert!(refused("metrics_bind", text("127.0.0.1:8000")).contains("another address"));
    }

    #[test]
    fn reads_bind_once_everything_is_known() {
        let settings = resolve(&[("bind", texts(&["unix:/a", "[::1]:80"]))]);
        let shown: Vec<String> = settings.bind().iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["unix:/a", "http://[::1]:80"]);
        assert_eq!(
            refused("bind", texts(&["a:b"])),
            "must be HOST:PORT, unix:PATH or fd://N: 'b' is not a valid port number (0 to 65535), in 'a:b'"
        );
        assert_eq!(
            refused("bind", texts(&[])),
            "must have at least one address"
        );
    }

    #[test]
    fn refuses_environment_entries_without_a_value() {
        assert_eq!(
            refused("raw_env", texts(&["A=1", "B"])),
            "must be NAME=VALUE, unlike 'B'"
        );
        let settings = resolve(&[("raw_env", texts(&["A=1=2", "B="]))]);
        assert!(
            settings
                .application_environment()
                .eq([("A", "1=2"), ("B", "")])
        );
    }

    #[test]
    fn decides_about_sendfile() {
        let cases = [
            (None, Raw::None, true),
            (Some("no"), Raw::None, false),
            (Some("YES"), Raw::None, true),
            (Some("no"), Raw::Bool(true), true),
            (None, Raw::Bool(false), false),
        ];
        for (variable, raw, expected) in cases {
            let variables: Vec<(&str, &str)> = variable
                .map(|value| ("SENDFILE", value))
                .into_iter()
                .collect();
            let settings = try_resolve(&variables, &[("sendfile", raw)]).expect("fine");
            assert_eq!(settings.sendfile(), expected, "{variable:?}");
        }
    }

    #[test]
    fn set_overrides_every_source_and_leaves_all_as_it_was_on_a_refusal() {
        let mut settings = resolve(&[("workers", Raw::Int(4))]);
        settings
            .set("workers", Raw::Int(2), Source::Framework)
            .expect("fine");
        assert_eq!(
            (settings.workers(), settings.source("workers")),
            (2, Some(&Source::Framework))
        );
        settings
            .set("bind", text("a:b"), file())
            .expect_err("no port");
        settings
            .set("workers", Raw::Int(-1), file())
            .expect_err("negative");
        assert_eq!((settings.workers(), settings.bind().len()), (2, 1));
        assert_eq!(settings.environment(), &environment(&[]));
    }

    #[test]
    fn writes_networks_the_short_way() {
        let settings = resolve(&[("forwarded_allow_ips", text("10.0.0.0/255.0.0.0, ::1,*"))]);
        assert_eq!(
            settings.networks("forwarded_allow_ips"),
            ["10.0.0.0/8", "::1", "*"]
        );
        assert_eq!(
            settings.list("forwarded_allow_ips"),
            ["10.0.0.0/255.0.0.0", "::1", "*"]
        );
    }

    #[test]
    fn names_the_process_and_the_level() {
        let settings = resolve(&[
            ("loglevel", text("WARNING")),
            ("default_proc_name", text("app:app")),
        ]);
        assert_eq!(
            (settings.log_level(), settings.process_name()),
            ("warning", "app:app")
        );
        let settings = resolve(&[("loglevel", text("loud")), ("proc_name", text("shop"))]);
        assert_eq!(
            (settings.log_level(), settings.process_name()),
            ("info", "shop")
        );
    }
}
