"""Calls of the application that nobody waits for: `timeout` bounds each of them."""

from __future__ import annotations

import os
import signal
import socket
import struct

import pytest

from tests.support.http import encode
from tests.support.server import Server
from tests.support.wait import wait_for

SOURCE = """
import itertools
import os
import time


TEXT = [("Content-Type", "text/plain")]

def application(environ, start_response):
    path = environ["PATH_INFO"]
    length = [("Content-Length", "5")]
    if path == "/stuck":
        open("began", "w").close()
        slow_view(60)
    if path == "/closes":
        start_response("200 OK", TEXT + length)
        return Closes()
    if path == "/goes-on":
        start_response("200 OK", TEXT + length)
        return goes_on()
    if path == "/no-body":
        start_response("200 OK", TEXT)
        return goes_on()
    if path == "/zeros":
        start_response("200 OK", TEXT + length)
        return environ["wsgi.file_wrapper"](open("/dev/zero", "rb"))
    if path == "/writes":
        write = start_response("200 OK", TEXT + length)
        for piece in (b"hel", b"lo there", b"more"):
            write(piece)
        return []
    if path == "/fails-behind":
        start_response("200 OK", TEXT + length)
        return fails_behind()
    body = str(os.getpid()).encode()
    start_response("200 OK", TEXT + [("Content-Length", str(len(body)))])
    return [body]

def slow_view(seconds):
    time.sleep(seconds)

class Closes:
    def __iter__(self):
        return iter([b"hello"])

    def close(self):
        slow_view(60)

def goes_on():
    try:
        for number in itertools.count():
            with open("asked", "w") as file:
                file.write(str(number + 1))
            yield b"hello"
    finally:
        open("closed", "w").close()

def fails_behind():
    yield b"hello"
    raise RuntimeError("behind the last piece")
"""

CLASSES = pytest.mark.parametrize(
    "flags", [["-k", "sync"], ["-k", "gthread", "--threads", "2"]], ids=["sync", "gthread"]
)


def began(server: Server) -> None:
    wait_for(lambda: (server.directory / "began").exists(), what="the view runs")


def expect_replacement(server: Server, old: int, line: str) -> None:
    server.wait_for_log(rf"\[CRITICAL\] WORKER TIMEOUT \(pid:{old}\)")
    server.wait_for_log(rf"Request timed out after .* in worker \(pid:{old}\): {line}.* from 127\.0\.0\.1")
    server.wait_for_log("slow_view")
    server.wait_for_workers(1, without=[old])
    assert int(server.get("/").body) != old


@CLASSES
def test_request_whose_client_resets(serve, flags):
    server = serve(SOURCE, "--timeout", "1", "--graceful-timeout", "2", *flags)
    (old,) = server.worker_pids()
    with server.connect() as peer:
        peer.send(encode(target="/stuck"))
        began(server)
        peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    expect_replacement(server, old, "GET /stuck")


@CLASSES
def test_request_whose_gateway_is_killed(serve, flags):
    server = serve(SOURCE, "--timeout", "1", "--graceful-timeout", "2", *flags)
    (old,) = server.worker_pids()
    with server.connect() as peer:
        peer.send(encode(target="/stuck"))
        began(server)
        gateway = server.gateway_pid()
        os.kill(gateway, signal.SIGKILL)
        wait_for(lambda: server.gateway_pid() != gateway, what="a new gateway")
    expect_replacement(server, old, "GET /stuck")


@CLASSES
def test_close_that_hangs(serve, flags):
    server = serve(SOURCE, "--timeout", "1", "--graceful-timeout", "2", *flags)
    (old,) = server.worker_pids()
    with server.connect() as peer:
        assert peer.get("/closes").body == b"hello"
        if flags[1] == "sync":
            # The worker has no capacity: another one takes the connection's next request.
            assert int(peer.get("/").body) != old
    expect_replacement(server, old, "GET /closes")


@pytest.fixture(scope="module")
def endless(serve_module):
    """Views that do not end by themselves."""
    return serve_module(SOURCE, "--timeout", "30")


@pytest.mark.parametrize(
    ("method", "target", "body"),
    [
        ("GET", "/goes-on", b"hello"),
        ("HEAD", "/goes-on", b""),
        ("HEAD", "/no-body", b""),
        ("GET", "/zeros", b"\0" * 5),
        ("GET", "/writes", b"hello"),
        ("GET", "/fails-behind", b"hello"),
    ],
)
def test_more_than_was_promised_is_not_read_for_ever(endless, method, target, body):
    (endless.directory / "asked").unlink(missing_ok=True)
    (endless.directory / "closed").unlink(missing_ok=True)
    pid = endless.get("/").body
    with endless.connect() as peer:
        answer = peer.request(method, target)
        assert (answer.status, answer.body) == (200, body)
        # By the same worker, on the same connection.
        answer = peer.get("/")
        assert answer.body == pid
    if target in ("/goes-on", "/no-body"):
        assert endless.read("asked") == "2", "one piece more was asked for"
        assert (endless.directory / "closed").exists()
    if target == "/fails-behind":
        endless.wait_for_log("RuntimeError: behind the last piece")


def test_background_work_of_an_event_loop_is_its_own_affair(serve):
    """What runs after the response is nobody's to bound: the loop goes on with others meanwhile."""
    server = serve(
        """
        import asyncio
        import os

        async def application(scope, receive, send):
            if scope["type"] != "http":
                return
            start = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]}
            await send(start)
            await send({"type": "http.response.body", "body": b"hello"})
            if scope["path"] == "/background":
                await asyncio.sleep(5)
                while not os.path.exists("go"):
                    await asyncio.sleep(0.01)
                open("done", "w").close()
        """,
        "--timeout",
        "3",
        "-k",
        "asgi",
    )
    workers = server.worker_pids()
    with server.connect() as peer:
        assert peer.get("/background").body == b"hello"
        assert peer.get("/").body == b"hello", "the next request on the connection does not wait for it"
    server.write("go", "")
    wait_for(lambda: (server.directory / "done").exists(), what="the background work is done")
    assert server.worker_pids() == workers
    assert "WORKER TIMEOUT" not in server.log
