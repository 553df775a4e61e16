//! What is logged, where and how.

use crate::definition::{Applies, Default, Definition, Flags, Kind, Parity, Section, Since};

/// Where syslog listens on this platform.
const SYSLOG_ADDRESS: &str = if cfg!(target_os = "macos") {
    "unix:///var/run/syslog"
} else if cfg!(any(target_os = "freebsd", target_os = "dragonfly")) {
    "unix:///var/run/log"
} else if cfg!(target_os = "openbsd") {
    "unix:///dev/log"
} else {
    "udp://localhost:514"
};

/// How many of them Gunicorn does not have.
pub(super) const OWN: usize = 2;

/// The section's settings.
pub(super) const DEFINITIONS: &[Definition] = &[
    Definition {
        name: "accesslog",
        section: Section::Logging,
        flags: Flags::text(&["--access-logfile"], "FILE"),
        kind: Kind::Text,
        default: Default::None,
        doc: "The access log: a file, or `-` for standard output. None is written where it is not set.",
        since: Since::Always,
        applies: Applies::Reload,
        parity: Parity::Same,
    },
    Definition {
        name: "json_accesslog",
        section: Section::Logging,
        flags: Flags::text(&["--json-access-logfile"], "FILE"),
        kind: Kind::Text,
        default: Default::None,
        doc: "The access log as JSON, one object a line: a file, or `-` for standard output. It is independent of \
          `accesslog` and of how Python's logging is configured, and has every request, also those that were \
          refused, timed out or lost.",
        since: Since::Oxicorn("0.1.0"),
        applies: Applies::Reload,
        parity: Parity::Own,
    },
    Definition {
        name: "json_accesslog_fields",
        section: Section::Logging,
        flags: Flags::text(&["--json-access-log-fields"], "STRING"),
        kind: Kind::LogFields,
        default: Default::Str(""),
        doc: "The fields of the JSON access log and their order; empty: all of them. `{NAME}i` is a header of the \
          request and `{NAME}o` one of the response, as in `access_log_format`.",
        since: Since::Oxicorn("0.1.0"),
        applies: Applies::Reload,
        parity: Parity::Own,
    },
    Definition {
        name: "disable_redirect_access_to_syslog",
        section: Section::Logging,
        flags: Flags::switch_on(&["--disable-redirect-access-to-syslog"]),
        kind: Kind::Bool,
        default: Default::Bool(false),
        doc: "Keep the access log out of syslog.",
        since: Since::Gunicorn("19.8"),
        applies: Applies::Reload,
        parity: Parity::Same,
    },
    Definition {
        name: "access_log_format",
        section: Section::Logging,
        flags: Flags::text(&["--access-logformat"], "STRING"),
        kind: Kind::LogFormat,
        default: Default::Str("%(h)s %(l)s %(u)s %(t)s \"%(r)s\" %(s)s %(b)s \"%(f)s\" \"%(a)s\""),
        doc: "What an access log line looks like. It is text with atoms such as `%(h)s` (client), `%(r)s` (request \
          line), `%(s)s` (status), `%({user-agent}i)s` (request header), `%({server}o)s` (response header), \
          `%({NAME}e)s` (environ).",
        since: Since::Always,
        applies: Applies::Reload,
        parity: Parity::Better(
            "values are escaped, so no client can forge a line; a format that cannot work is refused",
        ),
    },
    Definition {
        name: "errorlog",
        section: Section::Logging,
        flags: Flags::text(&["--error-logfile", "--log-file"], "FILE"),
        kind: Kind::Text,
        default: Default::Str("-"),
        doc: "The error log, which is what the server itself has to say: a file, or `-` for standard error.",
        since: Since::Always,
        applies: Applies::Reload,
        parity: Parity::Same,
    },
    Definition {
        name: "loglevel",
        section: Section::Logging,
        flags: Flags::text(&["--log-level"], "LEVEL"),
        kind: Kind::Text,
        default: Default::Str("info"),
        doc: "What is worth a line in the error log: `debug`, `info`, `warning`, `error` or `critical`.",
        since: Since::Always,
        applies: Applies::Reload,
        parity: Parity::Better(
            "a word that is no level is pointed out; it means `info`, as in Gunicorn",
        ),
    },
    Definition {
        name: "capture_output",
        section: Section::Logging,
        flags: Flags::switch_on(&["--capture-output"]),
        kind: Kind::Bool,
        default: Default::Bool(false),
        doc: "Send what the application writes to standard output and standard error to the error log, if that is \
          a file.",
        since: Since::Gunicorn("19.6"),
        applies: Applies::Reload,
        parity: Parity::Same,
    },
    Definition {
        name: "logger_class",
        section: Section::Logging,
        flags: Flags::text(&["--logger-class"], "STRING"),
        kind: Kind::Class,
        default: Default::Str("oxicorn.glogging.Logger"),
        doc: "The class that writes the logs: a dotted path, or in the config file the class itself. It quacks like \
          `oxicorn.glogging.Logger`, which is a base for one's own; `gunicorn.glogging.Logger` and `simple` are \
          other names of the default.",
        since: Since::Always,
        applies: Applies::Start,
        parity: Parity::Same,
    },
    Definition {
        name: "logconfig",
        section: Section::Logging,
        flags: Flags::text(&["--log-config"], "FILE"),
        kind: Kind::Text,
        default: Default::None,
        doc: "A file for `logging.config.fileConfig`. The loggers are `gunicorn.error` and `gunicorn.access`.",
        since: Since::Always,
        applies: Applies::Reload,
        parity: Parity::Better(
            "one that is broken at a reload is refused, and nothing of it stays behind",
        ),
    },
    Definition {
        name: "logconfig_dict",
        section: Section::Logging,
        flags: Flags::NONE,
        kind: Kind::ObjectDict,
        default: Default::Dict(&[]),
        doc: "A dictionary for `logging.config.dictConfig`. It wins over `logconfig_json` and `logconfig`.",
        since: Since::Gunicorn("19.8"),
        applies: Applies::Reload,
        parity: Parity::Same,
    },
    Definition {
        name: "logconfig_json",
        section: Section::Logging,
        flags: Flags::text(&["--log-config-json"], "FILE"),
        kind: Kind::Text,
        default: Default::None,
        doc: "A JSON file for `logging.config.dictConfig`. It wins over `logconfig`.",
        since: Since::Gunicorn("20.0"),
        applies: Applies::Reload,
        parity: Parity::Better("a file that does not exist is an error"),
    },
    Definition {
        name: "syslog_addr",
        section: Section::Logging,
        flags: Flags::text(&["--log-syslog-to"], "SYSLOG_ADDR"),
        kind: Kind::Text,
        default: Default::Str(SYSLOG_ADDRESS),
        doc: "Where syslog listens: `unix://PATH#TYPE` (stream or dgram), `udp://HOST:PORT`, or `tcp://HOST:PORT`.",
        since: Since::Always,
        applies: Applies::Reload,
        parity: Parity::Same,
    },
    Definition {
        name: "syslog",
        section: Section::Logging,
        flags: Flags::switch_on(&["--log-syslog"]),
        kind: Kind::Bool,
        default: Default::Bool(false),
        doc: "Send the logs to syslog too.",
        since: Since::Always,
        applies: Applies::Reload,
        parity: Parity::Same,
    },
    Definition {
        name: "syslog_prefix",
        section: Section::Logging,
        flags: Flags::text(&["--log-syslog-prefix"], "SYSLOG_PREFIX"),
        kind: Kind::Text,
        default: Default::None,
        doc: "The program's name in syslog; unset, the process name.",
        since: Since::Always,
        applies: Applies::Reload,
        parity: Parity::Same,
    },
    Definition {
        name: "syslog_facility",
        section: Section::Logging,
        flags: Flags::text(&["--log-syslog-facility"], "SYSLOG_FACILITY"),
        kind: Kind::Text,
        default: Default::Str("user"),
        doc: "The facility in syslog.",
        since: Since::Always,
        applies: Applies::Reload,
        parity: Parity::Same,
    },
    Definition {
        name: "enable_stdio_inheritance",
        section: Section::Logging,
        flags: Flags::switch_on(&["-R", "--enable-stdio-inheritance"]),
        kind: Kind::Bool,
        default: Default::Bool(false),
        doc: "Let a daemon keep standard output and standard error where they have been redirected.",
        since: Since::Always,
        applies: Applies::Start,
        parity: Parity::Same,
    },
    Definition {
        name: "statsd_host",
        section: Section::Logging,
        flags: Flags::text(&["--statsd-host"], "STATSD_ADDR"),
        kind: Kind::StatsdAddress,
        default: Default::None,
        doc: "Where StatsD listens: `HOST:PORT`, or `unix://PATH`. The port is 8125 where none is given.",
        since: Since::Gunicorn("19.1"),
        applies: Applies::Start,
        parity: Parity::Better(
            "requests are measured whether they are logged or not, also those no worker served",
        ),
    },
    Definition {
        name: "dogstatsd_tags",
        section: Section::Logging,
        flags: Flags::text(&["--dogstatsd-tags"], "DOGSTATSD_TAGS"),
        kind: Kind::Text,
        default: Default::Str(""),
        doc: "Tags, separated by commas, that each metric gets.",
        since: Since::Gunicorn("20.0"),
        applies: Applies::Start,
        parity: Parity::Same,
    },
    Definition {
        name: "statsd_prefix",
        section: Section::Logging,
        flags: Flags::text(&["--statsd-prefix"], "STATSD_PREFIX"),
        kind: Kind::Text,
        default: Default::Str(""),
        doc: "What each metric's name begins with; a dot is put after it.",
        since: Since::Gunicorn("19.2"),
        applies: Applies::Start,
        parity: Parity::Same,
    },
    Definition {
        name: "enable_backlog_metric",
        section: Section::Logging,
        flags: Flags::switch_on(&["--enable-backlog-metric"]),
        kind: Kind::Bool,
        default: Default::Bool(false),
        doc: "Send once a second, as metric `gunicorn.backlog`, how many clients wait: for their connection to be \
          accepted, or for a worker to take their request.",
        since: Since::Always,
        applies: Applies::Reload,
        parity: Parity::Better("requests in the queue count, not only connections in the kernel's"),
    },
];

#[cfg(test)]
mod tests {
    use crate::testing::{accepted, default_in, refused, text};
    use crate::value::{Raw, Value};

    #[test]
    fn logs_errors_and_no_accesses_by_default() {
        assert_eq!(default_in(&[], "accesslog"), Value::None);
        assert_eq!(default_in(&[], "errorlog"), Value::Str("-".into()));
    }

    #[test]
    fn takes_any_dictionary_for_the_logging_module() {
        assert_eq!(
            accepted("logconfig_dict", Raw::Object(100, None)),
            Value::Object(100)
        );
        assert_eq!(
            accepted("logconfig_dict", Raw::Dict(Vec::new())),
            Value::Dict(Vec::new())
        );
        for raw in [Raw::Object(1, None), Raw::None, text("{}")] {
            assert_eq!(refused("logconfig_dict", raw), "must be a dictionary");
        }
    }

    #[test]
    fn knows_the_forms_of_a_statsd_address() {
        for address in ["localhost", "[::1]:9125", "unix:///run/statsd", "unix:123"] {
            assert_eq!(
                accepted("statsd_host", text(address)),
                Value::Str(address.into())
            );
        }
        assert_eq!(accepted("statsd_host", Raw::None), Value::None);
        for raw in [text("host:port"), Raw::Int(8125)] {
            assert_eq!(
                refused("statsd_host", raw),
                "must be HOST:PORT or unix://PATH"
            );
        }
    }

    #[test]
    fn leaves_words_it_does_not_know_to_the_warnings() {
        assert_eq!(
            accepted("loglevel", text(" LOUD ")),
            Value::Str("LOUD".into())
        );
    }
}
