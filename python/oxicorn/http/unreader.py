"""Sources of bytes that can be read ahead and given back, as in Gunicorn's ``http.unreader``.

Nothing here reads requests: that is the gateway's. The classes are for code that uses them by
itself, and ``req.unreader`` in hooks knows the client's address.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["IterUnreader", "SocketUnreader", "Unreader"]


class Unreader:
    """Bytes of a source; subclasses say where the next piece comes from."""

    def __init__(self) -> None:
        self._held = b""

    def chunk(self, size_hint: int | None = None) -> bytes:
        """The next piece; empty at the end."""
        raise NotImplementedError

    def take_buffered(self) -> bytes:
        """What was read ahead, without asking the source."""
        held, self._held = self._held, b""
        return held

    def read(self, size: int | None = None, read_ahead: int | None = None) -> bytes:
        """``size`` bytes, fewer at the end; without a size whatever is there next.

        ``read_ahead`` says how much the caller may want in all.
        """
        if size is not None and not isinstance(size, int):
            raise TypeError("size parameter must be an int or long.")
        if size is None or size < 0:
            return self.take_buffered() or self.chunk(read_ahead)
        while len(self._held) < size:
            piece = self.chunk(max(size, read_ahead or 0) - len(self._held))
            if not piece:
                return self.take_buffered()
            self._held += piece
        data, self._held = self._held[:size], self._held[size:]
        return data

    def unread(self, data: bytes) -> None:
        """Gives bytes back: they are read next."""
        self._held = data + self._held


class SocketUnreader(Unreader):
    """Bytes of a socket."""

    #: The largest piece that is asked for where the caller wants more than ``mxchunk``.
    max_body_chunk = 1024 * 1024

    def __init__(self, sock: Any, max_chunk: int = 8192) -> None:
        super().__init__()
        self.sock = sock
        self.mxchunk = max_chunk

    def chunk(self, size_hint: int | None = None) -> bytes:
        """What the socket has next: up to ``mxchunk`` bytes, or ``size_hint`` if that is more."""
        wanted = max(self.mxchunk, min(size_hint or 0, self.max_body_chunk))
        return bytes(self.sock.recv(wanted))


class IterUnreader(Unreader):
    """Bytes of an iterable."""

    def __init__(self, iterable: Iterable[bytes]) -> None:
        super().__init__()
        self.iter: Iterator[bytes] | None = iter(iterable)

    def chunk(self, size_hint: int | None = None) -> bytes:
        """The next item."""
        piece = next(self.iter, None) if self.iter is not None else None
        if piece is None:
            self.iter = None
        return piece or b""


class _Client:
    """What is known of a client's socket, which the gateway has."""

    def __init__(self, peer_addr: Any) -> None:
        self._peer_addr = peer_addr

    def getpeername(self) -> Any:
        """The client's address."""
        return self._peer_addr

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise AttributeError(
            f"the client's socket has no {name!r} in hooks: the gateway has it; an application "
            "may take it over by environ['gunicorn.socket']"
        )


class RequestUnreader(Unreader):
    """``req.unreader``: nothing is left to be read, the request is complete."""

    def __init__(self, peer_addr: Any) -> None:
        super().__init__()
        self.sock = _Client(peer_addr)

    def chunk(self, size_hint: int | None = None) -> bytes:
        """Nothing."""
        return b""
