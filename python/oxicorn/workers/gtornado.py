"""The ``tornado`` worker class: Tornado's applications on Tornado's loop, behind the gateway.

Requests do not come through Tornado's HTTP server but through its own seam to it (see
``oxicorn.workers.tornado_connection``), so a Tornado application has one queue for all workers,
deadlines, and reloads that lose nothing. A WSGI application is called on the loop, as in Gunicorn.
``DirectTornadoWorker`` is the same with Tornado's server, which accepts connections itself.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any, ClassVar

try:
    from tornado import autoreload
    from tornado.httpserver import HTTPServer
    from tornado.httputil import HTTPServerConnectionDelegate
    from tornado.ioloop import IOLoop
    from tornado.wsgi import WSGIContainer
except ImportError as error:
    raise RuntimeError(f"{error}: worker class tornado needs the package tornado") from error

from oxicorn.sock import ssl_context
from oxicorn.workers.asgi import AsgiWorker, new_event_loop, task_stack
from oxicorn.workers.base import DIRECT, Worker
from oxicorn.workers.finding import Finding
from oxicorn.workers.tornado_connection import Callback, Connection, tasks_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from tornado.httputil import HTTPConnection, HTTPMessageDelegate

    from oxicorn import _native
    from oxicorn.workers.asgi import Application
    from oxicorn.workers.lifespan import Lifespan

__all__ = ["DirectTornadoWorker", "TornadoWorker"]

#: Seconds between two looks for WebSockets of a worker that ends.
HANG_UP_PERIOD = 0.2
#: Seconds between two signs of life, and two looks whether everything is answered, of a class with
#: a server of its own.
BEAT = 0.25
LOOK = 0.05
#: Seconds a client that is connected has for a request when the server stops: it may be on its way.
REQUEST_GRACE = 1.0


class TornadoWorker(AsgiWorker):
    """Serves a ``tornado.web.Application``, another delegate of Tornado's, or WSGI."""

    SERVES = (Finding.TORNADO, Finding.WSGI)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.ioloop: IOLoop | None = None
        #: What writes that are done give to be awaited.
        self.done: asyncio.Future[None]
        #: Connections that handlers have taken over.
        self.websockets: set[Connection] = set()
        # Of classes with a server of their own.
        self.server: Any = None
        self.server_alive = False
        self.callbacks: list[Any] = []

    @classmethod
    def setup(cls) -> None:
        """Gunicorn adds its name to the ``Server`` header here; the gateway writes that."""

    @classmethod
    def prepare_process(cls) -> None:
        """Keeps ``debug=True`` from replacing the worker's process when a file changes."""
        autoreload.start = _no_autoreload

    def init_process(self) -> None:
        """The loop is current before the application is loaded, which may start things on it."""
        self.prepare_process()
        IOLoop.clear_current()
        super().init_process()

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        """asyncio's, by the policy in force, unless setting ``asgi_loop`` asks for uvloop."""
        name = "uvloop" if self.cfg.asgi_loop == "uvloop" else "asyncio"
        return new_event_loop(name)

    def load_wsgi(self) -> None:
        """Loads the application; by then ``IOLoop.current()`` is the worker's."""
        self.ioloop = IOLoop.current()
        super().load_wsgi()

    def start(self, context: _native.WorkerContext) -> None:
        """A class whose ``run()`` has a server of its own is ready before that."""
        if self.cfg.chosen.kind == DIRECT:
            Worker.start(self, context)
        else:
            super().start(context)

    @property
    def takes_requests(self) -> bool:
        """False once the worker was released and its end has begun."""
        return self.context is None or self.context.serving()

    def asgi_application(self) -> Application:
        """What makes Tornado's calls of a request that comes over the link."""
        assert self.loop is not None
        router = self.router()
        self.done = self.loop.create_future()
        self.done.set_result(None)

        def serve(scope: dict[str, Any], receive: Any, send: Any) -> Awaitable[None]:
            return Connection(self, router, scope, receive, send).serve()

        return serve

    def router(self) -> HTTPServerConnectionDelegate:
        """What Tornado's calls are made to: the application, or what calls a WSGI application."""
        application: Any = self.wsgi
        if isinstance(application, HTTPServerConnectionDelegate):
            return application
        if not isinstance(application, WSGIContainer):
            self.log.warning(
                "worker_class tornado: the application speaks WSGI and is called on the event "
                "loop, one request at a time; sync and gthread serve it better"
            )
            application = WSGIContainer(application)
        return Callback(application)

    def beats(self) -> Iterator[tuple[float, Callable[[], Any]]]:
        """What a class has in the place of Gunicorn's two callbacks is called as those are."""
        yield from super().beats()
        for name in ("watchdog", "heartbeat"):
            if getattr(type(self), name) is not getattr(TornadoWorker, name):
                yield self.NOTIFY_PERIOD, getattr(self, name)

    def request_ended(self) -> None:
        """A request is over."""
        if type(self).handle_request is not TornadoWorker.handle_request:
            self.handle_request()

    async def _start_lifespan(self, application: Application) -> Lifespan | None:
        return None

    async def _drain(self, context: _native.WorkerContext, server: _native.AsgiServer) -> None:
        hanging_up = asyncio.ensure_future(self._hang_up())
        try:
            await super()._drain(context, server)
        finally:
            hanging_up.cancel()

    async def _hang_up(self) -> None:
        while True:
            for connection in list(self.websockets):
                connection.hang_up()
            await asyncio.sleep(HANG_UP_PERIOD)

    def request_expired(self, task: asyncio.Task[Any]) -> None:
        """Logs where the handlers of a request wait that is about to be cancelled."""
        frame = getattr(task.get_coro(), "cr_frame", None)
        connection = frame.f_locals.get("self") if frame is not None else None
        handlers = tasks_of(connection) if isinstance(connection, Connection) else []
        for handler in handlers or [task]:
            stack = "\n".join(task_stack(handler))
            self.log.error("Stack of the request that timed out:\n%s", stack)

    # Known from Gunicorn to classes with a server of their own, whose ``run()`` calls them.

    def handle_request(self) -> None:
        """A connection has ended, which Gunicorn's class counts as a request."""
        if self.cfg.chosen.kind != DIRECT:
            return  # Behind the gateway they are counted.
        self.nr += 1
        if self.alive and self.nr >= self.max_requests:
            self.autorestart()
            self.alive = False

    def watchdog(self) -> None:
        """Gives a sign of life."""
        if self.alive:
            self.notify()
        if self.ppid != os.getppid():
            self.parent_changed()
            self.alive = False

    def heartbeat(self) -> None:
        """Stops ``self.server`` when it is time, then ``self.callbacks`` and the loop."""
        if self.alive or self.cfg.chosen.kind != DIRECT:
            return
        if self.server_alive:
            if self.server is not None:
                self.server.stop()
            self.server_alive = False
            return
        for callback in self.callbacks:
            callback.stop()
        IOLoop.current().stop()


class DirectTornadoWorker(TornadoWorker):
    """Tornado's own HTTP server, which accepts connections itself.

    For what the seam does not give: a stream that is detached after the response has begun, options
    of ``tornado.httpserver.HTTPServer``.
    """

    #: Arguments of ``HTTPServer``.
    server_options: ClassVar[dict[str, Any]] = {}

    def run(self) -> None:
        """Serves until stopped, then at most ``graceful_timeout`` what is in hand."""
        assert self.loop is not None
        try:
            self.loop.run_until_complete(self._serve_by_server())
        finally:
            self._close_loop()

    async def _serve_by_server(self) -> None:
        options = {"no_keep_alive": self.cfg.keepalive <= 0, **self.server_options}
        if self.cfg.is_ssl:
            options.setdefault("ssl_options", ssl_context(self.cfg))
        self.server = server = _Server(self.router(), **options)
        server.worker = self
        for listener in self.sockets:
            listener.setblocking(0)
            server.add_socket(listener)
        while self.alive:
            self.watchdog()
            await asyncio.sleep(BEAT)
        server.stop()
        await self._finish(server)

    async def _finish(self, server: _Server) -> None:
        assert self.loop is not None
        server.conn_params.no_keep_alive = True
        until = self.loop.time() + self.cfg.graceful_timeout
        silent_until = self.loop.time() + REQUEST_GRACE
        while server.open and self.loop.time() < until and not self._hurry:
            if self.loop.time() >= silent_until:
                for connection in server.open - server.busy:
                    connection.stream.close()
            self.notify()
            await asyncio.sleep(LOOK)
        if server.open:
            self.log.warning("Worker graceful timeout (pid:%s)", self.pid)


class _Server(HTTPServer):
    """Tornado's server, which tells the worker of its connections."""

    worker: TornadoWorker

    def initialize(self, *args: Any, **kwargs: Any) -> None:
        super().initialize(*args, **kwargs)
        #: Connections, and those of them with a request in hand.
        self.open: set[Any] = set()
        self.busy: set[Any] = set()

    def start_request(
        self, server_conn: object, request_conn: HTTPConnection
    ) -> HTTPMessageDelegate:
        self.open.add(server_conn)
        self.busy.discard(server_conn)
        delegate = super().start_request(server_conn, request_conn)
        received = delegate.headers_received

        def headers_received(*args: Any) -> Any:
            self.busy.add(server_conn)
            self.worker.nr += 1
            if self.worker.nr == self.worker.max_requests:
                self.worker.autorestart()
                self.worker.alive = False
            return received(*args)

        delegate.headers_received = headers_received  # type: ignore[method-assign,assignment]
        return delegate

    def on_close(self, server_conn: object) -> None:
        self.open.discard(server_conn)
        self.busy.discard(server_conn)
        super().on_close(server_conn)


def _no_autoreload(*_args: Any, **_kwargs: Any) -> None:
    """In place of ``tornado.autoreload.start``, which would execute the command anew."""
