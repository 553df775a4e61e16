//! What a configuration asks for that is not there, and what in it is probably not meant.

use crate::resolver::default_value;
use crate::settings::{LOG_LEVELS, Settings};
use crate::table::TABLE;
use crate::validate::is_pattern;
use crate::value::{Quoted, Source, Value};
use crate::worker_class::{WorkerClass, hint};

/// Larger values of `limit_request_line` are cut down to it, as in Gunicorn.
pub const REQUEST_LINE_MAX: u16 = 8190;
/// Larger values of `limit_request_fields` are cut down to it, as in Gunicorn.
pub const FIELDS_MAX: u16 = 32_768;

/// The line for a `worker_class` that nobody knows.
pub fn unavailable_worker_class(settings: &Settings) -> Option<String> {
    let source = settings.source("worker_class")?;
    let class = settings.asked_worker_class();
    match &class {
        // Whether a class of the user's can serve is known when it is loaded.
        WorkerClass::Sync
        | WorkerClass::Gthread
        | WorkerClass::Asgi
        | WorkerClass::Tornado
        | WorkerClass::Direct
        | WorkerClass::Gevent
        | WorkerClass::GeventPywsgi
        | WorkerClass::Object(_) => None,
        WorkerClass::Named(name) if is_of_the_user(name) => None,
        WorkerClass::Named(name) => {
            let hint = hint(name)
                .unwrap_or_else(|| "sync, gthread, asgi, gevent and tornado are".to_owned());
            let name = Quoted(name);
            Some(format!(
                "worker_class ({source}): {name} is not available: {hint}"
            ))
        }
    }
}

/// Whether a name may be that of a class nobody knows here: a dotted path or an entry point.
fn is_of_the_user(name: &str) -> bool {
    let known = [
        "gunicorn.",
        "egg:gunicorn#",
        "egg:oxicorn#",
        "uvicorn.workers.",
        "uvicorn_worker.",
    ];
    name.contains(['.', '#']) && !known.iter().any(|package| name.starts_with(package))
}

/// Whether somebody set it to something other than its default.
fn is_changed(settings: &Settings, position: usize) -> bool {
    let name = TABLE[position].name;
    let default = default_value(position, settings.environment(), settings.host());
    settings.source(name) != Some(&Source::Default)
        && default.map_or(true, |(default, _)| default != *settings.get(name))
}

fn speaks_http2(settings: &Settings) -> bool {
    settings
        .list("http_protocols")
        .iter()
        .any(|protocol| protocol == "h2")
}

/// One line for each setting that is served by something else than its name says.
pub fn replacements(settings: &Settings) -> Vec<String> {
    let name = settings.text("worker_class").unwrap_or_default();
    let replaced = WorkerClass::is_replaced(name);
    let line = format!("worker_class: {name} is served by oxicorn's own asgi worker");
    replaced.then_some(line).into_iter().collect()
}

/// HTTP/2 that nobody can speak: browsers and most others do so with TLS only.
fn warn_of_unspoken_http2(settings: &Settings, warnings: &mut Vec<String>) {
    let has_tls = settings.speaks_tls() || settings.hook("ssl_context").is_some();
    if speaks_http2(settings) && !has_tls && settings.text("http2_cleartext") == Some("off") {
        warnings.push(
            "http_protocols: HTTP/2 will never be spoken, because there is no TLS and http2_cleartext is off".into(),
        );
    }
}

/// What asks for something of TLS where none is spoken.
fn warn_of_missing_tls(settings: &Settings, warnings: &mut Vec<String>) {
    if settings.speaks_tls() || settings.hook("ssl_context").is_some() {
        return;
    }
    if settings.count("cert_reqs") > 0 {
        warnings.push(
            "cert_reqs: no client is asked for a certificate, because no TLS is spoken; set certfile".into(),
        );
    }
    if settings.number("https_redirect") > 0 {
        warnings.push(
            "https_redirect: no address here speaks TLS, so everybody is sent away but for requests that a proxy in \
             forwarded_allow_ips calls https"
                .into(),
        );
    }
}

/// Settings of something that nobody has switched on.
fn warn_of_what_is_off(settings: &Settings, warnings: &mut Vec<String>) {
    let is_on = |switch: &str| match settings.get(switch) {
        Value::None => false,
        Value::Bool(on) => *on,
        _ => true,
    };
    for (switch, names) in PARTS_OF {
        if is_on(switch) {
            continue;
        }
        for name in names {
            let position = TABLE.iter().position(|row| row.name == *name);
            if position.is_some_and(|position| is_changed(settings, position)) {
                warnings.push(format!("{name} has no effect, because {switch} is not set"));
            }
        }
    }
}

/// Switches, and what says more about what they switch on.
const PARTS_OF: [(&str, &[&str]); 4] = [
    (
        "tracing",
        &[
            "tracing_endpoint",
            "tracing_ca_certs",
            "tracing_headers",
            "tracing_service_name",
            "tracing_resource",
        ],
    ),
    ("request_id", &["request_id_header", "request_id_response"]),
    ("dashboard", &["dashboard_token"]),
    ("monitoring_path", &["monitoring_allow_ips"]),
];

/// Most calls that a worker of the pool runs at once (setting `dirty_threads`): each costs the arbiter descriptors while the
/// worker is started.
pub const POOL_THREADS_MAX: usize = 120;

/// Applications without workers, workers without applications, more threads than there can be.
fn warn_of_pool(settings: &Settings, warnings: &mut Vec<String>) {
    let threads = usize::try_from(settings.number("dirty_threads")).unwrap_or(0);
    if threads > POOL_THREADS_MAX {
        warnings.push(format!(
            "dirty_threads: a worker of the pool runs {POOL_THREADS_MAX} calls at once, not {threads}; add dirty_workers"
        ));
    }
    let (workers, apps) = (settings.count("dirty_workers"), settings.list("dirty_apps"));
    if workers == 0 && !apps.is_empty() {
        warnings.push("dirty_apps: nothing serves them, because dirty_workers is 0".into());
    } else if workers > 0 && apps.is_empty() {
        warnings
            .push("dirty_workers: there are none, because dirty_apps names no application".into());
    }
    warn_of_pool_elsewhere(settings, warnings);
}

/// What is Ray's to decide where the pool's applications run there.
fn warn_of_pool_elsewhere(settings: &Settings, warnings: &mut Vec<String>) {
    let is_elsewhere = settings.text("dirty_pool") != Some("processes");
    if !is_elsewhere || settings.list("dirty_apps").is_empty() {
        return;
    }
    let decided_by_ray = ["dirty_affinity", "dirty_memory_limit", "dirty_max_calls"];
    for (position, row) in TABLE.iter().enumerate() {
        if decided_by_ray.contains(&row.name) && is_changed(settings, position) {
            warnings.push(format!(
                "{} has no effect where dirty_pool is Ray's: placement, limits and restarts are its own (dirty_ray_resources)",
                row.name
            ));
        }
    }
}

/// One line for each setting that works, but hardly as meant.
pub fn warnings(settings: &Settings) -> Vec<String> {
    let mut warnings = Vec::new();
    warn_of_word(settings, "loglevel", &LOG_LEVELS, "info", &mut warnings);
    warn_of_word(
        settings,
        "protocol",
        &["http", "uwsgi", "fastcgi", "scgi"],
        "http",
        &mut warnings,
    );
    warn_of_scheme_as_protocol(settings, &mut warnings);
    warn_of_zeros(settings, &mut warnings);
    warn_of_bounds(settings, &mut warnings);
    warn_of_missing_tls(settings, &mut warnings);
    warn_of_unspoken_http2(settings, &mut warnings);
    warn_of_pool(settings, &mut warnings);
    warn_of_what_is_off(settings, &mut warnings);
    if let Some(path) = settings.text("pidfile")
        && !path.is_empty()
        && path.bytes().all(|byte| byte.is_ascii_digit())
    {
        warnings.push(format!(
            "pidfile: {} is the name of a file; a port is given with bind, a number of processes with workers",
            Quoted(path)
        ));
    }
    if *settings.get("ssl_version") != Value::Int(2) {
        warnings.push("ssl_version has no effect, ssl_context is its successor".into());
    }
    for entry in settings.list("reload_extra_files") {
        if is_pattern(entry) && !settings.host().matches_any(entry) {
            warnings.push(format!(
                "reload_extra_files: no file matches {} at present",
                Quoted(entry)
            ));
        }
    }
    warnings
}

/// Words of `bind` or of other servers where `protocol` has its own.
fn warn_of_scheme_as_protocol(settings: &Settings, warnings: &mut Vec<String>) {
    let word = settings.text("protocol").unwrap_or_default().to_lowercase();
    let hint = match word.as_str() {
        "fcgi" => "protocol: FastCGI is written fastcgi",
        "https" => "protocol: for https set certfile, or write https:// before an address of bind",
        "sscgi" => "protocol: for SCGI with TLS write scgi+tls:// before an address of bind",
        "suwsgi" => "protocol: for uwsgi with TLS write suwsgi:// before an address of bind",
        "h2" | "h2c" | "http2" => "protocol: HTTP/2 is chosen by http_protocols",
        _ => return,
    };
    warnings.push(hint.into());
}

/// Numbers that mean something else than nothing.
fn warn_of_zeros(settings: &Settings, warnings: &mut Vec<String>) {
    let set_to_zero =
        |name: &str| settings.count(name) == 0 && settings.source(name) != Some(&Source::Default);
    if set_to_zero("workers") {
        warnings.push(
            "workers: 0 starts none: requests wait, until SIGTTIN adds a worker or queue_timeout ends them".into(),
        );
    }
    if set_to_zero("threads") {
        warnings.push("threads: 0 means 1".into());
    }
    if set_to_zero("limit_request_field_size") {
        warnings.push("limit_request_field_size: 0 means 8190, as in Gunicorn".into());
    }
}

/// Numbers beyond which something else is used than what was said.
fn warn_of_bounds(settings: &Settings, warnings: &mut Vec<String>) {
    let host = settings.host();
    let backlog = host.longest_backlog().unwrap_or(i64::MAX);
    let bounds = [
        (
            "limit_request_line",
            i64::from(REQUEST_LINE_MAX),
            "as in Gunicorn (0 allows 1 MiB)",
        ),
        (
            "limit_request_fields",
            i64::from(FIELDS_MAX),
            "as in Gunicorn",
        ),
        ("backlog", backlog, "net.core.somaxconn of the kernel"),
        (
            "limit_connections",
            host.most_connections(),
            "what the limit on open files leaves room for (ulimit -Hn, LimitNOFILE of systemd)",
        ),
    ];
    for (name, most, reason) in bounds {
        let said = settings.get(name).as_int().unwrap_or(0);
        if said > most && settings.source(name) != Some(&Source::Default) {
            warnings.push(format!("{name}: {said} is cut down to {most}, {reason}"));
        }
    }
}

fn warn_of_word(
    settings: &Settings,
    name: &str,
    words: &[&str],
    meaning: &str,
    warnings: &mut Vec<String>,
) {
    let Some(word) = settings.text(name) else {
        return;
    };
    if !words.contains(&word.to_lowercase().as_str()) {
        let words = words.join(", ");
        warnings.push(format!(
            "{name}: {} is none of {words}; {meaning} is used",
            Quoted(word)
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{resolve, text, texts};
    use crate::value::Raw;

    fn lines(said: &[(&str, Raw)]) -> Vec<String> {
        let settings = resolve(said);
        let class = unavailable_worker_class(&settings);
        class.into_iter().chain(warnings(&settings)).collect()
    }

    #[test]
    fn says_nothing_about_defaults_however_they_are_set() {
        assert_eq!(lines(&[]), Vec::<String>::new());
        let said = [
            ("daemon", Raw::Bool(false)),
            ("user", Raw::Int(1000)),
            ("certfile", Raw::None),
            ("http_protocols", text("h1")),
            ("workers", Raw::Int(9)),
            ("worker_class", text("gthread")),
        ];
        assert_eq!(lines(&said), Vec::<String>::new());
    }

    #[test]
    fn a_pool_needs_workers_and_applications() {
        for half in [
            [("dirty_workers", Raw::Int(2))],
            [("dirty_apps", texts(&["app:Model"]))],
        ] {
            assert_eq!(warnings(&resolve(&half)).len(), 1, "{half:?}");
        }
        let whole = [
            ("dirty_workers", Raw::Int(2)),
            ("dirty_apps", texts(&["app:Model"])),
        ];
        assert_eq!(warnings(&resolve(&whole)), Vec::<String>::new());
    }

    #[test]
    fn threads_of_the_pool_have_a_bound_that_is_said() {
        let most = i64::try_from(POOL_THREADS_MAX).expect("a small number");
        for (threads, lines) in [(most, 0), (most + 1, 1)] {
            let said = warnings(&resolve(&[("dirty_threads", Raw::Int(threads))]));
            assert_eq!(said.len(), lines, "{said:?}");
        }
    }

    #[test]
    fn certificates_of_clients_need_tls() {
        let asked = [("cert_reqs", Raw::Int(2))];
        let said = warnings(&resolve(&asked));
        assert!(
            said.len() == 1 && said[0].starts_with("cert_reqs: "),
            "{said:?}"
        );
        let spoken = [
            ("cert_reqs", Raw::Int(2)),
            ("certfile", text("cert.pem")),
            ("keyfile", text("key.pem")),
        ];
        assert_eq!(warnings(&resolve(&spoken)), Vec::<String>::new());
    }

    #[test]
    fn http2_needs_tls_or_leave_to_go_without() {
        let asked = ("http_protocols", text("h2,h1"));
        let said = warnings(&resolve(std::slice::from_ref(&asked)));
        assert!(
            said.len() == 1 && said[0].starts_with("http_protocols: HTTP/2 will never be spoken"),
            "{said:?}"
        );
        for with in [("certfile", "cert.pem"), ("http2_cleartext", "upgrade")] {
            let whole = [asked.clone(), (with.0, text(with.1))];
            assert_eq!(warnings(&resolve(&whole)), Vec::<String>::new(), "{with:?}");
        }
    }

    #[test]
    fn redirects_need_tls() {
        let said = warnings(&resolve(&[("https_redirect", Raw::Int(443))]));
        assert!(
            said.len() == 1 && said[0].starts_with("https_redirect: "),
            "{said:?}"
        );
    }

    #[test]
    fn parts_of_what_is_off_are_told_of() {
        let endpoint = ("tracing_endpoint", text("http://collector:4318"));
        let said = [
            endpoint.clone(),
            ("request_id_response", Raw::Bool(true)),
            ("dashboard_token", text("0123456789abcdef")),
            ("monitoring_allow_ips", text("10.0.0.0/8")),
            // As in Gunicorn, and often said for a development that sets `reload`.
            ("reload_engine", text("poll")),
        ];
        assert_eq!(
            warnings(&resolve(&said)),
            [
                "tracing_endpoint has no effect, because tracing is not set",
                "request_id_response has no effect, because request_id is not set",
                "dashboard_token has no effect, because dashboard is not set",
                "monitoring_allow_ips has no effect, because monitoring_path is not set",
            ]
        );
        let on = [endpoint, ("tracing", Raw::Bool(true))];
        assert_eq!(warnings(&resolve(&on)), Vec::<String>::new());
    }

    #[test]
    fn what_is_rays_to_decide_is_told_of() {
        let pool = |place: &str| {
            let settings = [
                ("dirty_pool", text(place)),
                ("dirty_apps", text("model:Model")),
                ("dirty_workers", Raw::Int(1)),
                ("dirty_max_calls", Raw::Int(5)),
                ("dirty_idle_timeout", Raw::Int(5)),
            ];
            warnings(&resolve(&settings))
        };
        assert_eq!(pool("processes"), Vec::<String>::new());
        for place in ["ray", "ray://cluster:10001"] {
            assert_eq!(
                pool(place),
                [
                    "dirty_max_calls has no effect where dirty_pool is Ray's: placement, limits and restarts are its own \
                     (dirty_ray_resources)"
                ]
            );
        }
    }

    #[test]
    fn says_what_zeros_mean_and_what_is_no_port() {
        let settings = resolve(&[
            ("workers", Raw::Int(0)),
            ("threads", Raw::Int(0)),
            ("pidfile", text("8000")),
        ]);
        assert_eq!(
            warnings(&settings),
            [
                "workers: 0 starts none: requests wait, until SIGTTIN adds a worker or queue_timeout ends them",
                "threads: 0 means 1",
                "pidfile: '8000' is the name of a file; a port is given with bind, a number of processes with workers",
            ]
        );
        let fine = resolve(&[("pidfile", text("/run/8000")), ("workers", Raw::Int(1))]);
        assert_eq!(warnings(&fine), Vec::<String>::new());
    }

    #[test]
    fn says_what_is_used_instead_of_too_large_numbers() {
        let said = |line, fields, backlog, connections| {
            warnings(&resolve(&[
                ("limit_request_line", Raw::Int(line)),
                ("limit_request_fields", Raw::Int(fields)),
                ("backlog", Raw::Int(backlog)),
                ("limit_connections", Raw::Int(connections)),
            ]))
        };
        assert_eq!(said(8190, 32_768, 4096, 100_000), Vec::<String>::new());
        assert_eq!(said(0, 0, 0, 1), Vec::<String>::new());
        assert_eq!(
            said(8191, 32_769, 4097, 100_001),
            [
                "limit_request_line: 8191 is cut down to 8190, as in Gunicorn (0 allows 1 MiB)",
                "limit_request_fields: 32769 is cut down to 32768, as in Gunicorn",
                "backlog: 4097 is cut down to 4096, net.core.somaxconn of the kernel",
                "limit_connections: 100001 is cut down to 100000, what the limit on open files leaves room for \
                 (ulimit -Hn, LimitNOFILE of systemd)",
            ]
        );
        assert_eq!(
            warnings(&resolve(&[("limit_request_field_size", Raw::Int(0))])),
            ["limit_request_field_size: 0 means 8190, as in Gunicorn"]
        );
    }

    #[test]
    fn says_what_was_meant_by_a_class_that_does_not_exist() {
        let of = |name: &str| lines(&[("worker_class", text(name))]);
        let start = "worker_class (gunicorn.conf.py): ";
        assert_eq!(
            of("synk"),
            [format!(
                "{start}'synk' is not available: did you mean sync?"
            )]
        );
        assert_eq!(
            of("shops"),
            [format!(
                "{start}'shops' is not available: sync, gthread, asgi, gevent and tornado are"
            )]
        );
        // A class of the user's is judged when it is loaded.
        assert_eq!(of("shop.Worker"), Vec::<String>::new());
        assert_eq!(of("egg:shop#worker"), Vec::<String>::new());
    }

    #[test]
    fn points_out_what_is_hardly_meant() {
        assert_eq!(
            warnings(&resolve(&[("reload_extra_files", texts(&["*.ini"]))])),
            Vec::<String>::new()
        );
        let settings = resolve(&[
            ("loglevel", text("loud")),
            ("protocol", text("https")),
            ("ssl_version", Raw::Int(5)),
            ("reload_extra_files", texts(&["*.html"])),
        ]);
        assert_eq!(
            warnings(&settings),
            [
                "loglevel: 'loud' is none of debug, info, warning, error, critical; info is used",
                "protocol: 'https' is none of http, uwsgi, fastcgi, scgi; http is used",
                "protocol: for https set certfile, or write https:// before an address of bind",
                "ssl_version has no effect, ssl_context is its successor",
                "reload_extra_files: no file matches '*.html' at present",
            ]
        );
    }
}
