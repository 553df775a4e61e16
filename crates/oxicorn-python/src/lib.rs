//! `oxicorn._native`: the only crate that knows Python, and the place where the server is put together.
//!
//! A module uses those above it in this table and none below (`cargo dev tidy` looks):
//!
//! | concern | modules |
//! |---|---|
//! | strings between Python and the wire; exceptions that applications see; locks that are held for moments | `latin1`, `errors`, `locks` |
//! | a process that is about to end does so in time | `bounded_end` |
//! | what the reloader waits for | `directory_watch` |
//! | the last warnings, for the dashboard | `log_tail` |
//! | the applications' own metrics | `metrics` |
//! | where Python's objects lie, for processes that never look at them again | `arenas` |
//! | what is mapped of libraries that the arbiter loads for its workers | `libraries` |
//! | the end of processes that the application forks | `forked` |
//! | files of certificates and keys become what the gateway is given | `certificates` |
//! | the settings table on Python's side | `settings` |
//! | the pool of heavy applications: what callers and its workers speak with | `pool` |
//! | what both bridges need of a request: hooks, the objects these get, access lines | `request` |
//! | a worker process with its threads and its end of the link | `worker` |
//! | a request becomes an environ, what the application returns a response | `wsgi` |
//! | a request becomes a greenlet of the hub, which calls the application by way of `wsgi` | `gevent` |
//! | a request becomes a scope and a task of the event loop, what it sends a response | `asgi` |
//! | performs what `oxicorn-arbiter` decides; the one place that forks | `arbiter` |

mod arbiter;
mod arenas;
mod asgi;
mod bounded_end;
mod certificates;
mod directory_watch;
mod errors;
mod forked;
mod gevent;
mod latin1;
mod libraries;
mod locks;
mod log_tail;
mod metrics;
mod pool;
mod request;
mod settings;
mod worker;
mod wsgi;

/// The native half of oxicorn.
#[pyo3::pymodule(gil_used = false)]
mod _native {
    use pyo3::prelude::*;

    /// The environ keys that lines of an access log format show and an application may change;
    /// `None` for a format that the gateway cannot write.
    #[pyfunction]
    fn access_log_shows(format: &str) -> Option<Vec<&'static str>> {
        oxicorn_gateway::shown_variables(format).ok().flatten()
    }

    #[pymodule_export]
    use crate::arbiter::{Heartbeat, holds_temporary_files, serve, temporary_directory_choices};
    #[pymodule_export]
    use crate::asgi::{AsgiServer, Call, HttpExchange, Receive, Sending, WebSocketExchange};
    #[pymodule_export]
    use crate::bounded_end::end_within;
    #[pymodule_export]
    use crate::certificates::{offered_ciphers, read_certificates};
    #[pymodule_export]
    use crate::directory_watch::DirectoryWatch;
    #[pymodule_export]
    use crate::errors::ClientGone;
    #[pymodule_export]
    use crate::forked::{after_fork, before_fork, is_forked_by_others, let_go, own_process};
    #[pymodule_export]
    use crate::gevent::{GeventServer, HubCall};
    #[pymodule_export]
    use crate::libraries::unmap_libraries;
    #[pymodule_export]
    use crate::log_tail::write_log_tail;
    #[pymodule_export]
    use crate::metrics::{MetricValue, metrics_families, metrics_memory, metrics_text};
    #[pymodule_export]
    use crate::pool::{
        DirtyContext, PoolConnection, StashView, pool_decode, pool_encode, pool_open, pool_seal,
    };
    #[pymodule_export]
    use crate::settings::rows::{
        class_names, hook_names, parse_address, setting_names, setting_row,
    };
    #[pymodule_export]
    use crate::settings::{CommandLineStop, Resolver, Settings};
    #[pymodule_export]
    use crate::worker::{WorkerContext, mark_end_of_dumps};
    #[pymodule_export]
    use crate::wsgi::{Exchange, Input, LazySocket, WsgiServer};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        crate::arenas::watch(module.py());
        module.add(
            "DEFAULT_CONFIG_FILES",
            <(&str, &str)>::from(oxicorn_settings::DEFAULT_CONFIG_FILES),
        )?;
        module.add("UNIX_PATH_MAX", oxicorn_os::sockets::UNIX_PATH_MAX)?;
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
