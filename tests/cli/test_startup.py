"""What a start costs: nothing large is imported before it is needed (bench/startup.py has the time)."""

from __future__ import annotations

import sys

import pytest

APPLICATION = """
    def application(environ, start_response):
        return []
"""

#: Parts of the standard library that take milliseconds each.
LARGE = frozenset(
    """
    argparse asyncio concurrent.futures dataclasses email.utils http.client importlib.abc importlib.resources
    inspect ipaddress json linecache logging multiprocessing pathlib random selectors shutil socket ssl subprocess
    ast tempfile threading tokenize traceback typing unittest urllib.parse uuid
    """.split()
)


#: What the checks of --check-config need: sockets to look at addresses, logging to configure it.
CHECKED = frozenset("logging socket selectors threading traceback linecache tokenize typing".split())


@pytest.mark.parametrize(
    ("args", "config", "allowed"),
    [
        (["--version"], "", frozenset()),
        (["--help"], "", frozenset()),
        (["settings"], "workers = 2\ndef pre_fork(server, worker): pass\n", frozenset()),
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
    imported = {line.rpartition("|")[2].strip() for line in server.log.splitlines() if line.startswith("import time:")}
    assert "oxicorn._native" in imported
    assert imported & LARGE <= allowed
