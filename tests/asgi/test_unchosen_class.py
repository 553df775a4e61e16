"""An application that the worker class does not serve: served by another where nobody chose, else named at boot."""

from __future__ import annotations

import signal

import pytest

from tests.support.server import Servers
from tests.support.wait import wait_for
from tests.support.websocket import WebSocket

pytestmark = pytest.mark.usefixtures("only_oxicorn")

ASGI = """
    async def application(scope, receive, send):
        if scope["type"] == "lifespan":
            return
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            return await send({"type": "websocket.send", "text": "open"})
        body = b""
        while True:
            event = await receive()
            body += event["body"]
            if not event["more_body"]:
                break
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"asgi " + body})
"""

WSGI = """
    def application(environ, start_response):
        start_response("200 OK", [])
        return [b"wsgi"]
"""

SERVED_BY_ASGI = "The application speaks ASGI: worker class asgi serves it (worker_class is not set)"


@pytest.mark.parametrize("flags", [(), ("--preload",), ("--threads", "4")])
def test_asgi_is_served_where_nobody_chose(serve: Servers, flags: tuple[str, ...]) -> None:
    config = """
        def note(name, worker):
            print(name, type(worker).__name__, file=open("hooks", "a"), flush=True)
        def post_fork(server, worker):
            note("post_fork", worker)
        def post_worker_init(worker):
            note("post_worker_init", worker)
        def worker_exit(server, worker):
            note("worker_exit", worker)
    """
    server = serve(ASGI, "-w", "2", *flags, config=config)
    assert server.request("POST", "/", body=b"x" * 200_000).body == b"asgi " + b"x" * 200_000
    with WebSocket(server.address, "/") as client:
        assert client.receive() == "open"
    wait_for(lambda: server.lines("hooks").count("post_worker_init AsgiWorker") == 2)
    assert "post_worker_init SyncWorker" not in server.lines("hooks")
    assert server.log.count(SERVED_BY_ASGI) == 1
    assert "[ERROR]" not in server.log
    assert "[WARNING]" not in server.log


def test_a_reload_follows_the_application(serve: Servers) -> None:
    server = serve(ASGI)
    for source, answer in (WSGI, b"wsgi"), (WSGI, b"wsgi"), (ASGI, b"asgi "):
        before = server.worker_pids()
        server.write("app.py", source)
        server.kill(signal.SIGHUP)
        server.wait_for_workers(1, without=before)
        assert wait_for(lambda: server.get("/").body) == answer
    assert "The application speaks WSGI: worker class sync serves it" in server.log
    assert "[ERROR]" not in server.log


@pytest.mark.parametrize(
    ("source", "flags", "said"),
    [
        (ASGI, ("-k", "sync"), "speaks ASGI, which worker_class sync does not serve: set worker_class to asgi"),
        (ASGI, ("-k", "gthread"), "speaks ASGI, which worker_class gthread does not serve: set worker_class to asgi"),
        (WSGI, ("-k", "asgi"), "speaks WSGI, which worker_class asgi does not serve: set worker_class to gthread"),
        ("def application(): ...", (), "application takes no arguments, as what makes one does: name it app:"),
    ],
)
def test_what_was_chosen_is_kept_and_named(serve: Servers, source: str, flags: tuple[str, ...], said: str) -> None:
    server = serve(source, "-w", "2", *flags, ready=None)
    server.wait_for_log("Booting worker", count=2)
    server.wait_for_log(said)
    wait_for(lambda: server.get("/").status == 500)
    assert server.log.count(said) == 1
    checked = serve(source, *flags, "--check-config", ready=None)
    assert checked.wait_for_exit() == 1
    assert f"{said}" in checked.log


def test_check_config_tells_who_will_serve(serve: Servers) -> None:
    server = serve(ASGI, "--check-config", ready=None)
    assert server.wait_for_exit() == 0
    assert SERVED_BY_ASGI in server.log
