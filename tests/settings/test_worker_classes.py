"""Worker classes of the user's: those that derive from Gunicorn's run, others are refused with what to set instead."""

from __future__ import annotations

import pytest

from tests.support.server import Kind, Servers

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


@pytest.mark.usefixtures("only_oxicorn")
def test_what_nobody_calls_is_named(serve: Servers) -> None:
    source = SOURCE + "\n    class Late(SyncWorker):\n        def handle_request(self, *args): ...\n"
    server = serve(source, "-k", "app.Late")
    assert "worker_class: Late overrides what nobody calls: handle_request" in server.log


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
