//! The command line: Gunicorn's flags, read as argparse reads them.

use crate::environment::Environment;
use crate::value::{Raw, Source};

/// What the command line and the variables that stand in for it said.
#[derive(Debug, Clone, PartialEq)]
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
        self.settings
            .iter()
            .rev()
            .find_map(|(name, raw, _)| match raw {
                Raw::Str(path) if *name == "config" => Some(path.as_str()),
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
}

/// Reads the arguments (without the program's name), `GUNICORN_CMD_ARGS` and `OXICORN_CMD_ARGS`.
pub fn parse(args: &[String], environment: &Environment) -> Result<CommandLine, Stop> {
    let _ = (args, environment);
    todo!("the parser")
}
