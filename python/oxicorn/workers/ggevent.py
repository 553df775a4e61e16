"""The ``gevent`` classes: gevent's own server (``gevent.pywsgi``), a greenlet for each connection.

They accept connections themselves (see ``oxicorn.workers.chosen``), so limits and logs of requests
are gevent's. The standard library is patched in the worker, or in the template where the
application is loaded there, before the application is.
"""

from __future__ import annotations

import select
import time
from datetime import timedelta
from types import FrameType, SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

try:
    import gevent
    from gevent import hub, monkey, pywsgi
    from gevent import socket as gevent_socket
    from gevent.pool import Pool
except ImportError as error:
    raise RuntimeError(f"{error}: worker class gevent needs the package gevent") from error

import oxicorn
from oxicorn.http.wsgi import FileWrapper
from oxicorn.sock import ssl_context
from oxicorn.workers.base import Worker

if TYPE_CHECKING:
    from oxicorn.config import Config

__all__ = ["GeventPyWSGIWorker", "GeventWorker", "PyWSGIHandler", "PyWSGIServer"]

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


class GeventWorker(Worker):
    """Serves WSGI in greenlets, at most ``worker_connections`` connections at a time."""

    server_class: ClassVar[Any] = PyWSGIServer
    wsgi_handler: ClassVar[Any] = PyWSGIHandler

    @classmethod
    def prepare_process(cls) -> None:
        """Patches the standard library."""
        monkey.patch_all()

    @classmethod
    def check_config(cls, cfg: Config, log: Any) -> None:
        """Says which hooks gevent's server does not call."""
        for hook in ("pre_request", "post_request"):
            if cfg.native.is_set(hook):
                log.warning("%s is not called with worker class gevent", hook)

    def patch(self) -> None:
        """Patches the standard library, and makes gevent's sockets of the listeners."""
        self.prepare_process()
        self.sockets = [
            gevent_socket.socket(each.FAMILY, gevent_socket.SOCK_STREAM, fileno=each.sock.detach())
            for each in self.sockets
        ]

    def init_process(self) -> None:
        """Patches first of all."""
        self.patch()
        hub.reinit()
        super().init_process()

    def count(self) -> None:
        """A request begins."""
        self.nr += 1
        if self.nr == self.max_requests:
            self.autorestart()
            self.alive = False

    def run(self) -> None:
        """Serves until stopped, then at most ``graceful_timeout`` what is in hand."""
        servers = [self._serve(each) for each in self.sockets]
        while self.alive:
            self.notify()
            gevent.sleep(BEAT)
        for server in servers:
            server.close()
        self._finish(servers)

    def _serve(self, listener: Any) -> Any:
        listener.setblocking(1)
        tls = {"ssl_context": ssl_context(self.cfg)} if self.cfg.is_ssl else {}
        server = self.server_class(
            listener,
            application=self.wsgi,
            spawn=Pool(self.cfg.worker_connections),
            log=self.log,
            error_log=self.log,
            handler_class=type("Handler", (_Served, self.wsgi_handler), {}),
            environ={
                "wsgi.multithread": True,
                "wsgi.multiprocess": self.cfg.workers > 1,
                "wsgi.file_wrapper": FileWrapper,
                "SERVER_SOFTWARE": f"gevent/{gevent.__version__} {oxicorn.SERVER_SOFTWARE}",
            },
            **tls,
        )
        server.worker, server.waiting = self, {}
        server.start()
        return server

    def _finish(self, servers: list[Any]) -> None:
        began = time.monotonic()
        until = began + self.cfg.graceful_timeout
        while any(len(server.pool) for server in servers) and time.monotonic() < until:
            is_late = time.monotonic() > began + FIRST_WORD
            for server in servers:
                for waiting, handler in list(server.waiting.items()):
                    if (handler.has_served or is_late) and not handler.has_more():
                        waiting.kill(block=False)
            self.notify()
            gevent.sleep(LOOK)
        if any(len(server.pool) for server in servers):
            self.log.warning("Worker graceful timeout (pid:%s)", self.pid)
        for server in servers:
            server.stop(timeout=LAST_WORD)

    def handle_quit(self, sig: int, frame: FrameType | None) -> None:
        """SIGQUIT, SIGINT: in a greenlet, where waiting is allowed."""
        gevent.spawn(super().handle_quit, sig, frame)

    def handle_usr1(self, sig: int, frame: FrameType | None) -> None:
        """SIGUSR1: the same."""
        gevent.spawn(super().handle_usr1, sig, frame)


class GeventPyWSGIWorker(GeventWorker):
    """The same by the name that other packages derive from."""
