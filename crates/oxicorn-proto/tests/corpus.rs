//! Messages as files: `corpus/{accept,reject}/NNN-slug.http` are the bytes of one connection,
//! `.expect` beside each is what must be made of them, `.rules` (if any) the rules that differ from
//! the default.
//!
//! `OXICORN_UPDATE_CORPUS=1` writes the `.expect` files anew; review the difference.

mod support;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use support::{play, rules_of};

fn messages(kind: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/corpus")
        .join(kind);
    let mut files: Vec<_> = fs::read_dir(folder)
        .expect("the corpus is there")
        .map(|entry| entry.expect("a readable entry").path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "http")
        })
        .collect();
    files.sort();
    files
}

fn play_file(file: &Path) -> String {
    let (rules, trusted) =
        rules_of(&fs::read_to_string(file.with_extension("rules")).unwrap_or_default());
    let bytes = fs::read(file).expect("a readable message");
    play(&rules, trusted, [&bytes[..]])
}

/// Compares every message of a kind with its expectation; all differences are shown at once.
fn check(kind: &str, sound: impl Fn(&str) -> bool) {
    let mut differences = String::new();
    for file in messages(kind) {
        let transcript = play_file(&file);
        assert!(
            sound(&transcript),
            "{} is in the wrong folder:\n{transcript}",
            file.display()
        );
        let expect = file.with_extension("expect");
        if std::env::var_os("OXICORN_UPDATE_CORPUS").is_some() {
            fs::write(&expect, &transcript).expect("a writable corpus");
        }
        let expected = fs::read_to_string(&expect).unwrap_or_default();
        if transcript != expected {
            let _ = writeln!(
                differences,
                "{}\n--- expected\n{expected}--- seen\n{transcript}",
                file.display()
            );
        }
    }
    assert!(differences.is_empty(), "{differences}");
}

#[test]
fn accepted_messages_are_read_as_expected() {
    check("accept", |transcript| !transcript.contains("fault"));
}

#[test]
fn refused_messages_have_their_fault() {
    check("reject", |transcript| {
        transcript
            .lines()
            .last()
            .is_some_and(|last| last.starts_with("fault"))
    });
}
