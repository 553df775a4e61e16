"""``wsgi.file_wrapper`` and ``resp``, the response as ``post_request`` hooks see it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

__all__ = ["FileWrapper", "Response"]


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


class Response:
    """Made for hooks only, when the response is over."""

    def __init__(
        self, status: str | None, headers: list[tuple[str, str]], headers_sent: bool, sent: int
    ) -> None:
        #: As given to ``start_response``; None if it was not called.
        self.status = status
        self.status_code = int(status[:3]) if status else None
        self.headers = headers
        self.headers_sent = headers_sent
        #: Body bytes the application produced.
        self.sent = sent
        self.response_length = _content_length(headers)
        self.chunked = False
        self.must_close = False


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
