//! Whatever stands on a command line, in the environment or in a config file: the answer is settings or one line, never a
//! panic. The cases are drawn from a fixed seed, so every run tries the same.

use std::sync::Arc;

use oxicorn_settings::{
    Environment, Host, Raw, Resolver, Source, TABLE, command_line, did_you_mean,
};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

/// A machine where half of everything exists.
#[derive(Debug)]
struct Machine;

impl Host for Machine {
    fn path_exists(&self, path: &str) -> bool {
        path.len().is_multiple_of(2)
    }

    fn is_directory(&self, path: &str) -> bool {
        self.path_exists(path)
    }

    fn is_same_file(&self, one: &str, other: &str) -> bool {
        one.len() == other.len()
    }

    fn matches_any(&self, pattern: &str) -> bool {
        self.path_exists(pattern)
    }

    fn longest_backlog(&self) -> Option<i64> {
        None
    }

    fn most_connections(&self) -> i64 {
        i64::MAX
    }

    fn user_id(&self, name: &str) -> Option<u32> {
        self.path_exists(name).then_some(1)
    }

    fn group_id(&self, name: &str) -> Option<u32> {
        self.user_id(name)
    }

    fn home_directory(&self) -> Option<String> {
        None
    }

    fn is_dictionary(&self, object: u32) -> bool {
        object > 3
    }

    fn is_class(&self, object: u32) -> bool {
        !self.is_dictionary(object)
    }
}

/// Flags whole, cut and with values, and anything else.
fn argument() -> impl Strategy<Value = String> {
    let flags: Vec<&'static str> = TABLE
        .iter()
        .flat_map(|definition| definition.flags.names)
        .copied()
        .collect();
    let flag = proptest::sample::select(flags);
    prop_oneof![
        flag.clone().prop_map(str::to_owned),
        (flag.clone(), 1..30_usize).prop_map(|(flag, length)| flag.chars().take(length).collect()),
        (flag, value()).prop_map(|(flag, value)| format!("{flag}={value}")),
        value(),
        any::<String>(),
    ]
}

/// Text that means something to some setting.
fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("--".to_owned()),
        "-?[0-9x_]{0,20}",
        "[a-z0-9.:/,%@*\\[\\]-]{0,20}",
        "(unix|tcp|fd):/{0,2}[a-z0-9:\\[\\]]{0,9}",
        "[0-9a-f.:]{1,15}/[0-9.]{0,15}",
        "(true|False|auto|h1|h2|off|both|v1|drop)",
    ]
}

fn raw() -> impl Strategy<Value = Raw> {
    let leaf = prop_oneof![
        Just(Raw::None),
        any::<bool>().prop_map(Raw::Bool),
        any::<i64>().prop_map(Raw::Int),
        any::<f64>().prop_map(Raw::Float),
        value().prop_map(Raw::Str),
        any::<String>().prop_map(Raw::Str),
        (0..9_u32, proptest::option::of(0..5_usize))
            .prop_map(|(object, arity)| Raw::Object(object, arity)),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Raw::List),
            proptest::collection::vec(("[A-Z-]{1,9}", inner), 0..3).prop_map(Raw::Dict),
        ]
    })
}

#[test]
fn any_command_line_gives_settings_or_a_reason() {
    let strategy = (
        proptest::collection::vec(argument(), 0..6),
        any::<String>(),
        argument(),
    );
    let outcome = TestRunner::deterministic().run(&strategy, |(args, anything, words)| {
        let environment = Environment {
            variables: [
                ("GUNICORN_CMD_ARGS".to_owned(), words),
                ("OXICORN_CMD_ARGS".to_owned(), anything),
            ]
            .into(),
            ..Environment::default()
        };
        if let Err(stop) = command_line::parse(&args, &environment) {
            prop_assert!([0, 2].contains(&stop.exit_code()));
        }
        Ok(())
    });
    outcome.expect("no counterexample");
}

#[test]
fn any_value_is_accepted_or_refused_in_one_line() {
    let names: Vec<&'static str> = TABLE.iter().map(|definition| definition.name).collect();
    let said = proptest::collection::vec((proptest::sample::select(names), raw()), 1..9);
    let variables = (value(), value(), value());
    let outcome = TestRunner::deterministic().run(&(said, variables), |(said, variables)| {
        let environment = Environment {
            variables: [
                ("PORT".to_owned(), variables.0),
                ("WEB_CONCURRENCY".to_owned(), variables.1),
                ("FORWARDED_ALLOW_IPS".to_owned(), variables.2),
            ]
            .into(),
            working_directory: "/srv".into(),
            ..Environment::default()
        };
        let mut resolver = Resolver::new(environment, Arc::new(Machine));
        for (name, raw) in said {
            if let Err(error) = resolver.apply(name, raw, Source::Framework) {
                prop_assert_eq!(error.to_string().lines().count(), 1);
            }
        }
        match resolver.finish() {
            Ok(settings) => {
                prop_assert!(settings.threads() >= 1 && !settings.bind().is_empty());
                let _ = (
                    settings.worker_class(),
                    settings.statsd_address(),
                    settings.networks("proxy_allow_ips"),
                );
                let _ = (
                    oxicorn_settings::unavailable_worker_class(&settings),
                    oxicorn_settings::warnings(&settings),
                );
                let _ = settings.print_config(|object| format!("<{object}>"));
            }
            Err(error) => prop_assert_eq!(error.to_string().lines().count(), 1),
        }
        Ok(())
    });
    outcome.expect("no counterexample");
}

#[test]
fn any_name_may_be_asked_for() {
    let outcome = TestRunner::deterministic().run(&any::<String>(), |name| {
        prop_assert!(did_you_mean(&name).is_none_or(|meant| meant != name));
        Ok(())
    });
    outcome.expect("no counterexample");
}
