//! The map at the head of the `lib.rs` of a crate with a table of its modules: every module is on it once, nothing else
//! is, and they stand in the order of the table.

use std::path::Path;

use anyhow::Result;

use super::layout::LAYOUTS;
use crate::source::read;

pub(super) fn breaches(root: &Path) -> Result<Vec<String>> {
    let mut breaches = Vec::new();
    for layout in &LAYOUTS {
        let path = format!("crates/oxicorn-{}/src/lib.rs", layout.krate);
        let table = layout.modules.iter().map(|(name, _)| *name);
        let table: Vec<&str> = table.filter(|name| !name.contains('/')).collect();
        let found = breaches_in(&read(&root.join(&path))?, &table);
        breaches.extend(found.into_iter().map(|breach| format!("{path}: {breach}")));
    }
    Ok(breaches)
}

fn breaches_in(text: &str, table: &[&str]) -> Vec<String> {
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
    let mut breaches: Vec<String> = misplaced.chain(strange).collect();
    let out_of_order = mapped
        .iter()
        .zip(table)
        .find(|(name, listed)| name != listed);
    if let Some((name, listed)) = out_of_order.filter(|_| breaches.is_empty()) {
        breaches.push(format!(
            "the map has {name} where the table of modules has {listed}"
        ));
    }
    breaches
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
            let head = "//! | concern | modules |\n//! |---|---|\n";
            let text =
                format!("{head}//! | clients | {row} |\n\nmod read;\npub mod write;\nuse a::b;\n");
            breaches_in(&text, &["read", "write"])
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
        assert_eq!(
            of("`write`, `read`"),
            ["the map has write where the table of modules has read"]
        );
    }
}
