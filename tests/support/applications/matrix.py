"""Every kind of application PEP 3333 allows, and every kind it forbids, each under a path of its own.

``/NAME`` calls the application plainly, ``/valid/NAME`` inside ``wsgiref.validate``, which fails the
request if the server breaks a rule of the PEP. ``/state`` tells what ``close`` methods have seen.
"""

from __future__ import annotations

import io
import json
import os
import sys
import tempfile
import time
from wsgiref.validate import validator

TEXT = [("Content-Type", "text/plain")]
CLOSED: list[str] = []


class Iterable:
    """An iterator class with close(), as middleware makes them."""

    def __init__(self, name, items, after=None):
        self.name = name
        self.items = iter(items)
        self.after = after

    def __iter__(self):
        return self

    def __next__(self):
        try:
            return next(self.items)
        except StopIteration:
            if self.after is not None:
                raise self.after from None
            raise

    def close(self):
        CLOSED.append(self.name)


# What PEP 3333 allows.


def returns_list(environ, start_response):
    start_response("200 OK", [*TEXT, ("Content-Length", "6")])
    return [b"one", b"two"]


def returns_tuple(environ, start_response):
    start_response("200 OK", TEXT)
    return (b"one", b"two")


def returns_generator(environ, start_response):
    start_response("200 OK", TEXT)
    yield b"one"
    yield b"two"


def returns_iterator(environ, start_response):
    start_response("200 OK", TEXT)
    return Iterable("returns_iterator", [b"one", b"two"])


def uses_write(environ, start_response):
    write = start_response("200 OK", TEXT)
    write(b"one")
    write(b"two")
    return []


def writes_and_returns(environ, start_response):
    write = start_response("200 OK", [*TEXT, ("Content-Length", "6")])
    write(b"one")
    return [b"two"]


def empty_items(environ, start_response):
    start_response("200 OK", TEXT)
    return [b"", b"one", b"", b"two", b""]


def starts_late(environ, start_response):
    """A generator runs only when the server asks for its first item."""

    def body():
        start_response("200 OK", TEXT)
        yield b"one"
        yield b"two"

    return body()


def starts_after_empty_item(environ, start_response):
    """Nothing may be sent before the first item that is not empty."""

    def body():
        start_response("200 OK", TEXT)
        yield b""
        yield b"onetwo"

    return body()


def replaces_head(environ, start_response):
    start_response("200 OK", [*TEXT, ("Content-Length", "3")])
    try:
        raise ValueError("found out in time")
    except ValueError:
        start_response("200 Replaced", [*TEXT, ("X-Replaced", "yes")], sys.exc_info())
    return [b"onetwo"]


def returns_file(environ, start_response):
    start_response("200 OK", TEXT)
    file = tempfile.TemporaryFile()
    file.write(b"onetwo")
    file.seek(0)
    return environ["wsgi.file_wrapper"](file, 2)


def returns_file_like(environ, start_response):
    """No descriptor behind it: has to be read."""
    start_response("200 OK", TEXT)
    return environ["wsgi.file_wrapper"](io.BytesIO(b"onetwo"), 2)


def reads_input(environ, start_response):
    length = int(environ.get("CONTENT_LENGTH") or 0)
    body = environ["wsgi.input"].read(length) if length else b"onetwo"
    start_response("200 OK", [*TEXT, ("Content-Length", str(len(body)))])
    return [body]


def writes_errors(environ, start_response):
    environ["wsgi.errors"].write("said to wsgi.errors\n")
    environ["wsgi.errors"].writelines(["first of errors\n", "second of errors\n"])
    environ["wsgi.errors"].flush()
    start_response("200 OK", TEXT)
    return [b"onetwo"]


ALLOWED = [
    returns_list,
    returns_tuple,
    returns_generator,
    returns_iterator,
    uses_write,
    writes_and_returns,
    empty_items,
    starts_late,
    starts_after_empty_item,
    replaces_head,
    returns_file,
    returns_file_like,
    reads_input,
    writes_errors,
]


# Answers without a body, or with an empty one.


def empty_counted(environ, start_response):
    start_response("200 OK", [*TEXT, ("Content-Length", "0")])
    return []


def empty_list(environ, start_response):
    start_response("200 OK", TEXT)
    return []


def empty_item(environ, start_response):
    start_response("200 OK", TEXT)
    return [b""]


def empty_generator(environ, start_response):
    start_response("200 OK", TEXT)
    yield from ()


def no_content(environ, start_response):
    start_response("204 No Content", [("X-Kept", "yes")])
    return []


def not_modified(environ, start_response):
    start_response("304 Not Modified", [("ETag", '"1"')])
    return []


EMPTY = [empty_counted, empty_list, empty_item, empty_generator, no_content, not_modified]


def no_content_with_body(environ, start_response):
    start_response("204 No Content", [("Content-Length", "6")])
    return [b"onetwo"]


def not_modified_with_body(environ, start_response):
    start_response("304 Not Modified", [("Content-Length", "6")])
    return Iterable("not_modified_with_body", [b"onetwo"])


def big(environ, start_response):
    size = int(environ["QUERY_STRING"] or 1 << 20)
    start_response("200 OK", [*TEXT, ("Content-Length", str(size))])
    return [b"x" * size]


def big_generator(environ, start_response):
    start_response("200 OK", TEXT)
    for number in range(int(environ["QUERY_STRING"] or 100)):
        yield b"%06d" % number * 2000


def big_piece(environ, start_response):
    start_response("200 OK", TEXT)
    yield b"x" * int(environ["QUERY_STRING"])


def big_head(environ, start_response):
    start_response("200 OK", [*TEXT, ("X-Padding", "x" * int(environ["QUERY_STRING"]))])
    return [b"hello"]


# Content-Length that does not match.


def too_long(environ, start_response):
    start_response("200 OK", [*TEXT, ("Content-Length", "3")])
    return [b"on", b"etwo", b"more"]


def too_short(environ, start_response):
    start_response("200 OK", [*TEXT, ("Content-Length", "60")])
    return Iterable("too_short", [b"onetwo"])


def too_short_written(environ, start_response):
    start_response("200 OK", [*TEXT, ("Content-Length", "60")])(b"onetwo")
    return []


# Errors.


def raises_at_once(environ, start_response):
    raise RuntimeError("raised at once")


def raises_after_start(environ, start_response):
    start_response("200 OK", TEXT)
    raise RuntimeError("raised after start_response")


def raises_in_first_item(environ, start_response):
    start_response("200 OK", TEXT)
    return Iterable("raises_in_first_item", [], RuntimeError("raised in the first item"))


def raises_after_empty_item(environ, start_response):
    start_response("200 OK", TEXT)
    return Iterable("raises_after_empty_item", [b""], RuntimeError("raised after an empty item"))


def raises_in_body(environ, start_response):
    start_response("200 OK", TEXT)
    return Iterable("raises_in_body", [b"one"], RuntimeError("raised in the body"))


def raises_in_counted_body(environ, start_response):
    start_response("200 OK", [*TEXT, ("Content-Length", "60")])
    return Iterable("raises_in_counted_body", [b"one"], RuntimeError("raised in the counted body"))


def replaces_sent_head(environ, start_response):
    write = start_response("200 OK", TEXT)
    write(b"one")
    try:
        raise ValueError("found out too late")
    except ValueError:
        start_response("500 Too Late", TEXT, sys.exc_info())
    return [b"never"]


def starts_twice(environ, start_response):
    start_response("200 OK", TEXT)
    start_response("201 Created", TEXT)
    return [b"never"]


def never_starts(environ, start_response):
    return [b"never"]


def returns_none(environ, start_response):
    start_response("200 OK", TEXT)


def returns_text(environ, start_response):
    start_response("200 OK", TEXT)
    return ["text, not bytes"]


def writes_text(environ, start_response):
    start_response("200 OK", TEXT)("text, not bytes")
    return []


BROKEN = [
    raises_at_once,
    raises_after_start,
    raises_in_first_item,
    starts_twice,
    never_starts,
    returns_none,
    returns_text,
    writes_text,
]

BAD_HEADS = {
    "status-without-code": ("OK", TEXT),
    "status-two-digits": ("20 OK", TEXT),
    "status-four-digits": ("2000 OK", TEXT),
    "status-number": (200, TEXT),
    "status-bytes": (b"200 OK", TEXT),
    "status-newline": ("200 OK\r\nX-Injected: yes", TEXT),
    "status-control": ("200 O\x00K", TEXT),
    "name-space": ("200 OK", [("X Bad", "1")]),
    "name-empty": ("200 OK", [("", "1")]),
    "name-colon": ("200 OK", [("X-Bad:", "1")]),
    "name-newline": ("200 OK", [("X-Bad\r\nX-Injected", "1")]),
    "name-not-ascii": ("200 OK", [("X-B\xe4d", "1")]),
    "name-bytes": ("200 OK", [(b"X-Bad", "1")]),
    "value-newline": ("200 OK", [("X-Bad", "1\r\nX-Injected: yes")]),
    "value-bare-lf": ("200 OK", [("X-Bad", "1\nX-Injected: yes")]),
    "value-nul": ("200 OK", [("X-Bad", "1\x00")]),
    "value-not-latin-1": ("200 OK", [("X-Bad", "\u20ac")]),
    "value-bytes": ("200 OK", [("X-Bad", b"1")]),
    "value-number": ("200 OK", [("X-Bad", 1)]),
}


def bad_head(environ, start_response):
    status, headers = BAD_HEADS[environ["QUERY_STRING"]]
    start_response(status, headers)
    return [b"never"]


def raises_stop_iteration(environ, start_response):
    """How libraries that took over the socket say that there is nothing to answer."""
    raise StopIteration


def odd_headers(environ, start_response):
    start_response(
        "299 Something Else",
        [
            ("content-type", "text/plain"),
            ("Set-Cookie", "a=1"),
            ("X-Between", "  padded\t"),
            ("Set-Cookie", "b=2"),
            ("X-Latin", "caf\xe9"),
            ("X-Empty", ""),
        ],
    )
    return [b"onetwo"]


def hop_by_hop(environ, start_response):
    start_response(
        "200 OK",
        [
            *TEXT,
            ("Connection", "close"),
            ("Keep-Alive", "timeout=99"),
            ("Proxy-Authenticate", "Basic"),
            ("TE", "trailers"),
            ("Trailers", "X-Later"),
            ("Transfer-Encoding", "gzip"),
            ("Upgrade", "h2c"),
            ("Server", "mine"),
            ("Date", "yesterday"),
            ("X-Kept", "yes"),
        ],
    )
    return [b"onetwo"]


# Files.


def file_options(environ, start_response):
    """QUERY_STRING: size of the file, where to start, Content-Length (or -), block size."""
    size, start, length, block = environ["QUERY_STRING"].split(",")
    file = tempfile.NamedTemporaryFile()
    file.write(os.urandom(0) + bytes(number % 251 for number in range(int(size))))
    file.seek(int(start))
    headers = [("Content-Type", "application/octet-stream")]
    if length != "-":
        headers.append(("Content-Length", length))
    start_response("200 OK", headers)
    wrapper = environ["wsgi.file_wrapper"](file, int(block))
    original = file.close
    wrapper.close = lambda: (CLOSED.append("file_options"), original())[1]
    return wrapper


def pipe_as_file(environ, start_response):
    """It has a descriptor, but no size and no position."""
    reader, writer = os.pipe()
    os.write(writer, b"onetwo")
    os.close(writer)
    start_response("200 OK", TEXT)
    return environ["wsgi.file_wrapper"](os.fdopen(reader, "rb"))


# Timing.


def waits_for_file(environ, start_response):
    """Goes on with its body when the file named in the query exists."""
    start_response("200 OK", TEXT)
    yield b"one"
    end = time.monotonic() + 15
    while not os.path.exists(environ["QUERY_STRING"]) and time.monotonic() < end:
        time.sleep(0.005)
    yield b"two"


def endless(environ, start_response):
    start_response("200 OK", TEXT)

    def items():
        while True:
            yield b"x" * 65536

    return Iterable("endless", items())


def early_hints(environ, start_response):
    environ["wsgi.early_hints"]([("Link", "</style.css>; rel=preload")])
    environ["wsgi.early_hints"]([("Link", "</script.js>; rel=preload"), ("X-Second", "yes")])
    start_response("200 OK", [*TEXT, ("Content-Length", "6")])
    return [b"onetwo"]


def late_hints(environ, start_response):
    start_response("200 OK", [*TEXT, ("Content-Length", "6")])
    yield b"one"
    environ["wsgi.early_hints"]([("Link", "</late.css>; rel=preload")])
    yield b"two"


# What the server gives.


def shows_environ(environ, start_response):
    shown = {key: value for key, value in environ.items() if isinstance(value, (str, bool, int, tuple))}
    shown["types"] = {key: type(value).__name__ for key, value in environ.items()}
    body = json.dumps(shown).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


def reads_as_told(environ, start_response):
    """Runs the calls named in the query on wsgi.input: ``read:3,readline:,list:``."""
    source = environ["wsgi.input"]
    results = []
    for call in environ["QUERY_STRING"].split(","):
        method, _, argument = call.partition(":")
        args = [] if argument == "" else [None if argument == "none" else int(argument)]
        found = list(source) if method == "list" else getattr(source, method)(*args)
        assert isinstance(found, (bytes, list)), type(found)
        results.append(found.decode("latin-1") if isinstance(found, bytes) else [x.decode("latin-1") for x in found])
    body = json.dumps(results).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


def ignores_input(environ, start_response):
    start_response("200 OK", [*TEXT, ("Content-Length", "6")])
    return [b"onetwo"]


def measures_input(environ, start_response):
    """Length and checksum of the body, read in pieces."""
    import zlib

    length = checksum = 0
    while data := environ["wsgi.input"].read(65536):
        length += len(data)
        checksum = zlib.crc32(data, checksum)
    body = json.dumps([length, checksum, environ.get("CONTENT_LENGTH")]).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


def state(environ, start_response):
    body = json.dumps({"closed": CLOSED, "pid": os.getpid()}).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


def hello(environ, start_response):
    start_response("200 OK", [*TEXT, ("Content-Length", "5")])
    return [b"hello"]


def application(environ, start_response):
    name = environ["PATH_INFO"].strip("/")
    wrapped = name.startswith("valid/")
    app = globals()[name.removeprefix("valid/") or "hello"]
    return (validator(app) if wrapped else app)(environ, start_response)
