//! The table: every setting, one definition each, a file per section.
//!
//! Adding a setting is adding its definition; the command line, validation, `--help`, `--print-config` and the reference
//! page follow. The tests below hold what must be true of every definition.

mod client_limits;
mod computed;
mod config_file;
mod control;
mod debugging;
mod dirty_arbiter_hooks;
mod dirty_arbiters;
mod dirty_pool;
mod gateway;
mod http2;
mod logging;
mod process_naming;
mod security;
mod server_hooks;
mod server_mechanics;
mod server_socket;
mod tls;
mod tracing;
mod worker_processes;

use crate::definition::Definition;

/// How many settings there are: Gunicorn's and our own.
const COUNT: usize = GUNICORN_SETTINGS + OWN_SETTINGS;
/// Gunicorn 27 has these.
const GUNICORN_SETTINGS: usize = 120;
/// They have no counterpart there.
const OWN_SETTINGS: usize = gateway::DEFINITIONS.len()
    + dirty_pool::DEFINITIONS.len()
    + tracing::DEFINITIONS.len()
    + client_limits::DEFINITIONS.len()
    + logging::OWN
    + server_mechanics::OWN
    + tls::OWN
    + worker_processes::OWN;

/// The sections' definitions, in the order of `--help` and of the reference page.
const SECTIONS: [&[Definition]; 18] = [
    config_file::DEFINITIONS,
    server_socket::DEFINITIONS,
    worker_processes::DEFINITIONS,
    gateway::DEFINITIONS,
    tracing::DEFINITIONS,
    security::DEFINITIONS,
    client_limits::DEFINITIONS,
    debugging::DEFINITIONS,
    server_mechanics::DEFINITIONS,
    logging::DEFINITIONS,
    process_naming::DEFINITIONS,
    server_hooks::DEFINITIONS,
    tls::DEFINITIONS,
    http2::DEFINITIONS,
    dirty_arbiters::DEFINITIONS,
    dirty_pool::DEFINITIONS,
    dirty_arbiter_hooks::DEFINITIONS,
    control::DEFINITIONS,
];

/// Every setting.
pub static TABLE: [Definition; COUNT] = joined();

#[expect(clippy::large_stack_arrays, reason = "the compiler evaluates it")]
const fn joined() -> [Definition; COUNT] {
    let mut table = [SECTIONS[0][0]; COUNT];
    let (mut position, mut section) = (0, 0);
    while section < SECTIONS.len() {
        let mut row = 0;
        while row < SECTIONS[section].len() {
            table[position] = SECTIONS[section][row];
            position += 1;
            row += 1;
        }
        section += 1;
    }
    assert!(
        position == COUNT,
        "the sections have as many settings as the table"
    );
    table
}

/// The definition of a setting.
pub fn find(name: &str) -> Option<&'static Definition> {
    position(name).map(|position| &TABLE[position])
}

/// Where a setting stands in the table.
pub(crate) fn position(name: &str) -> Option<usize> {
    TABLE.iter().position(|definition| definition.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::definition::{Action, Kind, Parity, Section};
    use crate::testing::resolve;

    #[test]
    fn has_every_setting_of_gunicorn_once() {
        let names: BTreeSet<&str> = TABLE.iter().map(|definition| definition.name).collect();
        assert_eq!(names.len(), TABLE.len());
        assert_eq!(
            TABLE
                .iter()
                .filter(|definition| !definition.is_own())
                .count(),
            GUNICORN_SETTINGS
        );
    }

    #[test]
    fn gives_every_flag_to_one_setting() {
        let flags = || TABLE.iter().flat_map(|definition| definition.flags.names);
        assert_eq!(flags().collect::<BTreeSet<_>>().len(), flags().count());
        for flag in flags() {
            assert!(
                flag.starts_with("--") || (flag.len() == 2 && flag.starts_with('-')),
                "{flag}"
            );
            assert!(
                !["-h", "--help", "-v", "--version"].contains(flag),
                "{flag} is taken"
            );
        }
        // Gunicorn 27 has 110 spellings for 95 settings.
        let of_gunicorn = TABLE.iter().filter(|definition| !definition.is_own());
        let counts: Vec<usize> = of_gunicorn
            .map(|definition| definition.flags.names.len())
            .collect();
        assert_eq!(counts.iter().filter(|count| **count > 0).count(), 95);
        assert_eq!(counts.iter().sum::<usize>(), 110);
    }

    #[test]
    fn describes_every_setting_in_sentences() {
        for definition in &TABLE {
            let (name, doc) = (definition.name, definition.doc);
            assert!(doc.ends_with('.') && !doc.contains("  "), "{name}: {doc}");
            assert!(
                definition.summary().len() <= 200,
                "{name}: {}",
                definition.summary()
            );
            assert!(
                definition.summary().ends_with('.'),
                "{name}: {}",
                definition.summary()
            );
        }
    }

    #[test]
    fn keeps_sections_together_and_in_order() {
        assert!(TABLE.is_sorted_by_key(|definition| definition.section));
        assert!(Section::ALL.is_sorted());
        for section in Section::ALL {
            assert!(
                TABLE.iter().any(|definition| definition.section == section),
                "{section:?}"
            );
        }
    }

    #[test]
    fn has_defaults_that_its_validators_accept() {
        assert_eq!(resolve(&[]).iter().count(), TABLE.len());
    }

    #[test]
    fn has_flags_that_fit_the_kind() {
        for definition in &TABLE {
            let fits = match (definition.kind, definition.flags.action) {
                _ if definition.flags.names.is_empty() => true,
                (Kind::Bool, Action::Switch(_))
                | (Kind::TextList | Kind::FileList, Action::Repeat) => true,
                (Kind::Integer { .. }, action) => {
                    !matches!(action, Action::Switch(_) | Action::Repeat)
                }
                (Kind::Hook { .. } | Kind::TextDict | Kind::ObjectDict | Kind::Bool, _) => false,
                (_, action) => matches!(action, Action::Text | Action::OptionalText(_)),
            };
            assert!(fits, "{}", definition.name);
        }
    }

    #[test]
    fn says_that_own_settings_are_own() {
        for definition in &TABLE {
            assert_eq!(
                definition.is_own(),
                definition.parity == Parity::Own,
                "{}",
                definition.name
            );
        }
    }
}
