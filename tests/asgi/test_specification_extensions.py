"""ASGI's extensions: each sentence that binds a server offering one has a test. The first words name its section."""

from __future__ import annotations

import asyncio
import os
import threading

import pytest

from tests.asgi.conftest import KEEP_ALIVE
from tests.support.applications.asgi_cases import answer, note, raised, start
from tests.support.http import ConnectionLost
from tests.support.wait import wait_for

CONTENT = bytes(range(256)) * 1000


@pytest.fixture(scope="module")
def server(loop, worker, serve_module):
    """A server that offers all of them."""
    flags = ("--asgi-loop", loop, "--asgi-file-extensions", *KEEP_ALIVE)
    return serve_module(None, *worker, *flags, spec="asgi_cases")


@pytest.fixture
def file(server):
    """A file beside the application, which knows it as `data.bin`."""
    path = server.directory / "data.bin"
    path.write_bytes(CONTENT)
    return path


@pytest.mark.parametrize(
    "name",
    ["http.response.pathsend", "http.response.zerocopysend", "http.response.early_hint", "http.response.trailers"],
)
def test_offered(define, name):
    """Each extension: an entry of its name, here an empty dict."""

    async def application(scope, receive, send):
        note(extensions=scope["extensions"])
        await answer(send)

    case = define(application)
    case.get()
    assert case.note("extensions")[name] == {}


def test_not_offered(define):
    """Debug: servers should not implement it. HTTP/2 Server Push: there is none in HTTP/1.1. TLS: only with TLS."""

    async def application(scope, receive, send):
        note(extensions=scope["extensions"])
        note(raised=await raised(send({"type": "http.response.debug", "info": {}})))
        await answer(send)

    case = define(application)
    case.get()
    assert not {"http.response.debug", "http.response.push", "tls"} & case.note("extensions").keys()
    assert case.note("raised") is not None


# Path Send


@pytest.mark.parametrize("length", [True, False])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_pathsend(define, file, length, version):
    """Path Send: the file as the body, framed by the headers the application sent."""

    async def application(scope, receive, send):
        import os

        headers = [(b"content-length", b"%d" % os.path.getsize("data.bin"))] if scope["query_string"] else []
        await start(send, 200, headers)
        await send({"type": "http.response.pathsend", "path": os.path.abspath("data.bin")})

    found = define(application).request("GET", "?length" if length else "", version=version)
    assert found.body == CONTENT
    assert found.framing == ("length" if length else {"1.0": "close", "1.1": "chunked"}[version])


def test_pathsend_for_head(define, file):
    """Path Send: behaves as an ordinary body, which HEAD does not have."""

    async def application(scope, receive, send):
        import os

        await start(send, 200, [(b"content-length", b"256000")])
        await send({"type": "http.response.pathsend", "path": os.path.abspath("data.bin")})

    case = define(application)
    with case.server.connect() as peer:
        assert peer.request("HEAD", case.target).header("content-length") == "256000"
        assert peer.get("/").body == b"hello"


def test_pathsend_ends_the_answer(define, file):
    """Path Send: once in an answer, which it completes."""

    async def application(scope, receive, send):
        import os

        await start(send, 200, [(b"content-length", b"256000")])
        await send({"type": "http.response.pathsend", "path": os.path.abspath("data.bin")})
        event = await receive()
        while event["type"] != "http.disconnect":
            event = await receive()
        note(ended=True)

    case = define(application)
    with case.server.connect() as peer:
        assert peer.get(case.target).body == CONTENT
        assert peer.get("/").body == b"hello"
        assert case.note("ended")


def test_pathsend_is_sent_once(define, file):
    """Path Send: once in an answer; what comes behind it is not sent."""

    async def application(scope, receive, send):
        import os

        event = {"type": "http.response.pathsend", "path": os.path.abspath("data.bin")}
        await start(send)
        await send(event)
        await raised(send(event))
        await raised(send({"type": "http.response.body", "body": b"more"}))
        note(ended=True)

    case = define(application)
    with case.server.connect() as peer:
        assert peer.get(case.target).body == CONTENT
        assert case.note("ended")
        assert peer.get("/").body == b"hello"


def test_pathsend_comes_after_the_start(define, file):
    """Path Send: any time after the start, not before it."""

    async def application(scope, receive, send):
        import os

        note(raised=await raised(send({"type": "http.response.pathsend", "path": os.path.abspath("data.bin")})))
        await answer(send)

    case = define(application)
    assert case.get().body == b"done"
    assert case.note("raised") is not None


@pytest.mark.parametrize("path", [None, 5, b"data.bin", "/no/such/file", "/"])
def test_pathsend_of_what_is_no_file_raises(define, path):
    """Path Send: `path` is text and names a file; Error Handling: what is wrong raises out of send."""

    async def application(scope, receive, send):
        path = eval(dict(scope["headers"])[b"x-path"].decode())
        await start(send)
        note(raised=await raised(send({"type": "http.response.pathsend", "path": path})))
        await send({"type": "http.response.body", "body": b"instead"})

    case = define(application)
    assert case.get(headers=[("X-Path", repr(path))]).body == b"instead"
    assert case.note("raised") is not None


# Zero Copy Send


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, CONTENT),
        ({"offset": 1000}, CONTENT[1000:]),
        ({"count": 500}, CONTENT[:500]),
        ({"offset": 100, "count": 70_000}, CONTENT[100:70_100]),
        ({"offset": 255_990, "count": 10}, CONTENT[-10:]),
        ({"offset": 0, "count": 0}, b""),
    ],
    ids=str,
)
def test_zerocopysend(define, file, arguments, expected):
    """Zero Copy Send: from `offset` or the current position, `count` bytes or to the end."""

    async def application(scope, receive, send):
        await start(send)
        with open("data.bin", "rb") as file:
            arguments = eval(dict(scope["headers"])[b"x-arguments"].decode())
            await send({"type": "http.response.zerocopysend", "file": file, **arguments})

    assert define(application).get(headers=[("X-Arguments", repr(arguments))]).body == expected


def test_zerocopysend_reads_from_the_current_position(define, file):
    """Zero Copy Send: without an offset, from where the file stands."""

    async def application(scope, receive, send):
        await start(send)
        with open("data.bin", "rb", buffering=0) as file:
            file.seek(250_000)
            await send({"type": "http.response.zerocopysend", "file": file})

    assert define(application).get().body == CONTENT[250_000:]


def test_zerocopysend_mixes_with_bodies(define, file):
    """Zero Copy Send: several times, and between ordinary bodies; the order is kept."""

    async def application(scope, receive, send):
        await start(send)
        await send({"type": "http.response.body", "body": b"[", "more_body": True})
        with open("data.bin", "rb", buffering=0) as file:
            event = {"type": "http.response.zerocopysend", "file": file, "count": 1000, "more_body": True}
            await send({**event, "offset": 0})
            await send({"type": "http.response.body", "body": b"|", "more_body": True})
            await send({**event, "offset": 5000})
        await send({"type": "http.response.body", "body": b"]"})

    found = define(application).get()
    assert found.body == b"[" + CONTENT[:1000] + b"|" + CONTENT[5000:6000] + b"]"


def test_zerocopysend_does_not_close_the_file(define, file):
    """Zero Copy Send: closing is the application's affair; the answer is complete without `more_body`."""

    async def application(scope, receive, send):
        import os

        await start(send, 200, [(b"content-length", b"256000")])
        with open("data.bin", "rb") as file:
            await send({"type": "http.response.zerocopysend", "file": file})
            note(open=os.fstat(file.fileno()).st_size)

    case = define(application)
    with case.server.connect() as peer:
        assert peer.get(case.target).body == CONTENT
        assert peer.get("/").body == b"hello"
    assert case.note("open") == len(CONTENT)


@pytest.mark.parametrize("file", ["None", "'data.bin'", "__import__('io').BytesIO(b'x')"])
def test_zerocopysend_of_what_has_no_descriptor_raises(define, file):
    """Zero Copy Send: an object with a descriptor of the operating system."""

    async def application(scope, receive, send):
        await start(send)
        file = eval(dict(scope["headers"])[b"x-file"].decode())
        note(raised=await raised(send({"type": "http.response.zerocopysend", "file": file})))
        await send({"type": "http.response.body", "body": b"instead"})

    case = define(application)
    assert case.get(headers=[("X-File", file)]).body == b"instead"
    assert case.note("raised") is not None


# Early Hints


def test_early_hint(define):
    """Early Hints: an informational response with the links, after the start and before the end, several times."""

    async def application(scope, receive, send):
        await start(send, 200, [(b"x-final", b"yes")])
        await send({"type": "http.response.early_hint", "links": [b"</a.css>; rel=preload", b"</b.js>; rel=preload"]})
        await send({"type": "http.response.early_hint", "links": iter([b"</c.png>; rel=preload"])})
        await send({"type": "http.response.body", "body": b"done"})

    found = define(application).get()
    assert (found.status, found.body, found.header("x-final")) == (200, b"done", "yes")
    assert [hint.status for hint in found.informational] == [103, 103]
    links = [link.strip() for hint in found.informational for value in hint.all("link") for link in value.split(",")]
    assert links == ["</a.css>; rel=preload", "</b.js>; rel=preload", "</c.png>; rel=preload"]


def test_early_hint_comes_early(define):
    """Early Hints: the client has it before the answer is made."""

    async def application(scope, receive, send):
        import os

        await start(send)
        await send({"type": "http.response.early_hint", "links": [b"</a.css>; rel=preload"]})
        while not os.path.exists("hint-seen"):
            await asyncio.sleep(0.005)
        await send({"type": "http.response.body", "body": b"done"})

    case = define(application)
    with case.server.connect() as peer:
        peer.send(f"GET {case.target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert peer.head().status == 103
        (case.server.directory / "hint-seen").touch()
        assert peer.answer().body == b"done"
    (case.server.directory / "hint-seen").unlink()


def test_early_hint_is_not_sent_to_http_1_0(define):
    """Early Hints: the server may ignore it; RFC 9110, 15.2 forbids 1xx to HTTP/1.0 clients."""

    async def application(scope, receive, send):
        await start(send)
        await send({"type": "http.response.early_hint", "links": [b"</a.css>; rel=preload"]})
        await send({"type": "http.response.body", "body": b"done"})

    found = define(application).request("GET", version="1.0")
    assert (found.body, found.informational) == (b"done", [])


@pytest.mark.parametrize("links", [None, ["text"], [b"split\r\nX-Injected: yes"]])
def test_malformed_early_hint_raises(define, links):
    """Early Hints: `links` are byte strings; Error Handling: what is wrong raises out of send."""

    async def application(scope, receive, send):
        await start(send)
        links = eval(dict(scope["headers"])[b"x-links"].decode())
        note(raised=await raised(send({"type": "http.response.early_hint", "links": links})))
        await send({"type": "http.response.body", "body": b"done"})

    case = define(application)
    found = case.get(headers=[("X-Links", repr(links))])
    assert (found.body, found.informational) == (b"done", [])
    assert case.note("raised") is not None


# HTTP Trailers


def trailers(define):
    async def application(scope, receive, send):
        await start(send, 200, [(b"trailer", b"x-sum, x-more")], trailers=True)
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await send({"type": "http.response.body", "body": b"two"})
        note(asked=True)
        await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"6")], "more_trailers": True})
        await send({"type": "http.response.trailers", "headers": [[b"x-more", b"yes"]]})

    return define(application)


def test_trailers(define):
    """HTTP Trailers: after the last body, to clients that sent `TE: trailers`; the answer ends with the last."""
    case = trailers(define)
    with case.server.connect() as peer:
        found = peer.get(case.target, [("TE", "trailers")])
        assert (found.body, found.trailers) == (b"onetwo", [("x-sum", "6"), ("x-more", "yes")])
        assert found.header("trailer") == "x-sum, x-more"
        assert peer.get("/").body == b"hello"


@pytest.mark.parametrize(
    ("headers", "version"), [([], "1.1"), ([("TE", "gzip")], "1.1"), ([("TE", "trailers")], "1.0")]
)
def test_trailers_nobody_asked_for(define, headers, version):
    """HTTP Trailers: sent only where the client sent `TE: trailers`; the application need not know."""
    case = trailers(define)
    found = case.request("GET", headers=headers, version=version)
    assert (found.body, found.trailers) == (b"onetwo", [])
    assert case.note("asked")


def test_answer_waits_for_its_trailers(define):
    """Response Start: with `trailers` the answer is not complete before they were sent."""

    async def application(scope, receive, send):
        await start(send, trailers=True)
        await send({"type": "http.response.body", "body": b"done"})

    with pytest.raises(ConnectionLost):
        define(application).get(headers=[("TE", "trailers")])


def test_trailers_that_were_not_announced_raise(define):
    """HTTP Trailers: `trailers` must have been true in the start."""

    async def application(scope, receive, send):
        await start(send)
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        note(raised=await raised(send({"type": "http.response.trailers", "headers": []})))
        await send({"type": "http.response.body", "body": b"two"})

    case = define(application)
    assert case.get(headers=[("TE", "trailers")]).body == b"onetwo"
    assert case.note("raised") is not None


# All of them


def test_files_under_way_when_the_client_leaves(define, file):
    """Disconnected Client: whatever sends the body; nothing of the file stays open."""

    async def application(scope, receive, send):
        await start(send)
        with open("data.bin", "rb", buffering=0) as file:
            for _ in range(2000):
                event = {"type": "http.response.zerocopysend", "file": file, "offset": 0, "more_body": True}
                if await raised(send(event)):
                    break
        note(ended=True)

    case = define(application)
    with case.server.connect(receive_buffer=4096) as peer:
        peer.send(f"GET {case.target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert peer.head().status == 200
    assert case.note("ended")

    def open_elsewhere():
        return [
            name
            for process in case.server.processes()
            for name in os.listdir(f"/proc/{process.pid}/fd")
            if "data.bin" in os.path.realpath(f"/proc/{process.pid}/fd/{name}")
        ]

    wait_for(lambda: not open_elsewhere(), what="the file closed everywhere")


def test_large_files_to_many_clients_at_once(define, server):
    """Path Send: the server reads; applications go on meanwhile."""
    (server.directory / "large.bin").write_bytes(CONTENT * 40)

    async def application(scope, receive, send):
        import os

        await start(send, 200, [(b"content-length", b"%d" % os.path.getsize("large.bin"))])
        await send({"type": "http.response.pathsend", "path": os.path.abspath("large.bin")})

    case = define(application)
    bodies = []
    threads = [threading.Thread(target=lambda: bodies.append(case.get().body)) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert case.server.get("/").body == b"hello"
    for thread in threads:
        thread.join()
    assert [len(body) for body in bodies] == [len(CONTENT) * 40] * 4
    assert all(body == CONTENT * 40 for body in bodies)
