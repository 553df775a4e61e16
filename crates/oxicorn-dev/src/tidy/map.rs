//! The map at the head of the gateway's `lib.rs`: every module is on it once, and nothing else is.

use std::path::Path;

use anyhow::Result;

use crate::source::read;

pub(super) fn breaches(root: &Path) -> Result<Vec<String>> {
    let path = "crates/oxicorn-gateway/src/lib.rs";
    let breaches = breaches_in(&read(&root.join(path))?);
    Ok(breaches
        .into_iter()
        .map(|breach| format!("{path}: {breach}"))
        .collect())
}

fn breaches_in(text: &str) -> Vec<String> {
    let modules: Vec<&str> = text.lines().filter_map(module).collect();
    let mapped: Vec<&str> = text.lines().flat_map(mapped).collect();
    let misplaced = modules.iter().filter_map(|module| {
        let count = mapped.iter().filter(|name| *name == module).count();
        (count != 1).then(|| format!("module {module} stands on the map {count} times, not once"))
    });
    let strange = mapped
        .iter()
        .filter(|name| !modules.contains(name))
        .map(|name| format!("the map has {name}, which is no module"));
    misplaced.chain(strange).collect()
}

/// The module that a line declares.
fn module(line: &str) -> Option<&str> {
    let declaration = line.strip_prefix("pub ").unwrap_or(line);
    declaration.strip_prefix("mod ")?.strip_suffix(';')
}

/// The modules in the second column of a line of the map.
fn mapped(line: &str) -> impl Iterator<Item = &str> {
    let column = line
        .strip_prefix("//! | ")
        .and_then(|row| row.split(" | ").nth(1));
    column.unwrap_or_default().split('`').skip(1).step_by(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_has_every_module_once_and_nothing_else() {
        let of = |row: &str| {
            breaches_in(&format!(
                "//! | concern | modules |\n//! |---|---|\n//! | clients | {row} |\n\nmod read;\npub mod write;\nuse a::b;\n"
            ))
        };
        assert_eq!(of("`read`, `write`"), Vec::<String>::new());
        assert_eq!(
            of("`read`"),
            ["module write stands on the map 0 times, not once"]
        );
        assert_eq!(
            of("`read`, `write`, `read`"),
            ["module read stands on the map 2 times, not once"]
        );
        assert_eq!(
            of("`read`, `write`, `submit`"),
            ["the map has submit, which is no module"]
        );
    }
}
