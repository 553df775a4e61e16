//! All settings, resolved: a value and its source for each, and typed getters for those Rust code asks for.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::bind_address::BindAddress;
use crate::environment::{Environment, Host};
use crate::resolver::{SettingError, known};
use crate::table::{TABLE, position};
use crate::validate::validate;
use crate::value::{Raw, Source, Value};

/// The settings in force.
#[derive(Debug, Clone)]
pub struct Settings {
    environment: Environment,
    host: Arc<dyn Host>,
    /// By position in the table.
    values: Vec<(Value, Source)>,
    /// `bind`, read.
    bind: Vec<BindAddress>,
}

impl Settings {
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

    /// Checks what only shows when every value is known.
    pub(crate) fn new(
        values: Vec<(Value, Source)>,
        environment: Environment,
        host: Arc<dyn Host>,
    ) -> Result<Self, SettingError> {
        let _ = (values, environment, host);
        todo!("cross checks")
    }

    /// Sets one value whoever set it before (`cfg.set` of Gunicorn).
    pub fn set(&mut self, name: &str, raw: Raw, source: Source) -> Result<(), SettingError> {
        let position = known(name)?;
        let value = validate(
            &TABLE[position],
            raw,
            &source,
            &self.environment,
            &*self.host,
        )?;
        self.values[position] = (value, source);
        Ok(())
    }

    /// Every name and value, in the order of the table.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Value)> {
        TABLE
            .iter()
            .zip(&self.values)
            .map(|(definition, (value, _))| (definition.name, value))
    }

    /// `bind`, read.
    pub fn bind(&self) -> &[BindAddress] {
        &self.bind
    }

    /// `workers`.
    pub fn workers(&self) -> u32 {
        todo!()
    }

    /// `threads`, at least one.
    pub fn threads(&self) -> u32 {
        todo!()
    }

    /// `timeout`; zero switches it off.
    pub fn timeout(&self) -> Duration {
        todo!()
    }

    /// `graceful_timeout`.
    pub fn graceful_timeout(&self) -> Duration {
        todo!()
    }

    /// `keepalive`; zero closes connections after each response.
    pub fn keep_alive(&self) -> Duration {
        todo!()
    }

    /// The worker class in force: `sync` with more than one thread is `gthread`.
    pub fn worker_class(&self) -> WorkerClass {
        todo!()
    }
}

/// The kind of worker that serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkerClass {
    /// One request at a time.
    Sync,
    /// A pool of threads.
    Gthread,
    /// Greenlets.
    Gevent,
    /// `gevent.pywsgi`'s server.
    GeventPywsgi,
    /// Tornado's server.
    Tornado,
    /// An event loop and ASGI.
    Asgi,
    /// A class by its dotted path or entry point.
    Named(String),
    /// A class the config file holds.
    Object(u32),
}

impl fmt::Display for WorkerClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let _ = f;
        todo!()
    }
}
