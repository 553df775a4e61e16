//! The source files of the workspace, and what in a line of Rust is code.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// One file of Rust.
#[derive(Debug)]
pub(crate) struct SourceFile {
    /// The crate's name without `oxicorn-`.
    pub(crate) krate: String,
    /// Path below the root.
    pub(crate) path: PathBuf,
    /// Whether it is part of what the crate ships, as opposed to its tests and benchmarks.
    pub(crate) shipped: bool,
    /// Its content.
    pub(crate) text: String,
}

/// Names of the crates, without `oxicorn-`, sorted.
pub(crate) fn crates(root: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in entries(&root.join("crates"))? {
        let name = entry.file_name().unwrap_or_default().to_string_lossy();
        names.extend(name.strip_prefix("oxicorn-").map(str::to_owned));
    }
    Ok(names)
}

/// Every Rust file of a crate.
pub(crate) fn files(root: &Path, krate: &str) -> Result<Vec<SourceFile>> {
    let directory = root.join("crates").join(format!("oxicorn-{krate}"));
    let mut files = Vec::new();
    for place in ["src", "tests", "benches", "examples"] {
        collect(root, krate, place, &directory.join(place), &mut files)?;
    }
    Ok(files)
}

fn collect(
    root: &Path,
    krate: &str,
    place: &str,
    path: &Path,
    files: &mut Vec<SourceFile>,
) -> Result<()> {
    if path.is_dir() {
        for entry in entries(path)? {
            collect(root, krate, place, &entry, files)?;
        }
    } else if path.extension().is_some_and(|extension| extension == "rs") {
        files.push(SourceFile {
            krate: krate.to_owned(),
            path: path.strip_prefix(root)?.to_owned(),
            shipped: place == "src",
            text: read(path)?,
        });
    }
    Ok(())
}

pub(crate) fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>> {
    let listing =
        fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))?;
    let mut paths = listing
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

/// The line's code, without what stands in its string literals, and its comment. Literals over several lines are not
/// recognised; that has not been worth a lexer.
pub(crate) fn code_and_comment(line: &str) -> (String, &str) {
    let mut code = String::with_capacity(line.len());
    let mut in_string = false;
    let mut characters = line.char_indices();
    while let Some((position, character)) = characters.next() {
        match character {
            '\\' if in_string => {
                characters.next();
            }
            '"' => in_string = !in_string,
            _ if in_string => {}
            _ if line[position..].starts_with("//") => return (code, &line[position..]),
            _ => code.push(character),
        }
    }
    (code, "")
}

/// Whether the code has this path or identifier in it, and not only as a part of a longer identifier.
pub(crate) fn mentions(code: &str, name: &str) -> bool {
    let is_part = |character: Option<char>| {
        character.is_some_and(|letter| letter.is_alphanumeric() || letter == '_')
    };
    code.match_indices(name).any(|(start, _)| {
        !is_part(code[..start].chars().next_back())
            && !is_part(code[start + name.len()..].chars().next())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_code_from_comment_and_text() {
        for (line, code, comment) in [
            ("let a = 1; // Instant", "let a = 1; ", "// Instant"),
            ("//! Instant", "", "//! Instant"),
            (r#"f("// \" Instant", x)"#, "f(, x)", ""),
        ] {
            assert_eq!(code_and_comment(line), (code.to_owned(), comment));
        }
    }

    #[test]
    fn finds_whole_identifiers_only() {
        assert!(mentions("use std::time::{Duration, Instant};", "Instant"));
        assert!(mentions("std::fs::read(path)", "std::fs"));
        assert!(!mentions("Instantly(now)", "Instant"));
        assert!(!mentions("std::fsync", "std::fs"));
    }
}
