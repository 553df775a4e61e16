"""Gunicorn's import paths: they resolve to ours where Gunicorn is not installed, and to Gunicorn where it is."""

from __future__ import annotations

import importlib
import pkgutil
import re

import pytest
from gunicorn import __version__ as GUNICORN_VERSION

from oxicorn import compat
from tests.programs.conftest import WITHOUT_GUNICORN

HELLO = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [environ["SERVER_SOFTWARE"].encode()]
"""

MODULES = ["gunicorn", *(f"gunicorn.{name}" for name in sorted(compat.SHARED))]


@pytest.fixture(autouse=True)
def only_ours(kind):
    """What is tested is our finder."""
    if kind.is_gunicorn:
        pytest.skip("Gunicorn's own paths are its own")


def modules_of(package: str) -> set[str]:
    """Every module below a package, by its name there."""
    path = importlib.import_module(package).__path__
    return {name.partition(".")[2] for _, name, _ in pkgutil.walk_packages(path, f"{package}.", lambda name: None)}


def test_every_module_that_both_have_is_given_out():
    assert (modules_of("gunicorn") & modules_of("oxicorn")) - {"__main__"} == compat.SHARED
    assert GUNICORN_VERSION == compat.GUNICORN_VERSION


@pytest.mark.parametrize("module", MODULES)
def test_module_is_ours_under_both_names(program, module):
    own = module.replace("gunicorn", "oxicorn", 1)
    text = f"""
import importlib, importlib.util
from oxicorn import compat
compat.install()
compat.install()
theirs = importlib.import_module("{module}")
ours = importlib.import_module("{own}")
print(theirs is ours, ours.__name__, ours.__spec__.name, importlib.util.find_spec("{own}").name)
"""
    server = program(text, env=WITHOUT_GUNICORN)
    assert server.wait_for_exit() == 0, server.log
    same = "False oxicorn oxicorn oxicorn" if module == "gunicorn" else f"True {own} {own} {own}"
    assert server.lines("stdout.log") == [same]


NAMES = """
from gunicorn import SERVER, SERVER_SOFTWARE, __version__, version_info
from gunicorn import glogging, util
from gunicorn.app.base import Application, BaseApplication
from gunicorn.app.wsgiapp import WSGIApplication, run
from gunicorn.arbiter import Arbiter
from gunicorn.config import AccessLogFormat, Config, get_default_config_file, make_settings
from gunicorn.errors import AppImportError, ConfigError, HaltServer
from gunicorn.glogging import Logger
from gunicorn.http.errors import InvalidHeader, LimitRequestHeaders, NoMoreData, ParseException
from gunicorn.http.message import Request
from gunicorn.http.wsgi import FileWrapper, Response
from gunicorn.pidfile import Pidfile
from gunicorn.util import bytes_to_str, close_on_exec, getcwd, http_date, import_app, is_ipv6, parse_address
from gunicorn.workers import SUPPORTED_WORKERS
from gunicorn.workers.base import Worker
from gunicorn.workers.gthread import ThreadWorker
from gunicorn.workers.sync import SyncWorker

assert "%(h)s" in AccessLogFormat.default
assert Arbiter.WORKER_BOOT_ERROR == 3 and Arbiter.APP_LOAD_ERROR == 4
assert version_info == tuple(int(part) for part in __version__.split(".")) and version_info >= (20, 1)
assert issubclass(ThreadWorker, Worker) and issubclass(SyncWorker, Worker)
assert parse_address("[::1]:80") == ("::1", 80) and parse_address("unix:/x") == "/x"
assert is_ipv6("::1") and not is_ipv6("1.2.3.4") and http_date(0) == "Thu, 01 Jan 1970 00:00:00 GMT"
assert issubclass(LimitRequestHeaders, ParseException) and str(LimitRequestHeaders("too many")) == "too many"
assert HaltServer("reason", 4).exit_status == 4
try:
    parse_address("a:b")
except RuntimeError as error:
    assert "is not a valid port number" in str(error)
"""


@pytest.mark.parametrize("installed", [True, False], ids=["installed", "not installed"])
def test_names_that_others_import(serve, installed):
    """The same lines work in a config file with and without Gunicorn, and in the application."""
    env = {} if installed else WITHOUT_GUNICORN
    config = NAMES + "proc_name = 'from ' + Logger.__module__.partition('.')[0]\n"
    server = serve(NAMES + HELLO, config=config, env=env)
    assert server.get().status == 200
    source = "gunicorn" if installed else "oxicorn"
    assert any(process.title == f"oxicorn: worker [from {source}]" for process in server.processes())


def test_program_that_imports_nothing_but_gunicorn(program):
    """``import oxicorn.compat`` and its ``install`` are what makes the paths resolve in a script."""
    text = f"""
import oxicorn.compat
oxicorn.compat.install()
from gunicorn.app.base import BaseApplication
{HELLO}
class Program(BaseApplication):
    def load_config(self):
        self.cfg.set("bind", "{{bind}}")

    def load(self):
        return application

Program().run()
"""
    server = program(text, env=WITHOUT_GUNICORN)
    server.wait_until_ready()
    assert server.get().text.startswith("oxicorn/")


def test_nothing_resolves_outside_of_a_server(program):
    server = program("import oxicorn\nimport gunicorn\n", env=WITHOUT_GUNICORN)
    assert server.wait_for_exit() == 1
    assert "ModuleNotFoundError: No module named 'gunicorn'" in server.log


@pytest.mark.parametrize(
    "module", ["gunicorn.workers.ggevent", "gunicorn._native", "gunicorn.compat", "gunicorn.nothing"]
)
def test_module_that_is_not_there_says_why(serve, module):
    server = serve(HELLO, config=f"import {module}\n", env=WITHOUT_GUNICORN, ready=None)
    assert server.wait_for_exit() == 1
    assert (
        f"ModuleNotFoundError: No module named '{module}': Gunicorn is not installed, and oxicorn has no" in server.log
    )


@pytest.mark.parametrize("installed", [True, False], ids=["installed", "not installed"])
@pytest.mark.parametrize(
    ("config", "header", "software"),
    [
        ("import gunicorn\ngunicorn.SERVER_SOFTWARE = 'shop'\n", "oxicorn", "shop"),
        ("import gunicorn\ngunicorn.SERVER: str = 'platform'\n", "platform", "oxicorn/"),
        ("import gunicorn\ngunicorn.SERVER = ''\n", None, "oxicorn/"),
        ("import gunicorn.http.wsgi\n", "oxicorn", "oxicorn/"),
    ],
)
def test_server_may_be_called_otherwise(serve, installed, config, header, software):
    server = serve(HELLO, config=config, env={} if installed else WITHOUT_GUNICORN)
    answer = server.get()
    assert answer.header("server") == header
    assert answer.text.startswith(software)


def test_server_name_that_cannot_be_sent_is_refused(serve):
    config = "import gunicorn\ngunicorn.SERVER = 'a\\r\\nb'\n"
    server = serve(HELLO, config=config, env=WITHOUT_GUNICORN, ready=None)
    assert server.wait_for_exit() == 1
    assert re.search(r"Error: gunicorn\.SERVER must be printable ASCII text, unlike 'a\\r\\nb'", server.log)


WRAPPERS = """
    from gunicorn.app import wsgiapp
    from gunicorn.app.wsgiapp import WSGIApplication
    from gunicorn.workers.sync import SyncWorker

    load = WSGIApplication.load
    load_wsgi = SyncWorker.load_wsgi
    init_process = SyncWorker.init_process

    def load_and_wrap(self, *args, **kwargs):
        application = load(self, *args, **kwargs)

        def wrapped(environ, start_response):
            return [b"transaction(", *application(environ, start_response), b")"]

        return wrapped

    def load_wsgi_and_note(self, *args, **kwargs):
        load_wsgi(self, *args, **kwargs)
        self.log.info("agent saw %s load %s", type(self).__name__, callable(self.wsgi))

    def init_process_and_note(self, *args, **kwargs):
        self.log.info("agent starts in worker %s", self.pid)
        return init_process(self, *args, **kwargs)

    WSGIApplication.load = load_and_wrap
    SyncWorker.load_wsgi = load_wsgi_and_note
    SyncWorker.init_process = init_process_and_note
"""


def test_agents_that_wrap_by_gunicorns_paths(serve):
    """What monitoring agents do: they patch classes by the paths they know them under."""
    server = serve(HELLO, config=WRAPPERS, env=WITHOUT_GUNICORN)
    assert re.fullmatch(r"transaction\(oxicorn/.*\)", server.get().text)
    (pid,) = server.worker_pids()
    server.wait_for_log(rf"agent starts in worker {pid}$")
    server.wait_for_log("agent saw SyncWorker load True$")
