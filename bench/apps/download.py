"""Ways of sending more: /page 32 KiB and /large 1 MiB at once, /pieces 100 x 1 KiB from a generator, /small-file 4 KiB,
/file 100 KiB and /large-file 1 MiB by wsgi.file_wrapper (PEP 3333's own recipe where a server offers none)."""

import os
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any

PAGE = b"x" * 32 * 1024
LARGE = b"x" * 1024 * 1024
PIECE = b"x" * 1024
PIECES = 100
FILE_BLOCK = 64 * 1024
FILES = {"/small-file": "BENCH_SMALL_FILE", "/file": "BENCH_FILE", "/large-file": "BENCH_LARGE_FILE"}

StartResponse = Callable[..., Any]


def whole(body: bytes) -> Callable[..., Iterable[bytes]]:
    def answer(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
        return [body]

    return answer


def pieces(environ: dict[str, Any], start_response: StartResponse) -> Iterator[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    for _ in range(PIECES):
        yield PIECE


def read_blocks(file: IO[bytes], block_size: int) -> Iterator[bytes]:
    with file:
        while block := file.read(block_size):
            yield block


def file(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
    stream = open(os.environ[FILES[environ["PATH_INFO"]]], "rb")  # the server closes it
    length = os.fstat(stream.fileno()).st_size
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(length))])
    return environ.get("wsgi.file_wrapper", read_blocks)(stream, FILE_BLOCK)


ROUTES = {"/page": whole(PAGE), "/large": whole(LARGE), "/pieces": pieces, **dict.fromkeys(FILES, file)}


def application(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
    return ROUTES[environ["PATH_INFO"]](environ, start_response)
