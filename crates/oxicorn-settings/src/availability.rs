//! What a configuration asks for that is not there, and what in it is probably not meant.

use crate::settings::Settings;

/// One line for each setting that was set to something this release cannot do yet.
pub fn not_available_yet(settings: &Settings) -> Vec<String> {
    let _ = settings;
    todo!("availability")
}

/// One line for each setting that works, but hardly as meant.
pub fn warnings(settings: &Settings) -> Vec<String> {
    let _ = settings;
    todo!("availability")
}
