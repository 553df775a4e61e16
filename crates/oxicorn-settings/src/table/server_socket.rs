//! Where the server listens.

use crate::definition::{Applies, Default, Definition, Flags, Kind, Parity, Section, Since};
use crate::table::computed;

/// The section's settings.
pub(super) const DEFINITIONS: &[Definition] = &[
    Definition {
        name: "bind",
        section: Section::ServerSocket,
        flags: Flags::repeat(&["-b", "--bind"], "ADDRESS"),
        kind: Kind::TextList,
        default: Default::Computed {
            described: "`127.0.0.1:8000`, or `0.0.0.0:$PORT`",
            compute: computed::bind,
        },
        doc: "Where to listen; may be given several times. `HOST`, `HOST:PORT`, `:PORT`, `[v6]:PORT`, `unix:PATH`, \
          `unix:@NAME` (abstract namespace), or `fd://N` for a socket that is already open. The port is 8000 \
          where none is given, and with `PORT` in the environment the default is `0.0.0.0:$PORT`.",
        since: Since::Always,
        applies: Applies::Reload,
        parity: Parity::Better(
            "`unix:@NAME` gives an abstract socket from the command line too; addresses are checked before anything is started",
        ),
    },
    Definition {
        name: "backlog",
        section: Section::ServerSocket,
        flags: Flags::integer(&["--backlog"]),
        kind: Kind::Integer {
            least: 0,
            most: i64::MAX,
        },
        default: Default::Int(2048),
        doc: "How many connections the kernel keeps waiting to be accepted, as `listen(2)` takes it. A socket that \
          was inherited and already listens keeps its own.",
        since: Since::Always,
        applies: Applies::Start,
        parity: Parity::Same,
    },
];
