//! clap, built from the table, and its findings put into argparse's words.

use clap::builder::ValueParser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};

use super::{Arguments, Fault};
use crate::definition::{Action, Definition};
use crate::table::TABLE;
use crate::validate::{Base, parse_integer};
use crate::value::{Quoted, Raw};

/// The id of everything that is no flag's.
const POSITIONALS: &str = "APP_MODULE";

/// Reads arguments whose flags are spelled out.
pub(super) fn read(args: Vec<String>) -> Result<Arguments, Fault> {
    let matches = command()
        .try_get_matches_from(args)
        .map_err(|error| fault(&error))?;
    let settings = TABLE
        .iter()
        .filter_map(|definition| Some((definition.name, said(&matches, definition)?)));
    Ok(Arguments {
        settings: settings.collect(),
        positionals: positionals(&matches)?,
    })
}

fn command() -> Command {
    Command::new("oxicorn")
        .no_binary_name(true)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .args_override_self(true)
        .args(
            TABLE
                .iter()
                .filter(|definition| !definition.flags.names.is_empty())
                .map(argument),
        )
        .arg(
            Arg::new(POSITIONALS)
                .action(ArgAction::Append)
                .num_args(0..)
                .hide(true),
        )
}

fn argument(definition: &'static Definition) -> Arg {
    let flags = definition.flags;
    let longs = flags
        .names
        .iter()
        .filter_map(|name| name.strip_prefix("--"));
    let short = flags
        .names
        .iter()
        .find(|name| !name.starts_with("--"))
        .and_then(|name| name.chars().nth(1));
    let argument = Arg::new(definition.name)
        .short(short)
        .long(flags.long().and_then(|name| name.strip_prefix("--")))
        .aliases(longs.skip(1));
    match flags.action {
        Action::Switch(_) => argument.action(ArgAction::SetTrue),
        Action::Repeat => argument.action(ArgAction::Append).value_name(flags.metavar),
        Action::Text => argument.action(ArgAction::Set).value_name(flags.metavar),
        Action::Integer => argument
            .value_name(flags.metavar)
            .value_parser(number(Base::Decimal)),
        Action::AnyBaseInteger => argument
            .value_name(flags.metavar)
            .value_parser(number(Base::OctalByZero)),
        Action::OptionalText(missing) => argument
            .value_name(flags.metavar)
            .num_args(0..=1)
            .default_missing_value(missing),
    }
}

fn number(base: Base) -> ValueParser {
    let parse = move |text: &str| parse_integer(text, base).ok_or("no number");
    ValueParser::from(parse)
}

/// What the arguments say about a setting.
fn said(matches: &ArgMatches, definition: &Definition) -> Option<Raw> {
    let name = definition.name;
    if definition.flags.names.is_empty()
        || matches.value_source(name) != Some(ValueSource::CommandLine)
    {
        return None;
    }
    match definition.flags.action {
        Action::Switch(value) => Some(Raw::Bool(value)),
        Action::Integer | Action::AnyBaseInteger => matches.get_one(name).copied().map(Raw::Int),
        Action::Text | Action::OptionalText(_) => matches.get_one(name).cloned().map(Raw::Str),
        Action::Repeat => Some(Raw::List(
            matches
                .get_many(name)?
                .map(|text: &String| Raw::Str(text.clone()))
                .collect(),
        )),
    }
}

/// The arguments that are no flag's. argparse takes them from one place only: what comes after another flag is too much.
fn positionals(matches: &ArgMatches) -> Result<Vec<String>, Fault> {
    let values: Vec<String> = matches
        .get_many(POSITIONALS)
        .into_iter()
        .flatten()
        .cloned()
        .collect();
    let indices: Vec<usize> = matches
        .indices_of(POSITIONALS)
        .into_iter()
        .flatten()
        .collect();
    match indices.windows(2).position(|pair| pair[1] != pair[0] + 1) {
        Some(position) => Err(Fault::Refused(format!(
            "unrecognized arguments: {}",
            values[position + 1..].join(" ")
        ))),
        None => Ok(values),
    }
}

fn fault(error: &clap::Error) -> Fault {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.as_str(),
        _ => "",
    };
    let (argument, value) = (
        context(ContextKind::InvalidArg),
        context(ContextKind::InvalidValue),
    );
    Fault::Refused(match error.kind() {
        ErrorKind::InvalidValue => {
            format!("argument {}: expected one argument", names_of(argument))
        }
        ErrorKind::ValueValidation => {
            format!(
                "argument {}: invalid {} value: {}{}",
                names_of(argument),
                type_of(argument),
                Quoted(value),
                hint_for(argument, value)
            )
        }
        ErrorKind::TooManyValues => {
            format!(
                "argument {}: ignored explicit argument {}",
                names_of(argument),
                Quoted(value)
            )
        }
        _ => error
            .render()
            .to_string()
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned(),
    })
}

/// uWSGI's `-w` is the application.
fn hint_for(argument: &str, value: &str) -> &'static str {
    let is_workers = definition_of(argument).is_some_and(|found| found.name == "workers");
    if is_workers && value.contains([':', '.']) {
        " (the application is named without a flag)"
    } else {
        ""
    }
}

/// The definition behind what clap calls `--workers <INT>`.
fn definition_of(argument: &str) -> Option<&'static Definition> {
    let flag = argument.split([' ', '=', '[']).next()?;
    TABLE
        .iter()
        .find(|definition| definition.flags.names.contains(&flag))
}

/// How argparse names it: every spelling, with slashes between.
fn names_of(argument: &str) -> String {
    definition_of(argument).map_or_else(
        || argument.to_owned(),
        |definition| definition.flags.names.join("/"),
    )
}

fn type_of(argument: &str) -> &'static str {
    match definition_of(argument).map(|definition| definition.flags.action) {
        Some(Action::AnyBaseInteger) => "auto_int",
        _ => "int",
    }
}
