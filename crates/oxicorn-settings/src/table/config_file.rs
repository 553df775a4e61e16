//! Where the configuration and the application are.

use crate::definition::{Applies, Default, Definition, Flags, Kind, Parity, Section, Since};

/// The section's settings.
pub(super) const DEFINITIONS: &[Definition] = &[
    Definition {
        name: "config",
        section: Section::ConfigFile,
        flags: Flags::text(&["-c", "--config"], "CONFIG"),
        kind: Kind::Text,
        default: Default::Str("./gunicorn.conf.py"),
        doc: "The config file: a path, `file:PATH`, or `python:MODULE`. It is Python code, run before anything \
          else; each global whose name is a setting's sets it. Where none is named, `gunicorn.conf.py` \
          of the working directory is read, else `oxicorn.conf.py`, if there is one.",
        since: Since::Always,
        applies: Applies::Start,
        parity: Parity::Better(
            "`oxicorn.conf.py` is found too; a reload reads `python:MODULE` again, as it does files",
        ),
    },
    Definition {
        name: "wsgi_app",
        section: Section::ConfigFile,
        flags: Flags::NONE,
        kind: Kind::Text,
        default: Default::None,
        doc: "The application, `MODULE:CALLABLE`, where the command line names none.",
        since: Since::Gunicorn("20.1.0"),
        applies: Applies::Reload,
        parity: Parity::Same,
    },
];

#[cfg(test)]
mod tests {
    use crate::testing::{accepted, default_in, refused, text};
    use crate::value::{Raw, Value};

    #[test]
    fn takes_text_without_the_space_around_it() {
        assert_eq!(
            accepted("config", text(" python:conf ")),
            Value::Str("python:conf".into())
        );
        assert_eq!(accepted("wsgi_app", Raw::None), Value::None);
        assert_eq!(refused("wsgi_app", Raw::Int(1)), "must be text");
        assert_eq!(
            default_in(&[], "config"),
            Value::Str("./gunicorn.conf.py".into())
        );
    }
}
