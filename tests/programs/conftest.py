"""Servers that are Python programs."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import MappingProxyType

import pytest

from tests.support.server import Server, Servers


@pytest.fixture
def program(serve: Servers):
    """``program(source, *args, **options)`` runs the source as a script; ``{bind}`` is its address.

    ``python`` is another interpreter than the one that runs the tests, ``files`` are written beside the program.
    """

    def start(
        source: str,
        *args: str,
        python: str = sys.executable,
        files: Mapping[str, str] = MappingProxyType({}),
        **options: object,
    ) -> Server:
        server = serve.new()
        for name, text in files.items():
            server.write(name, text)
        path = server.write("program.py", source.replace("{bind}", server.bind))
        bind = server.bind
        command = [python, str(path)]
        args = tuple(arg.replace("{bind}", bind) for arg in args)
        server.start(*args, command=command, bind="", spec=None, ready=None, **options)  # type: ignore[arg-type]
        server.bind = bind
        return server

    return start
