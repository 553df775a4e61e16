//! `--print-config`: every setting as it was resolved.

use crate::settings::Settings;

impl Settings {
    /// One line per setting, sorted by name. `show_object` names the Python object behind a handle.
    pub fn print_config(&self, show_object: impl Fn(u32) -> String) -> String {
        let _ = show_object;
        todo!("print_config")
    }
}
