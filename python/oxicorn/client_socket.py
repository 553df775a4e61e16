"""The client's socket in the hands of the application (``environ["gunicorn.socket"]``)."""

from __future__ import annotations

import socket
from typing import Any

__all__ = ["ClientSocket", "attributes"]

#: Attributes whose first use takes the connection over from the gateway; others do not exist.
attributes = frozenset(name for name in dir(socket.socket) if not name.startswith("__"))


class ClientSocket(socket.socket):
    """A plain socket that first gives what the gateway had already read from the client."""

    def __init__(self, fileno: int, unread: bytes) -> None:
        super().__init__(fileno=fileno)
        self.setblocking(True)
        self._unread = unread

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        """As ``socket.recv``."""
        if self._unread and bufsize > 0:
            data, rest = self._unread[:bufsize], self._unread[bufsize:]
            if not flags & socket.MSG_PEEK:
                self._unread = rest
            return data
        return super().recv(bufsize, flags)

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        """As ``socket.recv_into``."""
        if self._unread:
            view = memoryview(buffer).cast("B")
            data = self.recv(nbytes or len(view), flags)
            view[: len(data)] = data
            return len(data)
        return super().recv_into(buffer, nbytes, flags)
