//! What the tests of this crate share: a machine of their own, and settings resolved on it.

use std::sync::Arc;

use crate::environment::{Environment, Host};
use crate::resolver::{Resolver, SettingError};
use crate::settings::Settings;
use crate::value::{Raw, Source, Value};

/// A machine with the directories `/srv`, `/srv/app`, `/link`, `/run/user/` and `/home`, the file `/srv/app/app.ini`, and the user
/// and group `www` (33).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Machine;

impl Host for Machine {
    fn path_exists(&self, path: &str) -> bool {
        self.is_directory(path) || path == "/srv/app/app.ini"
    }

    fn is_directory(&self, path: &str) -> bool {
        ["/", "/srv", "/srv/app", "/link", "/run/user/", "/home"].contains(&path)
    }

    /// `/link` is a symbolic link to `/srv/app`.
    fn is_same_file(&self, one: &str, other: &str) -> bool {
        let target = |path: &str| {
            if path == "/link" {
                "/srv/app".to_owned()
            } else {
                path.to_owned()
            }
        };
        target(one) == target(other)
    }

    fn matches_any(&self, pattern: &str) -> bool {
        pattern == "*.ini"
    }

    fn longest_backlog(&self) -> Option<i64> {
        Some(4096)
    }

    fn most_connections(&self) -> i64 {
        100_000
    }

    fn user_id(&self, name: &str) -> Option<u32> {
        (name == "www").then_some(33)
    }

    fn group_id(&self, name: &str) -> Option<u32> {
        self.user_id(name)
    }

    fn home_directory(&self) -> Option<String> {
        Some("/home".into())
    }

    /// Handles from 100 on are dictionaries, the others classes.
    fn is_dictionary(&self, object: u32) -> bool {
        object >= 100
    }

    fn is_class(&self, object: u32) -> bool {
        !self.is_dictionary(object)
    }
}

/// A process of user and group 1000 in `/srv/app` with these variables.
pub(crate) fn environment(variables: &[(&str, &str)]) -> Environment {
    Environment {
        variables: variables
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect(),
        working_directory: "/srv/app".into(),
        effective_user: 1000,
        effective_group: 1000,
    }
}

/// The source of everything the tests set.
pub(crate) fn file() -> Source {
    Source::File {
        path: "gunicorn.conf.py".into(),
    }
}

/// What the settings are when the config file says this.
pub(crate) fn try_resolve(
    variables: &[(&str, &str)],
    said: &[(&str, Raw)],
) -> Result<Settings, SettingError> {
    let mut resolver = Resolver::new(environment(variables), Arc::new(Machine));
    for (name, raw) in said {
        resolver.apply(name, raw.clone(), file())?;
    }
    resolver.finish()
}

/// The same where nothing is wrong.
pub(crate) fn resolve(said: &[(&str, Raw)]) -> Settings {
    try_resolve(&[], said).expect("the settings are fine")
}

/// The default of a setting where the environment has these variables.
pub(crate) fn default_in(variables: &[(&str, &str)], name: &str) -> Value {
    try_resolve(variables, &[])
        .expect("the environment is fine")
        .get(name)
        .clone()
}

/// Text.
pub(crate) fn text(text: &str) -> Raw {
    Raw::Str(text.into())
}

/// A list of texts.
pub(crate) fn texts(items: &[&str]) -> Raw {
    Raw::List(items.iter().map(|item| text(item)).collect())
}

/// What the setting makes of it.
pub(crate) fn accepted(name: &str, raw: Raw) -> Value {
    resolve(&[(name, raw)]).get(name).clone()
}

/// How the setting refuses it: the part of the message after the source.
pub(crate) fn refused(name: &str, raw: Raw) -> String {
    match try_resolve(&[], &[(name, raw)]) {
        Err(SettingError::NotAllowed {
            setting,
            allowed,
            source,
            ..
        }) => {
            assert_eq!((setting, source), (name, file()));
            allowed
        }
        other => panic!("{name} was not refused: {other:?}"),
    }
}

/// A list of texts, as a value.
pub(crate) fn list(items: &[&str]) -> Value {
    Value::List(items.iter().map(|item| (*item).to_owned()).collect())
}
