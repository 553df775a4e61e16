"""The ``gevent`` classes: a greenlet for each request, or for each connection.

``GeventWorker`` takes its requests over the link, as the other classes do: the native module reads
them when the link's doorbell wakes the hub, and starts greenlets. A class with a ``server_class``
(``GeventPyWSGIWorker``) serves by gevent's own server and accepts connections itself, see
``oxicorn.workers.gevent_server``. The standard library is patched in the worker, or in the template
where the application is loaded there, before the application is.
"""

from __future__ import annotations

import contextlib
import sys
import time
import traceback
from types import FrameType
from typing import TYPE_CHECKING, Any, ClassVar

try:
    import gevent
    from gevent import event, hub, monkey
except ImportError as error:
    raise RuntimeError(f"{error}: worker class gevent needs the package gevent") from error

from oxicorn import _native, forked
from oxicorn.reloader import ReloaderBase
from oxicorn.workers import gevent_server
from oxicorn.workers.base import DIRECT
from oxicorn.workers.base_async import HANDLE_REQUEST, AsyncWorker
from oxicorn.workers.gevent_server import PyWSGIHandler, PyWSGIServer

if TYPE_CHECKING:
    from oxicorn.config import Config

__all__ = ["GeventPyWSGIWorker", "GeventWorker", "PyWSGIHandler", "PyWSGIServer"]

#: Seconds that requests beyond ``graceful_timeout`` have to notice their end.
LAST_WORD = 1.0
#: ``greenlet`` waits to be read: gevent's ``READ``.
READ = 1


class GeventWorker(AsyncWorker):
    """Serves WSGI in greenlets, at most ``worker_connections`` requests at a time."""

    #: A server of one's own, of gevent's kind; with one the class accepts connections itself.
    server_class: ClassVar[Any] = None
    wsgi_handler: ClassVar[Any] = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._main: Any = None
        self._doorbell: Any = None

    @classmethod
    def prepare_process(cls) -> None:
        """Patches the standard library."""
        monkey.patch_all()

    @classmethod
    def check_config(cls, cfg: Config, log: Any) -> None:
        """Says which hooks gevent's server does not call."""
        if cls.server_class is None:
            return
        for hook in ("pre_request", "post_request"):
            if cfg.native.is_set(hook):
                log.warning("%s is not called with worker class gevent_pywsgi", hook)

    def patch(self) -> None:
        """Patches the standard library, and makes gevent's sockets of the listeners."""
        self.prepare_process()
        if self.cfg.chosen.kind == DIRECT:
            self.sockets = gevent_server.cooperative(self.sockets)

    def init_process(self) -> None:
        """Patches first of all."""
        self._main = gevent.getcurrent()
        self.patch()
        hub.reinit()
        super().init_process()

    def _make_reloader(self) -> None:
        """Its thread is a greenlet here, so what blocks is done by a thread of the hub's pool."""
        super()._make_reloader()
        if isinstance(self.reloader, ReloaderBase):
            self.reloader.call_waiting = gevent.get_hub().threadpool.apply

    def run(self) -> None:
        """Serves until stopped, then at most ``graceful_timeout`` what is in hand."""
        if self.cfg.chosen.kind == DIRECT:
            gevent_server.serve(self)
        else:
            self._serve()

    def _serve(self) -> None:
        assert self.context is not None
        this_hub, news = gevent.get_hub(), event.Event()
        self.context.name_greenlets(gevent.getcurrent)
        server = self._server
        self._doorbell = watcher = this_hub.loop.io(server.fileno(), READ)
        watcher.start(server.wake)
        server.begin(news.set)
        try:
            while self.alive:
                # Between two signs of life that somebody wants to give.
                news.wait(self.notify_period if self.has_own_notify else None)
                news.clear()
                if self.has_own_notify:
                    self.notify()
            self._drain(self.context, server, news)
        finally:
            watcher.stop()
            watcher.close()
            server.end()

    def _drain(
        self, context: _native.WorkerContext, server: _native.GeventServer, news: event.Event
    ) -> None:
        """Serves until the worker is released and nothing is left, or the time is over."""
        until = time.monotonic() + self.cfg.graceful_timeout
        while (context.serving() or server.active()) and time.monotonic() < until:
            news.wait(until - time.monotonic())
            news.clear()
        context.stop()
        if server.active():
            self.log.warning("Worker graceful timeout (pid:%s)", self.pid)
            server.cancel_all()
        until = time.monotonic() + LAST_WORD
        while server.active() and time.monotonic() < until:
            news.wait(until - time.monotonic())
            news.clear()

    def _make_server(self, context: _native.WorkerContext) -> None:
        assert self.wsgi is not None
        self._server = _native.GeventServer(context, self.wsgi, gevent.get_hub())
        if type(self).handle_request is not HANDLE_REQUEST:
            self._server.hand_requests_to(self._hand_request)

    def forked(self) -> None:
        """In a process that the application forked: the hub has copies of all greenlets.

        The process ends where the one that forked comes back to the server. A copy of another that
        does so before, because its timer came, waits for ever; the doorbell is the parent's.
        """
        super().forked()
        if self._doorbell is not None:
            self._doorbell.stop()
        forker = gevent.getcurrent()

        def stand_aside() -> None:
            if gevent.getcurrent() is not forker:
                gevent.get_hub().switch()

        forked.before_end.append(stand_aside)

    def count(self) -> None:
        """A request of gevent's own server begins."""
        self.nr += 1
        if self.nr == self.max_requests:
            self.autorestart()
            self.alive = False

    def request_expired(self, greenlet: Any) -> None:
        """A request is older than ``timeout``: logs where its greenlet waits, and ends that."""
        if self.aborted:
            return  # The stacks of all that runs are in the log.
        stack = "".join(traceback.format_stack(greenlet.gr_frame)).rstrip()
        self.log.error("Stack of the request that timed out:\n%s", stack)
        if greenlet is not gevent.getcurrent():
            greenlet.kill(block=False)

    def handle_quit(self, sig: int, frame: FrameType | None) -> None:
        """SIGQUIT, SIGINT: in a greenlet, where waiting is allowed."""
        gevent.spawn(super().handle_quit, sig, frame)

    def handle_abort(self, sig: int, frame: FrameType | None) -> None:
        """SIGABRT: in whatever greenlet stands still, which cannot catch the process's end."""
        with contextlib.suppress(SystemExit):
            super().handle_abort(sig, frame)
        if self._main is None:
            sys.exit(1)
        self._main.throw(SystemExit(1))

    def handle_usr1(self, sig: int, frame: FrameType | None) -> None:
        """SIGUSR1: in a greenlet, where waiting is allowed."""
        gevent.spawn(super().handle_usr1, sig, frame)


class GeventPyWSGIWorker(GeventWorker):
    """Serves by gevent's own server, on connections it accepts itself."""

    server_class = PyWSGIServer
    wsgi_handler = PyWSGIHandler
