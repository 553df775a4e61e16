//! Tests that never run look like tests: a crate whose own tests are not built, or not called for, has none.

use std::path::Path;

use anyhow::Result;

use crate::source::{SourceFile, code_and_comment, crates, files, read};

pub(super) fn breaches(root: &Path) -> Result<Vec<String>> {
    let makefile = read(&root.join("Makefile"))?;
    let mut breaches = Vec::new();
    for krate in crates(root)? {
        let manifest = read(&root.join(format!("crates/oxicorn-{krate}/Cargo.toml")))?;
        if let Some(reason) = never_runs(&krate, &manifest, &makefile) {
            let tests = files(root, &krate)?.into_iter().filter(has_tests);
            breaches.extend(tests.map(|file| complaint(&file, &reason)));
        }
    }
    Ok(breaches)
}

/// Why the tests of a crate do not run.
fn never_runs(krate: &str, manifest: &str, makefile: &str) -> Option<String> {
    let name = format!("oxicorn-{krate}");
    let words: Vec<&str> = makefile.split([' ', '\n', ';']).collect();
    if words.windows(2).any(|pair| pair == ["--exclude", &name]) {
        return Some(format!("the Makefile says `--exclude {name}`"));
    }
    let mut table = "";
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            table = line;
        } else if table == "[lib]" && line.replace(' ', "") == "test=false" {
            return Some("the manifest says `test = false`".to_owned());
        }
    }
    None
}

fn has_tests(file: &SourceFile) -> bool {
    file.text.lines().any(|line| {
        let (code, _) = code_and_comment(line);
        code.contains("#[cfg(test)]") || code.contains("#[test]")
    })
}

fn complaint(file: &SourceFile, reason: &str) -> String {
    format!(
        "{}: its tests never run ({reason}): what they test belongs into a crate whose tests do",
        file.path.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_that_is_left_out_is_found() {
        let reason = |manifest: &str, makefile: &str| never_runs("x", manifest, makefile);
        assert_eq!(reason("[lib]\ndoctest = false\n", "cargo test\n"), None);
        assert_eq!(
            reason(
                "[[bin]]\ntest = false\n",
                "cargo test --exclude oxicorn-xy\n"
            ),
            None
        );
        let by_manifest = reason("[lib]\nname = \"x\"\ntest = false\n", "cargo test\n");
        assert_eq!(
            by_manifest.as_deref(),
            Some("the manifest says `test = false`")
        );
        let by_makefile = reason("", "cargo test --workspace --exclude oxicorn-x; \\\n");
        assert_eq!(
            by_makefile.as_deref(),
            Some("the Makefile says `--exclude oxicorn-x`")
        );
    }

    #[test]
    fn a_test_is_told_from_what_speaks_of_one() {
        let of = |text: &str| {
            let file = SourceFile {
                krate: "x".to_owned(),
                path: "a.rs".into(),
                shipped: true,
                text: text.to_owned(),
            };
            has_tests(&file).then(|| complaint(&file, "why"))
        };
        assert_eq!(of("// #[test]\nlet a = \"#[cfg(test)]\";\n"), None);
        assert_eq!(
            of("#[cfg(test)]\nmod tests {\n    #[test]\n").as_deref(),
            Some(
                "a.rs: its tests never run (why): what they test belongs into a crate whose tests do"
            )
        );
    }
}
