//! Defaults that depend on where the server runs, and the variable each was taken from.
//!
//! Gunicorn computes them while its module is imported; a value it cannot use ends there in a traceback. Here such a value
//! goes through the setting's validator like any other, and only if nobody set the setting.

use crate::environment::{Environment, Host};
use crate::validate::{Base, parse_integer};
use crate::value::Raw;

/// A default and the variable it came from.
type Computed = (Raw, Option<&'static str>);

const fn plain(raw: Raw) -> Computed {
    (raw, None)
}

/// A list of one.
fn one(text: String) -> Raw {
    Raw::List(vec![Raw::Str(text)])
}

/// Platforms as a service say by `PORT` where they will connect.
pub(super) fn bind(environment: &Environment, _: &dyn Host) -> Computed {
    match environment.filled_variable("PORT") {
        Some(port) => (one(format!("0.0.0.0:{port}")), Some("PORT")),
        None => plain(one("127.0.0.1:8000".into())),
    }
}

pub(super) fn workers(environment: &Environment, _: &dyn Host) -> Computed {
    match environment.filled_variable("WEB_CONCURRENCY") {
        Some(text) => {
            let raw =
                parse_integer(text, Base::Decimal).map_or_else(|| Raw::Str(text.into()), Raw::Int);
            (raw, Some("WEB_CONCURRENCY"))
        }
        None => plain(Raw::Int(1)),
    }
}

/// Empty means: trust nobody.
pub(super) fn forwarded_allow_ips(environment: &Environment, _: &dyn Host) -> Computed {
    match environment.variable("FORWARDED_ALLOW_IPS") {
        Some(text) => (Raw::Str(text.into()), Some("FORWARDED_ALLOW_IPS")),
        None => plain(Raw::Str("127.0.0.1,::1".into())),
    }
}

pub(super) fn chdir(environment: &Environment, host: &dyn Host) -> Computed {
    plain(Raw::Str(environment.visible_working_directory(host).into()))
}

pub(super) fn user(environment: &Environment, _: &dyn Host) -> Computed {
    plain(Raw::Int(environment.effective_user.into()))
}

pub(super) fn group(environment: &Environment, _: &dyn Host) -> Computed {
    plain(Raw::Int(environment.effective_group.into()))
}

pub(super) fn control_socket(environment: &Environment, host: &dyn Host) -> Computed {
    let runtime = environment
        .filled_variable("XDG_RUNTIME_DIR")
        .filter(|path| host.is_directory(path));
    if let Some(directory) = runtime {
        return plain(Raw::Str(format!(
            "{}/oxicorn.ctl",
            directory.trim_end_matches('/')
        )));
    }
    let home = environment
        .variable("HOME")
        .map(str::to_owned)
        .or_else(|| host.home_directory());
    let home = home.unwrap_or_default();
    plain(Raw::Str(format!(
        "{}/.oxicorn/oxicorn.ctl",
        home.trim_end_matches('/')
    )))
}
