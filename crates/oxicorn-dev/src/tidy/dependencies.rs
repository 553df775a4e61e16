//! Who may know whom.

use std::path::Path;

use anyhow::Result;

use crate::source::{crates, read};

/// Every crate and the crates of ours it may depend on. `ARCHITECTURE.md` says why.
const MAY_KNOW: [(&str, &[&str]); 12] = [
    ("proto", &[]),
    ("settings", &[]),
    ("arbiter", &[]),
    ("dispatch", &[]),
    ("os", &[]),
    ("link", &["os"]),
    ("tls", &[]),
    ("gateway", &["proto", "dispatch", "link", "os", "tls"]),
    ("pool", &["proto", "os", "link"]),
    (
        "python",
        &[
            "proto", "settings", "arbiter", "dispatch", "os", "link", "tls", "gateway", "pool",
        ],
    ),
    ("fuzz", &["proto"]),
    ("dev", &["settings", "arbiter", "proto"]),
];

/// Crates that decide and perform nothing.
pub(super) const PURE: [&str; 4] = ["proto", "settings", "arbiter", "dispatch"];

/// Libraries that only some crates may name, because a boundary of the design runs there.
const RESERVED: [(&str, &[&str]); 8] = [
    ("pyo3", &["python"]),
    ("anyhow", &["dev"]),
    ("tokio", &["gateway"]),
    ("clap", &["settings"]),
    ("rustls", &["tls", "gateway"]),
    ("ring", &[]),
    ("libc", &["os", "link", "gateway", "python"]),
    ("rustix", &["os", "link", "gateway", "python"]),
];

/// One dependency in a manifest.
#[derive(Debug, PartialEq, Eq)]
struct Dependency<'a> {
    name: &'a str,
    /// Only for tests and benchmarks.
    development: bool,
}

pub(super) fn breaches(root: &Path) -> Result<Vec<String>> {
    let mut breaches = Vec::new();
    for krate in crates(root)? {
        let manifest = read(&root.join(format!("crates/oxicorn-{krate}/Cargo.toml")))?;
        breaches.extend(breaches_in(&krate, &manifest));
    }
    Ok(breaches)
}

fn breaches_in(krate: &str, manifest: &str) -> Vec<String> {
    let Some((_, known)) = MAY_KNOW.iter().find(|(name, _)| *name == krate) else {
        return vec![format!(
            "oxicorn-{krate} is not in the dependency table of `cargo dev tidy`"
        )];
    };
    let complaint = |dependency: Dependency<'_>| {
        let name = dependency.name;
        if let Some(ours) = name.strip_prefix("oxicorn-") {
            return (!known.contains(&ours)).then(|| {
                format!(
                    "oxicorn-{krate} may not depend on {name}, see the table in ARCHITECTURE.md"
                )
            });
        }
        let (_, owners) = RESERVED.iter().find(|(library, _)| *library == name)?;
        (!dependency.development && !owners.contains(&krate)).then(|| {
            format!(
                "oxicorn-{krate} may not depend on {name}, only oxicorn-{} may",
                owners.join(", oxicorn-")
            )
        })
    };
    dependencies(manifest)
        .into_iter()
        .filter_map(complaint)
        .collect()
}

/// The dependencies in a manifest: the keys of every table whose name ends with `dependencies`.
fn dependencies(manifest: &str) -> Vec<Dependency<'_>> {
    let mut found = Vec::new();
    let mut table = "";
    for line in manifest.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[') {
            table = name.trim_end_matches(']');
        } else if table.ends_with("dependencies")
            && let Some(name) = line
                .split(['=', '.', ' '])
                .next()
                .filter(|name| !name.is_empty())
            && !name.starts_with('#')
        {
            found.push(Dependency {
                name,
                development: table.ends_with("dev-dependencies"),
            });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_tables_of_a_manifest() {
        let manifest = "[package]\nname = \"x\"\n[dependencies]\n# why\nlibc = { workspace = true }\nslab.workspace = true\n\n\
                        [target.'cfg(loom)'.dependencies]\nloom = \"1\"\n[dev-dependencies]\ntempfile = \"3\"\n[lib]\ntest = false\n";
        let found: Vec<_> = dependencies(manifest)
            .iter()
            .map(|found| (found.name, found.development))
            .collect();
        assert_eq!(
            found,
            [
                ("libc", false),
                ("slab", false),
                ("loom", false),
                ("tempfile", true)
            ]
        );
    }

    #[test]
    fn complains_about_an_edge_that_is_not_in_the_table() {
        let of = |krate: &str, line: &str| breaches_in(krate, &format!("[dependencies]\n{line}\n"));
        assert_eq!(
            of("gateway", "oxicorn-link = { workspace = true }"),
            Vec::<String>::new()
        );
        assert_eq!(
            of("proto", "oxicorn-os = { workspace = true }"),
            ["oxicorn-proto may not depend on oxicorn-os, see the table in ARCHITECTURE.md"]
        );
        assert_eq!(
            of("link", "pyo3 = \"1\""),
            ["oxicorn-link may not depend on pyo3, only oxicorn-python may"]
        );
        assert_eq!(
            of("new", ""),
            ["oxicorn-new is not in the dependency table of `cargo dev tidy`"]
        );
        assert_eq!(
            breaches_in("proto", "[dev-dependencies]\nlibc = \"1\""),
            Vec::<String>::new()
        );
    }

    #[test]
    fn lets_pure_crates_know_nobody() {
        for (krate, known) in MAY_KNOW {
            assert!(!PURE.contains(&krate) || known.is_empty(), "{krate}");
        }
        for (library, owners) in RESERVED {
            let allowed = if library == "clap" {
                &["settings"][..]
            } else {
                &[]
            };
            assert!(
                owners
                    .iter()
                    .all(|owner| !PURE.contains(owner) || allowed.contains(owner)),
                "{library}"
            );
        }
    }
}
