//! Which setting an unknown name was probably meant to be.

/// The setting that `name` is a near misspelling of, if there is one.
pub fn did_you_mean(name: &str) -> Option<&'static str> {
    let _ = name;
    todo!("misspelling")
}
