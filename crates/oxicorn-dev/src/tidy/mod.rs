//! The rules about the source: who may know whom, what a pure crate may not touch, where danger may live, how files begin.
//! Each rule gives one line per breach, with what would be right.

mod dependencies;
mod edges;
mod layout;
mod map;
mod never_run;
mod paths;
mod text;

use std::path::Path;

use anyhow::{Result, bail};

use crate::generate;
use crate::source::{crates, files};

/// Checks every rule, and that the generated files are fresh.
pub(crate) fn check(root: &Path) -> Result<()> {
    let mut breaches = dependencies::breaches(root)?;
    breaches.extend(edges::breaches(root)?);
    breaches.extend(map::breaches(root)?);
    breaches.extend(never_run::breaches(root)?);
    for krate in crates(root)? {
        for file in files(root, &krate)? {
            breaches.extend(text::breaches(&file));
        }
    }
    breaches.extend(
        generate::check_all(root)
            .err()
            .map(|error| error.to_string()),
    );
    if !breaches.is_empty() {
        bail!("{}", breaches.join("\n"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_is_tidy() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        check(&root).expect("a tidy workspace");
    }
}
