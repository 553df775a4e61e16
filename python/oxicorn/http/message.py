"""``req``: the request as ``pre_request`` and ``post_request`` hooks see it."""

from __future__ import annotations

from typing import Any

__all__ = ["Request"]


class Request:
    """Made for hooks only; free attributes may be set on it."""

    def __init__(
        self,
        method: str,
        uri: str,
        path: str,
        query: str,
        version: tuple[int, int],
        headers: list[tuple[str, str]],
        scheme: str,
        peer_addr: tuple[str, int] | str,
        body: Any,
        req_number: int,
    ) -> None:
        self.method = method
        self.uri = uri
        #: The path as it was sent, without query.
        self.path = path
        self.query = query
        self.fragment = ""
        self.version = version
        #: ``(NAME, value)`` in the order received, names in upper case.
        self.headers = headers
        self.trailers: list[tuple[str, str]] = []
        self.scheme = scheme
        self.peer_addr = peer_addr
        self.remote_addr = peer_addr
        self.body = body
        self.req_number = req_number
        self.proxy_protocol_info: dict[str, Any] | None = None
        self.must_close = False

    def should_close(self) -> bool:
        """Whether the connection ends after this request; the gateway decides that."""
        return self.must_close

    def force_close(self) -> None:
        """Kept for code written for Gunicorn; connections belong to the gateway."""
        self.must_close = True
