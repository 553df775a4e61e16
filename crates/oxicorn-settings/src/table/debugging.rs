//! For development, and for looking at a configuration.

use crate::definition::{
    Applies, Choice, Default, Definition, Flags, Kind, NoneMeans, Parity, Section, Since,
};

const RELOAD_ENGINE: Choice = Choice {
    words: &["auto", "poll", "inotify"],
    synonyms: &[],
    switches: None,
    none: NoneMeans::Nothing,
    exact: true,
};

/// The section's settings.
pub(super) const DEFINITIONS: &[Definition] = &[
    Definition {
        name: "reload",
        section: Section::Debugging,
        flags: Flags::switch_on(&["--reload"]),
        kind: Kind::Bool,
        default: Default::Bool(false),
        doc: "Load the application anew when its source changes. For development only.",
        since: Since::Always,
        applies: Applies::Reload,
        parity: Parity::Better(
            "the old workers serve until the new ones are ready, and go on if the code is broken",
        ),
    },
    Definition {
        name: "reload_engine",
        section: Section::Debugging,
        flags: Flags::text(&["--reload-engine"], "STRING"),
        kind: Kind::Choice(&RELOAD_ENGINE),
        default: Default::Str("auto"),
        doc: "How changes are noticed: `poll`, `inotify`, or `auto`, which takes inotify where it can be had.",
        since: Since::Gunicorn("19.7"),
        applies: Applies::Reload,
        parity: Parity::Better(
            "inotify needs no package, and only changes of the watched files count",
        ),
    },
    Definition {
        name: "reload_extra_files",
        section: Section::Debugging,
        flags: Flags::repeat(&["--reload-extra-file"], "FILES"),
        kind: Kind::FileList,
        default: Default::List(&[]),
        doc: "More files to watch with `reload`: paths that exist, or patterns. May be given several times.",
        since: Since::Gunicorn("19.8"),
        applies: Applies::Reload,
        parity: Parity::Same,
    },
    Definition {
        name: "spew",
        section: Section::Debugging,
        flags: Flags::switch_on(&["--spew"]),
        kind: Kind::Bool,
        default: Default::Bool(false),
        doc: "Print every line of Python a worker runs. For the last resort only.",
        since: Since::Always,
        applies: Applies::Start,
        parity: Parity::Better("threads of the `gthread` class are traced too"),
    },
    Definition {
        name: "check_config",
        section: Section::Debugging,
        flags: Flags::switch_on(&["--check-config"]),
        kind: Kind::Bool,
        default: Default::Bool(false),
        doc: "Check the configuration, load the application, and exit: 0 if all is well, else 1. A line for each problem.",
        since: Since::Always,
        applies: Applies::Start,
        parity: Parity::Better(
            "it also checks the worker class, addresses, files and directories, and the configuration of logging",
        ),
    },
    Definition {
        name: "print_config",
        section: Section::Debugging,
        flags: Flags::switch_on(&["--print-config"]),
        kind: Kind::Bool,
        default: Default::Bool(false),
        doc: "Print every setting as it was resolved, then do as `check_config`.",
        since: Since::Always,
        applies: Applies::Start,
        parity: Parity::Same,
    },
];

#[cfg(test)]
mod tests {
    use crate::testing::{accepted, list, refused, text, texts};
    use crate::value::{Raw, Value};

    #[test]
    fn takes_switches_as_booleans_or_their_names() {
        for name in ["reload", "spew", "check_config", "print_config"] {
            assert_eq!(accepted(name, text(" TRUE ")), Value::Bool(true));
            assert_eq!(accepted(name, Raw::Bool(false)), Value::Bool(false));
            assert_eq!(accepted(name, Raw::None), Value::None);
            for raw in [Raw::Int(1), text("yes"), text("1"), text("")] {
                assert_eq!(refused(name, raw), "must be True or False");
            }
        }
    }

    #[test]
    fn takes_a_reload_engine_to_the_letter() {
        assert_eq!(
            accepted("reload_engine", text("poll")),
            Value::Str("poll".into())
        );
        for raw in [text("Poll"), text(" poll"), Raw::None, Raw::Bool(true)] {
            assert_eq!(
                refused("reload_engine", raw),
                "must be one of: auto, poll, inotify"
            );
        }
    }

    #[test]
    fn watches_files_that_exist_and_patterns() {
        let files = ["/srv/app/app.ini", "*.html", "conf/[ab]?.py"];
        assert_eq!(accepted("reload_extra_files", texts(&files)), list(&files));
        assert_eq!(
            accepted("reload_extra_files", text("*.ini")),
            list(&["*.ini"])
        );
        assert_eq!(
            refused("reload_extra_files", text("gone.ini")),
            "must be existing files or patterns: 'gone.ini' does not exist"
        );
    }
}
