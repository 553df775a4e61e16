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
          where none is given, and with `PORT` in the environment the default is `0.0.0.0:$PORT`. `http://`, `https://`, \
          `uwsgi://`, `fastcgi://` or `scgi://` in front says what is spoken there, else `protocol` and `certfile` do.",
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
        doc: "How many connections the kernel keeps waiting to be accepted, as `listen(2)` takes it: at most \
          `net.core.somaxconn` of the kernel. A socket that \
          was inherited and already listens keeps its own.",
        since: Since::Always,
        applies: Applies::Start,
        parity: Parity::Same,
    },
];

#[cfg(test)]
mod tests {
    use crate::testing::{accepted, default_in, list, refused, text, texts, try_resolve};
    use crate::value::{Raw, Source, Value};

    #[test]
    fn binds_where_the_platform_says() {
        assert_eq!(default_in(&[], "bind"), list(&["127.0.0.1:8000"]));
        assert_eq!(
            default_in(&[("PORT", "")], "bind"),
            list(&["127.0.0.1:8000"])
        );
        assert_eq!(default_in(&[("PORT", "80")], "bind"), list(&["0.0.0.0:80"]));
        let error = try_resolve(&[("PORT", "http")], &[]).expect_err("no port");
        assert_eq!(
            error.to_string(),
            "Invalid value for bind: ['0.0.0.0:http'] (environment variable PORT): \
             must be HOST:PORT, unix:PATH or fd://N: 'http' is not a valid port number (0 to 65535), in '0.0.0.0:http'"
        );
        try_resolve(&[("PORT", "http")], &[("bind", text(":80"))]).expect("nobody asks PORT");
    }

    #[test]
    fn takes_one_address_or_several() {
        assert_eq!(accepted("bind", text("unix:/a")), list(&["unix:/a"]));
        assert_eq!(accepted("bind", texts(&[" :1", ":2"])), list(&[":1", ":2"]));
        assert_eq!(refused("bind", Raw::Int(80)), "must be a list of texts");
        assert_eq!(
            refused("bind", Raw::List(vec![Raw::None])),
            "must be a list of texts"
        );
    }

    #[test]
    fn takes_a_backlog_in_any_base() {
        assert_eq!(accepted("backlog", text("0x10")), Value::Int(16));
        assert_eq!(
            refused("backlog", Raw::Int(-1)),
            "must be an integer, 0 or more"
        );
    }

    #[test]
    fn calls_a_default_from_a_variable_by_its_name() {
        let settings = try_resolve(&[("PORT", "80")], &[]).expect("fine");
        assert_eq!(
            settings.source("bind"),
            Some(&Source::Environment {
                variable: "PORT".into()
            })
        );
        assert_eq!(settings.source("backlog"), Some(&Source::Default));
    }
}
