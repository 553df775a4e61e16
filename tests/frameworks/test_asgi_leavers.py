"""Clients that leave in the middle of a response cost frameworks nothing: no thread, no task, no line in the log."""

from __future__ import annotations

import pytest
from websockets.sync.client import connect

from tests.support.wait import wait_for

#: More than there are threads.
LEAVERS = 3

SOURCE = """
    import asyncio, gc, pathlib, time

    from a2wsgi import WSGIMiddleware
    from fastapi import FastAPI, WebSocket
    from fastapi.responses import StreamingResponse
    from sse_starlette.sse import EventSourceResponse
    from starlette.middleware.base import BaseHTTPMiddleware

    inner = FastAPI()
    lines = open("notes", "a", buffering=1)
    beside = []

    def wsgi(environ, start_response):
        "Streams more than the middleware's queue holds, long after its client has left."
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"served"] if environ["PATH_INFO"].endswith("/short") else stream()

    def stream():
        yield b"begin"
        deadline = time.monotonic() + 30
        while not pathlib.Path("go").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        for _ in range(100):
            yield bytes(100_000)
        print("wsgi ended", file=lines)

    async def forward(request, call_next):
        return await call_next(request)

    inner.mount("/mounted", WSGIMiddleware(wsgi, workers=2))
    behind = FastAPI()
    behind.add_middleware(BaseHTTPMiddleware, dispatch=forward)
    behind.mount("/mounted", WSGIMiddleware(wsgi, workers=2))
    inner.mount("/behind", behind)

    async def application(scope, receive, send):
        "Tells of each client that has left a WSGI application, which does not listen."
        if scope["type"] != "http" or "mounted" not in scope["path"]:
            return await inner(scope, receive, send)
        body = await receive()
        async def listen():
            await receive()
            print("client left", file=lines)
        async def again():
            return body
        listener = asyncio.create_task(listen())
        try:
            await inner(scope, again, send)
        finally:
            listener.cancel()

    async def ticks(name):
        try:
            while True:
                yield "x"
                await asyncio.sleep(0.01)
        finally:
            print(name, "ended", file=lines)

    @inner.get("/starlette")
    async def starlette():
        return StreamingResponse(ticks("starlette"))

    @inner.get("/sse")
    async def sse():
        return EventSourceResponse(ticks("sse"))

    @inner.get("/")
    async def hello():
        return "hello"

    @inner.websocket("/closes")
    async def closes(websocket: WebSocket):
        await websocket.accept()
        async def sender():
            try:
                while True:
                    await websocket.send({"type": "websocket.send", "text": "x"})
                    await asyncio.sleep(0.01)
            finally:
                print("websocket ended", file=lines)
        beside.append(asyncio.create_task(sender()))
        await websocket.receive_text()

    @inner.get("/forget")
    async def forget():
        "asyncio complains of a failed task when it is forgotten."
        found = [task.done() for task in beside]
        beside.clear()
        gc.collect()
        return found
"""


@pytest.fixture(scope="module")
def server(serve_module):
    return serve_module(SOURCE, "-k", "asgi", "-w", "1", "--asgi-disconnect-grace-period", "0")


def leave(server, target):
    with server.connect() as peer:
        peer.send(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert peer.head().status == 200


def ended(server, what):
    return server.lines("notes").count(f"{what} ended")


@pytest.mark.parametrize("prefix", ["/mounted", "/behind/mounted"])
def test_a2wsgi_keeps_its_threads(server, prefix):
    """Two threads, two leavers: an exception in its sender, or its end, leaves both in a queue nobody empties."""
    go = server.directory / "go"
    go.unlink(missing_ok=True)
    left, before = server.lines("notes").count("client left"), ended(server, "wsgi")
    for _ in range(2):
        leave(server, f"{prefix}/long")
    wait_for(lambda: server.lines("notes").count("client left") == left + 2)
    go.touch()
    wait_for(lambda: ended(server, "wsgi") == before + 2)
    assert server.get(f"{prefix}/short").body == b"served"
    assert "Traceback" not in server.log


@pytest.mark.parametrize("name", ["starlette", "sse"])
def test_streams_end_with_their_clients(server, name):
    before = ended(server, name)
    for _ in range(LEAVERS):
        leave(server, f"/{name}")
    wait_for(lambda: ended(server, name) == before + LEAVERS)
    assert "Traceback" not in server.log


def test_websocket_senders_of_their_own_leave_no_line(server):
    address = f"ws://127.0.0.1:{server.port}/closes"
    for _ in range(LEAVERS):
        with connect(address) as client:
            client.recv()
    wait_for(lambda: ended(server, "websocket") == LEAVERS)
    assert server.get("/forget").text == "[true,true,true]"
    assert "never retrieved" not in server.log
