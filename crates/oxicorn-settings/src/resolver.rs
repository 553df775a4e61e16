//! Puts the layers together: whatever is said by several sources, the highest has the word.

use std::fmt;
use std::sync::Arc;

use crate::environment::{Environment, Host};
use crate::misspelling::did_you_mean;
use crate::settings::Settings;
use crate::table::{TABLE, position};
use crate::validate::validate;
use crate::value::{Raw, Source, Value};

/// Collects what the sources say, in any order, and refuses at once what a setting cannot be.
///
/// A refused value is refused even if a higher source overrides it later: so does Gunicorn, and a config file that only works
/// because of a flag is better known about.
#[derive(Debug)]
pub struct Resolver {
    environment: Environment,
    host: Arc<dyn Host>,
    /// By position in the table.
    given: Vec<Option<(Value, Source)>>,
}

impl Resolver {
    /// Nothing said yet.
    pub fn new(environment: Environment, host: Arc<dyn Host>) -> Self {
        Self {
            environment,
            host,
            given: vec![None; TABLE.len()],
        }
    }

    /// What one source says. Of two sources with the same precedence the later call wins.
    pub fn apply(&mut self, name: &str, raw: Raw, source: Source) -> Result<(), SettingError> {
        let position = known(name)?;
        let value = validate(
            &TABLE[position],
            raw,
            &source,
            &self.environment,
            &*self.host,
        )?;
        let given = &mut self.given[position];
        if given
            .as_ref()
            .is_none_or(|(_, before)| before.rank() <= source.rank())
        {
            *given = Some((value, source));
        }
        Ok(())
    }

    /// What a setting would be if nothing more was said.
    pub fn value(&self, name: &str) -> Result<Value, SettingError> {
        self.resolve(known(name)?).map(|(value, _)| value)
    }

    /// Fills in the defaults and checks what only shows when everything is known.
    pub fn finish(self) -> Result<Settings, SettingError> {
        let values = (0..TABLE.len())
            .map(|position| self.resolve(position))
            .collect::<Result<_, _>>()?;
        Settings::new(values, self.environment, self.host)
    }

    fn resolve(&self, position: usize) -> Result<(Value, Source), SettingError> {
        if let Some(given) = &self.given[position] {
            return Ok(given.clone());
        }
        default_value(position, &self.environment, &*self.host)
    }
}

/// The default of a setting, and the variable it came from if it did.
pub(crate) fn default_value(
    position: usize,
    environment: &Environment,
    host: &dyn Host,
) -> Result<(Value, Source), SettingError> {
    let definition = &TABLE[position];
    let (raw, variable) = definition.default.raw(environment, host);
    let source = variable.map_or(Source::Default, |variable| Source::Environment {
        variable: variable.into(),
    });
    let value = validate(definition, raw, &source, environment, host)?;
    // A computed default stays a default: whatever else is said overrides it.
    Ok((value, source))
}

/// The position of a setting in the table.
pub(crate) fn known(name: &str) -> Result<usize, SettingError> {
    position(name).ok_or_else(|| SettingError::Unknown {
        name: name.into(),
        meant: did_you_mean(name),
    })
}

/// Why the settings cannot be used; one line each. The process ends with code 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettingError {
    /// There is no such setting.
    Unknown {
        /// The name as it was given.
        name: String,
        /// The setting it looks like.
        meant: Option<&'static str>,
    },
    /// The setting does not take this value.
    NotAllowed {
        /// The setting.
        setting: &'static str,
        /// The value as Python shows it.
        value: String,
        /// What is allowed.
        allowed: String,
        /// Who said it.
        source: Source,
    },
}

impl fmt::Display for SettingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { name, meant: None } => write!(f, "no setting is called '{name}'"),
            Self::Unknown {
                name,
                meant: Some(meant),
            } => {
                write!(f, "no setting is called '{name}', did you mean '{meant}'?")
            }
            Self::NotAllowed {
                setting,
                value,
                allowed,
                source,
            } => {
                write!(
                    f,
                    "invalid value for {setting}: {value} ({source}); {allowed}"
                )
            }
        }
    }
}

impl std::error::Error for SettingError {}
