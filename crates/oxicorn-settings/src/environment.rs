//! What the outside told us before anything was decided: a snapshot of the environment, and the few questions a validator
//! may ask the machine. Nothing in this crate looks for itself, so a test can say what the machine answers.

use std::collections::BTreeMap;
use std::fmt;

/// The environment of the process at one moment; defaults are computed from it.
///
/// Gunicorn reads it while its module is imported, so its defaults are frozen then; here whoever makes the snapshot decides.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Environment {
    /// Environment variables.
    pub variables: BTreeMap<String, String>,
    /// The working directory as the kernel names it (symbolic links resolved).
    pub working_directory: String,
    /// Effective user of the process.
    pub effective_user: u32,
    /// Effective group of the process.
    pub effective_group: u32,
}

impl Environment {
    /// A variable's value, also if it is empty.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// A variable's value, unless it is empty: `PORT= oxicorn app` means what `oxicorn app` means.
    pub(crate) fn filled_variable(&self, name: &str) -> Option<&str> {
        self.variable(name).filter(|value| !value.is_empty())
    }

    /// The working directory as the user sees it: `PWD` keeps the symbolic links of the way there, if it is true.
    pub(crate) fn visible_working_directory(&self, host: &dyn Host) -> &str {
        self.filled_variable("PWD")
            .filter(|directory| host.is_same_file(directory, &self.working_directory))
            .unwrap_or(&self.working_directory)
    }

    /// The path made absolute, and rid of `.`, `..` and doubled slashes without looking at any file.
    pub(crate) fn absolute(&self, path: &str, host: &dyn Host) -> String {
        let base = if path.starts_with('/') {
            ""
        } else {
            self.visible_working_directory(host)
        };
        let mut parts: Vec<&str> = Vec::new();
        for part in base.split('/').chain(path.split('/')) {
            match part {
                "" | "." => {}
                ".." => {
                    parts.pop();
                }
                name => parts.push(name),
            }
        }
        format!("/{}", parts.join("/"))
    }
}

/// What validators and defaults must know of the machine.
pub trait Host: fmt::Debug + Send + Sync {
    /// Whether there is a file or directory of this name.
    fn path_exists(&self, path: &str) -> bool;
    /// Whether there is a directory of this name.
    fn is_directory(&self, path: &str) -> bool;
    /// Whether both names lead to the same file or directory.
    fn is_same_file(&self, one: &str, other: &str) -> bool;
    /// Whether at least one file matches the pattern (`*`, `?`, `[...]`, `**`).
    fn matches_any(&self, pattern: &str) -> bool;
    /// The longest queue of connections the kernel keeps for a listener (Linux: `net.core.somaxconn`), if it says.
    fn longest_backlog(&self) -> Option<i64>;
    /// How many client connections the hard limit on open files leaves room for.
    fn most_connections(&self) -> i64;
    /// Numeric id of a user.
    fn user_id(&self, name: &str) -> Option<u32>;
    /// Numeric id of a group.
    fn group_id(&self, name: &str) -> Option<u32>;
    /// Home directory of the effective user by the user database, asked where `HOME` is not set.
    fn home_directory(&self) -> Option<String>;
    /// Whether a Python object that passed through as a handle is a dictionary.
    fn is_dictionary(&self, object: u32) -> bool;
    /// Whether a Python object that passed through as a handle is a class.
    fn is_class(&self, object: u32) -> bool;
}
