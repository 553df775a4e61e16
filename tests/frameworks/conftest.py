"""Frameworks run on both kinds of worker, several processes each."""

from __future__ import annotations

import pytest

WORKERS = {
    "sync": ["--workers", "2"],
    "gthread": ["--workers", "2", "--worker-class", "gthread", "--threads", "4"],
}


@pytest.fixture(params=list(WORKERS))
def worker(request: pytest.FixtureRequest) -> list[str]:
    """Options of the kind of worker."""
    return WORKERS[request.param]
