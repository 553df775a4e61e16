"""``wsgi.file_wrapper`` and ``resp``, the response as ``post_request`` hooks see it."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterable, Iterator

import oxicorn
from oxicorn import util
from oxicorn.http.message import Request
from oxicorn.unused import unused, unused_function

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["FileWrapper", "Response"]

#: The largest piece that Gunicorn gives to sendfile at once.
BLKSIZE = 0x3FFFFFFF


class FileWrapper:
    """PEP 3333's ``wsgi.file_wrapper``: a response made of a file.

    Where the file has a descriptor the gateway sends it with sendfile; else it is read in blocks of
    ``blksize`` bytes.
    """

    def __init__(self, filelike: Any, blksize: int = 8192) -> None:
        self.filelike = filelike
        self.blksize = blksize
        if hasattr(filelike, "close"):
            self.close = filelike.close

    def __iter__(self) -> Iterator[bytes]:
        while data := self.filelike.read(self.blksize):
            yield data

    def __getitem__(self, key: int) -> bytes:
        """The iteration protocol of old: blocks until IndexError."""
        data: bytes = self.filelike.read(self.blksize)
        if data:
            return data
        raise IndexError


@unused(
    "a response leaves through the native module; change it in WSGI middleware, look at it in the "
    "hook post_request",
    "can_sendfile",
    "close",
    "process_headers",
    "send_headers",
    "sendfile",
    "start_response",
    "write",
    "write_file",
)
class Response:
    """``resp`` in hooks, made when the response is over."""

    def __init__(self, req: Any, sock: Any, cfg: Any) -> None:
        self.req = req
        self.sock = sock
        self.cfg = cfg
        #: Value of the ``Server`` header.
        self.version = oxicorn.SERVER
        #: As given to ``start_response``; None if it was not called.
        self.status: str | None = None
        self.status_code: int | None = None
        self.headers: list[tuple[str, str]] = []
        self.headers_sent = False
        #: Body bytes the application produced.
        self.sent = 0
        self.response_length: int | None = None
        #: Seconds in the queue, and with proxies before the server; None where nobody knows.
        self.queue_time: float | None = None
        self.proxy_time: float | None = None
        self._chunked: bool | None = None
        self.must_close = False
        self.upgrade = False

    @property
    def chunked(self) -> bool:
        """Whether the body was sent in chunks."""
        if self._chunked is not None:
            return self._chunked
        return self.status is not None and self.req is not None and AS_MADE.is_chunked(self)

    @chunked.setter
    def chunked(self, value: bool) -> None:
        self._chunked = value

    def force_close(self) -> None:
        """Kept for code written for Gunicorn; connections belong to the gateway."""
        self.must_close = True

    def should_close(self) -> bool:
        """Whether the connection must end because the response has no other end."""
        if self.must_close or self.req.should_close():
            return True
        framed = self.response_length is not None or self.chunked
        return not framed and not self._omits_body()

    def is_chunked(self) -> bool:
        """Whether the body is sent in chunks, its length not being known before."""
        if self.response_length is not None or self.req.version <= (1, 0):
            return False
        return not self._omits_body()

    def _omits_body(self) -> bool:
        code = self.status_code
        without = code is not None and (code < 200 or code in (204, 304))
        return bool(self.req.method == "HEAD" or without)

    def default_headers(self) -> list[str]:
        """The lines a response begins with.

        The gateway writes them; what a subclass or a patch makes of ``Server`` is honoured.
        """
        major, minor = self.req.version
        connection = "close" if self.should_close() else "keep-alive"
        lines = [
            f"HTTP/{major}.{minor} {self.status}\r\n",
            f"Server: {self.version}\r\n",
            f"Date: {util.http_date()}\r\n",
            f"Connection: {'upgrade' if self.upgrade else connection}\r\n",
        ]
        return [*lines, "Transfer-Encoding: chunked\r\n"] if self.chunked else lines


#: The class as it was made, by which it is noticed that somebody has changed the lines.
AS_MADE = Response
AS_MADE_INIT = Response.__init__
DEFAULT_HEADERS = Response.default_headers


def response(
    status: str | None,
    headers: list[tuple[str, str]],
    headers_sent: bool,
    sent: int,
) -> Response:
    """``resp`` for hooks and log lines: of the class in force, whose ``__init__`` is not run."""
    made = Response.__new__(Response)
    AS_MADE.__init__(made, None, None, Request.cfg)
    made.status = status
    made.status_code = int(status[:3]) if status else None
    made.headers = headers
    made.headers_sent = headers_sent
    made.sent = sent
    made.response_length = _content_length(headers)
    return made


def _content_length(headers: list[tuple[str, str]]) -> int | None:
    for name, value in headers:
        if name.lower() == "content-length" and value.isdigit():
            return int(value)
    return None


class ErrorsStream:
    """``wsgi.errors``: goes where the error log goes."""

    def __init__(self, log: Any) -> None:
        self._log = log

    def _streams(self) -> list[Any]:
        handlers = self._log.error_log.handlers
        return [handler.stream for handler in handlers if getattr(handler, "stream", None)]

    def write(self, data: str) -> None:
        """Writes text and flushes it."""
        for stream in self._streams():
            stream.write(data)
            stream.flush()

    def writelines(self, lines: Iterable[str]) -> None:
        """Writes each of the lines."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Does nothing: each write is flushed."""


_ENVIRON = "the environ is made by the native module; change it in WSGI middleware"
base_environ = unused_function(__name__, "base_environ", _ENVIRON)
default_environ = unused_function(__name__, "default_environ", _ENVIRON)
proxy_environ = unused_function(__name__, "proxy_environ", _ENVIRON)
create = unused_function(__name__, "create", _ENVIRON)


class _Module(types.ModuleType):
    """This module: its names of the server are those of the package."""

    @property
    def SERVER(self) -> str:
        return oxicorn.SERVER

    @SERVER.setter
    def SERVER(self, value: str) -> None:
        oxicorn.SERVER = value

    @property
    def SERVER_SOFTWARE(self) -> str:
        return oxicorn.SERVER_SOFTWARE

    @SERVER_SOFTWARE.setter
    def SERVER_SOFTWARE(self, value: str) -> None:
        oxicorn.SERVER_SOFTWARE = value


sys.modules[__name__].__class__ = _Module
