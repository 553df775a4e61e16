"""One server for each kind of worker, shared by the tests that do not disturb it."""

from __future__ import annotations

import pytest

from tests.support.greenlets import GEVENT
from tests.support.server import Server, Servers

WORKERS = {
    "sync": [],
    "gthread": ["--worker-class", "gthread", "--threads", "4"],
    "gevent": ["--worker-class", "gevent"],
}


@pytest.fixture(scope="module", params=["sync", "gthread", GEVENT])
def server(request: pytest.FixtureRequest, serve_module: Servers) -> Server:
    """A server running ``matrix.py`` that keeps connections as long as any test lasts."""
    return serve_module(None, "--keep-alive", "20", *WORKERS[request.param], spec="matrix")
