"""The ``sync`` worker class: one request at a time, on the main thread."""

from __future__ import annotations

from oxicorn import _native
from oxicorn.unused import unused
from oxicorn.workers.base import HANDLERS, SERVED, Worker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["SyncWorker"]


@unused(SERVED, *HANDLERS, "is_parent_alive", "run_for_multiple", "run_for_one", "wait")
class SyncWorker(Worker):
    """Serves one request after the other."""

    NOTIFY_PERIOD = 0.0

    def run(self) -> None:
        """Serves on this thread until stopped."""
        self._server.serve()

    def handle_request(self, listener: Any, req: Any, client: Any, addr: Any) -> None:
        """Serves a request: environ, application, response, hooks.

        Called for classes that override it, which go on to it with the ``req`` they were given.
        ``client`` stands for the client's socket, which the gateway has.
        """
        req._handed.serve(req)

    def _make_server(self, context: _native.WorkerContext) -> None:
        assert self.wsgi is not None
        self._server = _native.WsgiServer(context, self.wsgi)
        if self.has_own_notify:
            self._server.call_while_waiting(self.notify, self.notify_period)
        if type(self).handle_request is not HANDLE_REQUEST:
            self._server.hand_requests_to(self._hand_request)

    def _hand_request(self, req: Any) -> None:
        self.handle_request(self.listener_of(req), req, req.unreader.sock, req.peer_addr)


#: As it was made, by which it is noticed that somebody has another.
HANDLE_REQUEST = SyncWorker.handle_request
