//! Every setting of oxicorn, written once.
//!
//! [`TABLE`] has one [`Definition`] per setting: its name, flags, what values it takes, its default, what it means, since
//! when it exists, when a change takes effect, and how far Gunicorn's meaning is kept. Everything else reads that table:
//!
//! ```text
//!  environment ──► Environment ─┐                     ┌──► Settings ──► typed getters, print_config
//!  command line ─► command_line ┼─► Resolver::apply ──┤
//!  config file ──► Raw ─────────┘   (validates)       └──► SettingError: one line, exit code 1
//! ```
//!
//! A source says something ([`Raw`]); the definition's [`Kind`] turns it into what it means ([`Value`]) or refuses it. The
//! highest [`Source`] wins, whatever the order in which sources were read: defaults, framework, config file, environment,
//! command line.
//!
//! This crate decides and performs nothing: no Python, no clock, no files, no environment. What a validator must know of
//! the machine it asks a [`Host`]; what the environment says it finds in an [`Environment`] snapshot. Python objects (hooks,
//! classes) stay with the caller and pass through as handles.

#![forbid(unsafe_code)]

mod availability;
mod bind_address;
pub mod command_line;
mod definition;
mod environment;
mod log_fields;
mod log_format;
mod misspelling;
mod network;
mod other_servers;
mod otlp;
mod print_config;
mod resolver;
mod settings;
mod shell_words;
mod table;
#[cfg(test)]
mod testing;
mod validate;
mod value;
mod worker_class;

pub use availability::{
    FIELDS_MAX, POOL_THREADS_MAX, REQUEST_LINE_MAX, replacements, unavailable_worker_class,
    warnings,
};
pub use bind_address::{BindAddress, BindAddressError, Scheme};
pub use command_line::{CommandLine, Stop};
pub use definition::{
    Action, Applies, Default, Definition, Flags, Kind, Parity, Process, Section, Since,
};
pub use environment::{Environment, Host};
pub use log_fields::NAMES as LOG_FIELDS;
pub use misspelling::did_you_mean;
pub use otlp::{Otlp, Sampler, otlp, sampler};
pub use resolver::{Resolver, SettingError};
pub use settings::Settings;
pub use table::{TABLE, find};
pub use validate::parse_statsd_address;
pub use value::{Raw, Source, Value};
pub use worker_class::{Capacity, Engine, Traits, WorkerClass};

/// Config files looked for in the working directory where none is named, the first that exists is taken.
pub const DEFAULT_CONFIG_FILES: [&str; 2] = ["gunicorn.conf.py", "oxicorn.conf.py"];

/// The version that `--version` prints and log lines name.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
