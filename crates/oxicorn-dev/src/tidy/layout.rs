//! Which module of a crate may use which: the tables that `cargo dev tidy` holds the crates with many modules to.

/// The modules of a crate.
#[derive(Debug)]
pub(super) struct Layout {
    /// The crate's name without `oxicorn-`.
    pub(super) krate: &'static str,
    /// From the ground up: each module with those it uses, all of which stand before it, so that there is no circle. A
    /// path (`gateway/clients`) is a module within one, with rules of its own. The root (`lib.rs`) uses whatever it
    /// likes; who uses an item of the root's needs `lib` on its list.
    pub(super) modules: &'static [(&'static str, &'static [&'static str])],
    /// Uses against the order that are to go, and are not to come back: one that is gone must leave the list.
    pub(super) to_go: &'static [(&'static str, &'static str)],
}

/// Every crate whose modules have an order. `ARCHITECTURE.md` says what they are for.
pub(super) const LAYOUTS: [Layout; 2] = [GATEWAY, PYTHON];

const GATEWAY: Layout = Layout {
    krate: "gateway",
    modules: &[
        ("time", &[]),
        ("limits", &[]),
        ("config", &["limits"]),
        ("buffer", &["config"]),
        ("transport", &["buffer", "config"]),
        ("telemetry", &["lib", "time", "config"]),
        ("control", &["lib", "config", "transport", "telemetry"]),
        ("workers", &["transport", "telemetry", "control"]),
        (
            "session",
            &["lib", "limits", "config", "buffer", "transport"],
        ),
        (
            "exchange",
            &["limits", "buffer", "transport", "telemetry", "workers"],
        ),
        ("active", &["config", "buffer", "telemetry"]),
        (
            "connection",
            &[
                "limits",
                "buffer",
                "transport",
                "telemetry",
                "workers",
                "session",
                "exchange",
                "active",
            ],
        ),
        (
            "gateway",
            &[
                "lib",
                "time",
                "limits",
                "config",
                "buffer",
                "transport",
                "telemetry",
                "control",
                "workers",
                "session",
                "exchange",
                "active",
                "connection",
            ],
        ),
        (
            "runtime",
            &[
                "lib",
                "time",
                "config",
                "transport",
                "telemetry",
                "control",
                "active",
                "gateway",
            ],
        ),
    ],
    to_go: &[],
};

const PYTHON: Layout = Layout {
    krate: "python",
    modules: &[
        ("latin1", &[]),
        ("errors", &[]),
        ("locks", &[]),
        ("bounded_end", &[]),
        ("directory_watch", &[]),
        ("log_tail", &[]),
        ("metrics", &[]),
        ("arenas", &[]),
        ("libraries", &[]),
        ("forked", &["errors"]),
        ("certificates", &["errors"]),
        ("settings", &[]),
        ("pool", &["forked"]),
        ("request", &["forked", "latin1"]),
        ("worker", &["errors", "forked", "locks", "request"]),
        (
            "wsgi",
            &["errors", "forked", "latin1", "locks", "request", "worker"],
        ),
        ("gevent", &["errors", "forked", "locks", "worker", "wsgi"]),
        (
            "asgi",
            &[
                "errors", "forked", "latin1", "locks", "request", "settings", "worker",
            ],
        ),
        (
            "arbiter",
            &[
                "arenas", "errors", "forked", "log_tail", "metrics", "pool", "settings", "worker",
            ],
        ),
    ],
    to_go: &[],
};
