"""The ``sync`` worker class: one request at a time, on the main thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from oxicorn.unused import unused
from oxicorn.workers.base import HANDLERS, SERVED, Worker

if TYPE_CHECKING:
    from oxicorn import _native

__all__ = ["SyncWorker"]


@unused(SERVED, *HANDLERS, "is_parent_alive", "run_for_multiple", "run_for_one", "wait")
class SyncWorker(Worker):
    """Serves one request after the other."""

    NOTIFY_PERIOD = 0.0

    def run(self) -> None:
        """Serves on this thread until stopped."""
        assert self.context is not None
        self.context.serve()

    def handle_request(self, listener: Any, req: Any, client: Any, addr: Any) -> None:
        """Serves a request: environ, application, response, hooks.

        Called for classes that override it, which go on to it with the ``req`` they were given.
        ``client`` stands for the client's socket, which the gateway has.
        """
        req._handed.serve(req)

    def _honour_overrides(self, context: _native.WorkerContext) -> None:
        super()._honour_overrides(context)
        if type(self).handle_request is not HANDLE_REQUEST:
            context.hand_requests_to(self._hand_request)

    def _hand_request(self, req: Any) -> None:
        self.handle_request(self.listener_of(req), req, req.unreader.sock, req.peer_addr)


#: As it was made, by which it is noticed that somebody has another.
HANDLE_REQUEST = SyncWorker.handle_request
