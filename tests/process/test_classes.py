"""What every worker class promises: a death costs little, a reload nothing, idle and slow clients no worker."""

from __future__ import annotations

import contextlib
import os
import signal
from importlib import util
from typing import TYPE_CHECKING

import pytest

from tests.process.conftest import SOURCE as WSGI
from tests.support.gate import Gate
from tests.support.http import ConnectionLost, encode
from tests.support.load import reload_under_load
from tests.support.swarm import Swarm
from tests.support.wait import wait_for

if TYPE_CHECKING:
    from tests.support.server import Server, Servers

#: Beside them each class has ``/large``: more than a socket takes, less than the gateway takes off a worker's hands.
LARGE = 512 * 1024

WSGI_SOURCE = f"""
{WSGI}
small = application

def application(environ, start_response):
    if environ["PATH_INFO"] != "/large":
        return small(environ, start_response)
    start_response("200 OK", [("Content-Length", "{LARGE}")])
    return [bytes({LARGE})]
"""

ASYNC = f"""
import asyncio, os

async def answer(path, query):
    if path == "/gate":
        with open(query + ".reached", "a") as file:
            file.write(f"{{os.getpid()}}\\n")
        while not os.path.exists(query + ".open"):
            await asyncio.sleep(0.005)
    return bytes({LARGE}) if path == "/large" else b"hello"
"""

ASGI_SOURCE = (
    ASYNC
    + """
async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        raise RuntimeError
    body = await answer(scope["path"], scope["query_string"].decode())
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    await send({"type": "http.response.body", "body": body})
"""
)

TORNADO_SOURCE = (
    ASYNC
    + """
import tornado.web

class Any(tornado.web.RequestHandler):
    async def get(self):
        self.write(await answer(self.request.path, self.request.query))

application = tornado.web.Application([(".*", Any)])
"""
)

AIOHTTP_SOURCE = (
    ASYNC
    + """
from aiohttp import web

async def any(request):
    return web.Response(body=await answer(request.path, request.query_string))

application = web.Application()
application.router.add_route("*", "/{path:.*}", any)
"""
)

#: Source of the application and flags.
CLASSES = {
    "sync": (WSGI_SOURCE, ()),
    "gthread": (WSGI_SOURCE, ("--threads", "4")),
    "gevent": (WSGI_SOURCE, ()),
    "asgi": (ASGI_SOURCE, ()),
    "tornado": (TORNADO_SOURCE, ()),
    # These accept connections themselves.
    "gevent_pywsgi": (WSGI_SOURCE, ()),
    "oxicorn.workers.gtornado.DirectTornadoWorker": (TORNADO_SOURCE, ()),
    "aiohttp.GunicornWebWorker": (AIOHTTP_SOURCE, ()),
}
#: What a class needs beside the server.
PACKAGES = ("gevent", "tornado", "aiohttp")


@pytest.fixture(scope="module", params=CLASSES)
def server(serve_module: Servers, request: pytest.FixtureRequest) -> Server:
    """Two workers of the class."""
    name: str = request.param
    if serve_module.kind.is_gunicorn:
        pytest.skip("what is promised here is not promised there")
    for package in PACKAGES:
        if package in name and util.find_spec(package) is None:
            pytest.skip(f"needs the package {package}")
    source, flags = CLASSES[name]
    return serve_module(source, "-k", name, "--workers", "2", *flags)


def accepts_itself(server: Server) -> bool:
    """Whether the workers hold the connections, and not the gateway."""
    return "accepts connections itself" in server.log


def test_death_costs_no_more_than_what_the_worker_had_in_hand(server: Server) -> None:
    with Gate(server, "death") as gate, server.connect() as victim, server.connect() as other:
        assert other.get().body == b"hello"
        victim.send(encode(target=gate.target))
        gate.wait_until_reached()
        (pid,) = (int(line) for line in server.lines("death.reached"))
        os.kill(pid, signal.SIGKILL)
        if accepts_itself(server):
            with pytest.raises(ConnectionLost):
                victim.answer()
        else:
            assert victim.answer().status == 502
            assert other.get().body == b"hello"
            assert victim.get().body == b"hello"
    server.wait_for_workers(2, without=[pid])
    assert server.get().body == b"hello"


def test_reload_loses_nothing(server: Server) -> None:
    reload_under_load(server, 1)


def test_idle_connections_cost_no_worker(server: Server) -> None:
    def held() -> int:
        return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in server.worker_pids())

    before = held()
    with Swarm(server.address, 1000):
        assert server.get().body == b"hello"
        if not accepts_itself(server):
            assert held() < before + 20


def test_slow_clients_cost_no_worker(server: Server) -> None:
    """Those who do not read, and those who have not finished asking; many more than there are workers and threads."""
    with Swarm(server.address, 20, receive_buffer=4096) as readers, Swarm(server.address, 50) as askers:
        assert readers.send(encode(target="/large")) == 0
        assert askers.send(b"GET / HTTP/1.1\r\nHost:") == 0
        for _ in range(10):
            assert server.get().body == b"hello"
        assert askers.send(b" a\r\n\r\n") == 0
        answered: dict[int, bytes] = {}

        def all_answered() -> bool:
            for number, data in enumerate(askers.received()):
                answered[number] = answered.get(number, b"") + data
            return all(data.endswith(b"hello") for data in answered.values())

        wait_for(all_answered)
        counts = [0] * len(readers.sockets)

        def all_read() -> bool:
            for number, peer in enumerate(readers.sockets):
                with contextlib.suppress(BlockingIOError):
                    counts[number] += len(peer.recv(1 << 20))
            return all(count > LARGE for count in counts)

        wait_for(all_read)


def test_stop_is_in_order(server: Server) -> None:
    assert server.stop() == 0
