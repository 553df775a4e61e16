"""The smallest honest application: one header pair that matters, a counted body."""

from collections.abc import Callable, Iterable
from typing import Any

BODY = b"Hello, World!\n"
HEADERS = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(BODY)))]


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    start_response("200 OK", HEADERS[:])
    return [BODY]
