//! Which kind of worker serves.

use std::fmt;

use crate::misspelling::nearest_word;
use crate::value::Value;

/// The kind of worker that serves. `Display` gives the word of the line `Using worker: ...`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkerClass {
    /// One request at a time.
    Sync,
    /// A pool of threads.
    Gthread,
    /// Greenlets.
    Gevent,
    /// The server of `gevent.pywsgi`.
    GeventPywsgi,
    /// Tornado's applications on its event loop.
    Tornado,
    /// An event loop and ASGI.
    Asgi,
    /// A class that brings a server of its own and accepts connections itself. No name means it: what a class is, is
    /// known when it is loaded.
    Direct,
    /// A class by its dotted path, or an entry point.
    Named(String),
    /// A class the config file holds.
    Object(u32),
}

/// How workers of a class take their requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// Threads wait for them and serve one each.
    Threads,
    /// An event loop takes them, each is a task.
    Loop,
    /// A hub takes them, each is a greenlet.
    Hub,
    /// Not over the link: the class accepts connections itself.
    Own,
}

/// How many requests a worker takes at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capacity {
    /// One.
    One,
    /// Setting `threads`.
    Threads,
    /// Setting `worker_connections`.
    Connections,
}

/// What a worker class is: a row of the table below, read wherever classes differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traits {
    /// Who takes the requests.
    pub engine: Engine,
    /// How many at a time.
    pub capacity: Capacity,
    /// It takes a request before its body is complete, and asks for that piece by piece.
    pub streams_requests: bool,
    /// It is given handshakes and messages of WebSockets; others take the client's socket over.
    pub speaks_websocket: bool,
}

impl Traits {
    const fn wsgi(engine: Engine, capacity: Capacity) -> Self {
        Self {
            engine,
            capacity,
            streams_requests: false,
            speaks_websocket: false,
        }
    }

    const SYNC: Self = Self::wsgi(Engine::Threads, Capacity::One);
    const GTHREAD: Self = Self::wsgi(Engine::Threads, Capacity::Threads);
    const GEVENT: Self = Self::wsgi(Engine::Hub, Capacity::Connections);
    const ASGI: Self = Self {
        engine: Engine::Loop,
        capacity: Capacity::Connections,
        streams_requests: true,
        speaks_websocket: true,
    };
    /// Its applications take the client's socket over for WebSockets.
    const TORNADO: Self = Self {
        speaks_websocket: false,
        ..Self::ASGI
    };
    /// Whatever it does, it does by itself.
    const OWN: Self = Self::wsgi(Engine::Own, Capacity::One);

    /// Whether a worker goes on with others when one of its requests has been given up: that alone can be ended.
    pub const fn goes_on(&self) -> bool {
        matches!(self.engine, Engine::Loop | Engine::Hub)
    }

    /// Whether requests may be placed ahead of what a worker has in hand. Loops take at once whatever is placed, so a
    /// request ahead would be one too many.
    pub const fn prefetches(&self) -> bool {
        matches!(self.engine, Engine::Threads)
    }
}

/// Each class, its names, and the path of Gunicorn's class below the package.
const KNOWN: [(WorkerClass, &[&str], &str); 6] = [
    (WorkerClass::Sync, &["sync"], "workers.sync.SyncWorker"),
    (
        WorkerClass::Gthread,
        &["gthread"],
        "workers.gthread.ThreadWorker",
    ),
    (
        WorkerClass::Gevent,
        &["gevent"],
        "workers.ggevent.GeventWorker",
    ),
    (
        WorkerClass::GeventPywsgi,
        &["gevent_pywsgi", "gevent_wsgi"],
        "workers.ggevent.GeventPyWSGIWorker",
    ),
    (
        WorkerClass::Tornado,
        &["tornado"],
        "workers.gtornado.TornadoWorker",
    ),
    (WorkerClass::Asgi, &["asgi"], "workers.gasgi.ASGIWorker"),
];

/// Classes of other packages that the asgi class takes the place of: they would bring a server of their own.
const SERVED_BY_ASGI: [&str; 4] = [
    "uvicorn.workers.UvicornWorker",
    "uvicorn.workers.UvicornH11Worker",
    "uvicorn_worker.UvicornWorker",
    "uvicorn_worker.UvicornH11Worker",
];

/// Words that are no class, and what was meant: Gunicorn's former classes, and what others call theirs.
const NO_CLASS: [(&[&str], &str); 5] = [
    (
        &["eventlet", "gunicorn.workers.geventlet.EventletWorker"],
        "Gunicorn dropped it in 26.0, gthread serves many requests at a time",
    ),
    (
        &[
            "gaiohttp",
            "gunicorn.workers.gaiohttp.AiohttpWorker",
            "aiohttp",
        ],
        "Gunicorn dropped it in 20.0, asgi has an event loop",
    ),
    (
        &[
            "uvicorn",
            "uvloop",
            "asyncio",
            "async",
            "trio",
            "asgi3",
            "http",
            "h11",
            "httptools",
        ],
        "ASGI applications are served by asgi",
    ),
    (
        &["wsgi", "process"],
        "WSGI applications are served by sync or gthread",
    ),
    (
        &["thread", "threads", "threaded", "threading", "pool"],
        "threads are served by gthread",
    ),
];

/// What was probably meant by a worker class that does not exist.
pub(crate) fn hint(name: &str) -> Option<String> {
    let bare = name.rsplit('#').next().unwrap_or(name).to_lowercase();
    let known = NO_CLASS.iter().find(|(names, _)| {
        let mut names = names.iter().map(|name| name.to_lowercase());
        names.any(|known| known == bare)
    });
    if let Some((_, meant)) = known {
        return Some((*meant).to_owned());
    }
    let names = KNOWN.iter().flat_map(|(_, aliases, _)| *aliases).copied();
    let paths = SERVED_BY_ASGI.into_iter();
    let near = nearest_word(&bare, names).or_else(|| nearest_word(name, paths));
    near.map(|near| format!("did you mean {near}?"))
}

impl WorkerClass {
    /// What `worker_class` and `threads` mean together. Every class whose name ends with `SyncWorker` becomes `gthread`
    /// where there is more than one thread; so does Gunicorn.
    pub(crate) fn in_force(setting: &Value, threads: u32) -> Self {
        match setting {
            Value::Str(name) if threads > 1 && (name == "sync" || name.ends_with("SyncWorker")) => {
                Self::Gthread
            }
            Value::Str(name) => Self::named(name),
            Value::Object(object) => Self::Object(*object),
            _ if threads > 1 => Self::Gthread,
            _ => Self::Sync,
        }
    }

    /// What it is. Of a class that is known by a name or object of the user's that shows when it is loaded, and it is
    /// in force by another value of this type then; until then it counts as `sync`.
    pub const fn traits(&self) -> Traits {
        match self {
            Self::Sync | Self::Named(_) | Self::Object(_) => Traits::SYNC,
            Self::Gthread => Traits::GTHREAD,
            Self::Gevent => Traits::GEVENT,
            Self::Asgi => Traits::ASGI,
            Self::Tornado => Traits::TORNADO,
            Self::GeventPywsgi | Self::Direct => Traits::OWN,
        }
    }

    /// Whether this names a class of another package that the asgi class takes the place of.
    pub(crate) fn is_replaced(name: &str) -> bool {
        SERVED_BY_ASGI.contains(&name)
    }

    /// The class that a name stands for.
    pub fn named(name: &str) -> Self {
        let alias = ["egg:gunicorn#", "egg:oxicorn#"]
            .iter()
            .find_map(|egg| name.strip_prefix(egg))
            .unwrap_or(name);
        if Self::is_replaced(name) {
            return Self::Asgi;
        }
        let path = ["gunicorn.", "oxicorn."]
            .iter()
            .find_map(|package| name.strip_prefix(package));
        let known = KNOWN
            .into_iter()
            .find(|(_, aliases, class)| aliases.contains(&alias) || path == Some(class));
        known.map_or_else(|| Self::Named(name.into()), |(class, _, _)| class)
    }
}

impl fmt::Display for WorkerClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sync => "sync",
            Self::Gthread => "gthread",
            Self::Gevent => "gevent",
            Self::GeventPywsgi => "gevent_pywsgi",
            Self::Tornado => "tornado",
            Self::Asgi => "asgi",
            Self::Direct => "direct",
            Self::Named(name) => name,
            Self::Object(_) => "a class of the config file",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_every_name_of_a_class() {
        let cases = [
            ("sync", 1, WorkerClass::Sync),
            ("sync", 2, WorkerClass::Gthread),
            ("gunicorn.workers.sync.SyncWorker", 1, WorkerClass::Sync),
            ("oxicorn.workers.sync.SyncWorker", 4, WorkerClass::Gthread),
            ("my.SyncWorker", 2, WorkerClass::Gthread),
            (
                "my.SyncWorker",
                1,
                WorkerClass::Named("my.SyncWorker".into()),
            ),
            ("egg:gunicorn#gthread", 1, WorkerClass::Gthread),
            ("gthread", 1, WorkerClass::Gthread),
            ("gevent_wsgi", 1, WorkerClass::GeventPywsgi),
            ("gunicorn.workers.gasgi.ASGIWorker", 8, WorkerClass::Asgi),
            ("uvicorn.workers.UvicornWorker", 8, WorkerClass::Asgi),
            ("uvicorn_worker.UvicornH11Worker", 1, WorkerClass::Asgi),
            (
                "uvicorn.workers.OtherWorker",
                8,
                WorkerClass::Named("uvicorn.workers.OtherWorker".into()),
            ),
        ];
        for (name, threads, expected) in cases {
            assert_eq!(
                WorkerClass::in_force(&Value::Str(name.into()), threads),
                expected,
                "{name}"
            );
        }
        assert_eq!(WorkerClass::in_force(&Value::None, 1), WorkerClass::Sync);
        assert_eq!(
            WorkerClass::in_force(&Value::Object(3), 2),
            WorkerClass::Object(3)
        );
    }

    #[test]
    fn says_what_was_meant_by_a_name_that_is_no_class() {
        for (name, expected) in [
            ("synk", "did you mean sync?"),
            ("gthreads", "did you mean gthread?"),
            ("gthraed", "did you mean gthread?"),
            ("ASGI", "did you mean asgi?"),
            ("gevnet", "did you mean gevent?"),
            (
                "uvicorn.workers.UvicornWorkr",
                "did you mean uvicorn.workers.UvicornWorker?",
            ),
            (
                "eventlet",
                "Gunicorn dropped it in 26.0, gthread serves many requests at a time",
            ),
            (
                "egg:gunicorn#eventlet",
                "Gunicorn dropped it in 26.0, gthread serves many requests at a time",
            ),
            (
                "gaiohttp",
                "Gunicorn dropped it in 20.0, asgi has an event loop",
            ),
            ("uvicorn", "ASGI applications are served by asgi"),
            ("async", "ASGI applications are served by asgi"),
            ("wsgi", "WSGI applications are served by sync or gthread"),
            ("threads", "threads are served by gthread"),
        ] {
            assert_eq!(hint(name).as_deref(), Some(expected), "{name}");
        }
        for name in ["does_not_exist", "shop.workers.Worker", ""] {
            assert_eq!(hint(name), None, "{name}");
        }
    }

    #[test]
    fn is_printed_by_its_first_name() {
        for (class, aliases, _) in KNOWN {
            assert_eq!(class.to_string(), aliases[0]);
        }
    }
}
