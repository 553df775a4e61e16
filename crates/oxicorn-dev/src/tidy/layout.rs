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
pub(super) const LAYOUTS: [Layout; 1] = [PYTHON];

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
        ("request_headers", &[]),
        ("forked", &["errors"]),
        ("certificates", &["errors"]),
        ("settings", &[]),
        ("pool", &["forked"]),
        ("worker", &["errors", "forked", "locks"]),
        (
            "wsgi",
            &["errors", "forked", "latin1", "request_headers", "worker"],
        ),
        ("gevent", &["errors", "forked", "locks", "worker"]),
        (
            "asgi",
            &[
                "errors",
                "forked",
                "latin1",
                "locks",
                "request_headers",
                "settings",
                "worker",
                "wsgi",
            ],
        ),
        (
            "arbiter",
            &[
                "errors", "forked", "log_tail", "metrics", "pool", "settings", "worker",
            ],
        ),
    ],
    to_go: &[("worker", "asgi"), ("worker", "gevent"), ("worker", "wsgi")],
};
