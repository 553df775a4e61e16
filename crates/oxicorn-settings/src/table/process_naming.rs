//! What the processes are called.

use crate::definition::{Applies, Default, Definition, Flags, Kind, Parity, Section, Since};

/// The section's settings.
pub(super) const DEFINITIONS: &[Definition] = &[
    Definition {
        name: "proc_name",
        section: Section::ProcessNaming,
        flags: Flags::text(&["-n", "--name"], "STRING"),
        kind: Kind::Text,
        default: Default::None,
        doc: "The name in process titles and in syslog, to tell several servers on one machine apart. Unset, it is \
          `default_proc_name`.",
        since: Since::Always,
        applies: Applies::Reload,
        parity: Parity::Same,
    },
    Definition {
        name: "default_proc_name",
        section: Section::ProcessNaming,
        flags: Flags::NONE,
        kind: Kind::Text,
        default: Default::Str("oxicorn"),
        doc: "What `proc_name` is where nobody sets it; the server sets it to the application's name.",
        since: Since::Always,
        applies: Applies::Start,
        parity: Parity::Same,
    },
];

#[cfg(test)]
mod tests {
    use crate::testing::{accepted, refused, text};
    use crate::value::{Raw, Value};

    #[test]
    fn takes_any_name() {
        assert_eq!(
            accepted("proc_name", text("the shop")),
            Value::Str("the shop".into())
        );
        assert_eq!(refused("proc_name", Raw::Bool(true)), "must be text");
    }
}
