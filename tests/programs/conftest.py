"""Servers that are Python programs."""

from __future__ import annotations

import sys

import pytest

from tests.support.server import Server, Servers


@pytest.fixture
def program(serve: Servers):
    """``program(source, *args, **options)`` runs the source as a script; ``{bind}`` is its address.

    ``python`` is another interpreter than the one that runs the tests.
    """

    def start(source: str, *args: str, python: str = sys.executable, **options: object) -> Server:
        server = serve.new()
        path = server.write("program.py", source.replace("{bind}", server.bind))
        bind = server.bind
        command = [python, str(path)]
        server.start(*args, command=command, bind="", spec=None, ready=None, **options)  # type: ignore[arg-type]
        server.bind = bind
        return server

    return start
