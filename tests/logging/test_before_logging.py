"""A server that nobody makes log otherwise has no ``logging``; whoever imports it finds what was always there."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
import threading
from typing import TYPE_CHECKING

import pytest

from tests.support.greenlets import GEVENT
from tests.support.wait import wait_for

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.support.server import Server, Servers

#: The server without a package that imports ``logging``, where that is installed.
ALONE = [sys.executable, "-c"]
ALONE += ["import sys; sys.modules['setproctitle'] = None; from oxicorn.app.wsgiapp import run; run()"]

BEGIN = """
import sys
if sys.argv[1] == "early":
    import threading
else:
    import logging
from oxicorn.config import Config
from oxicorn.glogging import Logger
cfg = Config()
for setting in sys.argv[2:]:
    cfg.set(*setting.split("=", 1))
log = Logger(cfg)
assert ("logging" in sys.modules) == (sys.argv[1] == "late")
"""


def run(code: str, when: str = "early", settings: Sequence[str] = (), cwd: Path | None = None) -> str:
    """What `code` writes to standard error, with a logger that was made early or late."""
    command = [sys.executable, "-c", BEGIN + textwrap.dedent(code), when, *settings]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stderr


def masked(text: str) -> str:
    return re.sub(r"\[\d+\]", "[PID]", re.sub(r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ([+-]\d{4})\]", r"[TIME \1]", text))


CALLS = [
    'log.info("words")',
    'log.info("%s and %d", "words", 3)',
    'log.info("%(name)s", {"name": "by a name"})',
    'log.info("100% without arguments")',
    "log.info(5)",
    """
class Broken:
    def __str__(self):
        raise RuntimeError("no text")
    def __repr__(self):
        return "broken"
log.info("%s", Broken())
""",
    'log.info("%d", "no number")',
    'log.info("%s")',
    'log.info("too %s", "many", "arguments")',
    'log.debug("not worth a line")',
    'log.warning("a warning")',
    'log.error("an error")',
    'log.critical("the worst")',
    'log.log(20, "by number")',
    'log.log("warning", "by name")',
    'log.log(35, "a level of its own")',
    'log.log(5, "below all")',
    'log.info("line\\nbreak")',
    'log.info("\\udcff and \\xe4")',
    'log.error("with %s", "an exception", exc_info=ValueError("this one"))',
    'log.info("with a stack", stack_info=True)',
    'log.loglevel = 10; log.debug("still not worth a line")',
    """
try:
    1 / 0
except ZeroDivisionError:
    log.exception("it %s", "happened")
""",
]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("settings", [(), ("loglevel=debug",), ("loglevel=error",)])
def test_lines_are_the_same(call: str, settings: tuple[str, ...]) -> None:
    early, late = (masked(run(call, when, settings)) for when in ("early", "late"))
    assert early == late


@pytest.mark.parametrize(
    "how",
    [
        "import logging",
        "import logging.handlers",
        "from logging import getLogger",
        "import importlib; importlib.import_module('logging')",
        "import concurrent.futures",
        "t = threading.Thread(target=__import__, args=('logging',)); t.start(); t.join()",
        "log.error_log",
        "log.access_log",
        "log.exception('imports it')",
        "log.error('imports it', extra={})",
    ],
)
def test_whoever_imports_it_finds_loggers(how: str) -> None:
    code = f"""
    {how}
    logging = sys.modules["logging"]
    error, access = logging.root.manager.loggerDict["gunicorn.error"], logging.getLogger("gunicorn.access")
    assert error is log.error_log and access is log.access_log
    assert (error.level, error.propagate) == (logging.WARNING, False)
    assert (access.level, access.propagate) == (logging.INFO, False)
    (handler,) = error.handlers
    assert type(handler) is logging.StreamHandler and handler.stream is sys.stderr
    assert type(handler.formatter) is logging.Formatter
    assert (handler.formatter._fmt, handler.formatter.datefmt) == (Logger.error_fmt, Logger.datefmt)
    (handler,) = access.handlers
    assert handler.stream is sys.stdout and handler.formatter._fmt == Logger.access_fmt
    assert log._get_gunicorn_handler(access) is handler
    log.info("not worth a line")
    log.warning("once")
    """
    assert run(code, settings=["loglevel=warning", "accesslog=-"]).count("once") == 1


def test_without_an_access_log_its_logger_has_no_handler() -> None:
    run("import logging; assert not log.access_log.handlers and not log.access_log.propagate")


def test_lines_go_where_standard_error_was_when_the_logger_was_made() -> None:
    code = """
    import io
    kept, sys.stderr = sys.stderr, io.StringIO()
    log.info("before")
    import logging
    log.info("after")
    assert log.error_log.handlers[0].stream is kept and not sys.stderr.getvalue()
    """
    assert re.findall("before|after", run(code)) == ["before", "after"]


def test_the_module_is_as_it_is_made_without_a_watch() -> None:
    code = """
    before = list(sys.meta_path)
    import logging
    from importlib.machinery import SourceFileLoader
    assert type(logging.__loader__) is type(logging.__spec__.loader) is SourceFileLoader
    assert len(sys.meta_path) == len(before) - 1 and set(sys.meta_path) < set(before)
    """
    run(code)


@pytest.mark.parametrize("place", ["0", "len(sys.meta_path)"])
def test_other_watchers_of_imports_see_it_too(place: str) -> None:
    code = f"""
    import importlib.util
    class Other:
        seen, busy = [], False
        def find_spec(self, name, path=None, target=None):
            self.seen.append(name)
            if name != "logging" or Other.busy:
                return None
            Other.busy = True
            try:
                spec = importlib.util.find_spec(name)
            finally:
                Other.busy = False
            execute = spec.loader.exec_module
            def then(module):
                execute(module)
                Other.seen.append(len(module.getLogger("gunicorn.error").handlers))
            spec.loader.exec_module = then
            return spec
    first = {place} == 0
    sys.meta_path.insert({place}, Other())
    import logging
    assert not first or ("logging" in Other.seen and 1 in Other.seen), Other.seen
    assert len(log.error_log.handlers) == 1
    """
    run(code)


def test_an_import_that_fails_can_be_tried_again() -> None:
    code = """
    import threading, weakref
    sys.modules["string"] = None
    try:
        import logging
    except ImportError:
        pass
    del sys.modules["string"]
    log.info("still")
    import logging
    assert len(log.error_log.handlers) == 1
    """
    assert "still" in run(code)


def test_a_logger_that_somebody_has_put_in_its_place_stays() -> None:
    code = """
    class Mine:
        def info(self, *args): print("mine", args, file=sys.stderr)
    log.error_log = Mine()
    log.info("words")
    import logging
    log.info("words")
    """
    assert run(code).count("mine ('words',)") == 2


def test_who_replaces_a_part_of_the_class_has_it_called() -> None:
    code = """
    calls = []
    plain = Logger._set_handler
    Logger._set_handler = lambda self, *args: (calls.append(args), plain(self, *args))
    log.info("words")
    late = Logger(cfg)
    assert "logging" in sys.modules and late.error_log.handlers and calls
    """
    assert "words" in run(code)


@pytest.mark.parametrize(
    "settings",
    [
        ["errorlog=error.log"],
        ["accesslog=access.log"],
        ["errorlog=error.log", "capture_output=true"],
        ["syslog=true", "syslog_addr=udp://127.0.0.1:9"],
        ["logconfig=absent.ini"],
        ["logconfig_json=log.json"],
    ],
)
def test_settings_that_ask_for_more_import_it_at_once(tmp_path: Path, settings: list[str]) -> None:
    (tmp_path / "log.json").write_text("{}")
    (tmp_path / "absent.ini").write_text(
        "[loggers]\nkeys=root\n[handlers]\nkeys=\n[formatters]\nkeys=\n[logger_root]\nhandlers=\n"
    )
    begin = BEGIN.replace('(sys.argv[1] == "late")', "True")
    command = [sys.executable, "-c", begin, "early", *settings]
    subprocess.run(command, cwd=tmp_path, check=True)


def test_classes_of_the_users_import_it_at_once() -> None:
    code = """
    class Mine(Logger):
        def setup(self, cfg):
            assert self.error_log.name == "gunicorn.error"
            super().setup(cfg)
    mine = Mine(cfg)
    assert len(mine.error_log.handlers) == 1
    """
    run(code)


def test_settings_change(tmp_path: Path) -> None:
    code = """
    log.debug("none")
    cfg = Config(); cfg.set("loglevel", "debug")
    log.setup(cfg)
    assert "logging" not in sys.modules
    log.debug("first")
    cfg = Config(); cfg.set("errorlog", "error.log"); cfg.set("accesslog", "access.log")
    log.setup(cfg)
    log.info("second")
    assert len(log.error_log.handlers) == len(log.access_log.handlers) == 1
    log.setup(Config())
    log.info("third")
    """
    assert re.findall("none|first|second|third", run(code, cwd=tmp_path)) == ["first", "third"]
    assert "second" in (tmp_path / "error.log").read_text()


def test_reopening(tmp_path: Path) -> None:
    code = """
    import os
    log.reopen_files()
    assert "logging" not in sys.modules
    import logging
    logging.basicConfig(filename="mine.log")
    os.rename("mine.log", "mine.old")
    log.reopen_files()
    logging.warning("anew")
    """
    run(code, cwd=tmp_path)
    assert "anew" in (tmp_path / "mine.log").read_text()


ROUTING = """
from oxicorn import log_routing
found = log_routing.gateway_logging(log)
print(log_routing.access_logging(log), {n: getattr(found, n) for n in found.__slots__}, file=sys.stderr)
"""


@pytest.mark.parametrize("change", ["", "log.info = print", "Logger.now = None", "Logger.error = None"])
@pytest.mark.parametrize("settings", [[], ["accesslog=-"], ["accesslog=-", "access_log_format=%(x)s"]])
def test_the_gateway_does_what_it_did(settings: list[str], change: str) -> None:
    early, late = (run(f"{change}\n{ROUTING}", when, settings) for when in ("early", "late"))
    assert early == late


# In a server.

ANSWERS = """
    import sys

    def application(environ, start_response):
        if environ["PATH_INFO"] == "/log":
            import logging
            logging.getLogger("gunicorn.error").info("from a request of %s", environ["QUERY_STRING"])
        body = str("logging" in sys.modules).encode()
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]
"""
AT_IMPORT = """
    import logging
    logging.getLogger("gunicorn.error").info("from the import")
    log = logging.getLogger("gunicorn.error")
    assert len(log.handlers) == 1 and log.level == logging.INFO
"""


def lines_with(server: Server, words: str) -> list[str]:
    return [line for line in server.log.splitlines() if words in line]


@pytest.mark.parametrize(
    "args", [["--threads", "1"], ["--threads", "4"], pytest.param(["-k", "gevent"], marks=GEVENT.marks)]
)
def test_requests_that_log_first_in_threads(serve: Servers, kind, args: list[str]) -> None:
    if kind.is_gunicorn:
        pytest.skip("it has imported it")
    server = serve(ANSWERS, *args, command=ALONE)
    if "gevent" not in args:
        assert server.get("/").body == b"False"
    clients = [threading.Thread(target=server.get, args=(f"/log?{number}-",)) for number in range(8)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    for number in range(8):
        (line,) = lines_with(server, f"from a request of {number}-")
        assert masked(line) == f"[TIME +0000] [PID] [INFO] from a request of {number}-"
    assert server.get("/").body == b"True"


@pytest.mark.parametrize("args", [[], ["--workers", "2"], ["--preload"], ["-k", "gevent"]])
def test_an_application_that_logs_when_it_is_imported(serve: Servers, kind, args: list[str]) -> None:
    if kind.is_gunicorn:
        pytest.skip("it has imported it")
    if "gevent" in args:
        pytest.importorskip("gevent")
    server = serve(textwrap.dedent(AT_IMPORT) + textwrap.dedent(ANSWERS), *args, command=ALONE)
    count = 2 if "--workers" in args else 1
    assert len(server.wait_for_log("from the import", count=count)) == count
    assert server.get("/").body == b"True"
    assert server.stop() == 0
    assert len(lines_with(server, "Shutting down")) == 1


def test_hooks_and_reloads(serve: Servers, kind) -> None:
    if kind.is_gunicorn:
        pytest.skip("it has imported it")
    config = """
        import sys
        accesslog = "-"
        def when_ready(server):
            print("ready without", "logging" not in sys.modules, file=sys.stderr, flush=True)
        def on_reload(server):
            server.log.error_log.info("from %s", server.log.error_log.name)
    """
    server = serve(ANSWERS, command=ALONE, config=config)
    server.wait_for_log("ready without True")
    server.write("gunicorn.conf.py", textwrap.dedent(config) + "errorlog = 'error.log'\n")
    server.reload()
    wait_for(lambda: "from gunicorn.error" in server.read("error.log"), 30, lambda: server.log)
    assert server.get("/").status == 200
    assert server.stop() == 0
    assert "Shutting down" in server.read("error.log")
    assert "Shutting down" not in server.log


def test_listeners_are_sockets_for_who_asks(serve: Servers, kind) -> None:
    if kind.is_gunicorn:
        pytest.skip("it has imported it")
    config = """
        import sys
        def say(*words):
            print(*words, file=sys.stderr, flush=True)
        def when_ready(server):
            (listener,) = server.LISTENERS
            say("arbiter", listener.getsockname(), listener.cfg_addr, listener, "socket" in sys.modules)
        def post_worker_init(worker):
            (listener,) = worker.sockets
            say("worker", listener.getsockname(), listener, "socket" in sys.modules)
            say("number", listener.fileno(), listener.sock.family.name, listener.FAMILY.name, type(listener).__name__)
        def on_exit(server):
            say("left", len(server.LISTENERS))
    """
    server = serve(ANSWERS, command=ALONE, config=config)
    host, port = server.bind.split(":")
    name = f"('{host}', {port})"
    server.wait_for_log(re.escape(f"arbiter {name} {name} http://{server.bind} False"))
    server.wait_for_log(re.escape(f"worker {name} http://{server.bind} False"))
    server.wait_for_log("number -1 AF_INET AF_INET TCPSocket")
    assert server.stop() == 0
    assert "left 0" in server.log
