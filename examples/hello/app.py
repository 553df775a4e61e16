"""The smallest WSGI application: one function.

``application`` is the name that is looked for when only the module is given (``oxicorn app``);
``app`` is the one most frameworks use (``oxicorn app:app``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

BODY = b"Hello, World!\n"
HEADERS = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(BODY)))]


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Says hello, whatever the request."""
    start_response("200 OK", HEADERS)
    return [BODY]


app = application
