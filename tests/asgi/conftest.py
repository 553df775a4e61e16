"""Servers for ASGI applications, on each event loop."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.asgi import Case
from tests.support.server import Kind, Server, Servers

#: Longer than any wait of a test: a connection that closes was closed for a better reason than idleness.
KEEP_ALIVE = ["--keep-alive", "20"]


@pytest.fixture(scope="session")
def worker(kind: Kind) -> list[str]:
    """Options of the kind of worker."""
    return ["--worker-class", kind.asgi_worker]


@pytest.fixture(scope="module")
def server(loop: str, worker: list[str], serve_module: Servers) -> Server:
    """A server that runs what ``define`` makes, once for each event loop."""
    return serve_module(None, *worker, "--asgi-loop", loop, *KEEP_ALIVE, spec="asgi_cases")


@pytest.fixture
def define(server: Server) -> Callable[[Callable[..., object]], Case]:
    """``define(application)`` serves a function of the test; see ``tests/support/asgi.py``."""
    return lambda application: Case(server, application)


@pytest.fixture
def only_oxicorn(kind: Kind) -> None:
    """For tests of what our documents say of our worker, not of what the specification asks of every server."""
    if kind.name != "oxicorn":
        pytest.skip("of oxicorn's own asgi worker")
