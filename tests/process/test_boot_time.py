"""Workers that are not ready within `boot_timeout`: what hangs is found and replaced, what is only slow gets there."""

from __future__ import annotations

import contextlib
import os
import re
import signal

import pytest

from tests.support.wait import wait_for

WSGI = """
import os, time

if os.path.exists("hang"):
    open("hangs", "w").close()
    time.sleep(3600)
if os.path.exists("slow"):
    # Longer than `boot_timeout` the first time, and every time.
    time.sleep(1.6)


def application(environ, start_response):
    start_response("200 OK", [("Content-Length", "5")])
    return [b"hello"]
"""
ASGI = """
import asyncio, os


async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        if os.path.exists("hang"):
            open("hangs", "w").close()
            await asyncio.sleep(3600)
        if os.path.exists("slow"):
            await asyncio.sleep(1.6)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        return await send({"type": "lifespan.shutdown.complete"})
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})
"""
SOURCES = {"sync": WSGI, "gthread": WSGI, "asgi": ASGI}


@pytest.fixture(autouse=True)
def oxicorn_only(kind) -> None:
    if kind.is_gunicorn:
        pytest.skip("a boot that hangs is never noticed there")


@pytest.fixture(params=list(SOURCES))
def start(request, serve):
    """``start("hang")``: a server with a worker class and that marker, not waited for."""

    def start(*markers: str, ready: str | None = None):
        server = serve.new()
        for marker in markers:
            server.write(marker, "")
        flags = ("--worker-class", request.param, "--boot-timeout", "1")
        return server.start(*flags, app=SOURCES[request.param], ready=ready)

    return start


def timeouts(server) -> list[str]:
    return re.findall(r"\[CRITICAL\] WORKER TIMEOUT \(pid:(\d+)\)", server.log)


def test_first_boot_that_hangs_is_tried_again(start):
    server = start("hang")
    first = wait_for(lambda: timeouts(server), what=lambda: server.log)[0]
    (second,) = server.wait_for_workers(1, without=[int(first)])
    server.wait_for_log(rf"Stacks of worker \(pid:{first}\)")
    server.wait_for_log(rf"Worker \(pid:{first}\) was not ready after 1 s \(boot_timeout\). The next one has 2 s.")
    (server.directory / "hang").unlink()
    # This one hangs already; the next one does not.
    with contextlib.suppress(ProcessLookupError):  # Where the machine is slow, its time was up before.
        os.kill(second, signal.SIGKILL)
    server.wait_until_ready()
    assert server.get("/").body == b"hello"


def test_what_is_only_slow_gets_there(start):
    server = start("slow")
    wait_for(lambda: timeouts(server), what=lambda: server.log)
    server.wait_until_ready()
    assert server.get("/").body == b"hello"
    # Twice the time may be short, too, where the machine is slow; then there is twice that.
    for number in range(len(timeouts(server))):
        assert (
            f"was not ready after {2**number} s (boot_timeout). The next one has {2 ** (number + 1)} s." in server.log
        )


def test_reload_that_hangs_is_given_up(start):
    server = start(ready="/")
    (worker,) = server.worker_pids()
    server.write("hang", "")
    server.kill(1)
    wait_for((server.directory / "hangs").exists)
    server.wait_for_log(
        r"Reload failed, generation 2 is given up, generation 1 goes on serving. "
        r"Reason: Worker was not ready in time \(boot_timeout\)."
    )
    assert server.wait_for_workers(1) == [worker]
    assert server.get("/").body == b"hello"
    (server.directory / "hang").unlink()
    reload_in_time(server)
    assert server.get("/").body == b"hello"


def reload_in_time(server) -> None:
    """A slow machine may need more than one try: a worker has a second to be ready."""

    def reloaded() -> bool:
        outcomes = server.log.count("Reload failed") + server.log.count("Reloaded: generation")
        server.kill(1)
        wait_for(lambda: server.log.count("Reload failed") + server.log.count("Reloaded: generation") > outcomes)
        return "Reloaded: generation" in server.log

    wait_for(reloaded, what=lambda: server.log)


def test_without_boot_timeout_a_boot_may_take_its_time(serve):
    server = serve.new()
    server.write("slow", "")
    server.start("--boot-timeout", "0", app=WSGI)
    assert timeouts(server) == []
