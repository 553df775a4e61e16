//! The control socket.

use crate::definition::{Applies, Default, Definition, Flags, Kind, Parity, Section, Since};
use crate::table::computed;

/// The section's settings.
pub(super) const DEFINITIONS: &[Definition] = &[
    Definition {
        name: "control_socket",
        section: Section::Control,
        flags: Flags::text(&["--control-socket"], "PATH"),
        kind: Kind::Text,
        default: Default::Computed {
            described: "`$XDG_RUNTIME_DIR/oxicorn.ctl`, or `~/.oxicorn/oxicorn.ctl`",
            compute: computed::control_socket,
        },
        doc: "The unix socket that `oxicornctl` (and Gunicorn's `gunicornc -s PATH`) speaks to. It is made where this is \
          set; a socket of a server that lives is never taken away. `oxicornctl` looks at the default where it is not \
          told another path.",
        since: Since::Gunicorn("25.1.0"),
        applies: Applies::Start,
        parity: Parity::Better(
            "made only where it is set; a socket of a server that lives is never taken away",
        ),
    },
    Definition {
        name: "control_socket_mode",
        section: Section::Control,
        flags: Flags::any_base_integer(&["--control-socket-mode"]),
        kind: Kind::Integer {
            least: 0,
            most: i64::MAX,
        },
        default: Default::Int(0o600),
        doc: "The file mode of the control socket.",
        since: Since::Gunicorn("25.1.0"),
        applies: Applies::Start,
        parity: Parity::Same,
    },
    Definition {
        name: "control_socket_disable",
        section: Section::Control,
        flags: Flags::switch_on(&["--no-control-socket"]),
        kind: Kind::Bool,
        default: Default::Bool(false),
        doc: "Make no control socket.",
        since: Since::Gunicorn("25.1.0"),
        applies: Applies::Start,
        parity: Parity::Same,
    },
];

#[cfg(test)]
mod tests {
    use crate::testing::{accepted, default_in, refused, text};
    use crate::value::{Raw, Value};

    #[test]
    fn puts_the_socket_where_only_its_user_finds_it() {
        for (variables, expected) in [
            (
                &[("XDG_RUNTIME_DIR", "/run/user/"), ("HOME", "/home/me")][..],
                "/run/user/oxicorn.ctl",
            ),
            (
                &[("XDG_RUNTIME_DIR", "/gone"), ("HOME", "/home/me/")],
                "/home/me/.oxicorn/oxicorn.ctl",
            ),
            (
                &[("XDG_RUNTIME_DIR", ""), ("HOME", "/home/me")],
                "/home/me/.oxicorn/oxicorn.ctl",
            ),
            (&[], "/home/.oxicorn/oxicorn.ctl"),
        ] {
            assert_eq!(
                default_in(variables, "control_socket"),
                Value::Str(expected.into())
            );
        }
    }

    #[test]
    fn takes_a_file_mode() {
        assert_eq!(
            accepted("control_socket_mode", text("0o660")),
            Value::Int(0o660)
        );
        assert_eq!(
            refused("control_socket_mode", Raw::Int(-1)),
            "must be an integer, 0 or more"
        );
    }
}
