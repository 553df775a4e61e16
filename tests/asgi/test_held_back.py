"""When the pieces of a response leave that are held back for the next: at the loop's next turn, and not sooner."""

from __future__ import annotations

import json

import pytest

from tests.support.server import Server, Servers

pytestmark = pytest.mark.usefixtures("only_oxicorn")

APPLICATION = """
    import asyncio
    import json
    import os
    import time
    import types

    from greenlet import getcurrent, greenlet

    PATIENCE = 30
    names = []

    def watch(loop):
        call_soon = loop.call_soon

        def watched(callback, *arguments, **options):
            names.append(getattr(callback, "__name__", ""))
            return call_soon(callback, *arguments, **options)

        loop.call_soon = watched

    def has_come(name):
        '''Whether the client has made the file.'''
        return os.path.exists(name)

    @types.coroutine
    def in_greenlet(call):
        '''Runs the steps of a call in a greenlet, which may let the loop turn in the middle of one.'''
        outer = getcurrent()

        def steps():
            try:
                while True:
                    outer.switch(call.send(None))
            except StopIteration:
                pass

        inner = greenlet(steps)
        awaited = inner.switch()
        while not inner.dead:
            yield awaited
            awaited = inner.switch()

    def factory(loop, coroutine, **options):
        return asyncio.Task(in_greenlet(coroutine), loop=loop, **options)

    async def begin(send, piece=None):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        if piece is not None:
            await send({"type": "http.response.body", "body": piece, "more_body": True})

    async def application(scope, receive, send):
        loop = asyncio.get_running_loop()
        if scope["type"] == "lifespan":
            watch(loop)
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            return await send({"type": "lifespan.shutdown.complete"})
        path, deadline = scope["path"], time.monotonic() + PATIENCE
        piece = None
        if path == "/names":
            piece = json.dumps(names).encode()
            names.clear()
            await begin(send)
        elif path == "/whole":
            await begin(send, b"one")
        elif path == "/turn":
            await begin(send, b"one")
            await asyncio.sleep(0)
        elif path == "/busy":
            await begin(send, b"one")
            await asyncio.sleep(0)
            while not has_come("busy") and time.monotonic() < deadline:
                time.sleep(0.005)
            piece = b"read" if has_come("busy") else b"late"
        elif path == "/task":
            async def part():
                await begin(send, b"one")
                while not has_come("task") and time.monotonic() < deadline:
                    await asyncio.sleep(0.005)
            await asyncio.create_task(part())
            piece = b"read" if has_come("task") else b"late"
        elif path == "/greenlets":
            loop.set_task_factory(factory)
            await begin(send)
            piece = b"set"
        elif path == "/middle":
            loop.set_task_factory(None)
            await begin(send, b"one")
            while not has_come("middle") and time.monotonic() < deadline:
                # The loop turns, and the call's step does not end.
                getcurrent().parent.switch(None)
            piece = b"read" if has_come("middle") else b"late"
        await send({"type": "http.response.body", "body": piece or b""})
"""


@pytest.fixture(scope="module")
def server(loop: str, serve_module: Servers) -> Server:
    """A server that tells what its loop was asked to call."""
    return serve_module(APPLICATION, "--worker-class", "asgi", "--asgi-loop", loop)


def names(server: Server) -> list[str]:
    """Names of what the loop was asked to call since this was asked last."""
    found: list[str] = json.loads(server.get("/names").text)
    return found


def test_loop_is_asked_to_call_nothing_for_a_response_that_is_complete_at_once(server: Server) -> None:
    names(server)
    with server.connect() as peer:
        for _ in range(5):
            assert peer.get("/whole").text == "one"
    found = names(server)
    assert "turn" in found
    assert "flush" not in found


def test_loop_is_asked_once_for_a_response_that_is_not(server: Server) -> None:
    names(server)
    assert server.get("/turn").text == "one"
    assert names(server).count("flush") == 1


@pytest.mark.parametrize("path", ["busy", "task", "middle"])
def test_what_was_sent_before_the_loop_turned_is_read_before_the_call_goes_on(server: Server, path: str) -> None:
    """`busy`: the call keeps the loop when it has turned once; `task`: another task sends; `middle`: the loop turns in
    the middle of a step, by a greenlet."""
    (server.directory / path).unlink(missing_ok=True)
    if path == "middle":
        assert server.get("/greenlets").text == "set"
    with server.connect() as peer:
        peer.send(f"GET /{path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        assert peer.head().status == 200
        assert peer.exactly(8) == b"3\r\none\r\n"
        server.write(path, "")
        assert peer.rest() == b"4\r\nread\r\n0\r\n\r\n"
