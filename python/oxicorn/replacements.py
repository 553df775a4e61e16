"""What a config file, a hook or an application has replaced in our modules: honoured, or said.

Gunicorn's users change answers by replacing parts of its modules. The ``Server`` header is written
by the gateway, so what ``Response.default_headers`` makes of it is found out and done there; what
has no effect is named once, with what to use instead.
"""

from __future__ import annotations

from collections.abc import Iterator

import oxicorn
from oxicorn.compat import can_be_sent
from oxicorn.http import wsgi
from oxicorn.http.message import Request
from oxicorn.unused import replaced

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from oxicorn.config import Config

__all__ = ["found", "found_too_late"]

RESPONSE = "gunicorn.http.wsgi.Response"
ADVICE = "set headers in the application or in WSGI middleware"


def found(cfg: Config, told: set[str]) -> Iterator[str]:
    """In the arbiter: does what can be done, and says in a sentence each what cannot.

    ``told`` is what was said before.
    """
    sentences = [*replaced()]
    if _is_changed() and _change_of_response() not in told:
        told.add(_change_of_response())
        sentences += _adopt(cfg)
    yield from (text for text in dict.fromkeys(sentences) if text not in told)
    told.update(sentences)


def found_too_late(told: set[str]) -> Iterator[str]:
    """In a worker that has loaded the application: what the arbiter was not told of."""
    yield from (text for text in replaced() if text not in told)
    if _is_changed() and _change_of_response() not in told:
        yield f"{RESPONSE} was changed in a worker, which has no effect: do it in the config file"


def _is_changed() -> bool:
    response: Any = wsgi.Response
    made = response.__init__ is wsgi.AS_MADE_INIT
    return not made or response.default_headers is not wsgi.DEFAULT_HEADERS


def _change_of_response() -> str:
    """The very change, for whoever has seen it already."""
    response: Any = wsgi.Response
    return f"{RESPONSE} {id(response.__init__)} {id(response.default_headers)}"


def _adopt(cfg: Config) -> Iterator[str]:
    try:
        changed = _lines_of(wsgi.Response, cfg)
    except Exception as error:
        yield f"{RESPONSE} was changed, which has no effect, because it cannot be tried: {error!r}"
        return
    plain = _lines_of(wsgi.AS_MADE, cfg)
    server = changed.pop("server", "")
    plain.pop("server", "")
    if can_be_sent(server):
        oxicorn.SERVER = server
    else:
        yield f"{RESPONSE} asks for a Server header that cannot be sent: {server!r}"
    for name in sorted(plain.keys() ^ changed.keys()):
        what = "leaves out" if name in plain else "adds"
        yield f"{RESPONSE}.default_headers {what} {name!r}, which has no effect: {ADVICE}"
    for name in sorted(plain.keys() & changed.keys() - {"date"}):
        if plain[name] != changed[name]:
            yield f"{RESPONSE}.default_headers changes {name!r}, which has no effect: {ADVICE}"


def _lines_of(response_class: type[wsgi.Response], cfg: Config) -> dict[str, str]:
    """The headers that a response of this class begins with, names in small letters."""
    request = Request("GET", "/", "/", "", (1, 1), [], "http", ("127.0.0.1", 0), None, 1)
    response = response_class(request, None, cfg)
    response.status, response.status_code = "200 OK", 200
    response.response_length = 0
    headers = {}
    for line in response.default_headers()[1:]:
        text = line.decode("latin-1") if isinstance(line, bytes) else line
        name, _, value = text.partition(":")
        headers[name.strip().lower()] = value.strip()
    return headers
