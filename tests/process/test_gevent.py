"""The gevent classes: greenlets, patched before the application is loaded, and stopped in order."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

import pytest
import websocket

from tests.support.http import encode
from tests.support.load import reload_under_load
from tests.support.wait import wait_for

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

    def application(environ, start_response):
        path = environ["PATH_INFO"]
        if path == "/all":  # each waits for the others
            ALL.wait(10)
        elif path == "/slow":
            time.sleep(1)
        elif path == "/exit":
            raise gevent.GreenletExit
        elif path == "/hang":
            until = time.monotonic() + 60
            while time.monotonic() < until:
                pass
        with LOCK:
            body = {"/pid": str(os.getpid()), "/socket": SOCKET, "/uri": environ.get("RAW_URI", "")}.get(path, "hello")
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
        return [body.encode()]
"""


@pytest.mark.parametrize("preload", [(), ("--preload",)], ids=["", "preload"])
@pytest.mark.parametrize("name", ["gevent", "gevent_wsgi"])
def test_greenlets_in_a_patched_process(serve: Servers, kind: Kind, name: str, preload: tuple[str, ...]) -> None:
    server = serve(SOURCE, "-k", name, *preload, access_log=True)
    if not (preload and kind.is_gunicorn):  # It patches what the application has imported already.
        assert server.get("/socket").body == b"gevent._socket3"
    assert server.get("/uri").body == b"/uri" or kind.is_gunicorn
    answers: list[int] = []
    clients = [threading.Thread(target=lambda: answers.append(server.get("/all").status)) for _ in range(20)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    assert answers == [200] * 20
    wait_for(lambda: sum('"GET /all HTTP/1.1" 200' in line for line in server.access_log) == 20)
    assert server.stop() == 0


def test_no_request_fails_in_reloads(serve: Servers, kind: Kind) -> None:
    if kind.is_gunicorn:
        pytest.skip("Gunicorn's reload does not wait for the new workers")
    server = serve(SOURCE, "-k", "gevent", "--workers", "2")
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


def test_one_that_ends_its_greenlet_harms_nobody(serve: Servers) -> None:
    server = serve(SOURCE, "-k", "gevent")
    pid = server.get("/pid").body
    with server.connect() as peer:
        peer.send(encode(target="/exit"))
        assert server.get("/pid").body == pid


def test_hub_that_stands_still_is_noticed(serve: Servers, kind: Kind) -> None:
    server = serve(SOURCE, "-k", "gevent", "--timeout", "1")
    old = server.worker_pids()
    with server.connect() as peer:
        peer.send(encode(target="/hang"))
        server.wait_for_log(r"WORKER TIMEOUT \(pid:")
        if not kind.is_gunicorn:
            server.wait_for_log("in application$")
        server.wait_for_workers(1, without=old)
    assert server.get("/").body == b"hello"


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


def test_websockets_of_gevent_websocket(serve: Servers) -> None:
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
    server = serve(source, "-k", "geventwebsocket.gunicorn.workers.GeventWebSocketWorker")
    channels = [websocket.create_connection(f"ws://{server.bind}/", timeout=10) for _ in range(10)]
    for number, channel in enumerate(channels):
        channel.send(f"message {number}")
    assert [channel.recv() for channel in channels] == [f"message {number}" for number in range(10)]
    for channel in channels:
        channel.close()
    assert server.stop() == 0
