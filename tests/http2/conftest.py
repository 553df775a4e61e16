"""A server that speaks HTTP/2 without TLS to whoever begins with it, shared by the tests of a module."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.support.http2 import Http2
from tests.support.server import Kind, Server, Servers
from tests.tls.conftest import pki as pki

#: What each path of the application is for stands beside it.
WSGI = """
    import json, time

    FORBIDDEN = [("Connection", "x-hop"), ("Keep-Alive", "timeout=5"), ("X-Mixed-Case", "Value")]
    seen = []

    def application(environ, start_response):
        path = environ["PATH_INFO"]
        if path == "/seen":  # what came before, by its path
            start_response("200 OK", [("Content-Type", "application/json")])
            return [json.dumps(seen).encode()]
        seen.append(path)
        if path == "/big":  # so many bytes
            size = int(environ["QUERY_STRING"])
            start_response("200 OK", [("Content-Length", str(size))])
            return (b"x" * 10000 if left > 10000 else b"x" * left for left in range(size, 0, -10000))
        if path == "/empty":
            start_response("204 No Content", [])
            return []
        if path == "/unchanged":
            start_response("304 Not Modified", [("ETag", '"a"')])
            return []
        if path == "/fields":  # fields that HTTP/2 does not have
            start_response("200 OK", FORBIDDEN)
            return [b"fields"]
        if path == "/cookies":
            start_response("200 OK", [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("X-Token", "x" * 3000)])
            return [b"cookies"]
        if path == "/unread":  # an answer before the body
            start_response("200 OK", [])
            return [b"unread"]
        body = environ["wsgi.input"].read()
        names = ("REQUEST_METHOD PATH_INFO QUERY_STRING RAW_URI SERVER_PROTOCOL HTTP_HOST HTTP_COOKIE CONTENT_LENGTH"
                 " CONTENT_TYPE HTTP_X_NAME HTTP_TE wsgi.url_scheme").split()
        told = {name: environ.get(name) for name in names} | {"body": len(body), "first": body[:50].decode("latin-1")}
        told["trailers"] = environ.get("oxicorn.trailers")
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(told).encode()]
"""

#: HTTP/2 to a trusted client that begins with it, or that asks for it.
CLEARTEXT = ["--http-protocols", "h2,h1", "--http2-cleartext", "both"]


@pytest.fixture
def oxicorn_only(kind: Kind) -> None:
    if kind.is_gunicorn:
        pytest.skip("Gunicorn answers much of what is malformed in other ways")


@pytest.fixture(scope="module")
def server(serve_module: Servers) -> Server:
    """WSGI in threads, so that streams are served at the same time."""
    return serve_module(WSGI, *CLEARTEXT, "--worker-class", "gthread", "--threads", "4", access_log=True)


@pytest.fixture
def connect(server: Server) -> Iterator[Callable[..., Http2]]:
    """``connect()`` opens a connection that has said hello; all are closed at the end."""
    opened: list[Http2] = []

    def open_one(**options: object) -> Http2:
        opened.append(Http2(server.address, **options))  # type: ignore[arg-type]
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()


@pytest.fixture
def peer(connect: Callable[..., Http2]) -> Http2:
    """One connection."""
    return connect()
