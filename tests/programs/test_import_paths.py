"""Gunicorn's import paths lead to our modules, to the very same objects, whether Gunicorn is installed or not."""

from __future__ import annotations

import importlib
import pkgutil
import re
import sys

import pytest
from gunicorn import __version__ as GUNICORN_VERSION

import oxicorn
from oxicorn import compat
from tests.support.isolation import python_without_gunicorn, without_gunicorn

HELLO = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [environ["SERVER_SOFTWARE"].encode()]
"""


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
    assert modules_of("gunicorn") & modules_of("oxicorn") == compat.SHARED
    assert GUNICORN_VERSION == compat.GUNICORN_VERSION


@pytest.fixture(params=[True, False], ids=["installed", "not installed"])
def python(request):
    """An interpreter that has Gunicorn beside oxicorn, and one that has not."""
    return sys.executable if request.param else python_without_gunicorn()


ORDERS = {
    "gunicorn's names first": "[*theirs, *ours]",
    "ours first": "[*ours, *theirs]",
    "the innermost first": "[*theirs[::-1], *ours[::-1]]",
    "in turn": "[name for pair in zip(ours[::-1], theirs[::-1]) for name in pair]",
}


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_modules_are_the_same_objects_under_both_names(program, python, order):
    text = f"""
import importlib, importlib.util, sys
from oxicorn import compat
compat.install()
compat.install()
needs = {{"workers.ggevent": "gevent", "workers.gtornado": "tornado"}}
names = [name for name in compat.SHARED if name not in needs or importlib.util.find_spec(needs[name])]
theirs = sorted(f"gunicorn.{{name}}" for name in names)
ours = [name.replace("gunicorn", "oxicorn", 1) for name in theirs]
for name in {order}:
    importlib.import_module(name)
for one, other in zip(theirs, ours):
    module = sys.modules[other]
    assert sys.modules[one] is module, one
    assert module.__name__ == module.__spec__.name == importlib.util.find_spec(other).name == other
    parent, _, child = one.rpartition(".")
    assert getattr(sys.modules[parent], child) is module, one
    parent, _, child = other.rpartition(".")
    assert getattr(sys.modules[parent], child) is module, other
    for attribute, value in vars(module).items():
        assert not getattr(value, "__module__", "").startswith("gunicorn"), (one, attribute)
    assert importlib.reload(sys.modules[one]) is module is sys.modules[one]
print("the same")
"""
    server = program(text, python=python)
    assert server.wait_for_exit() == 0, server.log
    assert server.lines("stdout.log") == ["the same"]


MACHINERY = r"""
import importlib.util, pickle, runpy, sys
import oxicorn.compat
oxicorn.compat.install()

# Pickles of either name are of the same class; those that Gunicorn itself made are read.
from gunicorn.errors import HaltServer
import oxicorn.errors
assert type(pickle.loads(b"cgunicorn.errors\nHaltServer\n(Vwhy\nI3\ntR.")) is oxicorn.errors.HaltServer
assert type(pickle.loads(pickle.dumps(HaltServer("why", 3)))) is oxicorn.errors.HaltServer

# A module that is run as a program.
sys.argv = ["gunicorn", "--version"]
for name in ("gunicorn", "gunicorn.__main__"):
    try:
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        assert not end.code
assert "run" in runpy.run_module("gunicorn.app.wsgiapp")

# A loader around ours that insists on an object of its own.
spec = importlib.util.find_spec("gunicorn.glogging")
spec.loader = importlib.util.LazyLoader(spec.loader)
lazy = sys.modules["gunicorn.glogging"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(lazy)
import oxicorn.glogging
assert lazy.Logger is oxicorn.glogging.Logger

# The recipe of importlib's documentation.
spec = importlib.util.find_spec("gunicorn.systemd")
module = sys.modules["gunicorn.systemd"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
import oxicorn.systemd
from gunicorn import systemd
assert sys.modules["gunicorn.systemd"] is oxicorn.systemd is systemd and module.listen_fds is systemd.listen_fds
print("done")
"""


def test_what_else_finds_modules_by_name(program, python):
    server = program(MACHINERY, python=python)
    assert server.wait_for_exit() == 0, server.log
    version = f"oxicorn (version {oxicorn.__version__})"
    assert server.lines("stdout.log") == [version, version, "done"]


HOOKS = """
import importlib.util, sys

#: Name -> what happens to the module of that name.
hooks = {
    "gunicorn": lambda module: None,
    "gunicorn.app.base": lambda module: setattr(module.Application, "wsgi", traced(module.Application.wsgi)),
    "gunicorn.arbiter": lambda module: setattr(module, "seen", True),
    "gunicorn.glogging": lambda module: None,
    "gunicorn.workers.base": lambda module: None,
    "gunicorn.workers.sync": lambda module: setattr(module, "SyncWorker", derived(module.SyncWorker)),
}
fired = []

def traced(wsgi):
    def wrapper(self):
        application = wsgi(self)
        return lambda environ, start_response: [b"traced ", *application(environ, start_response)]
    return wrapper

def derived(base):
    return type("SyncWorker", (base,), {"__str__": lambda self: f"<Traced worker {self.pid}>"})

class Loader:
    def __init__(self, loader):
        self.loader = loader

    def create_module(self, spec):
        return self.loader.create_module(spec)

    def exec_module(self, module):
        self.loader.exec_module(module)
        fired.append(module.__name__)
        assert module.__spec__.name == module.__name__ and module.__spec__.loader is self
        hooks[module.__name__](module)

class Finder:
    looking = set()

    def find_spec(self, name, path=None, target=None):
        if name not in hooks or name in self.looking:
            return None
        self.looking.add(name)
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self.looking.discard(name)
        if spec is not None:
            spec.loader = Loader(spec.loader)
        return spec

# As agents are started: by what an interpreter runs first.
sys.meta_path.insert(0, Finder())
"""


def test_hooks_that_wait_for_imports_fire_before_the_application_is_loaded(serve, python):
    """The way of wrapt and of New Relic, whose hooks are looked up by the name of the module that was loaded."""
    application = """
        import sitecustomize
        fired = list(sitecustomize.fired)

        def application(environ, start_response):
            import oxicorn.arbiter
            start_response("200 OK", [])
            return [" ".join([*fired, str(oxicorn.arbiter.seen)]).encode()]
    """
    server = serve.new()
    server.write("sitecustomize.py", HOOKS)
    config = "def post_worker_init(worker): worker.log.info('serves: %s', worker)\n"
    server.start(app=application, config=config, env={"PYTHONPATH": "."}, command=[python, "-m", "oxicorn"])
    text = server.get().text
    assert text.startswith("traced gunicorn gunicorn.app.base ")
    assert text.endswith(" True")
    assert sorted(text.split()[1:-1]) == [
        "gunicorn",
        "gunicorn.app.base",
        "gunicorn.arbiter",
        "gunicorn.glogging",
        "gunicorn.workers.base",
        "gunicorn.workers.sync",
    ]
    server.wait_for_log(r"serves: <Traced worker \d+>")


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


def test_names_that_others_import(serve, python):
    """The same lines work in a config file with and without Gunicorn, and in the application."""
    config = NAMES + "proc_name = 'from ' + Logger.__module__.partition('.')[0]\n"
    server = serve(NAMES + HELLO, config=config, command=[python, "-m", "oxicorn"])
    assert server.get().status == 200
    assert any(process.title == "oxicorn: worker [from oxicorn]" for process in server.processes())


PREDICATES = """
    import os, sys
    from gunicorn.workers.base import Worker

    def application(environ, start_response):
        start_response("200 OK", [])
        found = [
            "gunicorn" in os.environ["SERVER_SOFTWARE"],
            os.environ.get("SERVER_SOFTWARE", "").startswith("gunicorn/"),
            environ["SERVER_SOFTWARE"] == os.environ["SERVER_SOFTWARE"],
            "gunicorn" in sys.modules,
            "gunicorn.app.base" in sys.modules,
            "gunicorn.workers.base" in sys.modules,
            environ["SERVER_SOFTWARE"].split("/")[0] == "gunicorn",
            environ["SERVER_SOFTWARE"].split()[0] == "gunicorn/27.0.1",
        ]
        return [repr(found).encode()]
"""


def test_applications_learn_that_they_run_under_gunicorn(serve, python):
    """What public code asks before it wires loggers, starts schedulers or chooses middleware; MLflow is one."""
    config = """
        import os, sys
        from gunicorn.arbiter import Arbiter
        from gunicorn.workers.base import Worker

        in_config = "gunicorn" in sys.modules

        def on_starting(server):
            assert in_config and isinstance(server, Arbiter)
            assert "gunicorn.arbiter" in sys.modules and "gunicorn" in os.environ["SERVER_SOFTWARE"]

        def post_fork(server, worker):
            assert isinstance(worker, Worker) and isinstance(server, Arbiter)
    """
    server = serve(PREDICATES, config=config, command=[python, "-m", "oxicorn"])
    answer = server.get()
    assert answer.text == repr([True] * 8)
    assert answer.header("server") == "oxicorn"


def test_modules_of_an_installed_gunicorn_that_have_no_counterpart(serve):
    """They are found, and stand on our modules."""
    config = """
        import gunicorn.dirty.protocol as frames
        from gunicorn.http2.errors import HTTP2Error
        from oxicorn.dirty import errors
        assert frames.DirtyProtocolError is errors.DirtyProtocolError
        assert issubclass(HTTP2Error, Exception)
    """
    assert serve(HELLO, config=config).get().status == 200


def test_directories_and_files_called_gunicorn_are_no_gunicorn(serve, python):
    """Projects keep their config files in them; Gunicorn itself is loaded before such a one could be found."""
    server = serve.new()
    (server.directory / "gunicorn").mkdir()
    server.write("gunicorn/dev.py", "")
    server.write("gunicorn.py", "raise RuntimeError")
    server.start(app=HELLO, config="import gunicorn\ngunicorn.glogging.Logger\n", command=[python, "-m", "oxicorn"])
    assert server.get().status == 200


def test_gunicorn_that_was_there_before_stays(program):
    """A program that uses both: what it imported first is not exchanged under its hands."""
    text = """
import gunicorn, gunicorn.glogging, sys
import oxicorn.compat
oxicorn.compat.install()
oxicorn.compat.introduce()
from gunicorn.workers.base import Worker
print(sys.modules["gunicorn"] is gunicorn, Worker.__module__, gunicorn.SERVER)
"""
    server = program(text)
    assert server.wait_for_exit() == 0, server.log
    assert server.lines("stdout.log") == ["True gunicorn.workers.base gunicorn"]


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
    server = program(text, python=python_without_gunicorn())
    server.wait_until_ready()
    assert server.get().text.startswith("gunicorn/")


def test_nothing_resolves_outside_of_a_server(program):
    server = program("import oxicorn\nimport gunicorn\n", python=python_without_gunicorn())
    assert server.wait_for_exit() == 1
    assert "ModuleNotFoundError: No module named 'gunicorn'" in server.log


@pytest.mark.parametrize(
    "module", ["gunicorn.workers.geventlet", "gunicorn._native", "gunicorn.compat", "gunicorn.nothing"]
)
def test_module_that_is_not_there_says_why(serve, module):
    server = serve(HELLO, config=f"import {module}\n", **without_gunicorn(), ready=None)
    assert server.wait_for_exit() == 1
    assert f"ModuleNotFoundError: No module named '{module}': oxicorn has no module that stands for it" in server.log


@pytest.mark.parametrize(
    ("config", "header", "software"),
    [
        ("import gunicorn\ngunicorn.SERVER_SOFTWARE = 'shop'\n", "oxicorn", "shop"),
        ("import gunicorn\ngunicorn.SERVER: str = 'platform'\n", "platform", "gunicorn/"),
        ("import gunicorn\ngunicorn.SERVER = ''\n", None, "gunicorn/"),
        ("import gunicorn.http.wsgi\n", "oxicorn", "gunicorn/"),
    ],
)
def test_server_may_be_called_otherwise(serve, python, config, header, software):
    server = serve(HELLO, config=config, command=[python, "-m", "oxicorn"])
    answer = server.get()
    assert answer.header("server") == header
    assert answer.text.startswith(software)


def test_server_name_that_cannot_be_sent_is_refused(serve):
    config = "import gunicorn\ngunicorn.SERVER = 'a\\r\\nb'\n"
    server = serve(HELLO, config=config, **without_gunicorn(), ready=None)
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
    server = serve(HELLO, config=WRAPPERS, **without_gunicorn())
    assert re.fullmatch(r"transaction\(gunicorn/.* oxicorn/.*\)", server.get().text)
    (pid,) = server.worker_pids()
    server.wait_for_log(rf"agent starts in worker {pid}$")
    server.wait_for_log("agent saw SyncWorker load True$")
