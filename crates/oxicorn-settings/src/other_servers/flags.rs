//! The flags of other servers, by what is done about them here.

/// Flags, and what says the same here. A flag that another server has for something else too is told both.
pub(super) const INSTEAD: &[(&[&str], &str)] = &[
    // Where to listen.
    (
        &[
            "--host",
            "--port",
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
    (&["--working-dir", "--working-directory"], "use --chdir"),
    (
        &[
            "--app",
            "--module",
            "--wsgi",
            "--wsgi-file",
            "--callable",
            "--callable-object",
            "--entry-point",
            "--application-type",
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
        ],
        "leave it out, it is always so",
    ),
    // Connections and requests.
    (
        &[
            "--timeout-keep-alive",
            "--keep-alive-timeout",
            "--http-keepalive",
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
    // Logs, files, names.
    (
        &["--no-access-log", "--disable-logging"],
        "leave it out, there is no access log without --access-logfile",
    ),
    (
        &[
            "--access-log-format",
            "--access-log-fmt",
            "--log-format",
            "--log-fmt",
        ],
        "use --access-logformat",
    ),
    (&["--logto"], "use --error-logfile"),
    (
        &["--use-colors", "--no-use-colors"],
        "set NO_COLOR in the environment for none",
    ),
    (
        &["--no-server-header", "--no-server-name", "--ident"],
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
        &["--reload-dir", "--reload-include", "--reload-paths"],
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
    // Several servers mean different things by these.
    (
        &["--http"],
        "use --bind HOST:PORT (uvicorn's and granian's --http: leave it out)",
    ),
    (
        &["--server-name"],
        "leave it out: the application sets the Server header, it or a proxy checks host names",
    ),
    (
        &["--access-log"],
        "use --access-logfile FILE, - for standard output",
    ),
    (
        &["--log", "--no-log"],
        "use --error-logfile and --log-level",
    ),
    (
        &["--header", "--add-header", "--hsts-policy"],
        "let the application or a proxy set headers",
    ),
    // Where to listen.
    (
        &["--ipv4", "--ipv6", "--no-ipv4", "--no-ipv6"],
        "use --bind 0.0.0.0:PORT for IPv4, --bind [::]:PORT for both",
    ),
    (&["--quic-bind"], "leave it out, HTTP/3 is not spoken"),
    (&["--server-backlog", "--daemon-backlog"], "use --backlog"),
    // The application.
    (&["--app-dir", "--python-path", "--pp"], "use --pythonpath"),
    (
        &["--ini"],
        "write its settings into gunicorn.conf.py, which is found by itself (see docs/from-uwsgi.md)",
    ),
    (&["--setenv", "--passenv"], "use --env NAME=VALUE"),
    (
        &["--lazy-apps", "--lazy"],
        "leave it out, it is the default (--preload is the opposite)",
    ),
    // Workers.
    (
        &[
            "--cheaper",
            "--cheaper-initial",
            "--cheaper-step",
            "--cheaper-algo",
        ],
        "leave it out: --workers are always there, the signals TTIN and TTOU change their number",
    ),
    (
        &["--emperor", "--vassals", "--zerg", "--legion"],
        "start one server for each application, under systemd for example",
    ),
    (
        &[
            "--spooler",
            "--cron",
            "--mule",
            "--mules",
            "--attach-daemon",
            "--smart-attach-daemon",
        ],
        "leave it out: a program of its own does that",
    ),
    (
        &[
            "--offload-threads",
            "--post-buffering",
            "--post-buffering-bufsize",
            "--enable-sendfile",
            "--response-buffer-size",
        ],
        "leave it out: the gateway takes whole requests and sends the responses",
    ),
    (
        &[
            "--maximum-requests",
            "--workers-lifetime",
            "--workers-max-rss",
            "--reload-on-rss",
            "--max-worker-lifetime",
            "--restart-interval",
        ],
        "use --max-requests with --max-requests-jitter",
    ),
    (
        &[
            "--request-timeout",
            "--deadlock-timeout",
            "--websocket_connect_timeout",
            "--http-to",
            "--socket-to",
        ],
        "use --timeout",
    ),
    (&["--startup-timeout"], "use --boot-timeout"),
    (
        &["--shutdown-timeout", "--eviction-timeout"],
        "use --graceful-timeout",
    ),
    (
        &[
            "--asyncore-loop-timeout",
            "--asyncore-use-poll",
            "--blocking-threads-idle-timeout",
            "--channel-request-lookahead",
            "--cleanup-interval",
            "--http1-pipeline-flush",
            "--interrupt-timeout",
            "--inactivity-timeout",
            "--log-socket-errors",
            "--no-log-socket-errors",
            "--recv-bytes",
            "--reset-contextvars",
            "--respawn-interval",
            "--send-bytes",
            "--server-root",
            "--ws-max-queue",
        ],
        "leave it out, it has no equivalent and needs none",
    ),
    // Connections and requests.
    (
        &["--channel-timeout", "--so-keepalive"],
        "use --keep-alive, and --write-timeout",
    ),
    (
        &["--http1-keep-alive", "--no-http1-keep-alive"],
        "use --keep-alive SECONDS, 0 for none",
    ),
    (&["--max-clients"], "use --limit-connections"),
    (
        &["--http1-header-read-timeout", "--header-max-timeout"],
        "use --header-timeout, in seconds",
    ),
    (
        &["--socket-timeout", "--body-max-timeout"],
        "use --body-timeout and --write-timeout",
    ),
    (&["--inbuf-overflow"], "use --body-memory"),
    (
        &["--outbuf-overflow", "--outbuf-high-watermark"],
        "use --response-buffer",
    ),
    (
        &["--max-request-header-size", "--header-buffer-size"],
        "use --limit-request-fields and --limit-request-field_size",
    ),
    (
        &[
            "--url-scheme",
            "--trust-proxy",
            "--trust-proxy-header",
            "--proxy-headers-host",
            "--proxy-headers-port",
        ],
        "use --forwarded-allow-ips, and let the proxy send X-Forwarded-Proto and X-Forwarded-For",
    ),
    (
        &["--mount-point"],
        "use --root-path, or --env SCRIPT_NAME=/PREFIX for WSGI",
    ),
    (
        &["--application-close-timeout"],
        "use --asgi-disconnect-grace-period",
    ),
    (&["--ping-interval"], "use --websocket-ping-interval"),
    (&["--ping-timeout"], "use --websocket-ping-timeout"),
    (
        &["--websocket-max-frame-size"],
        "use --websocket-max-message-size",
    ),
    (
        &["--websocket_timeout"],
        "leave it out, the application closes its WebSockets",
    ),
    (
        &[
            "--ssl-certfile",
            "--ssl-certificate",
            "--ssl-certificate-file",
            "--ssl-certificate-chain-file",
            "--ssl-cert",
            "--certificate",
        ],
        "use --certfile",
    ),
    (
        &["--ssl-keyfile", "--ssl-certificate-key-file", "--ssl-key"],
        "use --keyfile",
    ),
    (&["--ssl-keyfile-password"], "use --keyfile-password"),
    (
        &["--ssl-ca-certificate-file", "--ssl-ca-certs", "--ssl-ca"],
        "use --ca-certs",
    ),
    (
        &[
            "--ssl-cert-reqs",
            "--ssl-client-verify",
            "--ssl-verify-client",
            "--verify-mode",
        ],
        "use --cert-reqs (0: none, 1: optional, 2: required) with --ca-certs",
    ),
    (&["--ssl-ciphers"], "use --ciphers"),
    (&["--ssl-protocol-min"], "use --tls-minimum-version"),
    (
        &["--https", "--https-socket", "--https-port"],
        "use --bind https://HOST:PORT with --certfile",
    ),
    (&["--https-only"], "use --https-redirect 443"),
    // What is not there.
    (
        &["--ssl-crl"],
        "lists of revoked certificates are not available in this release",
    ),
    (&["--http2"], "use --http-protocols h2,h1"),
    (
        &["--http2-max-headers-size"],
        "use --http2-max-header-list-size",
    ),
    (
        &["--http2-initial-stream-window-size"],
        "use --http2-initial-window-size",
    ),
    (
        &[
            "--http2-adaptive-window",
            "--http2-keep-alive-interval",
            "--http2-keep-alive-timeout",
            "--http2-max-send-buffer-size",
            "--http2-initial-connection-window-size",
        ],
        "there is no such setting of HTTP/2, see docs/http2.md",
    ),
    // Logs, files, names.
    (
        &["--log-to-terminal"],
        "leave it out, the error log goes to the terminal (--access-logfile - for the access log)",
    ),
    (
        &["--log-directory", "--error-log-name", "--access-log-name"],
        "use --error-logfile and --access-logfile",
    ),
    (&["--verbosity"], "use --log-level"),
    (
        &["--date-header", "--no-date-header", "--server-header"],
        "leave it out, Date and Server are sent unless the application sets its own",
    ),
    (
        &["--touch-reload", "--fs-reload", "--touch-chain-reload"],
        "send SIGHUP to the process whose number is in the file of --pid",
    ),
    (&["--reload-on-changes"], "use --reload"),
    (
        &[
            "--reload-delay",
            "--reload-exclude",
            "--reload-ignore-dirs",
            "--reload-ignore-paths",
            "--reload-ignore-patterns",
            "--reload-ignore-worker-failure",
            "--reload-tick",
        ],
        "leave it out, --reload watches the files of loaded modules only",
    ),
    (
        &[
            "--url-alias",
            "--document-root",
            "--static-path-dir-to-file",
            "--static-path-expires",
            "--static-expires",
            "--directory-index",
            "--add-handler",
            "--directory-listing",
        ],
        "let the application (WhiteNoise) or a proxy serve files",
    ),
    (
        &["--compress-responses"],
        "let the application or a proxy compress",
    ),
    (
        &["--expose-tracebacks"],
        "switch the application's debug mode on",
    ),
    (
        &[
            "--metrics",
            "--metrics-address",
            "--metrics-port",
            "--metrics-scrape-interval",
            "--server-metrics",
        ],
        "use --statsd-host",
    ),
];
