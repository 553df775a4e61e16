//! What flags of other servers are called here, for the refusal that names ours.
//!
//! Flags of uvicorn, granian, hypercorn, daphne, waitress and uWSGI that people bring along. Those that mean the same here
//! are no subject; nor are flags that are too special to be missed.

/// What to write instead of `flag` of another server, if it is known.
pub(crate) fn instead_of(flag: &str) -> Option<&'static str> {
    INSTEAD
        .iter()
        .find(|(flags, _)| flags.contains(&flag))
        .map(|(_, instead)| *instead)
}

/// Flags, and what says the same here.
const INSTEAD: &[(&[&str], &str)] = &[
    // Where to listen.
    (
        &[
            "--host",
            "--port",
            "--http",
            "--http-socket",
            "--http-host",
            "--insecure-bind",
            "--endpoint",
        ],
        "use --bind HOST:PORT",
    ),
    (
        &["--listen"],
        "use --bind HOST:PORT (uWSGI's --listen is --backlog)",
    ),
    (
        &["--uds", "--unix-socket", "--socket", "--uwsgi-socket"],
        "use --bind unix:PATH",
    ),
    (&["--fd"], "use --bind fd://N"),
    (
        &["--uds-permissions", "--unix-socket-perms", "--chmod-socket"],
        "use --umask",
    ),
    // The application.
    (
        &["--factory", "--call"],
        "write the call, as in 'MODULE:create_app()'",
    ),
    (
        &["--app-dir", "--working-dir", "--working-directory"],
        "use --chdir",
    ),
    (
        &[
            "--app",
            "--module",
            "--wsgi",
            "--wsgi-file",
            "--callable",
            "--mount",
        ],
        "name the application without a flag, as MODULE:CALLABLE",
    ),
    (
        &["--interface", "--asgi", "--asgi-protocol"],
        "use --worker-class (asgi for ASGI)",
    ),
    (
        &["--env-file", "--env-files"],
        "use --env NAME=VALUE, or read the file in gunicorn.conf.py",
    ),
    (
        &["--yaml", "--xml", "--toml"],
        "use --config FILE (Python, as gunicorn.conf.py)",
    ),
    (
        &["--virtualenv", "--home", "--venv", "--pyhome"],
        "start the oxicorn that is installed in the environment",
    ),
    // Workers.
    (&["--processes"], "use --workers"),
    (
        &["--blocking-threads", "--runtime-blocking-threads"],
        "use --threads",
    ),
    (
        &["--runtime-threads", "--runtime-mode", "--task-impl"],
        "leave it out, there is nothing to choose",
    ),
    (&["--loop", "--event-loop"], "use --asgi-loop"),
    (&["--lifespan"], "use --asgi-lifespan"),
    (
        &[
            "--limit-concurrency",
            "--backpressure",
            "--asyncio",
            "--gevent",
        ],
        "use --worker-connections, and --queue-limit for all workers",
    ),
    (
        &["--limit-max-requests", "--workers-max-requests"],
        "use --max-requests",
    ),
    (
        &["--limit-max-requests-jitter"],
        "use --max-requests-jitter",
    ),
    (
        &[
            "--timeout-graceful-shutdown",
            "--workers-kill-timeout",
            "--reload-mercy",
            "--worker-reload-mercy",
        ],
        "use --graceful-timeout",
    ),
    (
        &[
            "--harakiri",
            "--http-timeout",
            "--timeout-worker-healthcheck",
            "--channel-timeout",
        ],
        "use --timeout",
    ),
    (
        &[
            "--respawn-failed-workers",
            "--master",
            "--enable-threads",
            "--single-interpreter",
            "--thunder-lock",
            "--vacuum",
            "--die-on-term",
            "--need-app",
            "--strict",
            "--lazy-apps",
            "--lazy",
        ],
        "leave it out, it is always so",
    ),
    // Connections and requests.
    (
        &[
            "--timeout-keep-alive",
            "--keep-alive-timeout",
            "--http-keepalive",
            "--http1-keep-alive",
        ],
        "use --keep-alive",
    ),
    (
        &["--read-timeout"],
        "use --header-timeout and --body-timeout",
    ),
    (&["--connection-limit"], "use --limit-connections"),
    (
        &["--max-request-body-size", "--limit-post"],
        "use --limit-request-body",
    ),
    (
        &[
            "--h11-max-incomplete-event-size",
            "--http1-buffer-size",
            "--buffer-size",
        ],
        "use --limit-request-line and --limit-request-field_size",
    ),
    (
        &[
            "--proxy-headers",
            "--no-proxy-headers",
            "--trusted-proxy",
            "--trusted-proxy-headers",
        ],
        "use --forwarded-allow-ips",
    ),
    (
        &["--url-prefix", "--url-path-prefix"],
        "use --root-path, or --env SCRIPT_NAME=/PREFIX for WSGI",
    ),
    // WebSockets.
    (
        &["--ws", "--no-ws", "--ws-protocol"],
        "leave it out, the asgi class speaks WebSocket by itself",
    ),
    (&["--ws-max-size"], "use --websocket-max-message-size"),
    (&["--ws-ping-interval"], "use --websocket-ping-interval"),
    (&["--ws-ping-timeout"], "use --websocket-ping-timeout"),
    (&["--ws-per-message-deflate"], "use --websocket-compression"),
    // TLS.
    (
        &[
            "--ssl-certfile",
            "--ssl-certificate",
            "--ssl-cert",
            "--certificate",
        ],
        "use --certfile",
    ),
    (&["--ssl-keyfile", "--ssl-key"], "use --keyfile"),
    (&["--ssl-ca-certs", "--ssl-ca"], "use --ca-certs"),
    (&["--ssl-cert-reqs", "--verify-mode"], "use --cert-reqs"),
    (&["--ssl-ciphers"], "use --ciphers"),
    // Logs, files, names.
    (
        &["--no-access-log", "--disable-logging"],
        "leave it out, there is no access log without --access-logfile",
    ),
    (
        &["--access-log-fmt", "--log-format", "--log-fmt"],
        "use --access-logformat",
    ),
    (&["--logto"], "use --error-logfile"),
    (
        &["--use-colors", "--no-use-colors"],
        "set NO_COLOR in the environment for none",
    ),
    (
        &[
            "--no-server-header",
            "--no-date-header",
            "--server-name",
            "--no-server-name",
            "--ident",
        ],
        "let the application set the header",
    ),
    (&["--pid-file", "--pidfile"], "use --pid"),
    (
        &["--process-name", "--procname", "--procname-prefix"],
        "use --name",
    ),
    (&["--uid"], "use --user"),
    (&["--gid"], "use --group"),
    (&["--daemonize"], "use --daemon with --error-logfile"),
    (
        &[
            "--reload-dir",
            "--reload-include",
            "--reload-paths",
            "--touch-reload",
        ],
        "use --reload-extra-file PATTERN beside --reload",
    ),
    (&["--py-autoreload", "--autoreload"], "use --reload"),
    (&["--debug"], "use --reload and --log-level debug"),
    (
        &[
            "--static-map",
            "--static-path-mount",
            "--static-path-route",
            "--check-static",
        ],
        "let the application (WhiteNoise) or a proxy serve files",
    ),
    (&["--stats"], "use --statsd-host"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::TABLE;

    #[test]
    fn what_is_ours_is_not_another_servers() {
        // Also as an abbreviation.
        let ours = |flag: &str| {
            let names = TABLE.iter().flat_map(|row| row.flags.names);
            names.filter(|name| name.starts_with(flag)).count() == 1
        };
        let mut seen = std::collections::BTreeSet::new();
        for flag in INSTEAD.iter().flat_map(|(flags, _)| *flags) {
            assert!(!ours(flag), "{flag} is ours");
            assert!(seen.insert(flag), "{flag} is there twice");
        }
    }

    #[test]
    fn every_flag_that_is_named_instead_is_there() {
        let known = |flag: &str| TABLE.iter().any(|row| row.flags.names.contains(&flag));
        for (_, instead) in INSTEAD {
            let words = instead.split([' ', ',', '(', ')']);
            for flag in words.filter(|word| word.starts_with("--")) {
                assert!(
                    known(flag) || instead.contains("uWSGI's --listen"),
                    "{flag}"
                );
            }
        }
    }
}
