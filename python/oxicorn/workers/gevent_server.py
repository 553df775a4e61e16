"""gevent's own server (``gevent.pywsgi``) on a worker's listeners: a greenlet a connection."""

from __future__ import annotations

import select
import time
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import gevent
from gevent import monkey, pywsgi
from gevent import socket as gevent_socket
from gevent.pool import Pool

import oxicorn
from oxicorn.http.wsgi import FileWrapper
from oxicorn.sock import ssl_context

if TYPE_CHECKING:
    from oxicorn.workers.ggevent import GeventWorker

__all__ = ["PyWSGIHandler", "PyWSGIServer", "serve"]

#: Seconds between two signs of life, and two looks whether everything is answered.
BEAT = 0.25
LOOK = 0.05
#: Seconds that a new connection has for its first request when the worker stops.
FIRST_WORD = 1.0
#: Seconds that a connection beyond ``graceful_timeout`` has to notice its end.
LAST_WORD = 1.0


class PyWSGIServer(pywsgi.WSGIServer):  # type: ignore[misc]
    """gevent's server."""


class PyWSGIHandler(pywsgi.WSGIHandler):  # type: ignore[misc]
    """One connection: Gunicorn's keys in the environ, the access log through Gunicorn's logger."""

    def get_environ(self) -> dict[str, Any]:
        """The environ, with ``gunicorn.sock`` and ``RAW_URI``."""
        environ: dict[str, Any] = super().get_environ()
        environ["gunicorn.sock"] = self.socket
        environ["RAW_URI"] = self.path
        return environ

    def log_request(self) -> None:
        """Has the access line written."""
        status = self.status.decode("latin-1") if isinstance(self.status, bytes) else self.status
        response = SimpleNamespace(
            status=status or "400 Bad Request",
            headers=getattr(self, "response_headers", None) or [],
            sent=self.response_length,
        )
        request = SimpleNamespace(headers=list(self.headers.items()) if self.headers else [])
        environ = getattr(self, "environ", None) or {}
        taken = timedelta(seconds=max(self.time_finish - self.time_start, 0.0))
        self.server.log.access(response, request, environ, taken)


class _Served:
    """What the worker wants of any handler: who waits for a request, and how many there were."""

    server: Any
    socket: Any
    has_served = False

    def read_requestline(self) -> Any:
        waiting, this = self.server.waiting, gevent.getcurrent()
        waiting[this] = self
        try:
            with gevent.Timeout(self.server.worker.cfg.keepalive or None, False):
                return super().read_requestline()  # type: ignore[misc]
        finally:
            del waiting[this]
        return b""

    def run_application(self) -> Any:
        self.has_served = True
        self.server.worker.count()
        return super().run_application()  # type: ignore[misc]

    def has_more(self) -> bool:
        """Whether a request, or the connection's end, has arrived and is about to be read."""
        poll = monkey.get_original("select", "poll")()
        poll.register(self.socket.fileno(), select.POLLIN)
        return bool(poll.poll(0))


def serve(worker: GeventWorker) -> None:
    """Serves until stopped, then at most ``graceful_timeout`` what is in hand."""
    servers = [_start(worker, each) for each in worker.sockets]
    while worker.alive:
        worker.notify()
        gevent.sleep(BEAT)
    for server in servers:
        server.close()
    _finish(worker, servers)


def cooperative(sockets: list[Any]) -> list[Any]:
    """gevent's sockets on the descriptors of ``sockets``, which let go of them."""
    return [
        gevent_socket.socket(each.FAMILY, gevent_socket.SOCK_STREAM, fileno=each.sock.detach())
        for each in sockets
    ]


def _start(worker: GeventWorker, listener: Any) -> Any:
    listener.setblocking(1)
    tls = {"ssl_context": ssl_context(worker.cfg)} if worker.cfg.is_ssl else {}
    handler: Any = worker.wsgi_handler
    server = worker.server_class(
        listener,
        application=worker.wsgi,
        spawn=Pool(worker.cfg.worker_connections),
        log=worker.log,
        error_log=worker.log,
        handler_class=type("Handler", (_Served, handler), {}),
        environ={
            "wsgi.multithread": True,
            "wsgi.multiprocess": worker.cfg.workers > 1,
            "wsgi.file_wrapper": FileWrapper,
            "SERVER_SOFTWARE": f"gevent/{gevent.__version__} {oxicorn.SERVER_SOFTWARE}",
        },
        **tls,
    )
    server.worker, server.waiting = worker, {}
    server.start()
    return server


def _finish(worker: GeventWorker, servers: list[Any]) -> None:
    began = time.monotonic()
    until = began + worker.cfg.graceful_timeout
    while any(len(server.pool) for server in servers) and time.monotonic() < until:
        is_late = time.monotonic() > began + FIRST_WORD
        for server in servers:
            for waiting, handler in list(server.waiting.items()):
                if (handler.has_served or is_late) and not handler.has_more():
                    waiting.kill(block=False)
        worker.notify()
        gevent.sleep(LOOK)
    if any(len(server.pool) for server in servers):
        worker.log.warning("Worker graceful timeout (pid:%s)", worker.pid)
    for server in servers:
        server.stop(timeout=LAST_WORD)
