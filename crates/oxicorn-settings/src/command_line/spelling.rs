//! Spells out what argparse understands and clap does not.
//!
//! A long flag may be abbreviated as long as only one flag begins so. Our own flags must not make an abbreviation ambiguous
//! that Gunicorn's users write, so they are only looked at where none of Gunicorn's fits. What another server calls a flag is no
//! abbreviation of ours: `--header` of uvicorn is not `--header-map`. And a value may begin with a hyphen
//! if it is a negative number or has a space in it; such a value is joined to its flag with `=`.

use crate::definition::Action;
use crate::other_servers::instead_of;
use crate::table::TABLE;

/// Flags that no setting stands behind.
const OTHER_FLAGS: [&str; 2] = ["--help", "--version"];

/// What an argument is to argparse.
enum Word {
    /// A flag, spelled out.
    Flag(String),
    /// A value that begins with a hyphen.
    HyphenValue,
    /// A value, or something nobody knows.
    Other,
}

/// The arguments with every abbreviation spelled out.
pub(super) fn spell_out(args: &[String]) -> Result<Vec<String>, String> {
    let mut spelled: Vec<String> = Vec::with_capacity(args.len());
    let mut arguments = args.iter();
    while let Some(argument) = arguments.next() {
        if argument == "--" {
            spelled.push(argument.clone());
            spelled.extend(arguments.cloned());
            break;
        }
        match classify(argument)? {
            Word::Flag(flag) => spelled.push(flag),
            Word::HyphenValue => push_value(&mut spelled, argument),
            Word::Other => spelled.push(argument.clone()),
        }
    }
    Ok(spelled)
}

fn classify(argument: &str) -> Result<Word, String> {
    if !argument.starts_with('-') || argument == "-" {
        return Ok(Word::Other);
    }
    if argument.starts_with("--")
        && let Some(flag) = spell_out_flag(argument)?
    {
        return Ok(Word::Flag(flag));
    }
    let is_hyphen_value =
        is_negative_number(argument) || (argument.contains(' ') && !is_short_flag(argument));
    Ok(if is_hyphen_value {
        Word::HyphenValue
    } else {
        Word::Other
    })
}

/// The long flag that `argument` begins with, its `=VALUE` kept; none if no flag begins so.
fn spell_out_flag(argument: &str) -> Result<Option<String>, String> {
    let (written, value) = match argument.split_once('=') {
        Some((written, value)) => (written, Some(value)),
        None => (argument, None),
    };
    let Some(flag) = flag_for(written)? else {
        return Ok(None);
    };
    Ok(Some(value.map_or_else(
        || flag.to_owned(),
        |value| format!("{flag}={value}"),
    )))
}

fn flag_for(written: &str) -> Result<Option<&'static str>, String> {
    if instead_of(written).is_some() {
        return Ok(None);
    }
    for own in [false, true] {
        let candidates: Vec<_> = long_flags(own)
            .filter(|flag| flag.starts_with(written))
            .collect();
        if let Some(exact) = candidates.iter().find(|flag| **flag == written) {
            return Ok(Some(exact));
        }
        match candidates[..] {
            [] => {}
            [only] => return Ok(Some(only)),
            _ => {
                return Err(format!(
                    "ambiguous option: {written} could match {}",
                    candidates.join(", ")
                ));
            }
        }
    }
    Ok(None)
}

/// Every long flag of Gunicorn's settings, or of our own.
fn long_flags(own: bool) -> impl Iterator<Item = &'static str> {
    let of_settings = TABLE
        .iter()
        .filter(move |definition| definition.is_own() == own);
    let names = of_settings
        .flat_map(|definition| definition.flags.names)
        .copied();
    names
        .chain(OTHER_FLAGS.into_iter().filter(move |_| !own))
        .filter(|flag| flag.starts_with("--"))
}

fn is_short_flag(argument: &str) -> bool {
    let mut names = TABLE.iter().flat_map(|definition| definition.flags.names);
    names.any(|flag| !flag.starts_with("--") && argument.starts_with(flag))
}

/// `-1`, `-.5`, `-1.5`.
fn is_negative_number(argument: &str) -> bool {
    let Some(number) = argument.strip_prefix('-') else {
        return false;
    };
    let (whole, fraction) = number.split_once('.').unwrap_or(("", number));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    !fraction.is_empty() && is_digits(whole) && is_digits(fraction)
}

/// Joins the value to the flag before it, if that flag waits for one.
fn push_value(spelled: &mut Vec<String>, value: &str) {
    match spelled.last_mut() {
        Some(last) if takes_value(last) => {
            last.push('=');
            last.push_str(value);
        }
        _ => spelled.push(value.to_owned()),
    }
}

fn takes_value(flag: &str) -> bool {
    let definition = TABLE
        .iter()
        .find(|definition| definition.flags.names.contains(&flag));
    definition.is_some_and(|definition| !matches!(definition.flags.action, Action::Switch(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelled(args: &[&str]) -> Vec<String> {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        spell_out(&args).expect("nothing ambiguous")
    }

    #[test]
    fn spells_out_what_is_unambiguous() {
        for (short, long) in [
            ("--workers", "--workers"),
            ("--bin", "--bind"),
            ("--bin=:1", "--bind=:1"),
            ("--hel", "--help"),
            ("--log-config", "--log-config"),
            ("--log-config-", "--log-config-json"),
            ("--limit-request-field_", "--limit-request-field_size"),
            ("--queue-l", "--queue-limit"),
            // `--prefetch` is ours and stands back.
            ("--pre", "--preload"),
            ("--bogus=1", "--bogus=1"),
            // Another server's: nothing of ours, though ours begin so.
            ("--header=a:b", "--header=a:b"),
            ("--access-log", "--access-log"),
            ("--http", "--http"),
        ] {
            assert_eq!(spelled(&[short]), [long]);
        }
    }

    #[test]
    fn names_what_an_abbreviation_could_mean() {
        let message = spell_out(&["--work".to_owned()]).expect_err("ambiguous");
        let names = "--workers, --worker-class, --worker-connections, --worker-tmp-dir";
        assert_eq!(
            message,
            format!("ambiguous option: --work could match {names}")
        );
        let message = spell_out(&["--que".to_owned()]).expect_err("ambiguous");
        assert_eq!(
            message,
            "ambiguous option: --que could match --queue-limit, --queue-timeout"
        );
    }

    #[test]
    fn joins_values_that_begin_with_a_hyphen() {
        assert_eq!(spelled(&["-w", "-1"]), ["-w=-1"]);
        assert_eq!(
            spelled(&["--access-logfor", "- %(h)s"]),
            ["--access-logformat=- %(h)s"]
        );
        assert_eq!(spelled(&["-b :1", "-1", "-.5"]), ["-b :1", "-1", "-.5"]);
        assert_eq!(spelled(&["--reload", "-1"]), ["--reload", "-1"]);
    }

    #[test]
    fn leaves_everything_after_two_hyphens_alone() {
        assert_eq!(spelled(&["--", "--bin", "-1"]), ["--", "--bin", "-1"]);
    }
}
