//! Generated files: each is a path and a function that gives its content. They are committed, so that they can be read
//! without building anything, and checked, so that they cannot go stale.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::{differences, hooks_page, refusals_page, settings_page, settings_types, signals_page};

/// What brings stale files up to date.
const REPAIR: &str = "cargo dev generate-all";

/// A path below the root and what makes the file's content out of what it is.
type Generated = (&'static str, fn(&str) -> String);

/// Every generated file.
const FILES: [Generated; 6] = [
    ("docs/reference/settings.md", |_| settings_page::render()),
    ("docs/reference/hooks.md", |_| hooks_page::render()),
    ("docs/reference/signals.md", |_| signals_page::render()),
    ("docs/compatibility.md", differences::render),
    ("python/oxicorn/settings.py", |_| settings_types::render()),
    ("docs/reference/refusals.md", |_| refusals_page::render()),
];

pub(crate) fn write_all(root: &Path) -> Result<()> {
    for (path, render) in FILES {
        let file = root.join(path);
        let directory = file
            .parent()
            .context("generated files are below the root")?;
        fs::create_dir_all(directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        let before = fs::read_to_string(&file).unwrap_or_default();
        fs::write(&file, render(&before)).with_context(|| format!("cannot write {path}"))?;
    }
    Ok(())
}

pub(crate) fn check_all(root: &Path) -> Result<()> {
    let is_stale = |(path, render): &Generated| {
        // A file that cannot be read is as good as a missing one.
        fs::read_to_string(root.join(path)).map_or(true, |content| content != render(&content))
    };
    let stale: Vec<&str> = FILES
        .iter()
        .filter(|file| is_stale(file))
        .map(|(path, _)| *path)
        .collect();
    if !stale.is_empty() {
        bail!("out of date: {}; run `{REPAIR}`", stale.join(", "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_command_that_repairs_stale_files() {
        let root = std::env::temp_dir().join(format!("oxicorn-generate-{}", std::process::id()));
        let error = check_all(&root).expect_err("nothing there").to_string();
        assert_eq!(
            error,
            "out of date: docs/reference/settings.md, docs/reference/hooks.md, docs/reference/signals.md, \
             docs/compatibility.md, python/oxicorn/settings.py, docs/reference/refusals.md; run `cargo dev generate-all`"
        );
        write_all(&root).expect("a writable directory");
        check_all(&root).expect("fresh");
        fs::write(root.join(FILES[0].0), "edited").expect("a writable file");
        check_all(&root).expect_err("edited");
        fs::remove_dir_all(&root).expect("removable");
    }
}
