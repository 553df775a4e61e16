"""Servers that are Python programs, and servers where Gunicorn is not installed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support.server import APPLICATIONS, Server, Servers

WITHOUT_GUNICORN = {
    "PYTHONPATH": f"{Path(__file__).parent.parent / 'support' / 'without_gunicorn'}:{APPLICATIONS}",
}


@pytest.fixture
def program(serve: Servers):
    """``program(source, *args, **options)`` runs the source as a script; ``{bind}`` is its address."""

    def start(source: str, *args: str, **options: object) -> Server:
        server = serve.new()
        path = server.write("program.py", source.replace("{bind}", server.bind))
        bind = server.bind
        command = [sys.executable, str(path)]
        server.start(*args, command=command, bind="", spec=None, ready=None, **options)  # type: ignore[arg-type]
        server.bind = bind
        return server

    return start
