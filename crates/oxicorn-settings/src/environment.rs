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
    /// Numeric id of a user.
    fn user_id(&self, name: &str) -> Option<u32>;
    /// Numeric id of a group.
    fn group_id(&self, name: &str) -> Option<u32>;
    /// Home directory of the effective user by the user database, asked where `HOME` is not set.
    fn home_directory(&self) -> Option<String>;
    /// Whether a Python object that passed through as a handle is a dictionary.
    fn is_dictionary(&self, object: u32) -> bool;
}
