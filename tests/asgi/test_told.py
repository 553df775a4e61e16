"""Told first: an event loop's worker hears at once that its end begins, and has time for its lifespan behind it."""

from __future__ import annotations

import os
import signal

import pytest

from tests.support.http import Peer, encode
from tests.support.server import Server, Servers
from tests.support.wait import wait_for

pytestmark = pytest.mark.usefixtures("only_oxicorn")

#: ``/stream`` lasts until the handler of SIGTERM, or with ``/watching`` the object whose method was found there, says
#: so (sse-starlette looks for it this way); ``/?N`` takes N seconds.
SOURCE = """
import asyncio, signal, threading

told = threading.Event()
found = signal.getsignal(signal.SIGTERM)
worker = found.__self__

def handle_term(number, frame):
    told.set()
    found(number, frame)

signal.signal(signal.SIGTERM, handle_term)

def note(text):
    with open("notes", "a") as file:
        file.write(text + "\\n")

async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        raise RuntimeError("no lifespan")
    if scope["path"] == "/slow":
        note("slow")
        await asyncio.sleep(60)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"] == "/":
        await asyncio.sleep(float(scope["query_string"] or 0))
        return await send({"type": "http.response.body", "body": b"hello"})
    note("stream")
    is_over = told.is_set if scope["path"] == "/stream" else lambda: worker.should_exit
    while not is_over():
        await send({"type": "http.response.body", "body": b".", "more_body": True})
        await asyncio.sleep(0.01)
    text = f"end alive={worker.alive} should_exit={worker.should_exit}"
    await send({"type": "http.response.body", "body": text.encode()})
"""

#: An endless stream, and a lifespan whose shutdown takes its time.
ENDLESS = """
import asyncio

async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await asyncio.sleep(2.5)
        open("shutdown", "w").close()
        return await send({"type": "lifespan.shutdown.complete"})
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while scope["path"] == "/stream":
        open("begun", "w").close()
        await send({"type": "http.response.body", "body": b".", "more_body": True})
        await asyncio.sleep(0.05)
    await send({"type": "http.response.body", "body": b"hello"})
"""


@pytest.fixture
def flags(loop: str) -> tuple[str, ...]:
    """A worker on this loop, and more time than anything here takes."""
    return ("--worker-class", "asgi", "--asgi-loop", loop, "--graceful-timeout", "60")


def begin(server: Server, target: str) -> Peer:
    """A client in the middle of a stream."""
    peer = server.connect()
    peer.send(encode(target=target))
    wait_for(lambda: server.lines("notes"), what="the stream has begun")
    return peer


@pytest.mark.parametrize("target", ["/stream", "/watching"])
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGHUP], ids=lambda how: how.name)
def test_a_stream_that_waits_for_the_end_ends_with_it(
    serve: Servers, flags: tuple[str, ...], how: signal.Signals, target: str
) -> None:
    server = serve(SOURCE, *flags)
    old = server.worker_pids()
    with begin(server, target) as peer:
        server.kill(how)
        assert peer.answer().body.endswith(b"end alive=False should_exit=True")
    if how == signal.SIGTERM:
        assert server.wait_for_exit() == 0
    else:
        server.wait_for_workers(1, without=old)
    assert "graceful timeout" not in server.log


def test_term_to_every_process_loses_nothing(serve: Servers, flags: tuple[str, ...]) -> None:
    server = serve(SOURCE, *flags, "--workers", "2", "--worker-connections", "2")
    peers = [server.connect() for _ in range(10)]
    for peer in peers:
        peer.send(encode(target="/?0.3"))
    os.killpg(server.pid, signal.SIGTERM)
    assert [peer.answer().status for peer in peers] == [200] * 10
    for peer in peers:
        peer.close()
    assert server.wait_for_exit() == 0


def test_the_lifespan_has_its_time_behind_an_endless_stream(serve: Servers) -> None:
    server = serve(ENDLESS, "--worker-class", "asgi", "--graceful-timeout", "6")
    with server.connect() as peer:
        peer.send(encode(target="/stream"))
        wait_for(lambda: (server.directory / "begun").exists(), what="the stream has begun")
        assert server.stop(signal.SIGTERM, deadline=20) == 0
    assert (server.directory / "shutdown").exists()
    # That the stream has no end is the server's doing now, and told as such.
    assert "Response to GET /stream HTTP/1.1 broken off: its worker ended before it did" in server.log
    assert "Error handling request" not in server.log


def test_a_request_that_a_worker_breaks_off_is_not_the_applications_failure(
    serve: Servers, flags: tuple[str, ...]
) -> None:
    """QUIT for a worker, as in a quick stop."""
    server = serve(SOURCE, *flags, access_log=True)
    (old,) = server.worker_pids()
    with server.connect() as peer:
        peer.send(encode(target="/slow"))
        wait_for(lambda: server.lines("notes"), what="the application works on it")
        os.kill(old, signal.SIGQUIT)
        assert peer.answer().status == 503
    server.wait_for_workers(1, without=[old])
    wait_for(lambda: [line for line in server.access_log if '"GET /slow HTTP/1.1" 503' in line])
    assert "Error handling request" not in server.log
