"""A server that has nothing to do sleeps: it costs no processor and no battery, and is still looked after."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import time
from collections import deque
from collections.abc import Callable

from tests.support import processes
from tests.support.http import encode
from tests.support.server import Kind, Server
from tests.support.wait import wait_for

WORKERS = 4
#: Seconds that are looked at. A worker gives a sign of life each 3.75 seconds: in less than twice of that, at most two.
WINDOW = 7.0
#: Wake-ups a second of all processes together.
AT_MOST = 4.0
#: Seconds until everything that follows a start or a request is over.
SETTLED = 120.0

HELLO = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [b"hello"]
"""
ASGI = """
async def application(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
        await send({"type": "http.response.body", "body": b"hello"})
"""
#: A pool of four workers, two for each application, which is called once and uses the stash.
POOLED = """
from gunicorn.dirty import get_dirty_client, stash

def application(environ, start_response):
    for name in ("One", "Other"):
        get_dirty_client().execute("heavy:" + name, "call")
    for number in range(10):
        stash.put("table", "key", number, ttl=0.5)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [b"hello"]
"""
HEAVY = """
from gunicorn.dirty import DirtyApp

class One(DirtyApp):
    async def call(self):
        return 1

class Other(One):
    pass
"""
POOL = """
dirty_apps = ["heavy:One:2", "heavy:Other:2"]
dirty_workers = 4
dirty_threads = 2
"""


def rate_of(server: Server) -> Callable[[], float]:
    """Wake-ups a second in the last WINDOW; infinite before there was one."""
    samples: deque[tuple[float, int]] = deque()

    def rate() -> float:
        now = time.monotonic()
        samples.append((now, processes.wake_ups(server.popen.pid)))
        while len(samples) > 1 and samples[1][0] <= now - WINDOW:
            samples.popleft()
        began, before = samples[0]
        return (samples[-1][1] - before) / (now - began) if began <= now - WINDOW else float("inf")

    return rate


def test_a_server_at_rest_hardly_ever_wakes_up(serve, kind: Kind):
    workers = ("--workers", str(WORKERS))
    # All of them at once, because what is looked at are seconds.
    servers = {
        "sync": serve(HELLO, *workers),
        "gthread": serve(HELLO, *workers, "--worker-class", "gthread", "--threads", "4"),
        "asgi": serve(ASGI, *workers, "--worker-class", kind.asgi_worker),
        "preloaded": serve(HELLO, *workers, "--preload"),
    }
    servers["pool"] = serve.new()
    servers["pool"].write("heavy.py", HEAVY)
    servers["pool"].start("--workers", "1", app=POOLED, config=POOL)
    if importlib.util.find_spec("gevent"):
        servers["gevent"] = serve(HELLO, *workers, "--worker-class", "gevent")
    rates = {name: rate_of(server) for name, server in servers.items()}
    found: dict[str, float] = {}

    def at_rest() -> bool:
        found.update({name: rate() for name, rate in rates.items()})
        time.sleep(0.25)
        return all(rate <= AT_MOST for rate in found.values())

    with contextlib.ExitStack() as clients:
        # Who may ask for more keeps nothing awake.
        for server in servers.values():
            client = clients.enter_context(server.connect())
            client.send(encode())
            assert client.answer().status == 200
        wait_for(at_rest, SETTLED, lambda: f"wake-ups a second: {found}")


def test_a_worker_that_stands_still_at_rest_is_replaced(serve):
    server = serve(HELLO, "--timeout", "1")
    (old,) = server.worker_pids()
    os.kill(old, signal.SIGSTOP)
    server.wait_for_workers(1, without=[old])
    assert server.get().body == b"hello"
