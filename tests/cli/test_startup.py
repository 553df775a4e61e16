"""What a start costs: nothing large is imported before it is needed (bench/startup.py has the time)."""

from __future__ import annotations

import functools
import subprocess
import sys

import pytest

APPLICATION = """
    def application(environ, start_response):
        return []
"""

HELLO = """
    def application(environ, start_response):
        start_response("200 OK", [("Content-Length", "0")])
        return []
"""

#: Parts of the standard library that take milliseconds each.
LARGE = frozenset(
    """
    argparse asyncio concurrent.futures dataclasses email.utils http.client importlib.abc importlib.resources
    inspect ipaddress json linecache logging multiprocessing pathlib random selectors shutil socket ssl subprocess
    ast base64 copy datetime http struct tempfile threading tokenize traceback typing unittest urllib.parse uuid
    """.split()
)


#: What the checks of --check-config need: sockets to look at addresses, logging to configure it, named tuples.
CHECKED = """
import logging, socket, threading, traceback, typing
class Fields(typing.NamedTuple):
    field: int
"""


#: What serving needs: nobody has asked for a socket or a logger of Python's yet.
SERVED = "import signal, threading"
#: The server without a package that imports what it likes, where that is installed.
ALONE = "import sys; sys.modules['setproctitle'] = None; from oxicorn.app.wsgiapp import run; run()"


@functools.cache
def imports_of(code: str) -> frozenset[str]:
    """What running `code` makes this interpreter import: newer ones bring more with the same modules."""
    run = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code], stderr=subprocess.PIPE, text=True, check=True
    )
    return imported_modules(run.stderr)


def imported_modules(log: str) -> frozenset[str]:
    return frozenset(line.rpartition("|")[2].strip() for line in log.splitlines() if line.startswith("import time:"))


@pytest.mark.parametrize(
    ("args", "config", "allowed"),
    [
        (["--version"], "", "pass"),
        (["--help"], "", "pass"),
        (["settings"], "workers = 2\ndef pre_fork(server, worker): pass\n", "pass"),
        (["--check-config", "app"], "", CHECKED),
        (["--check-config", "app"], "workers = 2\ndef pre_fork(server, worker): pass\n", CHECKED),
    ],
)
def test_nothing_large_is_imported(serve, kind, args, config, allowed):
    if kind.is_gunicorn:
        pytest.skip("Gunicorn imports most of it")
    command = [sys.executable, "-X", "importtime", kind.executable]
    if args == ["settings"]:
        command[-1:], args = (
            ["-c", "import sys; from oxicorn.app.wsgiapp import WSGIApplication; WSGIApplication()"],
            ["app"],
        )
    server = serve(APPLICATION, *args, command=command, config=config, bind="", spec=None, ready=None)
    assert server.wait_for_exit() == 0, server.log
    imported = imported_modules(server.log)
    assert "oxicorn._native" in imported
    assert imported & LARGE <= imports_of(allowed)


@pytest.mark.parametrize("args", [["--threads", "1"], ["--threads", "4"], ["--access-logfile", "-"]])
def test_a_server_that_serves_has_imported_nothing_else(serve, kind, args):
    if kind.is_gunicorn:
        pytest.skip("Gunicorn imports most of it")
    command = [sys.executable, "-X", "importtime", "-c", ALONE]
    server = serve(HELLO, *args, command=command)
    assert server.get("/").status == 200
    # The worker that answered is a fork: what it has imported since stands in the same file.
    imported = imported_modules(server.log)
    assert "oxicorn.arbiter" in imported
    assert imported & LARGE <= imports_of(SERVED)
