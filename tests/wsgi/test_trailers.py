"""Trailers both ways: what came after a request's body, and what goes after a response's."""

from __future__ import annotations

import json

import pytest

from tests.support.http import encode
from tests.support.server import Kind, Server, Servers

APP = r"""
import json
import tempfile


def application(environ, start_response):
    return globals()[environ["PATH_INFO"].strip("/") or "shows"](environ, start_response)


def shows(environ, start_response):
    body = environ["wsgi.input"].read().decode()
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps([body, environ.get("oxicorn.trailers"), "oxicorn.send_trailers" in environ]).encode()]


def whole(environ, start_response):
    environ.get("oxicorn.send_trailers", lambda trailers: None)([("X-Sum", "42"), ("X-Kind", "whole")])
    start_response("200 OK", [])
    return [b"body"]


def pieces(environ, start_response):
    start_response("200 OK", [])
    yield b"one"
    yield b"two"
    environ["oxicorn.send_trailers"]([("X-Sum", "2")])


def file(environ, start_response):
    stream = tempfile.TemporaryFile()
    stream.write(b"x" * int(environ["QUERY_STRING"]))
    stream.seek(0)
    environ["oxicorn.send_trailers"]([("X-Sum", "2")])
    start_response("200 OK", [])
    return environ["wsgi.file_wrapper"](stream)


def counted(environ, start_response):
    environ["oxicorn.send_trailers"]([("X-Sum", "2")])
    start_response("200 OK", [("Content-Length", "4")])
    return [b"body"]


def bodiless(environ, start_response):
    environ["oxicorn.send_trailers"]([("X-Sum", "2")])
    start_response("204 No Content", [])
    return []


def fails(environ, start_response):
    environ["oxicorn.send_trailers"]([("X-Sum", "2")])
    raise RuntimeError("on purpose")


def refused(environ, start_response):
    found = []
    for name, value in ("Content-Length", "1"), ("Host", "x"), ("a b", "1"), ("X-A", "a\r\nX-B: b"), ("Date", "now"):
        try:
            environ["oxicorn.send_trailers"]([(name, value)])
        except ValueError as error:
            found.append(str(error))
    start_response("200 OK", [])
    return [json.dumps(found).encode()]
"""

TE = [("TE", "trailers"), ("Connection", "TE")]
CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n"


@pytest.fixture(autouse=True)
def oxicorn_only(kind: Kind) -> None:
    if kind.is_gunicorn:
        pytest.skip("the keys are oxicorn's own")


@pytest.fixture(scope="module")
def server(serve_module: Servers) -> Server:
    return serve_module(APP, "--keep-alive", "20")


def test_each_request_has_its_own_trailers(server):
    with server.connect() as peer:
        for end, expected in (
            (b"X-Checksum: abc\r\nx-checksum: def\r\n", [["X-Checksum", "abc"], ["x-checksum", "def"]]),
            (b"", None),
        ):
            peer.send(CHUNKED + end + b"\r\n")
            assert json.loads(peer.answer().body) == ["body", expected, False]


@pytest.mark.parametrize(
    ("target", "trailers"), [("/whole", [("X-Sum", "42"), ("X-Kind", "whole")]), ("/pieces", [("X-Sum", "2")])]
)
def test_trailers_of_a_response(server, target, trailers):
    with server.connect() as peer:
        for _ in range(2):
            answer = peer.get(target, TE)
            assert (answer.status, answer.framing, answer.trailers) == (200, "chunked", trailers)
            assert answer.body in (b"body", b"onetwo")


@pytest.mark.parametrize("size", [100, 300_000])
def test_a_file_has_trailers_as_any_other_body(server, size):
    with server.connect() as peer:
        answer = peer.get(f"/file?{size}", TE)
        assert (answer.body, answer.trailers) == (b"x" * size, [("X-Sum", "2")])


def test_only_who_asks_gets_trailers(server):
    answer = server.get("/whole")
    assert (answer.status, answer.body, answer.trailers) == (200, b"body", [])
    with server.connect() as peer:
        peer.send(encode(target="/", headers=TE, version="1.0"))
        assert json.loads(peer.answer().body)[2] is False
    assert json.loads(server.get("/", TE).body)[2] is True


@pytest.mark.parametrize(("target", "status"), [("/counted", 200), ("/bodiless", 204), ("/fails", 500)])
def test_responses_without_chunks_have_no_trailers(server, target, status):
    with server.connect() as peer:
        answer = peer.get(target, TE)
        assert (answer.status, answer.trailers) == (status, [])
        assert peer.get("/", TE).status == 200, "the connection is as good as before"


def test_head_has_no_trailers(server):
    with server.connect() as peer:
        assert peer.request("HEAD", "/whole", TE).status == 200
        assert peer.get("/whole", TE).body == b"body"


def test_what_cannot_be_a_trailer_is_an_error_of_the_application(server):
    found = json.loads(server.get("/refused", TE).body)
    assert len(found) == 5, found
    assert found[0] == "Content-Length cannot be a trailer: its meaning is needed before the body"


def test_early_hints_may_be_bytes(serve):
    server = serve(
        r"""
        def application(environ, start_response):
            hints = environ["wsgi.early_hints"]
            hints([(b"Link", b"</a.css>; rel=preload"), ("Content-Length", "5")])
            hints([("Link", "</b.css>; rel=preload")])
            refused = 0
            for bad in ("Link\r\nX", "a"), ("Link", "a\r\nX: b"), ("Li nk", "a"):
                try:
                    hints([bad])
                except ValueError:
                    refused += 1
            start_response("200 OK", [])
            return [str(refused).encode()]
        """
    )
    answer = server.get("/")
    assert answer.body == b"3"
    links = [(hint.status, hint.header("link"), hint.header("content-length")) for hint in answer.informational]
    assert links == [(103, "</a.css>; rel=preload", None), (103, "</b.css>; rel=preload", None)]
    assert server.request(version="1.0").informational == []
