"""Worker classes of the user's: those that derive from Gunicorn's run, others are refused with what to set instead."""

from __future__ import annotations

import pytest

from tests.support.greenlets import NEEDS_GEVENT
from tests.support.ports import free_port
from tests.support.server import Kind, Servers
from tests.support.wait import wait_for

SOURCE = """
    import os

    from gunicorn.workers.base import Worker
    from gunicorn.workers.gthread import ThreadWorker
    from gunicorn.workers.sync import SyncWorker

    def application(environ, start_response):
        start_response("200 OK", [])
        return [os.environ.get("MARK", "").encode()]

    class Overriding:
        def init_process(self):
            os.environ["MARK"] = "init_process"
            super().init_process()

        def init_signals(self):
            super().init_signals()
            os.environ["MARK"] += " init_signals"

        def load_wsgi(self):
            super().load_wsgi()
            os.environ["MARK"] += " load_wsgi"

        def run(self):
            os.environ["MARK"] += " run"
            super().run()

        def handle_exit(self, sig, frame):
            self.log.info("handle_exit of a subclass")
            super().handle_exit(sig, frame)

    class MySync(Overriding, SyncWorker):
        pass

    class MyThreads(Overriding, ThreadWorker):
        pass

    class Own(Worker):
        pass

    class Alien:
        def run(self):
            pass
"""


@pytest.fixture
def only_oxicorn(kind: Kind) -> None:
    """For what Gunicorn does not say."""
    if kind.is_gunicorn:
        pytest.skip("of oxicorn's own messages")


@pytest.mark.parametrize("name", ["MySync", "MyThreads"])
def test_overridden_methods_run(serve: Servers, name: str) -> None:
    server = serve(SOURCE, "-k", f"app.{name}")
    assert server.get("/").body == b"init_process init_signals load_wsgi run"
    assert f"Using worker: app.{name}" in server.log
    assert server.stop() == 0
    assert "handle_exit of a subclass" in server.log


def test_threads_of_a_subclass(serve: Servers) -> None:
    server = serve(SOURCE, "-k", "app.MyThreads", "--threads", "3")
    assert server.get("/").status == 200


def test_class_of_the_config_file(serve: Servers) -> None:
    config = """
        from gunicorn.workers.gthread import ThreadWorker
        class Mine(ThreadWorker):
            def init_process(self):
                self.log.info("mine begins")
                super().init_process()
        worker_class = Mine
        threads = 2
    """
    server = serve(SOURCE, config=config)
    assert "mine begins" in server.log
    assert "Using worker: Mine" in server.log


HANDLING = """
    from gunicorn.workers.gthread import ThreadWorker
    from gunicorn.workers.sync import SyncWorker

    def application(environ, start_response):
        if environ["PATH_INFO"] == "/raise":
            raise RuntimeError("raised by the application")
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [environ["wsgi.input"].read() or b"served"]

    class Handling:
        def around(self, req, addr, serve):
            if req.path == "/early":
                raise RuntimeError("raised by the class")
            if req.path != "/left":
                result = serve()
                self.log.info("handled %s %s from %s", req.method, req.uri, addr[0])
                return result

        def handle_error(self, req, client, addr, exc):
            self.log.info("%s for %s from %s", exc, req.uri, client.getpeername()[0])
            super().handle_error(req, client, addr, exc)

        def notify(self):
            super().notify()
            with open("notify.log", "a") as file:
                file.write(f"{threading.current_thread() is threading.main_thread()}\\n")

    import threading

    class MySync(Handling, SyncWorker):
        def handle_request(self, listener, req, client, addr):
            assert listener.getsockname()[1] > 0
            serve = super().handle_request
            return self.around(req, addr, lambda: serve(listener, req, client, addr))

    class MyThreads(Handling, ThreadWorker):
        def handle_request(self, req, conn):
            serve = super().handle_request
            return self.around(req, conn.client, lambda: serve(req, conn))
"""

GREENLETS = """
    from gunicorn.workers.ggevent import GeventWorker

    class MyGreenlets(Handling, GeventWorker):
        def handle_request(self, listener_name, req, sock, addr):
            assert listener_name[1] > 0
            serve = super().handle_request
            return self.around(req, addr, lambda: serve(listener_name, req, sock, addr))
"""


@pytest.mark.parametrize("name", ["MySync", "MyThreads", "MyGreenlets"])
def test_overridden_handling_of_requests(serve: Servers, kind: Kind, name: str) -> None:
    source = HANDLING
    if name == "MyGreenlets":
        pytest.importorskip("gevent")
        source += GREENLETS
    server = serve(source, "-k", f"app.{name}", "--threads", "1", "--timeout", "4", access_log=True)
    assert server.request("POST", "/some?thing", body=b"x" * 100_000).body == b"x" * 100_000
    server.wait_for_log(r"handled POST /some\?thing from 127\.0\.0\.1")
    assert server.get("/raise").status == 500
    server.wait_for_log("raised by the application for /raise from 127.0.0.1")
    server.wait_for_log("RuntimeError: raised by the application")
    if not kind.is_gunicorn:  # It has no answer for these.
        assert server.get("/early").status == 500
        server.wait_for_log("raised by the class for /early from 127.0.0.1")
        assert server.get("/left").status == 500
        server.wait_for_log("handle_request of the worker class left a request")
        wait_for(lambda: any('"GET /left HTTP/1.1" 500' in line for line in server.access_log))
    assert server.get("/").body == b"served"
    # Also while nothing happens: after at most half the timeout.
    before = len(server.lines("notify.log"))
    wait_for(lambda: len(server.lines("notify.log")) > before + 1)
    assert set(server.lines("notify.log")) == {"True"}
    assert server.stop() == 0


LISTENING = """
    from gunicorn.workers.gthread import ThreadWorker
    from gunicorn.workers.sync import SyncWorker

    def application(environ, start_response):
        start_response("200 OK", [("X-Listener", environ["mine"])])
        return [b""]

    def told(name):
        return name if isinstance(name, str) else f"{name[0]}:{name[1]}"

    class Telling:
        def load_wsgi(self):
            super().load_wsgi()
            serve = self.wsgi
            self.wsgi = lambda environ, start: serve({**environ, "mine": self.mine}, start)

    class MySync(Telling, SyncWorker):
        def handle_request(self, listener, req, client, addr):
            self.mine = told(listener.getsockname())
            super().handle_request(listener, req, client, addr)

    class MyThreads(Telling, ThreadWorker):
        def handle_request(self, req, conn):
            self.mine = told(conn.server)
            return super().handle_request(req, conn)
"""

LISTENING_GREENLETS = """
    from gunicorn.workers.ggevent import GeventWorker

    class MyGreenlets(Telling, GeventWorker):
        def handle_request(self, listener_name, req, sock, addr):
            self.mine = told(listener_name)
            super().handle_request(listener_name, req, sock, addr)
"""


@pytest.mark.parametrize("name", ["MySync", "MyThreads", "MyGreenlets"])
def test_request_is_handled_with_the_listener_it_came_by(serve: Servers, name: str) -> None:
    source = LISTENING
    if name == "MyGreenlets":
        pytest.importorskip("gevent")
        source += LISTENING_GREENLETS
    server = serve.new()
    path = str(server.directory / "second.sock")
    binds = [server.bind, f"127.0.0.1:{free_port()}", f"unix:{path}"]
    server.start("-k", f"app.{name}", "--threads", "1", app=source, bind=binds)
    for bind in (*binds, *reversed(binds)):
        server.bind = bind
        assert server.get("/").header("x-listener") == bind.removeprefix("unix:")


LOOPS = """
    from gunicorn.workers.gasgi import ASGIWorker
    from uvicorn.workers import UvicornWorker

    async def application(scope, receive, send):
        if scope["type"] == "lifespan":
            raise RuntimeError
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"served"})

    class Own(ASGIWorker):
        async def _serve(self):
            self.log.info("begins to serve")
            await super()._serve()

        def notify(self):
            super().notify()
            open("notify.log", "a").write("1\\n")

    class OwnUvicorn(UvicornWorker):
        async def callback_notify(self):
            await super().callback_notify()
            open("notify.log", "a").write("1\\n")
"""


@pytest.mark.parametrize("name", ["Own", "OwnUvicorn"])
def test_overridden_methods_of_event_loops(serve: Servers, kind: Kind, name: str) -> None:
    if kind.is_gunicorn and name == "OwnUvicorn":
        pytest.skip("the module there warns that it is deprecated")
    server = serve(LOOPS, "-k", f"app.{name}", "--timeout", "2")
    assert server.get("/").body == b"served"
    wait_for(lambda: len(server.lines("notify.log")) > 1)
    assert ("begins to serve" in server.log) == (name == "Own")
    assert server.stop() == 0


@pytest.mark.usefixtures("only_oxicorn")
@pytest.mark.parametrize(
    ("base", "method"),
    [
        ("sync.SyncWorker", "accept"),
        ("sync.SyncWorker", "handle"),
        ("sync.SyncWorker", "run_for_one"),
        ("gthread.ThreadWorker", "get_thread_pool"),
        ("gthread.ThreadWorker", "murder_keepalived"),
        ("gasgi.ASGIWorker", "handle_exit_signal"),
        pytest.param("ggevent.GeventWorker", "timeout_ctx", marks=NEEDS_GEVENT),
        pytest.param("ggevent.GeventWorker", "is_already_handled", marks=NEEDS_GEVENT),
    ],
)
def test_what_nothing_calls_is_refused_with_its_name(serve: Servers, base: str, method: str) -> None:
    module, _, name = base.partition(".")
    source = f"from gunicorn.workers.{module} import {name}\nclass Late({name}):\n    def {method}(self, *args): ...\n"
    server = serve(source, "-k", "app.Late", ready=None)
    assert server.wait_for_exit() == 1
    assert f"worker_class app.Late: Late overrides {method}, which nothing calls here: " in server.log
    assert "Traceback" not in server.log


@pytest.mark.usefixtures("only_oxicorn")
@pytest.mark.parametrize(
    ("base", "run", "names"),
    [
        ("sync.SyncWorker", "self.accept(self.wait(1)[0])", "accept, wait of SyncWorker"),
        ("base_async.AsyncWorker", "partial(self.handle, self.sockets[0])", "handle of AsyncWorker"),
    ],
)
def test_run_that_needs_what_is_not_there_is_refused(serve: Servers, base: str, run: str, names: str) -> None:
    module, _, name = base.partition(".")
    source = f"from gunicorn.workers.{module} import {name}\nclass Own({name}):\n    def run(self):\n        {run}\n"
    server = serve(source, "-k", "app.Own", ready=None)
    assert server.wait_for_exit() == 1
    assert f"worker_class app.Own: its run() needs {names}, which are not there" in server.log


@pytest.mark.parametrize("base", ["sync.SyncWorker", "base_async.AsyncWorker"])
def test_run_of_its_own_accepts_connections(serve: Servers, base: str) -> None:
    """By methods of its own, which may be called as those of Gunicorn's are."""
    source = """
        import select
        from gunicorn.workers.{} import {}

        def application(environ, start_response):
            raise AssertionError("the class answers by itself")

        class Own({}):
            def run(self):
                (listener,) = self.sockets
                listener.setblocking(False)
                while self.alive:
                    self.notify()
                    if select.select([listener], [], [], 0.1)[0]:
                        self.accept(listener)

            def accept(self, listener):
                client, addr = listener.accept()
                with client:
                    client.setblocking(True)
                    self.handle(listener, client, addr)

            def handle(self, listener, client, addr):
                client.recv(65536)
                client.sendall(b"HTTP/1.0 200 OK\\r\\n\\r\\nown")
    """
    module, _, name = base.partition(".")
    server = serve(source.format(module, name, name), "-k", "app.Own")
    assert server.get("/").body == b"own"
    assert server.stop() == 0


@NEEDS_GEVENT
def test_application_that_has_answered_by_itself(serve: Servers, kind: Kind) -> None:
    source = """
        from gunicorn.workers.base_async import ALREADY_HANDLED

        def application(environ, start_response):
            if environ["PATH_INFO"] == "/own":
                environ["gunicorn.socket"].sendall(b"HTTP/1.0 200 OK\\r\\nContent-Length: 3\\r\\n\\r\\nown")
                environ["gunicorn.socket"].close()
                return ALREADY_HANDLED
            start_response("200 OK", [])
            return [b"hello"]
    """
    server = serve(source, "-k", "gevent")
    assert server.get("/own").body == b"own"
    assert server.get("/").body == b"hello"
    # There the class looks for the next request on the closed socket.
    assert "Error" not in server.log or kind.is_gunicorn


@pytest.mark.usefixtures("only_oxicorn")
@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("app.Own", "derive it from SyncWorker, ThreadWorker or GeventWorker"),
        ("app.Alien", "derive it from SyncWorker, ThreadWorker or GeventWorker"),
        ("app.Missing", "worker_class 'app.Missing' invalid or not found"),
        ("gthraed", "did you mean gthread?"),
    ],
)
@pytest.mark.parametrize("check", [(), ("--check-config",)])
def test_refusal_says_what_to_set_instead(serve: Servers, name: str, advice: str, check: tuple[str, ...]) -> None:
    server = serve(SOURCE, "-k", name, *check, ready=None)
    assert server.wait_for_exit() == 1
    assert advice in server.log
