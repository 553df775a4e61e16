"""The gevent classes: greenlets, patched before the application is loaded, and stopped in order."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import websocket

from tests.support.gate import APPLICATION as GATED
from tests.support.gate import Gate
from tests.support.http import encode
from tests.support.isolation import without_gunicorn
from tests.support.load import reload_under_load
from tests.support.wait import stays, wait_for

if TYPE_CHECKING:
    from tests.support.server import Kind, Servers

pytest.importorskip("gevent")

#: ``SOCKET`` is what the application found when it was imported.
SOURCE = """
    import os, socket, threading, time
    import gevent

    SOCKET = socket.socket.__module__
    LOCK = threading.Lock()
    ALL = threading.Barrier(20)

    def exit_by_system():
        raise SystemExit(3)

    def exit_by_greenlet():
        raise gevent.GreenletExit

    def exit_by_timeout():
        with gevent.Timeout(0.01):
            gevent.sleep(60)

    def hang():
        until = time.monotonic() + 60
        while time.monotonic() < until:
            pass

    DEEDS = {
        "/all": lambda: ALL.wait(25),  # each waits for the others
        "/slow": lambda: time.sleep(1),
        "/late": lambda: waits_for_ever(),
        "/hang": hang,
        "/exit/system": exit_by_system,
        "/exit/greenlet": exit_by_greenlet,
        "/exit/timeout": exit_by_timeout,
    }

    def waits_for_ever():
        threading.Event().wait()

    def application(environ, start_response):
        path = environ["PATH_INFO"]
        DEEDS.get(path, lambda: None)()
        if path == "/stream":
            start_response("200 OK", [("Content-Type", "text/plain")])
            return (b"x" * 65536 for _ in range(128))
        with LOCK:
            body = {
                "/pid": str(os.getpid()),
                "/socket": SOCKET,
                "/uri": environ.get("RAW_URI", ""),
                "/length": str(len(environ["wsgi.input"].read())),
                "/flags": str([environ[f"wsgi.{name}"] for name in ("multithread", "multiprocess", "run_once")]),
            }.get(path, "hello")
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
        return [body.encode()]
"""


def test_a_request_may_ask_the_same_worker_by_requests(serve: Servers) -> None:
    source = """
        import requests

        def application(environ, start_response):
            body = b"inner"
            if environ["PATH_INFO"] == "/outer":
                address = f"http://{environ['SERVER_NAME']}:{environ['SERVER_PORT']}"
                with requests.Session() as session:
                    answers = [session.get(address + "/inner", timeout=20).content for _ in range(2)]
                body = b"outer of " + b" and ".join(answers)
            start_response("200 OK", [("Content-Length", str(len(body)))])
            return [body]
    """
    server = serve(source, "-k", "gevent", "--workers", "1")
    assert server.get("/outer").body == b"outer of inner and inner"


@pytest.mark.parametrize("preload", [(), ("--preload",)], ids=["", "preload"])
@pytest.mark.parametrize("name", ["gevent", "gevent_wsgi"])
def test_greenlets_in_a_patched_process(serve: Servers, kind: Kind, name: str, preload: tuple[str, ...]) -> None:
    server = serve(SOURCE, "-k", name, *preload, access_log=True)
    if not (preload and kind.is_gunicorn):  # It patches what the application has imported already.
        assert server.get("/socket").body == b"gevent._socket3"
    assert server.get("/uri").body == b"/uri" or kind.is_gunicorn
    assert server.get("/flags").body == b"[True, False, False]"
    answers: list[int] = []
    clients = [threading.Thread(target=lambda: answers.append(server.get("/all").status)) for _ in range(20)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    assert answers == [200] * 20
    wait_for(lambda: sum('"GET /all HTTP/1.1" 200' in line for line in server.access_log) == 20)
    assert server.stop() == 0


def test_no_more_requests_at_a_time_than_worker_connections(serve: Servers, kind: Kind) -> None:
    if kind.is_gunicorn:
        pytest.skip("there it is connections")
    server = serve(GATED, "-k", "gevent", "--worker-connections", "2")
    with Gate(server) as gate, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.connect()) for _ in range(3)]
        for client in clients:
            client.send(encode(target=gate.target))
        gate.wait_until_reached(2)
        stays(lambda: len(server.lines("gate.reached")) == 2, 0.3)
        gate.open()
        assert [client.answer().body for client in clients] == [b"ok"] * 3


def test_bodies_and_responses_of_any_length(serve: Servers) -> None:
    server = serve(SOURCE, "-k", "gevent")
    for length in (1, 100_000, 5_000_000):
        assert server.request("POST", "/length", body=b"x" * length).body == str(length).encode()
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(server.connect()) for _ in range(20)]
        for client in slow:
            client.send(encode(target="/stream"))
        # Clients that do not read hold no other up.
        assert server.get("/").body == b"hello"
        assert [len(client.answer().body) for client in slow] == [128 * 65536] * 20


def test_a_late_request_is_ended_alone(serve: Servers, kind: Kind) -> None:
    if kind.is_gunicorn:
        pytest.skip("a greenlet there may take as long as it likes")
    server = serve(SOURCE, "-k", "gevent", "--timeout", "4", access_log=True)
    pid = server.get("/pid").body
    with server.connect() as late:
        late.send(encode(target="/late"))
        server.wait_for_log(r"Request timed out after .* GET /late HTTP/1.1")
        assert late.answer().status == 504
    server.wait_for_log(r"Stack of the request that timed out")
    server.wait_for_log(r"in waits_for_ever$")
    assert server.get("/pid").body == pid
    wait_for(lambda: [line for line in server.access_log if '"GET /late HTTP/1.1" 504' in line])
    assert "GreenletExit" not in server.log


HOOKS = """
    def pre_request(worker, req):
        worker.log.info("before %s %s %s", req.method, req.path, dict(req.headers)["X-NAME"])

    def post_request(worker, req, environ, resp):
        worker.log.info("after %s %s %s %s", req.uri, environ["PATH_INFO"], resp.status, resp.sent)
"""


FORKING = """
    import multiprocessing, os, time
    import gevent

    def application(environ, start_response):
        body = b"hello"
        if environ["PATH_INFO"] == "/sleep":
            with open("asleep", "w"):
                gevent.sleep(0.5)
        elif environ["PATH_INFO"] == "/fork":
            child = multiprocessing.get_context("fork").Process(target=work)
            child.start()
            child.join()
            body = str(child.exitcode).encode()
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]

    def work():
        with open("forked", "w"):
            pass
        while not os.path.exists("go"):
            time.sleep(0.01)
        time.sleep(0.1)
        os._exit(7)
"""


def test_process_that_a_request_forks_ends_by_itself(serve: Servers, kind: Kind) -> None:
    """Not with the copies of other greenlets that it has, and not by what the link has for its parent."""
    if kind.is_gunicorn:
        pytest.skip("there the copy answers the other request once more")
    server = serve(FORKING, "-k", "gevent")
    with server.connect() as sleeper, server.connect() as forker:
        sleeper.send(encode(target="/sleep"))
        wait_for(lambda: (server.directory / "asleep").exists())
        forker.send(encode(target="/fork"))
        wait_for(lambda: (server.directory / "forked").exists())
        assert sleeper.answer().body == b"hello"
        for _ in range(20):
            assert server.get("/").body == b"hello"
        server.write("go", "")
        assert forker.answer().body == b"7"


def test_hooks_around_requests(serve: Servers) -> None:
    server = serve(SOURCE, "-k", "gevent", config=HOOKS)
    server.request("GET", "/hooked", headers=[("X-Name", "value")])
    server.wait_for_log("before GET /hooked value")
    server.wait_for_log("after /hooked /hooked 200 OK 5")


SUBCLASS = """
    from gunicorn.workers.ggevent import GeventWorker

    class Own(GeventWorker):
        def patch(self):
            super().patch()
            self.log.info("patched by %s", type(self).__name__)

        def init_process(self):
            self.log.info("init_process")
            super().init_process()

        def run(self):
            self.log.info("run")
            super().run()

        def handle_request(self, listener_name, req, sock, addr):
            self.log.info("handles %s", req.path)
            return super().handle_request(listener_name, req, sock, addr)
"""


def test_classes_that_derive_from_it(serve: Servers) -> None:
    server = serve(SOURCE + SUBCLASS, "-k", "app.Own")
    assert server.get("/one").body == b"hello"
    for text in ("init_process", "patched by Own", "run", "handles /one"):
        server.wait_for_log(text)


@pytest.mark.parametrize("name", ["gevent", "gevent_wsgi"])
def test_no_request_fails_in_reloads(serve: Servers, kind: Kind, name: str) -> None:
    if kind.is_gunicorn:
        pytest.skip("Gunicorn's reload does not wait for the new workers")
    server = serve(SOURCE, "-k", name, "--workers", "2")
    reload_under_load(server, 3)


def test_stop_waits_for_requests_but_not_for_kept_connections(serve: Servers, kind: Kind) -> None:
    if kind.is_gunicorn:
        pytest.skip("its class waits for kept connections too")
    server = serve(SOURCE, "-k", "gevent")
    with server.connect() as kept, server.connect() as slow:
        assert kept.request("GET", "/").body == b"hello"
        slow.send(encode(target="/slow"))
        server.get("/")  # Behind the slow request, so that one has been taken.
        assert server.stop() == 0
        assert slow.answer().body == b"hello"
    assert "graceful timeout" not in server.log


@pytest.mark.parametrize("name", ["gevent", "gevent_wsgi"])
@pytest.mark.parametrize("what", ["system", "greenlet", "timeout"])
def test_one_that_ends_its_greenlet_harms_nobody(serve: Servers, kind: Kind, name: str, what: str) -> None:
    server = serve(SOURCE, "-k", name)
    pid = server.get("/pid").body
    with server.connect() as peer, server.connect() as other:
        other.send(encode(target="/slow"))
        peer.send(encode(target=f"/exit/{what}"))
        if name == "gevent" and not kind.is_gunicorn:
            assert peer.answer().status == 500
            server.wait_for_log("SystemExit: 3|GreenletExit|Timeout: 0.01 seconds")
        if not (name == "gevent_wsgi" and what == "system"):  # gevent's server takes that for the process's end.
            assert other.answer().body == b"hello"
            assert server.get("/pid").body == pid


@pytest.mark.parametrize("name", ["gevent", "gevent_wsgi"])
def test_hub_that_stands_still_is_noticed(serve: Servers, kind: Kind, name: str) -> None:
    server = serve(SOURCE, "-k", name, "--timeout", "3")
    old = server.worker_pids()
    with server.connect() as peer:
        peer.send(encode(target="/hang"))
        server.wait_for_log(r"WORKER TIMEOUT \(pid:")
        if not kind.is_gunicorn:
            server.wait_for_log("in hang$")
        server.wait_for_workers(1, without=old)
    # Its own start may take longer than a request may, where the machine is busy.
    wait_for(lambda: server.get("/").body == b"hello")
    # It is told of once, and by nothing of the server's own.
    assert len(re.findall(r"(Lost with worker|Request timed out) .*GET /hang", server.log)) <= 1
    assert "handle_abort" not in server.log


def test_recycled_and_killed_workers_are_replaced(serve: Servers, kind: Kind) -> None:
    server = serve(SOURCE, "-k", "gevent", "--max-requests", "5")
    first = int(server.get("/pid").body)
    wait_for(lambda: int(server.get("/pid").body) != first)
    if not kind.is_gunicorn:
        server.wait_for_log("Autorestarting worker after current request")
    (pid,) = server.wait_for_workers(1, without=[first])
    os.kill(pid, signal.SIGKILL)
    server.wait_for_workers(1, without=[pid])
    assert server.get("/").body == b"hello"


@pytest.mark.parametrize("installed", [True, False], ids=["", "without gunicorn"])
def test_websockets_of_gevent_websocket(serve: Servers, kind: Kind, installed: bool) -> None:
    if kind.is_gunicorn and not installed:
        pytest.skip("it is the server")
    source = """
        def application(environ, start_response):
            channel = environ.get("wsgi.websocket")
            if channel is None:
                start_response("200 OK", [("Content-Type", "text/plain")])
                return [b"hello"]
            while (message := channel.receive()) is not None:
                channel.send(message)
            return []
    """
    name = "geventwebsocket.gunicorn.workers.GeventWebSocketWorker"
    options = {} if installed else without_gunicorn("gevent-websocket", "gevent")
    server = serve(source, "-k", name, **options)
    channels = [websocket.create_connection(f"ws://{server.bind}/", timeout=10) for _ in range(10)]
    for number, channel in enumerate(channels):
        channel.send(f"message {number}")
    assert [channel.recv() for channel in channels] == [f"message {number}" for number in range(10)]
    for channel in channels:
        channel.close()
    assert server.stop() == 0


def test_thread_that_gives_signs_of_life_sleeps_while_requests_come(serve: Servers, kind: Kind) -> None:
    if kind.is_gunicorn:
        pytest.skip("it has no such thread")
    server = serve(SOURCE, "-k", "gevent")
    (pid,) = server.worker_pids()
    tasks = Path(f"/proc/{pid}/task")
    (sentinel,) = (task for task in tasks.iterdir() if (task / "comm").read_text().startswith("oxicorn-sentine"))

    def switches() -> int:
        return sum(
            int(line.split()[1]) for line in (sentinel / "status").read_text().splitlines() if "switches" in line
        )

    before = switches()
    with server.connect() as peer:
        for _ in range(300):
            assert peer.get("/").body == b"hello"
    # Once for each request would be 300 times.
    assert switches() - before < 250
