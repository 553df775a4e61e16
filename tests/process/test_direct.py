"""Worker classes with a server of their own: they accept connections themselves, on the arbiter's listeners."""

from __future__ import annotations

import os
import re
import signal
from typing import TYPE_CHECKING

import pytest

from tests.support.isolation import without_gunicorn
from tests.support.load import reload_under_load
from tests.support.ports import free_port
from tests.support.wait import wait_for

if TYPE_CHECKING:
    from tests.support.server import Kind, Servers

#: A class as others write them: against Gunicorn's base class and documentation.
SOURCE = """
    import os, select, time
    from gunicorn.workers.base import Worker

    def application(environ, start_response):
        raise AssertionError("the class answers by itself")

    class Own(Worker):
        def run(self):
            self.nr = 0
            for sock in self.sockets:
                sock.setblocking(False)
            while self.alive:
                self.notify()
                for sock in select.select(self.sockets, [], [], 0.1)[0]:
                    try:
                        client, _ = sock.accept()
                    except BlockingIOError:
                        continue
                    with client:
                        client.setblocking(True)
                        self.answer(client, sock)

        def answer(self, client, sock):
            target = client.recv(65536).split(b" ")[1].decode()
            self.nr += 1
            if target == "/hang":
                time.sleep(60)
            body = {"/pid": os.getpid(), "/address": sock.cfg_addr, "/nr": self.nr}.get(target, "own")
            client.sendall(b"HTTP/1.0 200 OK\\r\\n\\r\\n" + str(body).encode())
            if self.nr >= self.max_requests:
                self.alive = False
"""


def test_class_by_path_serves_and_stops(serve: Servers, kind: Kind) -> None:
    server = serve(SOURCE, "-k", "app.Own", "--workers", "2")
    assert server.get("/").body == b"own"
    assert int(server.get("/pid").body) in server.worker_pids()
    assert server.get("/address").body.decode() == str(server.address)
    assert "Using worker: app.Own" in server.log
    if not kind.is_gunicorn:
        assert "app.Own accepts connections itself" in server.log
    assert server.stop() == 0
    assert server.refuses()


def test_no_request_fails_in_reloads(serve: Servers, kind: Kind) -> None:
    if kind.is_gunicorn:
        pytest.skip("Gunicorn's reload does not wait for the new workers")
    server = serve(SOURCE, "-k", "app.Own", "--workers", "2")
    reload_under_load(server, 4)


def test_old_worker_serves_until_the_successor_has_booted(serve: Servers, kind: Kind) -> None:
    if kind.is_gunicorn:
        pytest.skip("Gunicorn's reload does not wait for the new workers")
    server = serve(SOURCE, "-k", "app.Own")
    (old,) = server.worker_pids()
    gate = server.directory / "gate"
    server.write(
        "gunicorn.conf.py",
        f"""
        import os, time
        def post_worker_init(worker):
            while not os.path.exists({str(gate)!r}):
                time.sleep(0.01)
        """,
    )
    server.kill(signal.SIGHUP)
    server.wait_for_log("Booting worker with pid", count=2)
    assert int(server.get("/pid").body) == old
    gate.touch()
    server.wait_for_workers(1, without=[old])
    assert int(server.get("/pid").body) != old


#: As aiohttp's: booted is who listens.
LATE = (
    SOURCE
    + """
    class Late(Own):
        def run(self):
            self.booted = False
            if os.path.exists("broken"):
                raise RuntimeError("nothing to listen with")
            while os.path.exists("closed"):
                time.sleep(0.01)
            self.booted = True
            super().run()

    class Silent(Own):
        def notify(self):
            pass
"""
)


def test_class_that_takes_back_that_it_has_booted_is_waited_for(serve: Servers, kind: Kind) -> None:
    if kind.is_gunicorn:
        pytest.skip("Gunicorn's reload does not wait for the new workers")
    server = serve(LATE, "-k", "app.Late")
    (old,) = server.worker_pids()
    server.write("closed", "")
    server.kill(signal.SIGHUP)
    server.wait_for_log("Booting worker with pid", count=2)
    assert int(server.get("/pid").body) == old
    (server.directory / "closed").unlink()
    server.wait_for_workers(1, without=[old])
    assert int(server.get("/pid").body) != old


def test_failure_before_it_has_booted_is_one_of_the_boot(serve: Servers) -> None:
    server = serve.new()
    server.write("broken", "")
    server.start("-k", "app.Late", app=LATE, ready=None)
    assert server.wait_for_exit() == 3


def test_failure_before_a_successor_has_booted_ends_the_reload(serve: Servers, kind: Kind) -> None:
    if kind.is_gunicorn:
        pytest.skip("the server ends")
    server = serve(LATE, "-k", "app.Late")
    (old,) = server.worker_pids()
    server.write("broken", "")
    server.kill(signal.SIGHUP)
    server.wait_for_log("RuntimeError: nothing to listen with")
    server.wait_for_log("Reload failed, generation 2 is given up")
    assert int(server.get("/pid").body) == old


def test_class_without_signs_of_life_is_ready_too(serve: Servers, kind: Kind) -> None:
    if kind.is_gunicorn:
        pytest.skip("it replaces such a worker again and again")
    server = serve(LATE, "-k", "app.Silent")
    (old,) = server.worker_pids()
    server.reload()
    assert server.get("/").body == b"own"
    assert old not in server.worker_pids()


def test_who_gives_no_sign_of_life_is_replaced(serve: Servers, kind: Kind) -> None:
    server = serve(SOURCE, "-k", "app.Own", "--timeout", "1")
    old = server.worker_pids()
    with server.connect() as peer:
        peer.send(b"GET /hang HTTP/1.0\r\n\r\n")
        server.wait_for_log(r"WORKER TIMEOUT \(pid:")
        server.wait_for_workers(1, without=old)
    if not kind.is_gunicorn:
        server.wait_for_log(r"in answer$")
    assert server.get("/").body == b"own"


def test_recycled_and_killed_workers_are_replaced(serve: Servers) -> None:
    server = serve(SOURCE, "-k", "app.Own", "--max-requests", "5")
    first = int(server.get("/pid").body)
    wait_for(lambda: int(server.get("/pid").body) != first)
    (pid,) = server.wait_for_workers(1, without=[first])
    os.kill(pid, signal.SIGKILL)
    server.wait_for_workers(1, without=[pid])
    assert server.get("/").body == b"own"


def test_preloaded(serve: Servers) -> None:
    server = serve(SOURCE, "-k", "app.Own", "--preload")
    assert server.get("/").body == b"own"
    server.reload()
    assert server.get("/").body == b"own"
    assert server.stop() == 0


def test_reload_to_and_from_a_class_of_ours(serve: Servers) -> None:
    """Who accepts connections changes twice, the listener stays."""
    ours = SOURCE.replace(
        'raise AssertionError("the class answers by itself")', 'start_response("200 OK", [])\n        return [b"ours"]'
    )
    server = serve(ours, config="worker_class = 'app.Own'\n")
    assert server.get("/").body == b"own"
    server.write("gunicorn.conf.py", "worker_class = 'sync'\n")
    server.reload()
    assert {server.get("/").body for _ in range(5)} == {b"ours"}
    server.write("gunicorn.conf.py", "worker_class = 'app.Own'\n")
    server.reload()
    assert {server.get("/").body for _ in range(5)} == {b"own"}


def test_reload_to_another_address(serve: Servers) -> None:
    config = "worker_class = 'app.Own'\nbind = '127.0.0.1:{}'\n"
    server = serve(SOURCE, config=config.format(port := free_port()), bind="", ready=None)
    server.bind = f"127.0.0.1:{port}"
    server.wait_until_ready()
    server.write("gunicorn.conf.py", config.format(port := free_port()))
    server.reload()
    wait_for(server.refuses)  # A process that ends loses its title before its descriptors.
    server.bind = f"127.0.0.1:{port}"
    assert server.get("/address").body.decode() == str(server.address)


AIOHTTP = """
    import os
    from aiohttp import web

    async def answer(request):
        return web.Response(text=f"{request.method} {len(await request.read())} {os.getpid()}")

    application = web.Application()
    application.router.add_route("*", "/", answer)
"""


@pytest.mark.parametrize(
    ("name", "installed"),
    [("GunicornWebWorker", True), ("GunicornUVLoopWebWorker", True), ("GunicornWebWorker", False)],
    ids=["asyncio", "uvloop", "without gunicorn"],
)
def test_aiohttp(serve: Servers, kind: Kind, name: str, installed: bool) -> None:
    if kind.is_gunicorn and not installed:
        pytest.skip("it is the server")
    options = {} if installed else without_gunicorn("aiohttp")
    server = serve(AIOHTTP, "-k", f"aiohttp.{name}", "--workers", "2", access_log=True, **options)
    with server.connect() as peer:
        for _ in range(2):  # kept alive
            answer = peer.request("POST", "/", body=b"x" * 100_000)
            method, length, pid = answer.body.split()
            assert (method, length) == (b"POST", b"100000")
            assert int(pid) in server.worker_pids()
    server.reload()
    assert server.get("/").status == 200
    wait_for(lambda: any('"POST / HTTP/1.1" 200' in line for line in server.access_log))
    assert server.stop() == 0


def test_class_without_gunicorn(serve: Servers, kind: Kind) -> None:
    if kind.is_gunicorn:
        pytest.skip("it is the server")
    server = serve(SOURCE, "-k", "app.Own", **without_gunicorn())
    assert server.get("/").body == b"own"
    assert server.stop() == 0


def test_class_in_the_config_file(serve: Servers, kind: Kind) -> None:
    config = """
        from app import Own
        class Mine(Own):
            @classmethod
            def setup(cls):
                cls.was_set_up = True
            @classmethod
            def check_config(cls, cfg, log):
                log.info("checked with %s workers", cfg.workers)
            def answer(self, client, sock):
                assert self.was_set_up
                super().answer(client, sock)
        worker_class = Mine
    """
    server = serve(SOURCE, config=config)
    assert server.get("/").body == b"own"
    server.wait_for_log("checked with 1 workers")


def test_class_by_its_entry_point(serve: Servers) -> None:
    server = serve.new()
    place = server.directory / "own_workers-1.0.dist-info"
    place.mkdir()
    (place / "METADATA").write_text("Metadata-Version: 2.1\nName: own-workers\nVersion: 1.0\n")
    (place / "entry_points.txt").write_text("[gunicorn.workers]\nown = app:Own\n")
    server.start("-k", "egg:own-workers#own", app=SOURCE)
    assert server.get("/").body == b"own"
    assert "Using worker: egg:own-workers#own" in server.log


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("from gunicorn.sock import create_sockets", "gunicorn.sock.create_sockets"),
        ("from gunicorn.http import get_parser", "gunicorn.http.get_parser"),
    ],
)
@pytest.mark.parametrize("check", [(), ("--check-config",)])
def test_what_a_module_of_gunicorns_does_not_have_is_named(
    serve: Servers, kind: Kind, line: str, name: str, check: tuple[str, ...]
) -> None:
    if kind.is_gunicorn:
        pytest.skip("it has them")
    server = serve.new()
    server.write("own.py", f"{line}\nfrom gunicorn.workers.base import Worker as Own\n")
    server.start("-k", "own.Own", *check, app="def application(environ, start_response): ...", ready=None)
    assert server.wait_for_exit() == 1
    assert f"worker_class 'own.Own' invalid or not found: it needs {name}, which is not here" in server.log
    assert "Traceback" not in server.log


@pytest.mark.parametrize(
    ("use", "name"),
    [
        ("gunicorn.workers.base.nothing", "gunicorn.workers.base.nothing"),
        ("self.sockets[0].nothing", None),
        ("self.cfg.nothing", "gunicorn.config.Config.nothing"),
        ("self.nothing", "gunicorn.workers.base.Worker.nothing"),
    ],
)
def test_what_an_object_of_gunicorns_does_not_have_is_named(
    serve: Servers, kind: Kind, use: str, name: str | None
) -> None:
    if kind.is_gunicorn:
        pytest.skip("a traceback says it")
    source = f"""
        import gunicorn.workers.base
        def application(environ, start_response): ...
        class Own(gunicorn.workers.base.Worker):
            def run(self):
                {use}
    """
    server = serve(source, "-k", "app.Own", ready=None)
    server.wait_for_log("AttributeError: ")
    if name is not None:
        server.wait_for_log(re.escape(f"app.Own needs {name}, which is not here"))
    server.stop()
    assert (" needs " in server.log) == (name is not None)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("eventlet", "Gunicorn dropped it in 26.0, gthread serves many requests at a time"),
        ("egg:gunicorn#eventlet", "Gunicorn dropped it in 26.0, gthread serves many requests at a time"),
        ("meinheld.gmeinheld.MeinheldWorker", "set worker_class to sync or gthread"),
        ("egg:meinheld#gunicorn_worker", "set worker_class to sync or gthread"),
        ("sanic.worker.GunicornWorker", "Sanic speaks ASGI: set worker_class to asgi"),
    ],
)
def test_name_of_a_class_that_is_gone_says_where_to_go(serve: Servers, kind: Kind, name: str, advice: str) -> None:
    if kind.is_gunicorn:
        pytest.skip("it does not say so")
    server = serve("def application(environ, start_response): ...", "-k", name, ready=None)
    assert server.wait_for_exit() == 1
    (line,) = [line for line in server.log.splitlines() if line]
    assert line.endswith(advice)
