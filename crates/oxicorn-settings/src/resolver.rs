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
#[derive(Debug, Clone)]
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
        let (position, value) = self.validated(name, raw, &source)?;
        let given = &mut self.given[position];
        if given
            .as_ref()
            .is_none_or(|(_, before)| before.rank() <= source.rank())
        {
            *given = Some((value, source));
        }
        Ok(())
    }

    /// Sets one value whoever set it before (`cfg.set` of Gunicorn); sources that speak later are heard by their rank.
    pub fn set(&mut self, name: &str, raw: Raw, source: Source) -> Result<(), SettingError> {
        let (position, value) = self.validated(name, raw, &source)?;
        self.given[position] = Some((value, source));
        Ok(())
    }

    fn validated(
        &self,
        name: &str,
        raw: Raw,
        source: &Source,
    ) -> Result<(usize, Value), SettingError> {
        let position = known(name)?;
        let definition = &TABLE[position];
        let value = validate(definition, raw, source, &self.environment, &*self.host)?;
        Ok((position, value))
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
                    "Invalid value for {setting}: {value} ({source}): {allowed}"
                )
            }
        }
    }
}

impl std::error::Error for SettingError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Machine, environment, file, text};

    fn resolver() -> Resolver {
        Resolver::new(environment(&[("WEB_CONCURRENCY", "9")]), Arc::new(Machine))
    }

    /// Every source, lowest precedence first.
    fn sources() -> [Source; 4] {
        [
            Source::Framework,
            file(),
            Source::Environment {
                variable: "GUNICORN_CMD_ARGS".into(),
            },
            Source::CommandLine {
                flag: "--workers".into(),
            },
        ]
    }

    #[test]
    fn the_highest_source_wins_in_whatever_order_they_speak() {
        for order in [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2], [2, 0, 3, 1]] {
            let mut resolver = resolver();
            assert_eq!(resolver.value("workers"), Ok(Value::Int(9)));
            let mut highest = 0;
            for rank in order {
                let number = i64::try_from(rank).expect("small");
                resolver
                    .apply("workers", Raw::Int(number), sources()[rank].clone())
                    .expect("fine");
                highest = highest.max(number);
                assert_eq!(
                    resolver.value("workers"),
                    Ok(Value::Int(highest)),
                    "{order:?}"
                );
            }
            let settings = resolver.finish().expect("fine");
            assert_eq!(settings.source("workers"), Some(&sources()[3]));
        }
    }

    #[test]
    fn of_equal_sources_the_later_wins_and_lists_replace() {
        let mut resolver = resolver();
        let variable = |name: &str| Source::Environment {
            variable: name.into(),
        };
        resolver
            .apply("bind", text(":1"), variable("GUNICORN_CMD_ARGS"))
            .expect("fine");
        resolver
            .apply("bind", text(":2"), variable("OXICORN_CMD_ARGS"))
            .expect("fine");
        assert_eq!(resolver.value("bind"), Ok(Value::List(vec![":2".into()])));
    }

    #[test]
    fn set_overrides_what_was_said_and_not_what_a_higher_source_says_later() {
        let mut resolver = resolver();
        let [framework, file, _, line] = sources();
        resolver
            .apply("workers", Raw::Int(2), file.clone())
            .expect("fine");
        resolver
            .set("workers", Raw::Int(3), framework)
            .expect("fine");
        assert_eq!(resolver.value("workers"), Ok(Value::Int(3)));
        resolver.apply("workers", Raw::Int(4), line).expect("fine");
        resolver.apply("workers", Raw::Int(5), file).expect("fine");
        assert_eq!(resolver.value("workers"), Ok(Value::Int(4)));
        resolver
            .set("workers", Raw::Int(-1), Source::Framework)
            .expect_err("negative");
        assert_eq!(resolver.value("workers"), Ok(Value::Int(4)));
    }

    #[test]
    fn refuses_a_wrong_value_in_one_line_that_says_it_all() {
        for (source, place) in sources().into_iter().zip([
            "the program that runs the server",
            "gunicorn.conf.py",
            "environment variable GUNICORN_CMD_ARGS",
            "command line, --workers",
        ]) {
            let error = resolver()
                .apply("workers", text("many\n"), source)
                .expect_err("no number");
            let expected = format!(
                "Invalid value for workers: 'many\\n' ({place}): must be an integer from 0 to 4096"
            );
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn refuses_names_it_does_not_know() {
        let error = resolver()
            .apply("wrokers", Raw::Int(1), file())
            .expect_err("no setting");
        assert_eq!(
            error.to_string(),
            "no setting is called 'wrokers', did you mean 'workers'?"
        );
        let error = resolver().value("os").expect_err("no setting");
        assert_eq!(error.to_string(), "no setting is called 'os'");
    }
}
