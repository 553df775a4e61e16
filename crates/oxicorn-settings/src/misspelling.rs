//! Which setting an unknown name was probably meant to be.
//!
//! A config file is Python and full of names that are no settings, so this errs on the side of saying nothing: short names
//! must match but for case and hyphens, longer ones may be one or two slips away.

use crate::table::{TABLE, position};

/// The setting that `name` is a near misspelling of, if there is one.
///
/// Also the flag of a setting, written as Python would have to write it: `keep_alive` means `keepalive`.
pub fn did_you_mean(name: &str) -> Option<&'static str> {
    if position(name).is_some() || name.starts_with('_') {
        return None;
    }
    let folded = fold(name);
    same_but_for_case(&folded)
        .or_else(|| by_flag(&folded))
        .or_else(|| nearest_setting(&folded))
}

/// The flag that `flag` is a near misspelling of, if there is one.
pub(crate) fn nearest_flag(flag: &str) -> Option<&'static str> {
    let longs = TABLE
        .iter()
        .flat_map(|definition| definition.flags.names)
        .filter(|name| name.starts_with("--"));
    nearest(flag, longs.copied())
}

/// The word that `word` is a near misspelling of, if there is one; words may be short, since nothing else is expected.
pub(crate) fn nearest_word(
    word: &str,
    words: impl Iterator<Item = &'static str>,
) -> Option<&'static str> {
    let tolerance = if word.len() < 5 { 1 } else { 2 };
    nearest_within(tolerance, word, words)
}

fn fold(name: &str) -> String {
    name.to_lowercase().replace('-', "_")
}

fn same_but_for_case(folded: &str) -> Option<&'static str> {
    position(folded).map(|position| TABLE[position].name)
}

fn by_flag(folded: &str) -> Option<&'static str> {
    // `env` or `name` are names anybody may use.
    let telling = folded.len() >= 7 || folded.contains('_');
    let has_flag = |flag: &&'static str| {
        flag.strip_prefix("--")
            .is_some_and(|long| fold(long) == folded)
    };
    let definition = TABLE
        .iter()
        .find(|definition| definition.flags.names.iter().any(has_flag))?;
    telling.then_some(definition.name)
}

fn nearest_setting(folded: &str) -> Option<&'static str> {
    nearest(folded, TABLE.iter().map(|definition| definition.name))
}

fn nearest(text: &str, candidates: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    let tolerance = match text.len() {
        0..5 => return None,
        5..8 => 1,
        _ => 2,
    };
    nearest_within(tolerance, text, candidates)
}

fn nearest_within(
    tolerance: usize,
    text: &str,
    candidates: impl Iterator<Item = &'static str>,
) -> Option<&'static str> {
    candidates
        .map(|candidate| (slips(text, candidate), candidate))
        .filter(|(slips, _)| *slips <= tolerance)
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, candidate)| candidate)
}

/// How many slips of the finger lie between two words: a letter too many, too few or wrong, or two in the wrong order
/// (Damerau-Levenshtein, optimal string alignment).
fn slips(written: &str, meant: &str) -> usize {
    let (written, meant): (Vec<char>, Vec<char>) =
        (written.chars().collect(), meant.chars().collect());
    let mut before_last = vec![0; meant.len() + 1];
    let mut last: Vec<usize> = (0..=meant.len()).collect();
    for (row, letter) in written.iter().enumerate() {
        let mut row_slips = vec![row + 1];
        for (column, wanted) in meant.iter().enumerate() {
            let replaced = last[column] + usize::from(letter != wanted);
            let mut fewest = replaced
                .min(last[column + 1] + 1)
                .min(row_slips[column] + 1);
            if row > 0 && column > 0 && *letter == meant[column - 1] && written[row - 1] == *wanted
            {
                fewest = fewest.min(before_last[column - 1] + 1);
            }
            row_slips.push(fewest);
        }
        before_last = std::mem::replace(&mut last, row_slips);
    }
    last[meant.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_slips() {
        for (one, other, expected) in [
            ("", "", 0),
            ("abc", "abc", 0),
            ("abc", "ab", 1),
            ("abc", "acb", 1),
            ("abc", "xbc", 1),
            ("abc", "", 3),
            ("wrokres", "workers", 2),
        ] {
            assert_eq!(slips(one, other), expected, "{one} {other}");
            assert_eq!(slips(other, one), expected, "{other} {one}");
        }
    }

    #[test]
    fn finds_what_was_meant() {
        for (name, expected) in [
            ("worker", Some("workers")),
            ("wrokers", Some("workers")),
            ("WORKERS", Some("workers")),
            ("worker-class", Some("worker_class")),
            ("worker_clas", Some("worker_class")),
            ("time_out", Some("timeout")),
            ("keep_alive", Some("keepalive")),
            ("access_logfile", Some("accesslog")),
            ("log_level", Some("loglevel")),
            ("preload", Some("preload_app")),
            ("max_request", Some("max_requests")),
            ("worker_init", Some("worker_int")),
        ] {
            assert_eq!(did_you_mean(name), expected, "{name}");
        }
    }

    #[test]
    fn leaves_other_names_alone() {
        for name in [
            "os",
            "env",
            "name",
            "pid",
            "multiprocessing",
            "logging",
            "workers",
            "_workers",
            "cores",
            "app",
        ] {
            assert_eq!(did_you_mean(name), None, "{name}");
        }
    }
}
