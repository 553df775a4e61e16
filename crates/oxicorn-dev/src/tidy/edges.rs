//! Who may use whom within a crate.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;

use super::layout::{LAYOUTS, Layout};
use super::paths::{module_of, named_in};
use crate::source::{SourceFile, files};

/// Where the tables are.
const TABLES: &str = "crates/oxicorn-dev/src/tidy/layout.rs";

/// The module that stands for items of the root itself.
const ROOT: &str = "lib";

/// A module that a file uses.
#[derive(Debug)]
struct Use<'a> {
    /// File and line.
    place: String,
    by: &'a str,
    of: &'a str,
}

pub(super) fn breaches(root: &Path) -> Result<Vec<String>> {
    let mut breaches = Vec::new();
    for layout in &LAYOUTS {
        breaches.extend(breaches_in(layout, &files(root, layout.krate)?));
    }
    Ok(breaches)
}

fn breaches_in(layout: &Layout, files: &[SourceFile]) -> Vec<String> {
    let mut breaches = disorder(layout);
    let source = format!("crates/oxicorn-{}/src", layout.krate);
    let modules: Vec<(&SourceFile, Vec<String>)> = files
        .iter()
        .filter_map(|file| Some((file, module_of(file.path.strip_prefix(&source).ok()?))))
        .filter(|(_, module)| !module.is_empty())
        .collect();
    let mut uses = Vec::new();
    let mut strangers = BTreeSet::new();
    for (file, module) in &modules {
        match layout.entry_of(module) {
            Some(by) => uses.extend(uses_in(layout, file, module, by)),
            None => {
                strangers.insert(&module[0]);
            }
        }
    }
    breaches.extend(strangers.into_iter().map(|name| {
        format!(
            "{TABLES}: module {name} of oxicorn-{} has no place",
            layout.krate
        )
    }));
    for found in &uses {
        if !layout.allows(found) {
            breaches.push(format!(
                "{}: {} may not use {}, see {TABLES}",
                found.place, found.by, found.of
            ));
        }
    }
    breaches.extend(stale(layout, &modules, &uses));
    breaches
}

/// What `file` uses of other modules, each once.
fn uses_in<'a>(
    layout: &'a Layout,
    file: &SourceFile,
    module: &[String],
    by: &'a str,
) -> Vec<Use<'a>> {
    let mut uses: Vec<Use<'a>> = Vec::new();
    for named in named_in(module, &file.text) {
        let of = layout.entry_of(&named.path).unwrap_or(ROOT);
        if of != by && uses.iter().all(|found| found.of != of) {
            let place = format!("{}:{}", file.path.display(), named.line);
            uses.push(Use { place, by, of });
        }
    }
    uses
}

/// What is wrong with the table itself: a module that uses one behind it.
fn disorder(layout: &Layout) -> Vec<String> {
    let mut breaches = Vec::new();
    for (position, (user, uses)) in layout.modules.iter().enumerate() {
        let is_before = |used: &str| {
            used == ROOT
                || layout.modules[..position]
                    .iter()
                    .any(|(name, _)| *name == used)
        };
        let wrong = uses.iter().filter(|used| !is_before(used));
        breaches.extend(
            wrong.map(|used| {
                format!("{TABLES}: {used} does not stand before {user}, which uses it")
            }),
        );
    }
    breaches
}

/// What the table has and the crate has not, or not any more.
fn stale(layout: &Layout, modules: &[(&SourceFile, Vec<String>)], uses: &[Use<'_>]) -> Vec<String> {
    let is_there = |name: &str| {
        modules
            .iter()
            .any(|(_, module)| layout.entry_of(module) == Some(name))
    };
    let gone = layout
        .modules
        .iter()
        .filter(|(name, _)| !is_there(name))
        .map(|(name, _)| format!("{TABLES}: oxicorn-{} has no module {name}", layout.krate));
    let over = layout
        .to_go
        .iter()
        .filter(|(user, used)| {
            uses.iter()
                .all(|found| found.by != *user || found.of != *used)
        })
        .map(|(user, used)| {
            format!("{TABLES}: {user} does not use {used} any more, so it is not to go")
        });
    gone.chain(over).collect()
}

impl Layout {
    /// The module of the table that `path` leads into: the longest one.
    fn entry_of(&self, path: &[String]) -> Option<&'static str> {
        let leads_into = |entry: &str| {
            let mut names = path.iter();
            entry
                .split('/')
                .all(|part| names.next().is_some_and(|name| name == part))
        };
        let entries = self.modules.iter().map(|(name, _)| *name);
        entries
            .filter(|entry| leads_into(entry))
            .max_by_key(|entry| entry.len())
    }

    fn allows(&self, found: &Use<'_>) -> bool {
        let listed = self
            .modules
            .iter()
            .any(|(user, uses)| *user == found.by && uses.contains(&found.of));
        listed || self.to_go.contains(&(found.by, found.of))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYOUT: Layout = Layout {
        krate: "x",
        modules: &[
            ("clock", &[]),
            ("wire", &["clock"]),
            ("owner/clients", &["wire"]),
            ("owner", &["owner/clients", "lib"]),
        ],
        to_go: &[("clock", "owner")],
    };

    /// The smallest crate that is as the table says; `file` has `text` besides.
    fn of(file: &str, text: &str) -> Vec<String> {
        let mut files: Vec<SourceFile> = [
            ("lib.rs", "use crate::anything;"),
            ("clock.rs", "use crate::owner::Owner;"),
            ("wire/mod.rs", ""),
            ("owner/clients/read.rs", ""),
            ("owner/mod.rs", "mod clients;"),
        ]
        .iter()
        .map(|(path, text)| source(path, text))
        .collect();
        files.push(source(file, text));
        breaches_in(&LAYOUT, &files)
    }

    fn source(path: &str, text: &str) -> SourceFile {
        SourceFile {
            krate: "x".to_owned(),
            path: Path::new("crates/oxicorn-x/src").join(path),
            shipped: true,
            text: text.to_owned(),
        }
    }

    #[test]
    fn what_the_table_allows_passes() {
        for (file, text) in [
            (
                "wire/ring.rs",
                "use crate::clock::Clock;\nuse super::Frame;\nuse std::fmt;",
            ),
            ("owner/clients/write.rs", "use crate::wire::{ring, Frame};"),
            (
                "owner/turn.rs",
                "use super::clients::read;\nuse crate::{Setup};",
            ),
            ("clock/source.rs", "use crate::owner::Owner;"),
        ] {
            assert_eq!(of(file, text), Vec::<String>::new(), "{file}");
        }
    }

    #[test]
    fn a_forbidden_edge_is_refused_with_its_place() {
        let refused = |place: &str, user: &str, used: &str| {
            format!("crates/oxicorn-x/src/{place}: {user} may not use {used}, see {TABLES}")
        };
        for (file, text, place, user, used) in [
            (
                "clock/source.rs",
                "use std::fmt;\n\nuse crate::wire::Frame;",
                "clock/source.rs:3",
                "clock",
                "wire",
            ),
            (
                "wire/ring.rs",
                "fn f() { super::super::owner::g() }",
                "wire/ring.rs:1",
                "wire",
                "owner",
            ),
            (
                "wire/ring.rs",
                "use crate::{\n    clock,\n    owner::clients::read,\n};",
                "wire/ring.rs:3",
                "wire",
                "owner/clients",
            ),
            (
                "owner/clients/write.rs",
                "use crate::owner::Owner;",
                "owner/clients/write.rs:1",
                "owner/clients",
                "owner",
            ),
            (
                "owner/clients/write.rs",
                "use crate::clock;",
                "owner/clients/write.rs:1",
                "owner/clients",
                "clock",
            ),
            (
                "wire/ring.rs",
                "use crate::Setup;",
                "wire/ring.rs:1",
                "wire",
                "lib",
            ),
        ] {
            assert_eq!(
                of(file, text),
                [refused(place, user, used)],
                "{file}: {text}"
            );
        }
    }

    #[test]
    fn a_new_module_must_find_its_place() {
        assert_eq!(
            of("queue.rs", "use crate::wire;"),
            [format!("{TABLES}: module queue of oxicorn-x has no place")]
        );
    }

    #[test]
    fn a_table_has_no_circle_and_nothing_that_is_gone() {
        let layout = Layout {
            krate: "x",
            modules: &[("a", &["b", "a"]), ("b", &["a"])],
            to_go: &[("a", "c")],
        };
        assert_eq!(
            breaches_in(&layout, &[source("a.rs", "use crate::b;")]),
            [
                format!("{TABLES}: b does not stand before a, which uses it"),
                format!("{TABLES}: a does not stand before a, which uses it"),
                format!("{TABLES}: oxicorn-x has no module b"),
                format!("{TABLES}: a does not use c any more, so it is not to go"),
            ]
        );
    }
}
