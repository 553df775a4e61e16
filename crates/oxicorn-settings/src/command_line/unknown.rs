//! Flags that nobody knows: all of them are named at once, with what was probably meant.

use crate::definition::{Action, Definition};
use crate::misspelling::nearest_flag;
use crate::other_servers::instead_of;
use crate::table::TABLE;

/// What `args` ask for instead of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked<'a> {
    /// `--help`, perhaps with what follows it.
    Help(Option<&'a str>),
    /// `--version`.
    Version,
}

/// Whether help or the version is asked for, else the refusal of all flags in `args` that are none. Abbreviations have
/// been spelled out.
pub(super) fn look_for(args: &[String]) -> Result<Option<Asked<'_>>, String> {
    let unknown = match flags(args) {
        Found::Asked(asked) => return Ok(Some(asked)),
        Found::Unknown(unknown) => unknown,
    };
    let Some((first, rest)) = unknown.split_first() else {
        return Ok(None);
    };
    let mut text = format!("unrecognized arguments: {}", unknown.join(" "));
    if let ([], None, Some(meant)) = (
        rest,
        instead_of(name_of(first)),
        nearest_flag(name_of(first)),
    ) {
        // One that is misspelt, the most frequent case: argparse's words.
        text.push_str(", did you mean ");
        text.push_str(meant);
        text.push('?');
        return Err(text);
    }
    let hints = hints(&unknown);
    if !hints.is_empty() {
        text = format!("{text} ({})", hints.join("; "));
    }
    Err(text)
}

/// `NAME, NAME: what to do`, one for each thing to do.
fn hints(unknown: &[&str]) -> Vec<String> {
    let mut found: Vec<(Vec<&str>, String)> = Vec::new();
    for flag in unknown.iter().copied().map(name_of) {
        let meant = || nearest_flag(flag).map(|meant| format!("did you mean {meant}?"));
        let Some(hint) = instead_of(flag).map(str::to_owned).or_else(meant) else {
            continue;
        };
        match found.iter_mut().find(|(_, known)| *known == hint) {
            Some((flags, _)) => flags.push(flag),
            None => found.push((vec![flag], hint)),
        }
    }
    let found = found.into_iter();
    found
        .map(|(flags, hint)| format!("{}: {hint}", flags.join(", ")))
        .collect()
}

fn name_of(argument: &str) -> &str {
    argument.split('=').next().unwrap_or(argument)
}

enum Found<'a> {
    /// Unknown flags, as they were written.
    Unknown(Vec<&'a str>),
    /// That comes first.
    Asked(Asked<'a>),
}

fn flags(args: &[String]) -> Found<'_> {
    let mut unknown = Vec::new();
    let mut args = args.iter().map(String::as_str).peekable();
    while let Some(argument) = args.next() {
        if argument == "--" {
            break;
        }
        match classify(argument) {
            Word::AsksForHelp => return Found::Asked(Asked::Help(args.next())),
            Word::AsksForVersion => return Found::Asked(Asked::Version),
            Word::Unknown => unknown.push(argument),
            Word::Waits => {
                // Its value; what begins with a hyphen is none.
                args.next_if(|next| !next.starts_with('-'));
            }
            Word::Complete => {}
        }
    }
    Found::Unknown(unknown)
}

enum Word {
    /// `--help`.
    AsksForHelp,
    /// `--version`.
    AsksForVersion,
    /// A flag that nobody knows.
    Unknown,
    /// A flag whose value is the next argument.
    Waits,
    /// Anything else.
    Complete,
}

fn classify(argument: &str) -> Word {
    match argument {
        "--help" => return Word::AsksForHelp,
        "--version" => return Word::AsksForVersion,
        _ => {}
    }
    let Some(rest) = argument.strip_prefix('-').filter(|rest| !rest.is_empty()) else {
        return Word::Complete;
    };
    if rest.starts_with('-') {
        return match definition(name_of(argument)) {
            None => Word::Unknown,
            Some(known) if waits(known) && !argument.contains('=') => Word::Waits,
            Some(_) => Word::Complete,
        };
    }
    // `argparse` takes negative numbers for values.
    if rest.starts_with(|first: char| first.is_ascii_digit() || first == '.') {
        return Word::Complete;
    }
    short_flags(rest)
}

/// `-w3`, `-w`, `-RD`: switches, at the end perhaps one with a value.
fn short_flags(letters: &str) -> Word {
    for (position, letter) in letters.char_indices() {
        match letter {
            'h' => return Word::AsksForHelp,
            'v' => return Word::AsksForVersion,
            _ => {}
        }
        match definition(&format!("-{letter}")) {
            None => return Word::Unknown,
            Some(known) if waits(known) => {
                let is_last = position + letter.len_utf8() == letters.len();
                return if is_last { Word::Waits } else { Word::Complete };
            }
            Some(_) => {}
        }
    }
    Word::Complete
}

fn definition(flag: &str) -> Option<&'static Definition> {
    TABLE.iter().find(|row| row.flags.names.contains(&flag))
}

fn waits(definition: &Definition) -> bool {
    !matches!(
        definition.flags.action,
        Action::Switch(_) | Action::OptionalText(_)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(line: &str) -> Option<String> {
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        look_for(&args).err()
    }

    #[test]
    fn names_all_of_them_and_what_was_meant() {
        for (line, expected) in [
            ("--bogus", "--bogus"),
            ("-x", "-x"),
            ("--bogus --other=3 app -x y", "--bogus --other=3 -x"),
            (
                "-w 3 --worker-clsas sync",
                "--worker-clsas, did you mean --worker-class?",
            ),
            (
                "--host 0.0.0.0 app",
                "--host (--host: use --bind HOST:PORT)",
            ),
            (
                "--host 0.0.0.0 --port 80 --factory app",
                "--host --port --factory (--host, --port: use --bind HOST:PORT; \
                 --factory: write the call, as in 'MODULE:create_app()')",
            ),
            (
                "--workesr 3 --bogus",
                "--workesr --bogus (--workesr: did you mean --workers?)",
            ),
            ("-Rx", "-Rx"),
        ] {
            let expected = format!("unrecognized arguments: {expected}");
            assert_eq!(refusal(line), Some(expected), "{line}");
        }
    }

    #[test]
    fn help_and_version_come_before_what_is_unknown() {
        let asked = |line: &str| {
            let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            look_for(&args).map(|asked| format!("{asked:?}"))
        };
        for (line, expected) in [
            ("--bogus --help", "Some(Help(None))"),
            ("-h", "Some(Help(None))"),
            ("-Rh logging", "Some(Help(Some(\"logging\")))"),
            ("--help --bind", "Some(Help(Some(\"--bind\")))"),
            ("-w 3 -v", "Some(Version)"),
            ("-w -h", "Some(Help(None))"),
            ("-- --help", "None"),
        ] {
            assert_eq!(asked(line).as_deref(), Ok(expected), "{line}");
        }
    }

    #[test]
    fn leaves_the_others_alone() {
        for line in [
            "",
            "app",
            "-w 3 -b :1 --bind=unix:/a app -- --bogus",
            "-w3 -RD -Dw3 -w -1 -w -.5",
            "--access-logfile - app",
            "--proxy-protocol app",
            "--proxy-protocol=v1",
        ] {
            assert_eq!(refusal(line), None, "{line}");
        }
    }
}
