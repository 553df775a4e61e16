//! The table: every setting, one definition each, in the order of the reference page.

use crate::definition::{Applies, Default, Definition, Flags, Kind, Parity, Section, Since};

/// Every setting.
pub static TABLE: &[Definition] = &[Definition {
    name: "workers",
    section: Section::WorkerProcesses,
    flags: Flags::integer(&["-w", "--workers"]),
    kind: Kind::Integer {
        least: 0,
        most: i64::MAX,
    },
    default: Default::Int(1),
    doc: "How many workers serve requests.",
    since: Since::Always,
    applies: Applies::Reload,
    parity: Parity::Same,
}];

/// The definition of a setting.
pub fn find(name: &str) -> Option<&'static Definition> {
    position(name).map(|position| &TABLE[position])
}

/// Where a setting stands in the table.
pub(crate) fn position(name: &str) -> Option<usize> {
    TABLE.iter().position(|definition| definition.name == name)
}
