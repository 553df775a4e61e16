//! How many workers there are, of which kind, and how long they may take.

use crate::definition::{
    Applies, Choice, Default, Definition, Flags, Kind, NoneMeans, Parity, Section, Since,
};
use crate::table::computed;

const ASGI_LOOP: Choice = Choice {
    words: &["auto", "asyncio", "uvloop"],
    synonyms: &[],
    switches: None,
    none: NoneMeans::Word("auto"),
    exact: false,
};

const ASGI_LIFESPAN: Choice = Choice {
    words: &["auto", "on", "off"],
    ..ASGI_LOOP
};

const ASGI_PROXY_HEADERS: Choice = ASGI_LIFESPAN;

const HTTP_PARSER: Choice = Choice {
    words: &["auto", "fast", "python"],
    ..ASGI_LOOP
};

/// How many of them Gunicorn does not have.
pub(super) const OWN: usize = 3;

/// Each worker is a process: more is a slip of the keyboard, and would take the machine down before anybody could say so.
const MOST_WORKERS: i64 = 4096;

/// The section's settings.
pub(super) const DEFINITIONS: &[Definition] = &[
    Definition {
        name: "workers",
        section: Section::WorkerProcesses,
        flags: Flags::integer(&["-w", "--workers"]),
        kind: Kind::Integer {
            least: 0,
            most: MOST_WORKERS,
        },
        default: Default::Computed {
            described: "`1`, or `$WEB_CONCURRENCY`",
            compute: computed::workers,
        },
        doc: "How many worker processes serve requests. Two to four per processor core is where to start \
          measuring; `WEB_CONCURRENCY` in the environment sets the default. 0 starts a server without workers, \
          which TTIN can add.",
        since: Since::Always,
        applies: Applies::Reload,
        parity: Parity::Better(
            "more than 4096 are refused: each is a process, and the machine would not come back",
        ),
    },
    Definition {
        name: "worker_class",
        section: Section::WorkerProcesses,
        flags: Flags::text(&["-k", "--worker-class"], "STRING"),
        kind: Kind::Class,
        default: Default::Str("sync"),
        doc: "The kind of worker: `sync`, `gthread`, `gevent`, `tornado`, `asgi`, the dotted path of a class, or \
          in the config file the class itself. `sync` with more than one thread is `gthread`. In this release \
          `sync`, `gthread`, `gevent`, `tornado`, `asgi` and classes that derive from theirs are available, \
          and classes of other packages that derive from `gunicorn.workers.base.Worker` and have a server of their own, \
          such as `aiohttp.GunicornWebWorker`; `asgi` also serves in place of uvicorn's worker classes \
          (`uvicorn.workers.UvicornWorker`, `uvicorn_worker.UvicornWorker`, their H11 forms and what derives from them). Where it is not set, an application that speaks ASGI is served by `asgi`, one of Tornado's by `tornado`.",
        since: Since::Always,
        applies: Applies::Reload,
        parity: Parity::Better("a class that does not exist is refused before anything is started"),
    },
    Definition {
        name: "threads",
        section: Section::WorkerProcesses,
        flags: Flags::integer(&["--threads"]),
        kind: Kind::Integer {
            least: 0,
            most: i64::MAX,
        },
        default: Default::Int(1),
        doc: "How many threads a worker serves requests with, at most: they are started when there are requests for \
          them. More than one turns `sync` into `gthread`.",
        since: Since::Always,
        applies: Applies::Reload,
        parity: Parity::Same,
    },
    Definition {
        name: "worker_connections",
        section: Section::WorkerProcesses,
        flags: Flags::integer(&["--worker-connections"]),
        kind: Kind::Integer {
            least: 0,
            most: i64::MAX,
        },
        default: Default::Int(1000),
        doc: "How many requests a worker of an event-driven class takes at once. `sync` and `gthread` are bound by \
          their threads.",
        since: Since::Always,
        applies: Applies::Reload,
        parity: Parity::Better(
            "the bound holds for requests in a worker; idle connections cost no worker anything",
        ),
    },
    Definition {
        name: "max_requests",
        section: Section::WorkerProcesses,
        flags: Flags::integer(&["--max-requests"]),
        kind: Kind::Integer {
            least: 0,
            most: i64::MAX,
        },
        default: Default::Int(0),
        doc: "After how many requests a worker is replaced; 0: never. It bounds what a leak can cost.",
        since: Since::Always,
        applies: Applies::Reload,
        parity: Parity::Better("the successor is ready before the worker stops taking requests"),
    },
    Definition {
        name: "max_requests_jitter",
        section: Section::WorkerProcesses,
        flags: Flags::integer(&["--max-requests-jitter"]),
        kind: Kind::Integer {
            least: 0,
            most: i64::MAX,
        },
        default: Default::Int(0),
        doc: "Up to this many requests, drawn at random for each worker, are added to `max_requests`, so that \
          workers are not all replaced at once.",
        since: Since::Gunicorn("19.2"),
        applies: Applies::Reload,
        parity: Parity::Same,
    },
    Definition {
        name: "timeout",
        section: Section::WorkerProcesses,
        flags: Flags::integer(&["-t", "--timeout"]),
        kind: Kind::Integer {
            least: 0,
            most: i64::MAX,
        },
        default: Default::Int(30),
        doc: "How many seconds a request may take; 0: as long as it likes. When it is over, the worker's stacks \
          are logged, the client is answered and the worker is replaced. It also holds when nobody waits any \
          more: the client or the gateway is gone, or the response is complete and `close()` or a hook runs. `asgi` and \
          `gevent` end the late request alone, and only until its response begins.",
        since: Since::Always,
        applies: Applies::Reload,
        parity: Parity::Better(
            "it bounds each request in every worker class; the client gets 504, the log the request line and the Python stacks",
        ),
    },
    Definition {
        name: "graceful_timeout",
        section: Section::WorkerProcesses,
        flags: Flags::integer(&["--graceful-timeout"]),
        kind: Kind::Integer {
            least: 0,
            most: i64::MAX,
        },
        default: Default::Int(30),
        doc: "How many seconds requests in flight have to finish after the server or a worker was told to stop. \
          What is left then is killed.",
        since: Since::Always,
        applies: Applies::Reload,
        parity: Parity::Same,
    },
    Definition {
        name: "boot_timeout",
        section: Section::WorkerProcesses,
        flags: Flags::integer(&["--boot-timeout"]),
        kind: Kind::Integer {
            least: 0,
            most: i64::MAX,
        },
        default: Default::Int(300),
        doc: "How many seconds a worker may take until it has loaded the application and is ready; 0: as long as it \
          likes. When they are over its stacks are logged and it is killed. The next one is given twice the time, up \
          to sixteen times as much, so that an application that only has a lot to load is ready in the end; a reload \
          is given up instead, and the old workers go on.",
        since: Since::Oxicorn("0.1.0"),
        applies: Applies::Reload,
        parity: Parity::Own,
    },
    Definition {
        name: "keepalive",
        section: Section::WorkerProcesses,
        flags: Flags::integer(&["--keep-alive"]),
        kind: Kind::Integer {
            least: 0,
            most: i64::MAX,
        },
        default: Default::Int(75),
        doc: "How many seconds a connection may wait for its next request; 0 closes it after each response. Behind a \
          load balancer it must be longer than the balancer keeps idle connections.",
        since: Since::Always,
        applies: Applies::Reload,
        parity: Parity::Better(
            "75 by default, where Gunicorn has 2: load balancers keep idle connections for a minute, and would send \
             requests into closing ones; `sync` keeps connections alive too. Idle connections cost no worker anything",
        ),
    },
    Definition {
        name: "asgi_loop",
        section: Section::WorkerProcesses,
        flags: Flags::text(&["--asgi-loop"], "STRING"),
        kind: Kind::Choice(&ASGI_LOOP),
        default: Default::Str("auto"),
        doc: "The event loop of the asgi worker class: `asyncio`, `uvloop`, or `auto`, which takes uvloop where it \
          is installed. For `tornado`, `auto` is asyncio's.",
        since: Since::Gunicorn("24.0.0"),
        applies: Applies::Reload,
        parity: Parity::Same,
    },
    Definition {
        name: "asgi_lifespan",
        section: Section::WorkerProcesses,
        flags: Flags::text(&["--asgi-lifespan"], "STRING"),
        kind: Kind::Choice(&ASGI_LIFESPAN),
        default: Default::Str("auto"),
        doc: "Whether the application is told of start and end of its worker by the lifespan protocol: `on`, \
          `off`, or `auto`, which asks the application.",
        since: Since::Gunicorn("24.0.0"),
        applies: Applies::Reload,
        parity: Parity::Better(
            "a startup that fails ends the first boot with code 3, and a reload keeps the generation that serves",
        ),
    },
    Definition {
        name: "asgi_disconnect_grace_period",
        section: Section::WorkerProcesses,
        flags: Flags::integer(&["--asgi-disconnect-grace-period"]),
        kind: Kind::Integer {
            least: 0,
            most: i64::MAX,
        },
        default: Default::Int(3),
        doc: "How many seconds an ASGI application may go on with a request whose client has left; 0 cancels it at \
          once.",
        since: Since::Gunicorn("25.0.0"),
        applies: Applies::Reload,
        parity: Parity::Same,
    },
    Definition {
        name: "asgi_file_extensions",
        section: Section::WorkerProcesses,
        flags: Flags::switch_on(&["--asgi-file-extensions"]),
        kind: Kind::Bool,
        default: Default::Bool(false),
        doc: "Whether ASGI applications are offered `http.response.pathsend` and `http.response.zerocopysend`, by \
          which the gateway sends files. Frameworks that find them use them, and middleware that collects, compresses \
          or checks what is sent as `http.response.body` then misses files. Without effect where `sendfile` is off.",
        since: Since::Oxicorn("0.1.0"),
        applies: Applies::Reload,
        parity: Parity::Own,
    },
    Definition {
        name: "asgi_proxy_headers",
        section: Section::WorkerProcesses,
        flags: Flags::text(&["--asgi-proxy-headers"], "STRING"),
        kind: Kind::Choice(&ASGI_PROXY_HEADERS),
        default: Default::Str("auto"),
        doc: "Whether ASGI and Tornado applications are told the client that X-Forwarded-For of a trusted peer names. That is the \
          last address in it that is not among `forwarded_allow_ips`; `scheme` follows X-Forwarded-Proto. `on`, `off`, \
          or `auto`, which is `on` where `worker_class` is one of uvicorn's names.",
        since: Since::Oxicorn("0.1.0"),
        applies: Applies::Reload,
        parity: Parity::Own,
    },
    Definition {
        name: "websocket_max_message_size",
        section: Section::WorkerProcesses,
        flags: Flags::integer(&["--websocket-max-message-size"]),
        kind: Kind::Integer {
            least: 0,
            most: i64::MAX,
        },
        default: Default::Int(16_777_216),
        doc: "How many bytes one WebSocket message of a client may have; 0: any number. A longer one closes the \
          connection with code 1009.",
        since: Since::Gunicorn("27.0.0"),
        applies: Applies::Reload,
        parity: Parity::Better("compressed messages count as long as they are"),
    },
    Definition {
        name: "http_parser",
        section: Section::WorkerProcesses,
        flags: Flags::text(&["--http-parser"], "STRING"),
        kind: Kind::Choice(&HTTP_PARSER),
        default: Default::Str("auto"),
        doc: "The HTTP parser of Gunicorn: `auto`, `fast` or `python`.",
        since: Since::Gunicorn("25.0.0"),
        applies: Applies::Reload,
        parity: Parity::NotApplicable("there is one parser, native and always there"),
    },
];

#[cfg(test)]
mod tests {
    use crate::testing::{accepted, default_in, refused, text, try_resolve};
    use crate::value::{Raw, Value};

    #[test]
    fn starts_as_many_workers_as_the_platform_says() {
        for (content, expected) in [("", 1), ("4", 4), (" 4\n", 4), ("010", 10)] {
            assert_eq!(
                default_in(&[("WEB_CONCURRENCY", content)], "workers"),
                Value::Int(expected)
            );
        }
        for content in ["many", "-1", "1.5"] {
            let error = try_resolve(&[("WEB_CONCURRENCY", content)], &[])
                .expect_err(content)
                .to_string();
            assert!(
                error.contains("(environment variable WEB_CONCURRENCY): must be an integer"),
                "{error}"
            );
        }
        try_resolve(&[("WEB_CONCURRENCY", "many")], &[("workers", Raw::Int(1))])
            .expect("nobody asks it");
    }

    #[test]
    fn takes_whole_numbers_only() {
        assert_eq!(
            refused("workers", Raw::Int(100_000)),
            "must be an integer from 0 to 4096"
        );
        for name in [
            "threads",
            "timeout",
            "graceful_timeout",
            "boot_timeout",
            "keepalive",
            "max_requests",
        ] {
            assert_eq!(accepted(name, Raw::Int(0)), Value::Int(0));
            assert_eq!(accepted(name, Raw::Bool(true)), Value::Int(1));
            assert_eq!(accepted(name, text("0b11")), Value::Int(3));
            for raw in [
                Raw::None,
                Raw::Float(1.5),
                Raw::Int(-1),
                text("010"),
                text(""),
                Raw::List(Vec::new()),
            ] {
                assert_eq!(refused(name, raw), "must be an integer, 0 or more");
            }
        }
    }

    #[test]
    fn takes_a_worker_class_or_its_name() {
        assert_eq!(
            accepted("worker_class", text(" gthread ")),
            Value::Str("gthread".into())
        );
        assert_eq!(
            accepted("worker_class", Raw::Object(3, None)),
            Value::Object(3)
        );
        assert_eq!(
            refused("worker_class", Raw::Object(100, None)),
            "must be a class or the name of one"
        );
        assert_eq!(
            refused("worker_class", Raw::Int(3)),
            "must be a class or the name of one"
        );
    }

    #[test]
    fn takes_words_in_any_case() {
        for (name, raw, expected) in [
            ("asgi_loop", text(" UVLOOP "), "uvloop"),
            ("asgi_loop", Raw::None, "auto"),
            ("asgi_lifespan", text("Off"), "off"),
            ("http_parser", text("fast"), "fast"),
        ] {
            assert_eq!(accepted(name, raw), Value::Str(expected.into()));
        }
        assert_eq!(
            refused("asgi_loop", text("trio")),
            "must be one of: auto, asyncio, uvloop"
        );
        assert_eq!(
            refused("asgi_lifespan", Raw::Bool(true)),
            "must be one of: auto, on, off"
        );
        assert_eq!(
            refused("http_parser", text("")),
            "must be one of: auto, fast, python"
        );
    }
}
