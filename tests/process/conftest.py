"""Applications of the process tests: they tell who served, and take as long as they are told."""

from __future__ import annotations

import pytest

#: ``/`` at once, ``/?SECONDS`` after that time, ``/pid`` the worker's pid, ``/version`` what a reload changes.
SOURCE = """
import os
import time

VERSION = "1"

def application(environ, start_response):
    query = environ["QUERY_STRING"]
    if query:
        slow_view(float(query))
    body = {"/pid": str(os.getpid()), "/version": VERSION}.get(environ["PATH_INFO"], "hello").encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]

def slow_view(seconds):
    time.sleep(seconds)
"""


@pytest.fixture
def source() -> str:
    """Source of the application."""
    return SOURCE
