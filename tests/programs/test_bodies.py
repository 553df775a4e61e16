"""``gunicorn.http.body``: bodies as files, told the same as Gunicorn's own classes tell them."""

from __future__ import annotations

from typing import Any

import gunicorn.http.body as theirs
import gunicorn.http.unreader as their_unreader
import pytest

import oxicorn.http.body as ours
import oxicorn.http.unreader as our_unreader
from oxicorn.http import errors


@pytest.fixture(autouse=True)
def only_ours(kind):
    if kind.is_gunicorn:
        pytest.skip("it is compared with itself")


class Request:
    limit_request_field_size = 40
    max_buffer_headers = 60
    trailers = ()

    def parse_headers(self, data: bytes, from_trailer: bool = False) -> list[tuple[str, str]]:
        assert from_trailer
        return [tuple(line.decode().split(": ")) for line in data.split(b"\r\n")]  # type: ignore[misc]


#: What comes, in pieces, and the framing.
SOURCES = {
    "length": ("LengthReader", [b"one\ntwo\n", b"\nthree", b"more"], 12),
    "length that is cut": ("LengthReader", [b"one\ntwo"], 12),
    "no length": ("LengthReader", [b"more"], 0),
    "end": ("EOFReader", [b"one\nt", b"wo\n", b"three"], None),
    "chunks": ("ChunkedReader", [b"4\r\none\n\r", b"\n5;a=b\r\ntwo\n3\r\n0\r\n\r\nmore"], None),
    "trailers": ("ChunkedReader", [b"3\r\none\r\n0\r\nX-One: 1\r\nX-Two: 2\r\n\r\nmore"], None),
    "chunk that is cut": ("ChunkedReader", [b"9\r\none"], None),
    "size that is cut": ("ChunkedReader", [b"3\r\none\r\n9"], None),
    "no size": ("ChunkedReader", [b"one\r\n"], None),
    "negative size": ("ChunkedReader", [b"-3\r\none\r\n0\r\n\r\n"], None),
    "no extension": ("ChunkedReader", [b"3 one\r\none\r\n0\r\n\r\n"], None),
    "no end of a chunk": ("ChunkedReader", [b"3\r\none--0\r\n\r\n"], None),
}
#: Calls of the file.
READS: dict[str, Any] = {
    "read": lambda body: body.read(),
    "read few": lambda body: [body.read(2) for _ in range(9)],
    "lines": lambda body: list(body),
    "readlines": lambda body: body.readlines(),
    "readline few": lambda body: [body.readline(2) for _ in range(9)],
    "read and readline": lambda body: [body.read(1), body.readline(), body.read(3), body.readline()],
}


def told(body: Any, unreader: Any, source: tuple[str, list[bytes], int | None], read: Any) -> Any:
    """What comes out, or the kind of error. (How far it has read ahead by then is each one's own affair.)"""
    name, pieces, length = source
    request, stream = Request(), unreader.IterUnreader(pieces)
    arguments = {"LengthReader": (stream, length), "EOFReader": (stream,), "ChunkedReader": (request, stream)}
    file = body.Body(getattr(body, name)(*arguments[name]))
    try:
        found = read(file)
    except Exception as error:
        return type(error).__name__
    return found


@pytest.mark.parametrize("read", READS.values(), ids=READS)
@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_as_gunicorns(source: Any, read: Any) -> None:
    assert told(ours, our_unreader, source, read) == told(theirs, their_unreader, source, read)


def test_bounds_and_trailers() -> None:
    def reader(data: bytes) -> Any:
        return ours.ChunkedReader(Request(), our_unreader.IterUnreader([data]))

    with pytest.raises(errors.InvalidChunkSize):
        reader(b"0" * 200 + b"\r\n").read(1)
    with pytest.raises(errors.LimitRequestHeaders):
        reader(b"0\r\nX: " + b"x" * 100 + b"\r\n\r\n").read(1)
    chunked = reader(b"3\r\none\r\n0\r\nX-One: 1\r\nX-Two: 2\r\n\r\nmore")
    assert chunked.read(9) == b"one"
    assert chunked.req.trailers == [("X-One", "1"), ("X-Two", "2")]
    assert chunked.unreader.read(9) == b"more"
    assert reader(b"3\r\none").read(0) == b""


@pytest.mark.parametrize("size", ["1", 1.5])
def test_sizes_are_numbers(size: Any) -> None:
    for body in (theirs, ours):
        for reader in (body.EOFReader(our_unreader.IterUnreader([])), body.Body(None)):
            with pytest.raises(TypeError):
                reader.read(size)
