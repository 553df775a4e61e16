"""What the access log gets of requests that no application saw (refused, lost, timed out)."""

from __future__ import annotations

from oxicorn.http.message import Request
from oxicorn.http.wsgi import Response, response

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import timedelta
    from typing import Any

__all__ = ["environ_of", "error_response", "record_of"]

_VERSIONS = {"HTTP/1.0": (1, 0), "HTTP/2.0": (2, 0), "HTTP/3.0": (3, 0)}


def error_response(status: int, sent: int) -> Response:
    """The server's own answer."""
    from http import HTTPStatus  # not to be loaded where all requests are served

    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:  # such as 499, by which the client's leave is told
        phrase = "Unknown"
    return response(f"{status} {phrase}", [], True, sent)


def environ_of(request: Any) -> dict[str, Any]:
    """The variables of a request that were never put together, as far as log lines want them."""
    major, minor = request.version
    host, port = request.peer_addr or ("", "")
    environ = {
        "REQUEST_METHOD": request.method,
        "RAW_URI": request.uri,
        "PATH_INFO": request.path,
        "QUERY_STRING": request.query,
        "SERVER_PROTOCOL": f"HTTP/{major}.{minor}",
        "REMOTE_ADDR": host,
        "REMOTE_PORT": str(port),
        "wsgi.url_scheme": request.scheme,
    }
    for name, value in request.headers:
        key = name.upper().replace("-", "_")
        if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            key = f"HTTP_{key}"
        environ[key] = f"{environ[key]},{value}" if key in environ else value
    return environ


#: Microseconds in the queue, and with proxies before the server; None: not known.
Waits = tuple[int | None, int | None]


def note_waits(resp: Any, waits: Waits) -> None:
    """Leaves with ``resp``, which loggers get, where the time before the application went."""
    resp.queue_time, resp.proxy_time = (time if time is None else time / 1e6 for time in waits)


def record_of(
    *,
    method: str,
    target: str,
    path: str,
    query: str,
    protocol: str,
    headers: list[tuple[str, str]],
    client: tuple[str, int | None],
    server: tuple[str, int | None],
    https: bool,
    status: int,
    sent: int,
    microseconds: int,
    waits: Waits,
) -> tuple[Response, Request, dict[str, Any], timedelta]:
    """The arguments of ``Logger.access`` for what the gateway tells about a request."""
    from datetime import timedelta  # not to be loaded where all requests are served

    host, port = client
    request = Request(
        method,
        target,
        path,
        query,
        _VERSIONS.get(protocol, (1, 1)),
        [(name.upper(), value) for name, value in headers],
        "https" if https else "http",
        (host, port) if port is not None else "",
        None,
        1,
    )
    environ = environ_of(request)
    # What could not be understood is shown as it came.
    environ["SERVER_PROTOCOL"] = protocol
    if server[1] is not None:
        environ.update(SERVER_NAME=server[0], SERVER_PORT=str(server[1]))
    resp = error_response(status, sent)
    note_waits(resp, waits)
    return resp, request, environ, timedelta(microseconds=microseconds)
