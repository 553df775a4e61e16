//! The command line: Gunicorn's flags, read as Python's argparse reads them.
//!
//! ```text
//!  arguments ──► spelling: abbreviations spelled out ──► unknown: help, version, refuses what is no flag
//!            ──► parser: clap, built from the table ──► Raw per setting
//! ```
//!
//! `GUNICORN_CMD_ARGS` and `OXICORN_CMD_ARGS` hold more of the same and go the same way; only the command line itself names
//! the application. Nothing is validated here beyond what argparse would refuse with exit code 2.

mod help;
mod parser;
mod spelling;
mod unknown;

use self::unknown::Asked;
use crate::environment::Environment;
use crate::shell_words;
use crate::value::{Raw, Source};

/// Variables that hold more arguments, lowest precedence first.
const VARIABLES: [&str; 2] = ["GUNICORN_CMD_ARGS", "OXICORN_CMD_ARGS"];

/// What stands after `usage: ` wherever usage is explained.
const USAGE: &str = "oxicorn [OPTIONS] [APP_MODULE]";

/// What the command line and the variables that stand in for it said.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CommandLine {
    /// What was said, lowest precedence first: `GUNICORN_CMD_ARGS`, `OXICORN_CMD_ARGS`, the command line itself.
    pub settings: Vec<(&'static str, Raw, Source)>,
    /// `MODULE:CALLABLE`; only the command line itself names it.
    pub application: Option<String>,
    /// Arguments after the application, which Gunicorn ignores.
    pub ignored: Vec<String>,
}

impl CommandLine {
    /// The config file that was asked for, if one was.
    pub fn config(&self) -> Option<&str> {
        self.last_text("config")
    }

    /// What was said about a setting with the highest precedence, if that is a text.
    pub fn last_text(&self, setting: &str) -> Option<&str> {
        self.settings
            .iter()
            .rev()
            .find_map(|(name, raw, _)| match raw {
                Raw::Str(text) if *name == setting => Some(text.as_str()),
                _ => None,
            })
    }
}

/// Why nothing is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// `--help`: this for standard output, exit code 0.
    Help(String),
    /// `--version`: this for standard output, exit code 0.
    Version(String),
    /// The command line cannot be read: this for standard error, exit code 2.
    Usage(String),
}

impl Stop {
    /// What the process exits with.
    pub const fn exit_code(&self) -> i32 {
        match self {
            Self::Help(_) | Self::Version(_) => 0,
            Self::Usage(_) => 2,
        }
    }

    fn version() -> Self {
        Self::Version(format!("oxicorn (version {})\n", crate::VERSION))
    }

    fn usage(fault: &str) -> Self {
        Self::Usage(format!("usage: {USAGE}\noxicorn: error: {fault}\n"))
    }
}

/// Reads the arguments (without the program's name), `GUNICORN_CMD_ARGS` and `OXICORN_CMD_ARGS`.
pub fn parse(args: &[String], environment: &Environment) -> Result<CommandLine, Stop> {
    // Its `--help` and its mistakes come before those of the variables.
    let given = read(args).map_err(|fault| fault.into_stop(""))?;
    let mut settings = Vec::new();
    for variable in VARIABLES {
        for (name, raw) in read_variable(variable, environment)? {
            settings.push((
                name,
                raw,
                Source::Environment {
                    variable: variable.into(),
                },
            ));
        }
    }
    for (name, raw) in given.settings {
        settings.push((
            name,
            raw,
            Source::CommandLine {
                flag: flag_of(name).into(),
            },
        ));
    }
    let mut positionals = given.positionals.into_iter();
    Ok(CommandLine {
        settings,
        application: positionals.next(),
        ignored: positionals.collect(),
    })
}

/// The flag that messages name.
fn flag_of(name: &str) -> &'static str {
    crate::table::find(name)
        .and_then(|definition| definition.flags.long())
        .unwrap_or_default()
}

fn read_variable(
    variable: &str,
    environment: &Environment,
) -> Result<Vec<(&'static str, Raw)>, Stop> {
    let words = shell_words::split(environment.variable(variable).unwrap_or_default())
        .map_err(|fault| Stop::usage(&format!("{variable}: {fault}")))?;
    let arguments = read(&words).map_err(|fault| fault.into_stop(&format!("{variable}: ")))?;
    Ok(arguments.settings)
}

/// What one list of arguments said.
#[derive(Debug, Default)]
struct Arguments {
    /// In the order of the table; a flag that was repeated has its last value, or all of them if it makes a list.
    settings: Vec<(&'static str, Raw)>,
    positionals: Vec<String>,
}

/// Why a list of arguments cannot be used.
#[derive(Debug)]
enum Fault {
    /// Help or version was asked for.
    Asked(Stop),
    /// argparse's words for what is wrong.
    Refused(String),
}

impl Fault {
    fn into_stop(self, place: &str) -> Stop {
        match self {
            Self::Asked(stop) => stop,
            Self::Refused(fault) => Stop::usage(&format!("{place}{fault}")),
        }
    }
}

fn read(args: &[String]) -> Result<Arguments, Fault> {
    if args.is_empty() {
        return Ok(Arguments::default());
    }
    let spelled = spelling::spell_out(args).map_err(Fault::Refused)?;
    match unknown::look_for(&spelled).map_err(Fault::Refused)? {
        Some(Asked::Help(topic)) => Err(Fault::Asked(Stop::Help(help::text(topic)))),
        Some(Asked::Version) => Err(Fault::Asked(Stop::version())),
        None => parser::read(spelled),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{environment, text, texts};

    fn arguments(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    fn parsed(line: &str) -> CommandLine {
        parse(&arguments(line), &environment(&[])).expect(line)
    }

    fn said(line: &str) -> Vec<(&'static str, Raw)> {
        parsed(line)
            .settings
            .into_iter()
            .map(|(name, raw, _)| (name, raw))
            .collect()
    }

    fn refused(line: &str) -> String {
        match parse(&arguments(line), &environment(&[])) {
            Err(Stop::Usage(text)) => {
                let start = "usage: oxicorn [OPTIONS] [APP_MODULE]\noxicorn: error: ";
                text.strip_prefix(start)
                    .expect("the two lines")
                    .trim_end()
                    .to_owned()
            }
            other => panic!("{line} was not refused: {other:?}"),
        }
    }

    #[test]
    fn reads_flags_in_every_form() {
        let workers = || vec![("workers", Raw::Int(3))];
        for line in [
            "-w 3",
            "-w3",
            "-w=3",
            "--workers 3",
            "--workers=3",
            "--workers 5 -w 3",
            "-w 3 app:app",
        ] {
            assert_eq!(said(line), workers(), "{line}");
        }
        let cases = [
            ("-b :1 --bind=unix:/a", "bind", texts(&[":1", "unix:/a"])),
            ("-R", "enable_stdio_inheritance", Raw::Bool(true)),
            ("--reload --reload", "reload", Raw::Bool(true)),
            ("--no-sendfile", "sendfile", Raw::Bool(false)),
            ("--proxy-protocol", "proxy_protocol", text("auto")),
            ("--proxy-protocol v2", "proxy_protocol", text("v2")),
            ("--proxy-protocol=v1", "proxy_protocol", text("v1")),
            ("-m 022", "umask", Raw::Int(0o22)),
            ("-m 0x10", "umask", Raw::Int(16)),
            ("--cert-reqs 2", "cert_reqs", text("2")),
            ("--access-logfile -", "accesslog", text("-")),
            ("--log-file a", "errorlog", text("a")),
            ("--error-logfile a", "errorlog", text("a")),
            ("--paster a", "paste", text("a")),
            ("--bind=", "bind", texts(&[""])),
            ("-w -1", "workers", Raw::Int(-1)),
            ("--queue-limit 5", "queue_limit", Raw::Int(5)),
        ];
        for (line, name, expected) in cases {
            assert_eq!(said(line), [(name, expected)], "{line}");
        }
    }

    #[test]
    fn takes_short_switches_together() {
        assert_eq!(
            said("-RD"),
            [
                ("daemon", Raw::Bool(true)),
                ("enable_stdio_inheritance", Raw::Bool(true))
            ]
        );
        assert_eq!(
            said("-Dw3"),
            [("workers", Raw::Int(3)), ("daemon", Raw::Bool(true))]
        );
    }

    #[test]
    fn takes_the_first_argument_for_the_application() {
        let line = parsed("-w 3 app:app other");
        assert_eq!(
            (line.application.as_deref(), line.ignored),
            (Some("app:app"), vec!["other".to_owned()])
        );
        assert_eq!(
            parsed("app:app --reload").application.as_deref(),
            Some("app:app")
        );
        assert_eq!(
            parsed("--reload -- app:app").application.as_deref(),
            Some("app:app")
        );
        assert_eq!(parsed("").application, None);
        assert_eq!(
            refused("app:app -w 3 other"),
            "unrecognized arguments: other"
        );
    }

    #[test]
    fn refuses_in_the_words_of_argparse() {
        for (line, expected) in [
            ("-w x", "argument -w/--workers: invalid int value: 'x'"),
            ("-w 0x3", "argument -w/--workers: invalid int value: '0x3'"),
            ("-m 09", "argument -m/--umask: invalid auto_int value: '09'"),
            ("-w", "argument -w/--workers: expected one argument"),
            (
                "--bind --reload",
                "argument -b/--bind: expected one argument",
            ),
            (
                "--reload=3",
                "argument --reload: ignored explicit argument '3'",
            ),
            ("--bogus", "unrecognized arguments: --bogus"),
            ("-x", "unrecognized arguments: -x"),
            (
                "--worker-clsas sync",
                "unrecognized arguments: --worker-clsas, did you mean --worker-class?",
            ),
        ] {
            assert_eq!(refused(line), expected, "{line}");
        }
    }

    #[test]
    fn prints_version_and_help_on_request() {
        let version = format!("oxicorn (version {})\n", crate::VERSION);
        for line in ["-v", "--version", "--vers", "-w 3 -v"] {
            let stop = parse(&arguments(line), &environment(&[])).expect_err(line);
            assert_eq!(
                (stop.exit_code(), stop),
                (0, Stop::Version(version.clone())),
                "{line}"
            );
        }
        let Err(Stop::Help(help)) = parse(&arguments("--help"), &environment(&[])) else {
            panic!("no help");
        };
        assert!(
            help.starts_with("usage: oxicorn [OPTIONS] [APP_MODULE]\n"),
            "{help}"
        );
        for definition in &crate::TABLE {
            for flag in definition.flags.names {
                assert!(help.contains(flag), "{flag} is missing in\n{help}");
            }
        }
    }

    #[test]
    fn reads_the_variables_below_the_command_line() {
        let variables = [
            (
                "GUNICORN_CMD_ARGS",
                "--bind=unix:/a -c env.py --name 'the shop' ignored:app",
            ),
            ("OXICORN_CMD_ARGS", "--name shop"),
        ];
        let line = parse(&arguments("-c line.py app:app"), &environment(&variables)).expect("fine");
        let environment = |variable: &str| Source::Environment {
            variable: variable.into(),
        };
        assert_eq!(
            line.settings,
            [
                ("config", text("env.py"), environment("GUNICORN_CMD_ARGS")),
                (
                    "bind",
                    texts(&["unix:/a"]),
                    environment("GUNICORN_CMD_ARGS")
                ),
                (
                    "proc_name",
                    text("the shop"),
                    environment("GUNICORN_CMD_ARGS")
                ),
                ("proc_name", text("shop"), environment("OXICORN_CMD_ARGS")),
                (
                    "config",
                    text("line.py"),
                    Source::CommandLine {
                        flag: "--config".into()
                    }
                ),
            ]
        );
        assert_eq!(
            (line.config(), line.application.as_deref()),
            (Some("line.py"), Some("app:app"))
        );
    }

    #[test]
    fn says_which_variable_is_wrong() {
        for (content, expected) in [
            ("--bogus", "unrecognized arguments: --bogus"),
            ("'a", "no closing quotation"),
        ] {
            let stop =
                parse(&[], &environment(&[("GUNICORN_CMD_ARGS", content)])).expect_err(content);
            assert_eq!(stop, Stop::usage(&format!("GUNICORN_CMD_ARGS: {expected}")));
            assert_eq!(stop.exit_code(), 2);
        }
    }
}
