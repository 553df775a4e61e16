"""The ``gthread`` worker class: ``threads`` requests at a time.

The main thread waits for signals, which Python runs there, and for requests to need another thread;
the pool's threads serve.
"""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

from oxicorn import _native
from oxicorn.unused import unused
from oxicorn.workers.base import HANDLERS, SERVED, Worker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["ThreadWorker"]


@unused(
    SERVED,
    *HANDLERS,
    "enqueue_req",
    "finish_request",
    "get_thread_pool",
    "handle_h2c_upgrade",
    "handle_http2",
    "handle_http2_request",
    "is_parent_alive",
    "murder_keepalived",
    "murder_pending",
    "on_client_socket_readable",
    "on_pending_socket_readable",
    "set_accept_enabled",
    "wait_for_and_dispatch_events",
)
class ThreadWorker(Worker):
    """Serves on a pool of threads."""

    def run(self) -> None:
        """Starts threads as they are needed, waits for the end, gives them ``graceful_timeout``."""
        pool: list[threading.Thread] = []
        self.serving_threads = pool
        self._start_thread(pool)
        while self._server.wait_for_thread():
            self._start_thread(pool)
        deadline = time.monotonic() + self.cfg.graceful_timeout
        for thread in pool:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _start_thread(self, pool: list[threading.Thread]) -> None:
        thread = threading.Thread(target=self._serve, name=f"gthread-{len(pool)}", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            if not pool:
                raise
            count = self._server.settle_for_fewer_threads()
            self.log.warning("threads: it stays with %s of %s: %s", count, self.cfg.threads, error)
        else:
            pool.append(thread)

    def handle_request(self, req: Any, conn: Any) -> bool:
        """Serves a request: environ, application, response, hooks.

        Called for classes that override it, which go on to it with the ``req`` they were given.
        ``conn`` has ``client`` and ``server``, the addresses, and ``sock``, which stands for the
        client's socket. What is returned, whether to keep the connection, is the gateway's affair.
        """
        req._handed.serve(req)
        return True

    def _make_server(self, context: _native.WorkerContext) -> None:
        assert self.wsgi is not None
        self._server = _native.WsgiServer(context, self.wsgi)
        if self.has_own_notify:
            self._server.call_while_waiting(self.notify, self.notify_period)
        if type(self).handle_request is not HANDLE_REQUEST:
            self._server.hand_requests_to(self._hand_request)

    def _hand_request(self, req: Any) -> None:
        listener = self.listener_of(req)
        server = listener.getsockname() if listener is not None else None
        conn = SimpleNamespace(
            cfg=self.cfg, sock=req.unreader.sock, client=req.peer_addr, server=server
        )
        self.handle_request(req, conn)

    def _serve(self) -> None:
        # Threads of the application inherit it: they are waited for at the end, as in Gunicorn,
        # while one of the pool that does not come back is not.
        threading.current_thread()._daemonic = False  # type: ignore[attr-defined]
        self._server.serve()


#: As it was made, by which it is noticed that somebody has another.
HANDLE_REQUEST = ThreadWorker.handle_request
