"""One server for each kind of worker runs all applications of ``matrix.py``."""

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
    """A server running ``matrix.py``, once for each kind of worker."""
    # Longer than any wait of a test: a connection that closes was closed for a better reason than idleness.
    return serve_module(None, "--keep-alive", "20", *WORKERS[request.param], spec="matrix")
