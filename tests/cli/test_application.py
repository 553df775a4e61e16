"""Which application is served: module, attribute, factory; and what is said when it cannot be loaded."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from oxicorn.app.stdlib_first import IMPORTED_BY_GUNICORN

SOURCE = """
    import os

    def make(text):
        def app(environ, start_response):
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [text.encode()]
        return app

    application = make("application")
    app = make("app")
    nothing = None
    number = 5

    class Namespace:
        inner = make("inner")

    namespace = {"key": make("never")}

    class Callable:
        def __call__(self, environ, start_response):
            return make("instance")(environ, start_response)

    instance = Callable()

    def create_app(name="default", *, debug=False, extra=()):
        return make(f"{name} {debug} {extra}")

    def create_none():
        return None

    def create_failing():
        raise RuntimeError("factory failed")

    def create_type_error():
        return len(5)
"""


@pytest.mark.parametrize(
    ("spec", "answer"),
    [
        ("app", "application"),
        ("app:app", "app"),
        ("app:application", "application"),
        ("app:instance", "instance"),
        ("app:create_app()", "default False ()"),
        ("app:create_app('shop')", "shop False ()"),
        ("app:create_app('shop', debug=True)", "shop True ()"),
        ("app:create_app(name='x', extra=[1, {'a': None}])", "x False [1, {'a': None}]"),
    ],
)
def test_application_is_found(serve, spec, answer):
    assert serve(SOURCE, spec=spec).get().text == answer


def test_attribute_path_is_followed(serve):
    assert serve(SOURCE, spec="app:Namespace.inner").get().text == "inner"


def test_module_of_a_package(serve):
    server = serve.new()
    (server.directory / "shop").mkdir()
    server.write("shop/__init__.py", "")
    server.write("shop/wsgi.py", SOURCE)
    assert server.start(spec="shop.wsgi:app").get().text == "app"


@pytest.mark.parametrize("config", [None, "import logging\nimport email\n"], ids=["no config file", "a config file"])
def test_files_of_the_user_hide_no_module_that_was_there_before(serve, config):
    server = serve.new()
    for name in ("calendar", "json", "logging", "random", "socket", "ssl", "string", "token"):
        server.write(f"{name}.py", "raise RuntimeError('the library is meant')\n")
    (server.directory / "email").mkdir()
    server.write("email/__init__.py", "raise RuntimeError('the library is meant')\n")
    # What nobody has imported yet is the application's to replace.
    server.write("secrets.py", "mine = True\n")
    source = """
        import calendar, email, json, logging, random, secrets, socket, ssl, string, token

        def app(environ, start_response):
            start_response("200 OK", [("Content-Type", "text/plain")])
            logging.getLogger("gunicorn.error").info("from the application")
            return [json.dumps(secrets.mine).encode()]
    """
    server.write("app.py", source)
    assert server.start(spec="app:app", config=config).get().text == "true"
    server.wait_for_log("from the application")


def test_all_that_gunicorn_has_imported_by_then_is_known():
    source = "import sys\nbefore = set(sys.modules)\nimport gunicorn.app.wsgiapp\nprint(*(set(sys.modules) - before))"
    run = subprocess.run([sys.executable, "-I", "-c", source], capture_output=True, text=True, check=True)
    public = {name for name in run.stdout.split() if not name.startswith("_")}
    assert public & sys.stdlib_module_names <= IMPORTED_BY_GUNICORN


def test_application_from_the_config_file(serve):
    assert serve(SOURCE, spec=None, config="wsgi_app = 'app:app'\n").get().text == "app"


def test_command_line_wins_over_the_config_file(serve):
    assert serve(SOURCE, spec="app", config="wsgi_app = 'app:app'\n").get().text == "application"


@pytest.mark.parametrize(
    ("spec", "code", "message"),
    [
        ("does_not_exist", 3, "No module named 'does_not_exist'"),
        ("app.py", 3, "did you mean 'app:"),
        ("app:does_not_exist", 4, "Failed to find attribute 'does_not_exist' in 'app'."),
        ("app:nothing", 4, "Failed to find application object: 'nothing'"),
        ("app:number", 4, "Application object must be callable."),
        ("app:namespace['key']", 4, "Failed to parse \"namespace['key']\" as an attribute name or function call."),
        ("app:create_app(", 4, "Failed to parse 'create_app(' as an attribute name or function call."),
        ("app:create_app(undefined)", 4, "Failed to parse arguments as literal values"),
        ("app:create_app(len('a'))", 4, "Failed to parse arguments as literal values"),
        ("app:os.getcwd()", 4, "Function reference must be a simple name"),
        ("app:create_app(1, 2, 3)", 4, "takes from 0 to 1 positional arguments but 3 were given"),
        ("app:create_none()", 4, "Failed to find application object: 'create_none()'"),
        ("app:create_failing()", 3, "RuntimeError: factory failed"),
        ("app:create_type_error()", 3, "has no len()"),
    ],
)
def test_failure_to_load_ends_the_server(serve, spec, code, message):
    # Gunicorn may stumble over the second of two failures, and then ends with code 1.
    workers = "1" if serve.kind.is_gunicorn else "2"
    server = serve(SOURCE, "--workers", workers, spec=spec, ready=None)
    assert server.wait_for_exit() == code
    assert message in server.log
    reason = {3: "Worker failed to boot.", 4: "App failed to load."}[code]
    assert f"[ERROR] Reason: {reason}" in server.log
    assert "[ERROR] Shutting down: Master" in server.log


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def broken(:", "SyntaxError"),
        ("import does_not_exist", "No module named 'does_not_exist'"),
        ("1 / 0", "ZeroDivisionError"),
    ],
)
def test_broken_module_ends_the_server_with_its_traceback(serve, source, message):
    server = serve(source + "\n", ready=None)
    assert server.wait_for_exit() == 3
    assert message in server.log
    assert "app.py" in server.log
    assert "[ERROR] Reason: Worker failed to boot." in server.log


LOADED_BY = """
import os
LOADED_BY = os.getpid()
open("loads", "a").write(f"{LOADED_BY}\\n")

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{LOADED_BY} {os.getpid()}".encode()]
"""


def test_preload_loads_once_for_all_workers(serve):
    server = serve(LOADED_BY, "--preload", "--workers", "2")
    loaded, served = map(int, server.get().text.split())
    assert server.lines("loads") == [str(loaded)]
    assert served in server.worker_pids()
    assert loaded not in server.worker_pids()


def test_preload_in_the_arbiter_is_gunicorns_way(serve):
    own = "" if serve.kind.is_gunicorn else "preload_in_arbiter = True\n"
    hooks = """
preload_app = True
workers = 2
def on_starting(server):
    server.log.info("on_starting: %s", server.app.callable.__name__)
def pre_fork(server, worker):
    server.log.info("pre_fork: %s", server.app.callable.__name__)
"""
    server = serve(LOADED_BY, config=own + hooks)
    server.wait_for_log("on_starting: application")
    server.wait_for_log("pre_fork: application", count=2)
    old = server.wait_for_workers(2)
    assert int(server.get().text.split()[0]) == server.pid
    # HUP keeps the code.
    server.write("app.py", "raise RuntimeError('never imported')\n")
    server.kill(signal.SIGHUP)
    server.wait_for_workers(2, without=old)
    assert server.lines("loads") == [str(server.pid)]


def test_failing_preload_in_the_arbiter_ends_the_server(serve):
    own = [] if serve.kind.is_gunicorn else ["--preload-in-arbiter"]
    server = serve("raise ValueError('not today')\n", "--preload", *own, ready=None)
    assert server.wait_for_exit() == 1
    assert "ValueError: not today" in server.log


def test_failing_preload_ends_the_server(serve):
    server = serve("raise ValueError('not today')\n", "--preload", ready=None)
    assert server.wait_for_exit() == 1
    assert "ValueError: not today" in server.log
