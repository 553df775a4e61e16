"""Applications of the process tests: they tell who served, and take as long as they are told."""

from __future__ import annotations

import pytest

from tests.support import gate

#: ``/`` at once, ``/?SECONDS`` after that time, ``/gate?NAME`` when the gate is open, ``/pid`` the worker's pid,
#: ``/version`` what a reload changes.
SOURCE = (
    gate.SOURCE
    + """
VERSION = "1"

def application(environ, start_response):
    query = environ["QUERY_STRING"]
    if environ["PATH_INFO"] == "/gate":
        held(query)
    elif query:
        slow_view(float(query))
    body = {"/pid": str(os.getpid()), "/version": VERSION}.get(environ["PATH_INFO"], "hello").encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]

def slow_view(seconds):
    time.sleep(seconds)
"""
)


@pytest.fixture
def source() -> str:
    """Source of the application."""
    return SOURCE
