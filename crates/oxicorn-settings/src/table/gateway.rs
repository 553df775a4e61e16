//! What the gateway holds for clients and workers. Gunicorn has no gateway, so these are oxicorn's own.

use crate::definition::{
    Applies, Choice, Default, Definition, Flags, Kind, NoneMeans, Parity, Section, Since,
};

const WEBSOCKET_COMPRESSION: Choice = Choice {
    words: &["shared", "dedicated", "off"],
    synonyms: &[],
    switches: Some(("shared", "off")),
    none: NoneMeans::Word("off"),
    exact: false,
};

/// The section's settings.
pub(super) const DEFINITIONS: &[Definition] = &[
    Definition {
        name: "queue_limit",
        section: Section::Gateway,
        flags: Flags::integer(&["--queue-limit"]),
        kind: Kind::Integer {
            least: 1,
            most: i64::MAX,
        },
        default: Default::Int(2048),
        doc: "How many requests may wait for a worker at once. One more is answered with 503 and `Retry-After`, at \
          once.",
        since: Since::Oxicorn("0.1.0"),
        applies: Applies::Reload,
        parity: Parity::Own,
    },
    Definition {
        name: "queue_timeout",
        section: Section::Gateway,
        flags: Flags::integer(&["--queue-timeout"]),
        kind: Kind::Integer {
            least: 0,
            most: i64::MAX,
        },
        default: Default::Int(30),
        doc: "How many seconds a request may wait for a worker before it is answered with 503 and `Retry-After`; \
          0: as long as it takes.",
        since: Since::Oxicorn("0.1.0"),
        applies: Applies::Reload,
        parity: Parity::Own,
    },
    Definition {
        name: "prefetch",
        section: Section::Gateway,
        flags: Flags::integer(&["--prefetch"]),
        kind: Kind::Integer {
            least: 0,
            most: i64::MAX,
        },
        default: Default::Int(64),
        doc: "How many short requests may at most be placed ahead in a worker that is busy, so that it never idles \
          between two. A request that was placed ahead is taken back when another worker is free; as long as that \
          happens, at most 16 are placed ahead of each. 0 places none.",
        since: Since::Oxicorn("0.1.0"),
        applies: Applies::Reload,
        parity: Parity::Own,
    },
    Definition {
        name: "body_memory",
        section: Section::Gateway,
        flags: Flags::integer(&["--body-memory"]),
        kind: Kind::Integer {
            least: 0,
            most: i64::MAX,
        },
        default: Default::Int(65_536),
        doc: "How many bytes of a request body are kept in memory. A longer body goes to a temporary file (see \
          `tmp_upload_dir`), which the worker is given.",
        since: Since::Oxicorn("0.1.0"),
        applies: Applies::Reload,
        parity: Parity::Own,
    },
    Definition {
        name: "response_buffer",
        section: Section::Gateway,
        flags: Flags::integer(&["--response-buffer"]),
        kind: Kind::Integer {
            least: 1_048_576,
            most: i64::MAX,
        },
        default: Default::Int(1_048_576),
        doc: "How many bytes of one response are taken from the worker before the client has read them, 1 MiB at \
          least. A response that fits costs its worker no time with a slow client.",
        since: Since::Oxicorn("0.1.0"),
        applies: Applies::Reload,
        parity: Parity::Own,
    },
    Definition {
        name: "response_spool",
        section: Section::Gateway,
        flags: Flags::integer(&["--response-spool"]),
        kind: Kind::Integer {
            least: 0,
            most: i64::MAX,
        },
        default: Default::Int(1_073_741_824),
        doc: "How many bytes of one WSGI response may wait in an unlinked temporary file for a client that reads slowly. \
          The file is made in `tmp_upload_dir` when half of `response_buffer` waits in memory, and the application's thread \
          is free as soon as the response is complete there. All responses together have four times as much. Beyond that, \
          and where a file cannot be written, the application waits. 0 switches it off.",
        since: Since::Oxicorn("0.1.0"),
        applies: Applies::Reload,
        parity: Parity::Own,
    },
    Definition {
        name: "gateway_threads",
        section: Section::Gateway,
        flags: Flags::integer(&["--gateway-threads"]),
        kind: Kind::Integer { least: 1, most: 64 },
        default: Default::Int(1),
        doc: "How many threads the gateway has. One of them owns connections, queue and workers, whatever their number; \
          those beyond it do the arithmetic of TLS handshakes, which is nearly all that a new TLS connection costs. Where they \
          are behind, the one does its share of it, whenever nobody needs it. Worth it where many clients connect by TLS and \
          processors are idle; with 1 it is all done by the one.",
        since: Since::Oxicorn("0.1.0"),
        applies: Applies::Reload,
        parity: Parity::Own,
    },
    Definition {
        name: "io_uring",
        section: Section::Gateway,
        flags: Flags::switch_off(&["--no-io-uring"]),
        kind: Kind::Bool,
        default: Default::Bool(true),
        doc: "Whether what several clients get at the same time is handed to the kernel by one system call, with io_uring. It \
          needs Linux 6.1; where it is older, or io_uring is forbidden, as it is in most containers, each client is sent to by a \
          system call of its own, and nothing else differs.",
        since: Since::Oxicorn("0.1.0"),
        applies: Applies::Reload,
        parity: Parity::Own,
    },
    Definition {
        name: "websocket_ping_interval",
        section: Section::Gateway,
        flags: Flags::integer(&["--websocket-ping-interval"]),
        kind: Kind::Integer {
            least: 0,
            most: i64::MAX,
        },
        default: Default::Int(20),
        doc: "After how many seconds of silence the client of a WebSocket is asked by a ping whether it is still \
          there; 0: it is never asked.",
        since: Since::Oxicorn("0.1.0"),
        applies: Applies::Reload,
        parity: Parity::Own,
    },
    Definition {
        name: "websocket_ping_timeout",
        section: Section::Gateway,
        flags: Flags::integer(&["--websocket-ping-timeout"]),
        kind: Kind::Integer {
            least: 0,
            most: i64::MAX,
        },
        default: Default::Int(20),
        doc: "How many seconds the client of a WebSocket has to answer a ping. Then the connection is closed with \
          code 1011, and the application is told; 0: clients are asked and may be silent.",
        since: Since::Oxicorn("0.1.0"),
        applies: Applies::Reload,
        parity: Parity::Own,
    },
    Definition {
        name: "websocket_compression",
        section: Section::Gateway,
        flags: Flags::text(&["--websocket-compression"], "STRING"),
        kind: Kind::Choice(&WEBSOCKET_COMPRESSION),
        default: Default::Str("shared"),
        doc: "How WebSocket messages are compressed where the client offers permessage-deflate (RFC 7692): \
          `shared`, `dedicated` or `off`. `shared` compresses each message by itself, with compressors that all \
          connections share. `dedicated` keeps what a connection has sent and received as context: messages that \
          resemble each other become smaller, and each connection costs up to 300 KiB.",
        since: Since::Oxicorn("0.1.0"),
        applies: Applies::Reload,
        parity: Parity::Own,
    },
    Definition {
        name: "slow_request_time",
        section: Section::Gateway,
        flags: Flags::integer(&["--slow-request-time"]),
        kind: Kind::Integer {
            least: 0,
            most: i64::MAX,
        },
        default: Default::Int(0),
        doc: "After how many seconds in a worker a request that has no response yet is written to the error log, once, \
          with the Python stacks of the worker, which goes on; 0: never. `timeout` is what ends it.",
        since: Since::Oxicorn("0.1.0"),
        applies: Applies::Reload,
        parity: Parity::Own,
    },
    Definition {
        name: "metrics_bind",
        section: Section::Gateway,
        flags: Flags::text(&["--metrics-bind"], "ADDRESS"),
        kind: Kind::Text,
        default: Default::None,
        doc: "A listener of its own for metrics (`/metrics`, for Prometheus) and probes (`/livez`, `/readyz`, \
          `/startupz`): `HOST:PORT`, `unix:PATH` or `fd://N`. They are answered while every worker is busy and during \
          a graceful stop. Nobody is asked who they are, so it belongs to an address that only the monitoring reaches.",
        since: Since::Oxicorn("0.1.0"),
        applies: Applies::Start,
        parity: Parity::Own,
    },
    Definition {
        name: "monitoring_path",
        section: Section::Gateway,
        flags: Flags::text(&["--monitoring-path"], "PATH"),
        kind: Kind::Text,
        default: Default::None,
        doc: "Answers metrics and probes also where the clients are: `/-` stands for `/-/metrics`, `/-/livez`, `/-/readyz` \
          and `/-/startupz`. They are answered outside of the queue, and only for the peers of `monitoring_allow_ips`; \
          for everybody else these paths are the application's.",
        since: Since::Oxicorn("0.1.0"),
        applies: Applies::Reload,
        parity: Parity::Own,
    },
    Definition {
        name: "monitoring_allow_ips",
        section: Section::Gateway,
        flags: Flags::text(&["--monitoring-allow-ips"], "STRING"),
        kind: Kind::NetworkList,
        default: Default::Str(""),
        doc: "Who is answered at `monitoring_path`: addresses and networks separated by commas, or `*`. It is the address \
          that the connection comes from. What a proxy has passed on (a PROXY header, `X-Forwarded-For`, `Forwarded`, \
          `Via` and the like) is never answered there; a proxy that adds none of these must not be in the list.",
        since: Since::Oxicorn("0.1.0"),
        applies: Applies::Reload,
        parity: Parity::Own,
    },
    Definition {
        name: "metrics_memory",
        section: Section::Gateway,
        flags: Flags::integer(&["--metrics-memory"]),
        kind: Kind::Integer {
            least: 65_536,
            most: 1_073_741_824,
        },
        default: Default::Int(4_194_304),
        doc: "How many bytes of shared memory the application's own metrics (`oxicorn.metrics`) may take, 64 KiB at \
          least; a label set takes some 100. Memory is taken as it fills. Label sets for which there is no room are \
          not shown, and the error log says so once.",
        since: Since::Oxicorn("0.1.0"),
        applies: Applies::Start,
        parity: Parity::Own,
    },
    Definition {
        name: "prometheus_client",
        section: Section::Gateway,
        flags: Flags::switch_on(&["--prometheus-client"]),
        kind: Kind::Bool,
        default: Default::Bool(false),
        doc: "Keep the metrics that an application declares with the package `prometheus_client` in the memory of \
          `metrics_memory`, and serve those of all workers at `metrics_bind`. It takes the place of its multiprocess \
          mode: neither `PROMETHEUS_MULTIPROC_DIR` nor a hook `child_exit` is needed.",
        since: Since::Oxicorn("0.1.0"),
        applies: Applies::Reload,
        parity: Parity::Own,
    },
    Definition {
        name: "dashboard",
        section: Section::Gateway,
        flags: Flags::switch_on(&["--dashboard"]),
        kind: Kind::Bool,
        default: Default::Bool(false),
        doc: "Serve a page at `/dashboard` of `metrics_bind` that shows what the server does: throughput, latency, queue, \
          workers, requests in flight with their stacks, the last warnings. It needs a `metrics_bind` that is a \
          loopback address or a unix socket, or a `dashboard_token`. Without a token it changes nothing.",
        since: Since::Oxicorn("0.1.0"),
        applies: Applies::Start,
        parity: Parity::Own,
    },
    Definition {
        name: "dashboard_token",
        section: Section::Gateway,
        flags: Flags::text(&["--dashboard-token"], "STRING"),
        kind: Kind::Text,
        default: Default::None,
        doc: "What the dashboard asks for before it shows anything, at least 16 printable ASCII characters without spaces. \
          Whoever has it may also reload the server and replace workers. Other users of the machine can see a command \
          line, so it belongs into the config file.",
        since: Since::Oxicorn("0.1.0"),
        applies: Applies::Start,
        parity: Parity::Own,
    },
];

#[cfg(test)]
mod tests {
    use crate::testing::{accepted, refused};
    use crate::value::{Raw, Value};

    #[test]
    fn takes_words_and_switches_for_compression() {
        for (raw, expected) in [
            (Raw::Str("Dedicated".into()), "dedicated"),
            (Raw::Bool(true), "shared"),
            (Raw::Bool(false), "off"),
            (Raw::None, "off"),
        ] {
            assert_eq!(
                accepted("websocket_compression", raw),
                Value::Str(expected.into())
            );
        }
        assert_eq!(
            accepted("websocket_ping_interval", Raw::Int(0)),
            Value::Int(0)
        );
        assert_eq!(
            refused("websocket_ping_timeout", Raw::Int(-1)),
            "must be an integer, 0 or more"
        );
    }

    #[test]
    fn bounds_what_waits_and_what_is_held() {
        assert_eq!(accepted("prefetch", Raw::Int(0)), Value::Int(0));
        assert_eq!(accepted("body_memory", Raw::Int(0)), Value::Int(0));
        assert_eq!(accepted("queue_timeout", Raw::Int(0)), Value::Int(0));
        assert_eq!(
            refused("queue_limit", Raw::Int(0)),
            "must be an integer, 1 or more"
        );
        assert_eq!(
            refused("response_buffer", Raw::Int(65_536)),
            "must be an integer, 1048576 or more"
        );
    }
}
