"""One command line per server, for a given number of workers and threads; nothing else differs between them.

Each gets what its own documentation recommends for that shape and no access log. A server that cannot take a shape
(threads where there are none) says so and is left out of that workload.
"""

import os
import socket
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

BENCH = Path(__file__).resolve().parent.parent
PROJECT = BENCH.parent
APPLICATIONS = BENCH / "apps"
PEERS = BENCH / ".venv-peers"
#: Links to it in an environment with nothing else, once bench/setup.sh has made that.
_ALONE = BENCH / ".venv-oxicorn" / "bin" / "oxicorn"
OXICORN = _ALONE if _ALONE.exists() else PROJECT / ".venv" / "bin" / "oxicorn"
#: Another build of it, to be compared in the same run.
BEFORE = Path(os.environ.get("BENCH_BEFORE", "unset"))
FLOOR = BENCH / "floor"
# What applications import stands apart from the peers, so that servers from different virtual environments import the
# same files: Flask; FastAPI and the event loop.
FLASK = PEERS / "flask"
ASYNC = PEERS / "async"
NGINX = Path("/usr/sbin/nginx")
# And so do the packages of worker classes, with what their applications import.
CLASSES = PEERS / "classes"
WEBSOCKET_LOAD = BENCH / "websocket" / "target" / "release" / "websocket-load"
TLS_LOAD = BENCH / "connections" / "target" / "release" / "tls-load"

#: As many as h2load has connections, and one for whoever asks whether it answers.
HTTP2_THREADS = 9

#: Of all servers, for 127.0.0.1: ECDSA with P-256, unless the shape asks for RSA.
CERTIFICATES = BENCH / ".tls"
CERTIFICATE = CERTIFICATES / "cert.pem"
KEY = CERTIFICATES / "key.pem"
#: Bits of RSA keys for which there are certificates.
RSA = (2048, 3072)

OPEN_LOOP_LOAD = BENCH / ".oha" / "bin" / "oha"


@dataclass(frozen=True)
class Shape:
    """What a workload asks of a server."""

    application: str
    workers: int = 1
    threads: int = 1
    variables: tuple[tuple[str, str], ...] = ()
    interface: str = "wsgi"
    #: where ``interface`` is ``class``: the workers', by the name of Gunicorn's setting
    worker_class: str | None = None
    #: connections one worker must hold at once, where that is more than servers allow of themselves
    connections: int | None = None
    #: spoken with the certificate of all
    tls: bool = False
    #: or, by oxicorn, with one whose key is RSA and has so many bits
    rsa: int | None = None
    #: of oxicorn's gateway
    gateway_threads: int = 1
    http2: bool = False
    #: spoken to a web server, at the Unix socket that `socket_at` names
    uwsgi: bool = False

    @property
    def target(self) -> str:
        return f"{self.application}:application"

    @property
    def certificate(self) -> tuple[Path, Path]:
        """The file of the certificate, and that of its key."""
        return rsa_certificate(self.rsa) if self.rsa else (CERTIFICATE, KEY)


def rsa_certificate(bits: int) -> tuple[Path, Path]:
    return CERTIFICATES / f"rsa-{bits}.pem", CERTIFICATES / f"rsa-{bits}-key.pem"


@dataclass(frozen=True)
class Contender:
    name: str
    needs: Path
    hint: str
    command: Callable[[Shape, int], list[str]]
    takes_threads: bool = True
    interfaces: tuple[str, ...] = ("wsgi",)

    def missing(self) -> str | None:
        if self.needs.exists():
            return None
        inside = self.needs.is_relative_to(PROJECT)
        return f"{self.needs.relative_to(PROJECT) if inside else self.needs} is missing: {self.hint}"


def _gunicorn_options(shape: Shape, port: int, asgi_worker: str = "asgi") -> list[str]:
    address = f"uwsgi://unix:{socket_at(port)}" if shape.uwsgi else f"127.0.0.1:{port}"
    options = ["-b", address, "-w", str(shape.workers), "--chdir", str(APPLICATIONS)]
    if shape.worker_class:
        options += ["-k", shape.worker_class]
    elif shape.threads > 1:
        options += ["-k", "gthread", "--threads", str(shape.threads)]
    if shape.interface == "asgi":
        options += ["-k", asgi_worker, "--asgi-loop", "uvloop"]
    if shape.connections:
        options += ["--worker-connections", str(shape.connections)]
    if shape.tls:
        certificate, key = shape.certificate
        options += ["--certfile", str(certificate), "--keyfile", str(key)]
    if shape.http2:
        options += ["--http-protocols", "h2,h1"]
        # Gunicorn's sync worker does not speak it.
        options += ["-k", "gthread"] if shape.interface == "wsgi" else []
    return [*options, shape.target]


def _oxicorn_options(shape: Shape, port: int) -> list[str]:
    threads = ["--gateway-threads", str(shape.gateway_threads)] if shape.gateway_threads > 1 else []
    return [*threads, *_gunicorn_options(shape, port)]


def _oxicorn(shape: Shape, port: int) -> list[str]:
    return [str(OXICORN), *_oxicorn_options(shape, port)]


def _before(shape: Shape, port: int) -> list[str]:
    return [str(BEFORE), *_oxicorn_options(shape, port)]


def _with_one_thread(shape: Shape, port: int) -> list[str]:
    return _oxicorn(replace(shape, gateway_threads=1), port)


def _with_slice(microseconds: int) -> Callable[[Shape, int], list[str]]:
    def command(shape: Shape, port: int) -> list[str]:
        launcher = [str(PEERS / "bin" / "python"), str(BENCH / "harness" / "with_slice.py"), str(microseconds)]
        return [*launcher, *_oxicorn(shape, port)]

    return command


def _gunicorn(shape: Shape, port: int) -> list[str]:
    # With HTTP/2 each connection has a thread of its own, as long as it is open.
    threads = ["--threads", str(HTTP2_THREADS)] if shape.http2 and shape.interface == "wsgi" else []
    return [str(PEERS / "bin" / "gunicorn"), *threads, *_gunicorn_options(shape, port)]


def _gunicorn_uvicorn(shape: Shape, port: int) -> list[str]:
    # It takes uvloop, httptools and websockets by itself, because they are installed.
    return [str(PEERS / "bin" / "gunicorn"), *_gunicorn_options(shape, port, "uvicorn_worker.UvicornWorker")]


def _granian(shape: Shape, port: int) -> list[str]:
    options = ["--interface", shape.interface, "--host", "127.0.0.1", "--port", str(port), "--no-access-log"]
    options += ["--workers", str(shape.workers)]
    options += ["--loop", "uvloop"] if shape.interface == "asgi" else ["--blocking-threads", str(shape.threads)]
    if shape.connections:
        options += ["--backpressure", str(shape.connections)]
    if shape.tls:
        options += ["--ssl-certificate", str(CERTIFICATE), "--ssl-keyfile", str(KEY)]
    if shape.http2:
        options += ["--http", "auto"]
    return [str(PEERS / "bin" / "granian"), *options, "--working-dir", str(APPLICATIONS), shape.target]


def _uvicorn(shape: Shape, port: int) -> list[str]:
    options = ["--host", "127.0.0.1", "--port", str(port), "--workers", str(shape.workers), "--no-access-log"]
    # Of its WebSocket protocols it takes the quickest by itself.
    options += ["--loop", "uvloop", "--http", "httptools", "--app-dir", str(APPLICATIONS)]
    return [str(PEERS / "bin" / "uvicorn"), *options, shape.target]


def _hypercorn(shape: Shape, port: int) -> list[str]:
    options = ["-b", f"127.0.0.1:{port}", "-w", str(shape.workers), "-k", "uvloop"]
    if shape.tls:
        options += ["--certfile", str(CERTIFICATE), "--keyfile", str(KEY)]
    return [str(PEERS / "bin" / "hypercorn"), *options, shape.target]


def _nginx(shape: Shape, port: int) -> list[str]:
    program = [str(PEERS / "bin" / "python"), str(BENCH / "harness" / "behind_nginx.py")]
    options = _gunicorn_options(replace(shape, tls=False), port)[2:]
    return [*program, str(OXICORN), str(port), str(CERTIFICATE), str(KEY), *options]


def _uwsgi(shape: Shape, port: int) -> list[str]:
    # What its "things to know" recommend, and nothing that writes a line for a request.
    options = ["--master", "--need-app", "--single-interpreter", "--die-on-term", "--vacuum", "--disable-logging"]
    options += ["--processes", str(shape.workers), "--uwsgi-socket", str(socket_at(port))]
    options += ["--threads", str(shape.threads)] if shape.threads > 1 else []
    return [str(PEERS / "bin" / "uwsgi"), *options, "--chdir", str(APPLICATIONS), "--module", shape.target]


def _inline(kind: str) -> Callable[[Shape, int], list[str]]:
    def command(shape: Shape, port: int) -> list[str]:
        program = [str(PEERS / "bin" / "python"), str(BENCH / "harness" / "serve_inline.py"), kind]
        tls = [str(CERTIFICATE), str(KEY)] if shape.tls else []
        return [*program, str(port), str(shape.workers), shape.target, str(shape.threads), *tls]

    return command


_SETUP = "run bench/setup.sh"
_BOTH = ("wsgi", "asgi")
_ALL = (*_BOTH, "class")
CONTENDERS = {
    contender.name: contender
    for contender in (
        Contender("oxicorn", OXICORN, "run make build", _oxicorn, interfaces=_ALL),
        Contender("oxicorn-before", BEFORE, "set BENCH_BEFORE to the other build's program", _before, interfaces=_ALL),
        # Whatever number of gateway threads the experiment gives the others.
        Contender("oxicorn-threads-1", OXICORN, "run make build", _with_one_thread, interfaces=_ALL),
        # Experiments with the gateway's time slice; no target is measured against them.
        *(
            Contender(f"oxicorn-slice-{microseconds}", OXICORN, "run make build", _with_slice(microseconds), interfaces=_BOTH)
            for microseconds in (100, 500, 10_000)
        ),
        Contender("granian", PEERS / "bin" / "granian", _SETUP, _granian, interfaces=_BOTH),
        Contender("gunicorn", PEERS / "bin" / "gunicorn", _SETUP, _gunicorn, interfaces=_ALL),
        Contender("uvicorn", PEERS / "bin" / "uvicorn", _SETUP, _uvicorn, interfaces=("asgi",)),
        Contender("gunicorn-uvicorn", PEERS / "bin" / "uvicorn", _SETUP, _gunicorn_uvicorn, interfaces=("asgi",)),
        Contender("hypercorn", PEERS / "bin" / "hypercorn", _SETUP, _hypercorn, interfaces=("asgi",)),
        Contender("nginx", NGINX, _SETUP, _nginx, interfaces=_BOTH),
        Contender("uwsgi", PEERS / "bin" / "uwsgi", f"{_SETUP} (it is compiled there)", _uwsgi),
        Contender("tornado", CLASSES / "tornado", _SETUP, _inline("tornado"), False, ("class",)),
        Contender("floor", FLOOR / "target/release/floor.so", _SETUP, _inline("floor"), False),
        Contender("decoupled", FLOOR / "target/release/floor.so", _SETUP, _inline("decoupled")),
        Contender(
            "bjoern",
            next(PEERS.glob("lib/python*/site-packages/bjoern.py"), PEERS / "lib/bjoern.py"),
            f"{_SETUP} (it builds only where libev-dev is)",
            _inline("bjoern"),
            False,
        ),
    )
}


def environment(extra: dict[str, str]) -> dict[str, str]:
    """The caller's environment without what would change a server's shape."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_STEERING)}
    return {**kept, **extra}


_STEERING = ("GUNICORN_", "GRANIAN_", "OXICORN_", "WEB_CONCURRENCY", "PORT", "PYTHON", "FORWARDED_ALLOW_IPS", "BENCH_")


def socket_at(port: int) -> Path:
    """The Unix socket of a server that has no port of its own."""
    return Path(tempfile.gettempdir()) / f"bench-{port}.socket"


def free_port() -> int:
    """A port nobody listens on now; below the ephemeral range, where the load's own connections would take it."""
    while True:
        port = 20_000 + int.from_bytes(os.urandom(2)) % 10_000
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
