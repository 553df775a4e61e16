//! However a connection's bytes are cut, the same is made of them: each message of the corpus
//! whole, byte by byte, in two pieces at every place, and at random cuts.

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use support::{Random, cut, play, rules_of};

fn corpus() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let entries = ["accept", "reject"]
        .into_iter()
        .flat_map(|kind| fs::read_dir(folder.join(kind)).expect("a folder"));
    entries
        .map(|entry| entry.expect("a readable entry").path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "http")
        })
        .collect()
}

/// Runs `check` with each message, the way to play it in pieces, and what the whole gives.
fn for_each(check: impl Fn(&[u8], &dyn Fn(Vec<&[u8]>) -> String, &str, &Path)) {
    for file in corpus() {
        let rules = fs::read_to_string(file.with_extension("rules")).unwrap_or_default();
        let (rules, trusted) = rules_of(&rules);
        let bytes = fs::read(&file).expect("a readable message");
        let whole = play(&rules, trusted, [&bytes[..]]);
        check(
            &bytes,
            &|pieces| play(&rules, trusted, pieces),
            &whole,
            &file,
        );
    }
}

#[test]
fn byte_by_byte_is_the_same() {
    for_each(|bytes, play, whole, file| {
        assert_eq!(play(bytes.chunks(1).collect()), whole, "{}", file.display());
    });
}

#[test]
fn two_pieces_are_the_same() {
    for_each(|bytes, play, whole, file| {
        for at in 0..bytes.len().min(2000) {
            assert_eq!(
                play(vec![&bytes[..at], &bytes[at..]]),
                whole,
                "{} cut at {at}",
                file.display()
            );
        }
    });
}

#[test]
fn random_cuts_are_the_same() {
    let seed = 0x6f78_6963_6f72_6e00;
    for_each(|bytes, play, whole, file| {
        for round in 0..50 {
            let mut random = Random(seed + round);
            assert_eq!(
                play(cut(bytes, &mut random)),
                whole,
                "{} seed {}",
                file.display(),
                seed + round
            );
        }
    });
}

/// Broken messages too, and cut off anywhere: a byte changed, removed or doubled.
#[test]
fn damaged_messages_are_the_same_in_pieces() {
    for_each(|bytes, play, _, file| {
        for seed in 1..60 {
            let mut random = Random(0x9e37_79b9 * seed);
            let damaged = damage(bytes, &mut random);
            let whole = play(vec![&damaged]);
            assert_eq!(
                play(damaged.chunks(1).collect()),
                whole,
                "{} seed {seed}",
                file.display()
            );
            assert_eq!(
                play(cut(&damaged, &mut random)),
                whole,
                "{} seed {seed}",
                file.display()
            );
        }
    });
}

fn damage(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    const SPICE: &[u8] = b"\r\n\0 \t:;,_\x7f\xff\"\\0fZ/?#*";
    let mut damaged = bytes.to_vec();
    for _ in 0..=random.below(3) {
        if damaged.is_empty() {
            break;
        }
        let at = random.below(damaged.len());
        let byte = SPICE[random.below(SPICE.len())];
        match random.below(5) {
            0 => damaged[at] = byte,
            1 => damaged.insert(at, byte),
            2 => drop(damaged.remove(at)),
            3 => damaged.insert(at, damaged[at]),
            _ => damaged.truncate(at),
        }
    }
    damaged
}
