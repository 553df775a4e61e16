"""Bodies of messages as files, as in Gunicorn's ``http.body``: the framings, and a file on top.

Nothing here serves: the gateway reads requests, and ``wsgi.input`` is of the native module. The
classes are for code that uses them by itself, on an ``oxicorn.http.unreader``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from oxicorn.http.errors import (
    ChunkMissingTerminator,
    InvalidChunkExtension,
    InvalidChunkSize,
    LimitRequestHeaders,
    NoMoreData,
)

__all__ = ["Body", "ChunkedReader", "EOFReader", "LengthReader"]

#: The largest piece that ``Body`` asks its reader for.
MAX_READ_STEP = 1024 * 1024
#: Bounds where the request says none.
DEFAULT_MAX_CHUNK_SIZE_LINE = 8190
DEFAULT_MAX_TRAILER_SECTION = 8190 * 32

#: RFC 9112 section 7.1: the size, and what may follow it.
CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]+")
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"'
CHUNK_EXT_RE = re.compile(
    rb"(?:[ \t]*;[ \t]*%b(?:[ \t]*=[ \t]*(?:%b|%b))?)*" % (_TOKEN, _TOKEN, _QUOTED)
)


def _checked(size: Any) -> int:
    if not isinstance(size, int):
        raise TypeError("size must be an integral type")
    if size < 0:
        raise ValueError("Size must be positive.")
    return size


class LengthReader:
    """A body of a known length."""

    def __init__(self, unreader: Any, length: int) -> None:
        self.unreader = unreader
        self.length = length

    def read(self, size: int) -> bytes:
        """``size`` bytes, fewer at the end, of the body or of its source."""
        wanted = min(self.length, _checked(size))
        if wanted == 0:
            return b""
        self.length -= wanted
        data: bytes = self.unreader.read(wanted)
        return data


class EOFReader:
    """A body that ends with its source."""

    def __init__(self, unreader: Any) -> None:
        self.unreader = unreader
        self.finished = False

    def read(self, size: int) -> bytes:
        """``size`` bytes, fewer at the end."""
        if _checked(size) == 0 or self.finished:
            return b""
        data: bytes = self.unreader.read(size)
        self.finished = len(data) < size
        return data


class ChunkedReader:
    """A chunked body (RFC 9112 section 7.1), with its trailers for ``req.trailers``."""

    def __init__(self, req: Any, unreader: Any) -> None:
        self.req = req
        self.unreader = unreader
        self.limit_chunk_size_line = (
            getattr(req, "limit_request_field_size", 0) or DEFAULT_MAX_CHUNK_SIZE_LINE
        )
        self.limit_trailer_section = (
            getattr(req, "max_buffer_headers", 0) or DEFAULT_MAX_TRAILER_SECTION
        )
        self._held = b""
        self._pieces: Iterator[bytes] | None = self._chunks()

    def read(self, size: int) -> bytes:
        """``size`` bytes, fewer at the end; an error says what is malformed."""
        _checked(size)
        while len(self._held) < size and self._pieces is not None:
            piece = next(self._pieces, None)
            if piece is None:
                self._pieces = None
            else:
                self._held += piece
        data, self._held = self._held[:size], self._held[size:]
        return data

    def _chunks(self) -> Iterator[bytes]:
        while left := self._chunk_size():
            while left:
                piece = self.unreader.read(min(left, MAX_READ_STEP))
                if not piece:
                    raise NoMoreData
                left -= len(piece)
                yield piece
            end = self.unreader.read(2)
            if end != b"\r\n":
                raise ChunkMissingTerminator(end)
        self._read_trailers()

    def _chunk_size(self) -> int:
        line = self._line(self.limit_chunk_size_line, InvalidChunkSize)
        size = CHUNK_SIZE.match(line)
        if size is None or line[size.end() :].lstrip(b" \t")[:1] not in (b"", b";"):
            raise InvalidChunkSize(line)
        if not CHUNK_EXT_RE.fullmatch(line, size.end()):
            raise InvalidChunkExtension("invalid chunk extension")
        return int(size[0], 16)

    def _read_trailers(self) -> None:
        lines, room = [], self.limit_trailer_section
        while line := self._line(room, _too_long_trailers):
            lines.append(line)
            room -= len(line)
        if lines and hasattr(self.req, "parse_headers"):
            self.req.trailers = self.req.parse_headers(b"\r\n".join(lines), from_trailer=True)

    def _line(self, limit: int, error: Callable[[bytes], Exception]) -> bytes:
        line = bytearray()
        while not line.endswith(b"\r\n"):
            byte = self.unreader.read(1)
            if not byte:
                raise NoMoreData(bytes(line))
            line += byte
            if len(line) > limit + 2:
                raise error(bytes(line))
        return bytes(line[:-2])


def _too_long_trailers(_line: bytes) -> Exception:
    error: Exception = LimitRequestHeaders("limit request trailer section size")
    return error


class Body:
    """A file of what a reader gives."""

    def __init__(self, reader: Any) -> None:
        self.reader = reader
        self._held = b""

    def read(self, size: int | None = None) -> bytes:
        """``size`` bytes, fewer at the end; all there is without a size."""
        wanted = self.getsize(size)
        while len(self._held) < wanted and self._fill(wanted - len(self._held)):
            pass
        data, self._held = self._held[:wanted], self._held[wanted:]
        return data

    def readline(self, size: int | None = None) -> bytes:
        """A line with its end, or as much of it as ``size`` allows."""
        wanted = self.getsize(size)
        seen = 0
        while (end := self._held.find(b"\n", seen)) < 0 and len(self._held) < wanted:
            seen = len(self._held)
            if not self._fill(1024):
                break
        wanted = min(wanted, end + 1 if end >= 0 else len(self._held))
        line, self._held = self._held[:wanted], self._held[wanted:]
        return line

    def readlines(self, size: int | None = None) -> list[bytes]:
        """All lines; ``size`` has no effect, as in Gunicorn."""
        return list(self)

    def __iter__(self) -> Body:
        return self

    def __next__(self) -> bytes:
        if line := self.readline():
            return line
        raise StopIteration

    def getsize(self, size: int | None) -> int:
        """What ``size`` means; None and negative numbers: no bound."""
        if size is None:
            return 2**63
        if not isinstance(size, int):
            raise TypeError("size must be an integral type")
        return size if size >= 0 else 2**63

    def _fill(self, wanted: int) -> bool:
        piece: bytes = self.reader.read(min(wanted, MAX_READ_STEP))
        self._held += piece
        return bool(piece)
