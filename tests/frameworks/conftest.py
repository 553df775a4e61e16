"""WSGI frameworks run on both kinds of worker, several processes each; ASGI ones on both event loops."""

from __future__ import annotations

import pytest

from tests.support.server import Kind

WORKERS = {
    "sync": ["--workers", "2"],
    "gthread": ["--workers", "2", "--worker-class", "gthread", "--threads", "4"],
}


@pytest.fixture(params=list(WORKERS))
def worker(request: pytest.FixtureRequest) -> list[str]:
    """Options of the kind of worker."""
    return WORKERS[request.param]


@pytest.fixture
def asgi(loop: str, kind: Kind) -> list[str]:
    """Options of the kind of worker that serves ASGI applications."""
    return ["--worker-class", kind.asgi_worker, "--asgi-loop", loop]
