//! What flags of other servers are called here, for the refusal that names ours.
//!
//! Flags of uvicorn, granian, hypercorn, daphne, waitress, mod_wsgi-express and uWSGI that people bring along. Those that mean
//! the same here are no subject; nor are flags that are too special to be missed.

mod flags;

use self::flags::INSTEAD;

/// What to write instead of `flag` of another server, if it is known.
pub(crate) fn instead_of(flag: &str) -> Option<&'static str> {
    INSTEAD
        .iter()
        .find(|(flags, _)| flags.contains(&flag))
        .map(|(_, instead)| *instead)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::TABLE;

    fn is_ours(flag: &str) -> bool {
        TABLE.iter().any(|row| row.flags.names.contains(&flag))
    }

    #[test]
    fn what_is_ours_is_not_another_servers() {
        let mut seen = std::collections::BTreeSet::new();
        for flag in INSTEAD.iter().flat_map(|(flags, _)| *flags) {
            assert!(!is_ours(flag), "{flag} is ours");
            assert!(seen.insert(flag), "{flag} is there twice");
        }
    }

    #[test]
    fn every_flag_that_is_named_instead_is_there() {
        for (flags, instead) in INSTEAD {
            let words = instead.split([' ', ',', '(', ')', ':']);
            for flag in words.filter(|word| word.starts_with("--")) {
                assert!(is_ours(flag) || flags.contains(&flag), "{flag}");
            }
        }
    }

    /// What the servers' own `--help` lists, but for what has no counterpart (debuggers, tuning of other engines).
    const DOCUMENTED: &[(&str, &str)] = &[
        (
            "uvicorn 0.54",
            "access-log app-dir backlog date-header env-file factory fd forwarded-allow-ips \
             h11-max-incomplete-event-size header host http http2 interface lifespan limit-concurrency limit-max-requests \
             limit-max-requests-jitter log-config log-level loop no-access-log no-date-header no-proxy-headers \
             no-server-header no-use-colors port proxy-headers reload reload-delay reload-dir reload-exclude \
             reload-include reset-contextvars root-path server-header ssl-ca-certs ssl-cert-reqs ssl-certfile ssl-ciphers \
             ssl-keyfile ssl-keyfile-password ssl-version timeout-graceful-shutdown timeout-keep-alive \
             timeout-worker-healthcheck uds use-colors workers ws ws-max-queue ws-max-size ws-per-message-deflate \
             ws-ping-interval ws-ping-timeout",
        ),
        (
            "hypercorn 0.18",
            "access-log access-logfile access-logformat backlog bind ca-certs certfile cert-reqs ciphers config daemon debug \
             error-logfile graceful-timeout read-timeout max-requests max-requests-jitter group worker-class \
             keep-alive keyfile keyfile-password insecure-bind log-config log-level log-file pid quic-bind reload root-path \
             server-name statsd-host statsd-prefix umask user verify-mode websocket-ping-interval workers",
        ),
        (
            "daphne 4.2",
            "access-log application-close-timeout bind endpoint fd http-timeout log-fmt no-server-name ping-interval \
             ping-timeout port proxy-headers proxy-headers-host proxy-headers-port root-path server-name unix-socket \
             verbosity websocket-max-frame-size websocket-max-message-size websocket_connect_timeout websocket_timeout",
        ),
        (
            "waitress 3.0",
            "asyncore-loop-timeout asyncore-use-poll backlog call channel-request-lookahead channel-timeout \
             cleanup-interval connection-limit expose-tracebacks host ident inbuf-overflow listen log-socket-errors \
             max-request-body-size max-request-header-size no-ipv4 no-ipv6 outbuf-high-watermark outbuf-overflow port \
             recv-bytes send-bytes threads unix-socket unix-socket-perms url-prefix url-scheme",
        ),
        (
            "granian 2.8",
            "access-log access-log-fmt backlog backpressure blocking-threads blocking-threads-idle-timeout env-files \
             factory host http http1-buffer-size http1-header-read-timeout http1-keep-alive http1-pipeline-flush interface \
             log log-config log-level loop metrics metrics-address metrics-port metrics-scrape-interval no-access-log \
             no-http1-keep-alive no-log no-ws pid-file port process-name reload reload-ignore-dirs reload-ignore-paths \
             reload-ignore-patterns reload-ignore-worker-failure reload-paths reload-tick respawn-failed-workers \
             respawn-interval runtime-blocking-threads runtime-mode runtime-threads ssl-ca ssl-certificate \
             ssl-client-verify ssl-crl ssl-keyfile ssl-keyfile-password ssl-protocol-min static-path-dir-to-file \
             static-path-expires static-path-mount static-path-route task-impl uds uds-permissions url-path-prefix workers \
             workers-kill-timeout workers-lifetime workers-max-rss working-dir ws",
        ),
        (
            "mod_wsgi-express 6.1",
            "access-log access-log-format access-log-name add-handler application-type body-max-timeout body-min-rate \
             body-timeout callable-object compress-responses daemon-backlog deadlock-timeout directory-index \
             directory-listing document-root enable-sendfile entry-point error-log-name eviction-timeout graceful-timeout \
             group header-buffer-size header-max-timeout header-timeout host hsts-policy http2 https-only https-port \
             inactivity-timeout interrupt-timeout keep-alive-timeout limit-request-body log-directory log-level \
             log-to-terminal max-clients maximum-requests mount-point passenv pid-file port process-name processes \
             python-path queue-timeout reload-on-changes request-timeout restart-interval server-backlog server-metrics \
             server-name server-root setenv shutdown-timeout socket-timeout ssl-certificate ssl-certificate-file \
             ssl-certificate-key-file startup-timeout threads trust-proxy trust-proxy-header url-alias user \
             working-directory",
        ),
        (
            "uWSGI 2.0",
            "buffer-size callable chdir cheaper check-static chmod-socket cron daemonize die-on-term disable-logging \
             emperor enable-threads env gid harakiri home http http-keepalive http-socket http-timeout ini lazy lazy-apps \
             limit-post listen log-format logto master max-requests module mount need-app offload-threads paste pidfile \
             post-buffering processes procname procname-prefix py-autoreload pyhome pythonpath reload-mercy \
             single-interpreter socket spooler static-map stats strict threads thunder-lock touch-reload uid umask vacuum \
             venv virtualenv worker-reload-mercy workers wsgi-file xml yaml",
        ),
    ];

    #[test]
    fn every_documented_flag_has_an_answer() {
        for (server, flags) in DOCUMENTED {
            for flag in flags.split_whitespace() {
                let flag = format!("--{flag}");
                assert!(
                    is_ours(&flag) || instead_of(&flag).is_some(),
                    "{server} has {flag}"
                );
            }
        }
    }
}
