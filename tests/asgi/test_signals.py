"""Stopping, stalling and recycling an asgi worker; the hooks around it."""

from __future__ import annotations

import itertools
import os
import signal

import pytest

from tests.support.load import Load
from tests.support.server import Servers
from tests.support.wait import stays, wait_for

pytestmark = pytest.mark.usefixtures("only_oxicorn")

ASGI = ("--worker-class", "asgi")

#: ``/sleep/N`` answers after N seconds; ``/block/N`` holds the loop; ``/gate`` once there is a file ``open``;
#: ``/`` at once. All is noted.
SOURCE = """
import asyncio, os, time

def note(text):
    with open("notes", "a") as file:
        file.write(text + "\\n")

async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        note("shutdown")
        return await send({"type": "lifespan.shutdown.complete"})
    _, what, *seconds = scope["path"].split("/")
    note(f"called {what}")
    try:
        if what == "sleep":
            await nap(float(seconds[0]))
        if what == "gate":
            while not os.path.exists("open"):
                await asyncio.sleep(0.01)
            note("passed gate")
        if what == "block":
            time.sleep(float(seconds[0]))
    except asyncio.CancelledError:
        note("cancelled")
        raise
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(os.getpid()).encode()})

async def nap(seconds):
    await asyncio.sleep(seconds)
"""


@pytest.fixture(params=["asyncio", "uvloop"])
def asgi(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """Flags of a worker on each loop."""
    return (*ASGI, "--asgi-loop", request.param)


def test_term_finishes_requests_and_tells_the_lifespan(serve: Servers, asgi: tuple[str, ...]) -> None:
    server = serve(SOURCE, *asgi)
    with server.connect() as peer:
        peer.send(b"GET /sleep/0.5 HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_for(lambda: "called sleep" in server.lines("notes"))
        server.kill(signal.SIGTERM)
        assert peer.answer().status == 200
    assert server.wait_for_exit() == 0
    assert server.lines("notes")[-1] == "shutdown"
    assert "cancelled" not in server.lines("notes")


def test_lifespan_is_told_even_when_requests_take_all_the_time(serve: Servers, asgi: tuple[str, ...]) -> None:
    # A quarter of it is the lifespan's.
    server = serve(SOURCE, *asgi, "--graceful-timeout", "6")
    with server.connect() as peer:
        peer.send(b"GET /sleep/60 HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_for(lambda: "called sleep" in server.lines("notes"))
        server.kill(signal.SIGTERM)
        assert server.wait_for_exit() == 0
    assert server.lines("notes")[-2:] == ["cancelled", "shutdown"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_quick_stop_cancels_and_tells_the_lifespan(
    serve: Servers, asgi: tuple[str, ...], number: signal.Signals
) -> None:
    config = """
        def worker_int(worker):
            worker.log.info("hook worker_int")
        def worker_exit(server, worker):
            worker.log.info("hook worker_exit")
    """
    # Its end comes before anything could have waited for the request.
    server = serve(SOURCE, *asgi, "--graceful-timeout", "120", config=config)
    with server.connect() as peer:
        peer.send(b"GET /sleep/120 HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_for(lambda: "called sleep" in server.lines("notes"))
        server.stop(number, deadline=50)
    assert server.lines("notes")[-2:] == ["cancelled", "shutdown"]
    assert server.log.index("hook worker_int") < server.log.index("hook worker_exit")
    assert "Traceback" not in server.log


def test_reload_loses_nothing(serve: Servers, asgi: tuple[str, ...]) -> None:
    server = serve(SOURCE, *asgi, "--workers", "2")
    old = server.worker_pids()
    with Load(server.address, clients=4) as load:
        load.wait_for_answers(50)
        server.kill(signal.SIGHUP)
        server.wait_for_workers(2, without=old)
        load.wait_for_answers(200)
    load.assert_flawless(at_least=200)
    assert server.lines("notes").count("shutdown") == 2


def test_max_requests_recycles_without_a_gap(serve: Servers, asgi: tuple[str, ...]) -> None:
    server = serve(SOURCE, *asgi, "--max-requests", "50")
    with Load(server.address, clients=4) as load:
        load.wait_for_answers(300)
    load.assert_flawless(at_least=300)
    server.wait_for_log("Autorestarting worker after current request.", count=2)


def test_request_beyond_timeout_is_a_504_and_cancelled_and_the_worker_stays(
    serve: Servers, asgi: tuple[str, ...]
) -> None:
    server = serve(SOURCE, *asgi, "--timeout", "3")
    (worker,) = server.worker_pids()
    assert server.get("/sleep/60").status == 504
    server.wait_for_log(r"Request timed out after \d+\.\d s in worker \(pid:\d+\): GET /sleep/60 HTTP/1.1")
    wait_for(lambda: "cancelled" in server.lines("notes"))
    # The stack of the task, down to where it waits.
    server.wait_for_log(r'File ".*app\.py", line \d+ in application')
    server.wait_for_log(r'File ".*app\.py", line \d+ in nap')
    assert server.get("/").text == str(worker)


def test_loop_that_stands_still_is_replaced_with_its_stack_in_the_log(serve: Servers, asgi: tuple[str, ...]) -> None:
    server = serve(SOURCE, *asgi, "--timeout", "2")
    (worker,) = server.worker_pids()
    with server.connect(timeout=30) as peer:
        peer.send(b"GET /block/60 HTTP/1.1\r\nHost: a\r\n\r\n")
        # Whoever is first: the request's deadline, the call that the abort breaks off, the worker's end.
        assert peer.answer().status in (500, 502, 504)
    server.wait_for_log(r"WORKER TIMEOUT")
    server.wait_for_log(r'File ".*app\.py", line \d+ in application')
    server.wait_for_workers(1, without=[worker])
    wait_for(lambda: server.get("/").status == 200)


def test_slow_boot_is_no_stall(serve: Servers) -> None:
    server = serve("import time; time.sleep(3)\n" + SOURCE, *ASGI, "--timeout", "1")
    assert "WORKER TIMEOUT" not in server.log
    wait_for(lambda: server.get("/").status == 200)


def test_usr1_reopens_the_logs(serve: Servers, asgi: tuple[str, ...]) -> None:
    server = serve(SOURCE, *asgi, "--error-logfile", "error.log")
    (worker,) = server.worker_pids()
    wait_for(lambda: "Booting worker" in server.read("error.log"))
    (server.directory / "error.log").rename(server.directory / "moved.log")
    os.kill(worker, signal.SIGUSR1)
    wait_for((server.directory / "error.log").exists)
    assert server.get("/").status == 200


def test_hooks_around_a_request(serve: Servers, asgi: tuple[str, ...]) -> None:
    config = """
        def post_worker_init(worker):
            worker.log.info("init %s", type(worker).__name__)
        def pre_request(worker, req):
            worker.log.info("pre %s %s %s", req.method, req.path, req.query)
        def post_request(worker, req, environ, resp):
            worker.log.info("post %s %s %s %s", req.path, environ["type"], resp.status, resp.sent)
    """
    server = serve(SOURCE, *asgi, config=config)
    assert server.get("/hooked?a=b").status == 200
    server.wait_for_log("init AsgiWorker")
    server.wait_for_log("pre GET /hooked a=b")
    server.wait_for_log(r"post /hooked http 200 OK \d+")


@pytest.mark.parametrize("name", ["uvicorn.workers.UvicornWorker", "uvicorn_worker.UvicornH11Worker"])
def test_uvicorns_worker_classes_are_served_by_ours(serve: Servers, name: str) -> None:
    server = serve(SOURCE, "--worker-class", name)
    assert server.get("/").status == 200
    assert "Using worker: asgi" in server.log
    assert f"worker_class: {name} is served by oxicorn's own asgi worker" in server.log


def test_worker_connections_is_how_many_run_at_once(serve: Servers) -> None:
    server = serve(SOURCE, *ASGI, "--worker-connections", "3", "--timeout", "0")
    peers = [server.connect() for _ in range(5)]
    for peer in peers:
        peer.send(b"GET /gate HTTP/1.1\r\nHost: a\r\n\r\n")
    wait_for(lambda: server.lines("notes").count("called gate") == 3)
    stays(lambda: server.lines("notes").count("called gate") == 3, 0.3)
    (server.directory / "open").touch()
    for peer in peers:
        assert peer.answer().status == 200
        peer.close()
    steps = [{"called gate": 1, "passed gate": -1}.get(line, 0) for line in server.lines("notes")]
    assert max(itertools.accumulate(steps)) == 3
