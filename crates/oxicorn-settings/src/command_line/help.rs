//! `--help`, `--help GROUP` and `--help SETTING`.
//!
//! One layout for all of it: flags on the left, their meaning in a column of its own. The whole is for searching, a group
//! fits a screen.

use std::fmt::Write;

use super::USAGE;
use crate::definition::{Action, Default, Definition, Section};
use crate::table::TABLE;

/// Columns; the terminal is not asked, so that help is the same everywhere.
const WIDTH: usize = 100;
/// Where meanings begin.
const INDENT: usize = 38;

/// Groups by the word that asks for them.
const GROUPS: [(&str, Section); 14] = [
    ("config", Section::ConfigFile),
    ("socket", Section::ServerSocket),
    ("workers", Section::WorkerProcesses),
    ("gateway", Section::Gateway),
    ("tracing", Section::Tracing),
    ("security", Section::Security),
    ("debugging", Section::Debugging),
    ("mechanics", Section::ServerMechanics),
    ("logging", Section::Logging),
    ("naming", Section::ProcessNaming),
    ("tls", Section::Tls),
    ("http2", Section::Http2),
    ("dirty", Section::DirtyArbiters),
    ("control", Section::Control),
];

/// The text for `--help TOPIC`; a topic nobody knows gets the whole, as argparse gives it.
pub(super) fn text(topic: Option<&str>) -> String {
    let Some(topic) = topic.map(str::to_lowercase) else {
        return whole();
    };
    if let Some(section) = section_called(&topic) {
        return group(section);
    }
    setting_called(&topic).map_or_else(whole, about)
}

fn whole() -> String {
    let mut text = format!("usage: {USAGE}\n\n");
    text.push_str(&filled(
        "APP_MODULE is MODULE:CALLABLE, such as app:application. Any flag can be set by its setting in \
         gunicorn.conf.py too.",
        0,
    ));
    text.push_str("\n\n");
    entry(
        &mut text,
        "  -h, --help [GROUP|SETTING]",
        "Print this, a group of it, or all about one setting.",
    );
    entry(&mut text, "  -v, --version", "Print the version and exit.");
    let words: Vec<_> = GROUPS.iter().map(|(word, _)| *word).collect();
    entry(&mut text, "  groups", &words.join(", "));
    for (_, section) in GROUPS {
        let _ = write!(text, "\n{}", group(section));
    }
    text
}

fn group(section: Section) -> String {
    let mut text = format!("{}:\n", section.title());
    let rows = TABLE.iter().filter(|row| row.section == section);
    for row in rows.filter(|row| !row.flags.names.is_empty()) {
        entry(&mut text, &flags_of(row), &meaning(row));
    }
    text
}

/// `  -w, --workers INT`.
fn flags_of(definition: &Definition) -> String {
    let names = definition.flags.names;
    let indent = if names[0].starts_with("--") {
        "      "
    } else {
        "  "
    };
    let metavar = match definition.flags.action {
        Action::Switch(_) => String::new(),
        Action::OptionalText(_) => format!(" [{}]", definition.flags.metavar),
        _ => format!(" {}", definition.flags.metavar),
    };
    format!("{indent}{}{metavar}", names.join(", "))
}

/// The summary and the default.
fn meaning(definition: &Definition) -> String {
    let summary = definition.summary().replace('`', "");
    let default = match definition.default {
        Default::Computed { described, .. } => described.replace('`', ""),
        Default::Int(number) => number.to_string(),
        Default::Str(text) => text.to_owned(),
        _ => String::new(),
    };
    if default.is_empty() {
        summary
    } else {
        format!("{summary} [{default}]")
    }
}

/// One row of a list; flags that are too long have a line of their own.
fn entry(text: &mut String, flags: &str, meaning: &str) {
    let meaning = filled(meaning, INDENT);
    if flags.len() + 2 > INDENT {
        let _ = writeln!(text, "{flags}\n{meaning}");
    } else {
        let _ = writeln!(text, "{flags:<INDENT$}{}", meaning.trim_start());
    }
}

/// Words in lines of the help's width, each behind `indent` spaces.
fn filled(words: &str, indent: usize) -> String {
    let mut lines = vec![" ".repeat(indent)];
    for word in words.split_whitespace() {
        let last = lines.last().map_or(0, |line| line.chars().count());
        if last > indent && last + 1 + word.chars().count() > WIDTH {
            lines.push(" ".repeat(indent));
        }
        if let Some(line) = lines.last_mut() {
            if line.chars().count() > indent {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines.join("\n")
}

/// Everything about one setting: what the reference page has.
fn about(definition: &Definition) -> String {
    let mut text = String::new();
    let flags = flags_of_or_none(definition);
    let _ = writeln!(
        text,
        "{} ({})\n",
        definition.name,
        definition.section.title()
    );
    for (what, said) in [
        ("flags", flags),
        ("values", definition.kind.described().replace('`', "")),
        ("default", definition.default.described().replace('`', "")),
    ] {
        let _ = writeln!(text, "  {what:<9}{said}");
    }
    let _ = writeln!(text, "\n{}", filled(&definition.doc.replace('`', ""), 0));
    text
}

fn flags_of_or_none(definition: &Definition) -> String {
    if definition.flags.names.is_empty() {
        "none, it is set in the config file".to_owned()
    } else {
        flags_of(definition).trim_start().to_owned()
    }
}

fn section_called(topic: &str) -> Option<Section> {
    let by_word = GROUPS.iter().find(|(word, _)| *word == topic);
    let by_title = || {
        let mut sections = GROUPS.iter();
        sections.find(|(_, section)| section.title().to_lowercase() == topic)
    };
    by_word.or_else(by_title).map(|(_, section)| *section)
}

fn setting_called(topic: &str) -> Option<&'static Definition> {
    let bare = topic.trim_start_matches('-');
    TABLE.iter().find(|row| {
        let mut flags = row
            .flags
            .names
            .iter()
            .map(|flag| flag.trim_start_matches('-'));
        row.name == bare.replace('-', "_") || flags.any(|flag| flag == bare)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines that fit a terminal of ordinary height, with the command above and the prompt below.
    const SCREEN: usize = 66;

    #[test]
    fn a_group_is_readable_in_a_screen_and_all_of_them_are_the_whole() {
        let whole = whole();
        for (word, section) in GROUPS {
            let text = text(Some(word));
            assert!(text.starts_with(section.title()), "{word}");
            assert!(
                text.lines().count() <= SCREEN,
                "{word}: {}",
                text.lines().count()
            );
            assert!(whole.contains(&text), "{word}");
        }
    }

    #[test]
    fn has_one_layout() {
        for line in whole().lines() {
            assert!(line.chars().count() <= WIDTH, "{line}");
            if line.starts_with("  -") || line.starts_with("      -") {
                let meaning = line.get(INDENT..).unwrap_or_default();
                assert!(!meaning.starts_with(' '), "{line}");
            }
        }
    }

    #[test]
    fn every_flag_stands_in_one_group() {
        let whole = whole();
        for row in TABLE.iter().filter(|row| !row.flags.names.is_empty()) {
            let flags = flags_of(row);
            let is_it = |line: &&str| {
                let rest = line.strip_prefix(flags.as_str());
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("  "))
            };
            assert_eq!(whole.lines().filter(is_it).count(), 1, "{flags}");
        }
    }

    #[test]
    fn tells_all_about_a_setting_by_any_of_its_names() {
        let expected = text(Some("errorlog"));
        assert!(expected.starts_with("errorlog (Logging)\n"), "{expected}");
        for topic in ["--error-logfile", "log-file", "ERRORLOG"] {
            assert_eq!(text(Some(topic)), expected, "{topic}");
        }
        assert!(text(Some("post_fork")).contains("set in the config file"));
        assert!(text(Some("certfile")).starts_with("certfile (SSL)\n"));
    }

    #[test]
    fn anything_else_gets_the_whole() {
        assert_eq!(text(None), text(Some("app:application")));
    }
}
