"""``AsyncWorker``: what Gunicorn's classes that serve many WSGI requests at a time derive from.

Here that is ``GeventWorker`` alone. A class of somebody else's that derives from ``AsyncWorker``
has a server of its own, and speaks HTTP by its own means: what Gunicorn's ``handle()`` does with a
connection is the gateway's.
"""

from __future__ import annotations

from oxicorn.unused import unused
from oxicorn.workers.base import HANDLERS, SERVED, Worker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = ["ALREADY_HANDLED", "AsyncWorker"]


class _AlreadyHandled:
    """What an application returns that has answered on the client's socket itself."""

    def __iter__(self) -> Iterator[bytes]:
        return iter(())

    def __repr__(self) -> str:
        return "ALREADY_HANDLED"


ALREADY_HANDLED = _AlreadyHandled()


@unused(
    SERVED,
    *HANDLERS,
    "handle_http2",
    "handle_http2_request",
    "is_already_handled",
    "timeout_ctx",
)
class AsyncWorker(Worker):
    """Base of classes that serve at most ``worker_connections`` requests at a time."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.worker_connections = self.cfg.worker_connections

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> None:
        """Serves a request, as that of ``SyncWorker``; ``listener_name`` is an address."""
        req._handed.serve(req)

    def _hand_request(self, req: Any) -> None:
        listener = self.listener_of(req)
        name = listener.getsockname() if listener is not None else None
        self.handle_request(name, req, req.unreader.sock, req.peer_addr)


#: As it was made, by which it is noticed that somebody has another.
HANDLE_REQUEST = AsyncWorker.handle_request
