"""What logs call a request by: its id and its trace.

With the settings ``request_id`` and ``trace_context`` the gateway puts both into the headers that
an application sees; here they are found there again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

USUAL_HEADER = "X-Request-ID"


def id_header(cfg: Any) -> str:
    """The header that has the id of a request, made by the server or, as it comes, by others."""
    has_ids = getattr(cfg, "request_id", False)
    return str(cfg.request_id_header) if has_ids else USUAL_HEADER


def id_variable(cfg: Any) -> str:
    """The same as a key of the environ."""
    return "HTTP_" + id_header(cfg).upper().replace("-", "_")


def has_traces(cfg: Any) -> bool:
    """Whether each request has a valid ``traceparent``, because the server has seen to it."""
    return bool(getattr(cfg, "tracing", False)) or getattr(cfg, "trace_context", "off") != "off"


def trace_id(traceparent: str) -> str:
    """The trace that a valid ``traceparent`` names."""
    return traceparent[3:35]


def of_fact(request: Mapping[str, Any]) -> str:
    """The same as ``suffix``, of what the arbiter knows of a request."""
    names = ("request_id", "trace_id")
    return "".join(f" {name}={request[name]}" for name in names if request.get(name))


def suffix(cfg: Any, headers: Iterable[tuple[bytes, bytes]]) -> str:
    """What is put behind a line about a request; nothing where it has neither."""
    has_ids, shows_traces = getattr(cfg, "request_id", False), has_traces(cfg)
    if not has_ids and not shows_traces:
        return ""
    try:
        found = {str(name, "latin-1").lower(): str(value, "latin-1") for name, value in headers}
    except (TypeError, ValueError):
        # The application has put something else into its scope.
        return ""
    ids = []
    if has_ids and (one := found.get(id_header(cfg).lower())):
        ids.append(f" request_id={one}")
    if shows_traces and (parent := found.get("traceparent")):
        ids.append(f" trace_id={trace_id(parent)}")
    return "".join(ids)
