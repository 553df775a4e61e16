"""``req``: the request as ``pre_request`` and ``post_request`` hooks see it."""

from __future__ import annotations

from oxicorn.http.unreader import RequestUnreader
from oxicorn.unused import unused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Message", "Request"]

#: Gunicorn's upper bounds, in force where a setting asks for more.
MAX_REQUEST_LINE = 8190
MAX_HEADERS = 32768
DEFAULT_MAX_HEADERFIELD_SIZE = 8190

PARSED = (
    "requests are parsed by the gateway; what may be sent is told by the settings limit_request_*"
)


class Message:
    """What every message has; bounds are those of the settings."""

    #: The settings of this worker.
    cfg: Any = None
    headers: list[tuple[str, str]]
    trailers: list[tuple[str, str]]
    version: tuple[int, int] | None = None
    scheme = "http"
    must_close = False

    def should_close(self) -> bool:
        """Whether the connection ends after this request; the gateway decides that."""
        return self.must_close

    def force_close(self) -> None:
        """Kept for code written for Gunicorn; connections belong to the gateway."""
        self.must_close = True

    @property
    def limit_request_fields(self) -> int:
        """How many headers a request may have."""
        value = int(self.cfg.limit_request_fields)
        return value if 0 < value <= MAX_HEADERS else MAX_HEADERS

    @property
    def limit_request_field_size(self) -> int:
        """How long a header may be, in bytes."""
        value = int(self.cfg.limit_request_field_size)
        return value if value >= 0 else DEFAULT_MAX_HEADERFIELD_SIZE

    @property
    def max_buffer_headers(self) -> int:
        """How long all headers may be, in bytes."""
        field = self.limit_request_field_size or DEFAULT_MAX_HEADERFIELD_SIZE
        return self.limit_request_fields * (field + 2) + 4


@unused(
    PARSED,
    "get_data",
    "parse",
    "parse_headers",
    "parse_request_line",
    "proxy_protocol_access_check",
    "read_bytes",
    "read_into",
    "read_line",
    "set_body_reader",
)
class Request(Message):
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
        self.unreader = RequestUnreader(peer_addr)

    @property
    def limit_request_line(self) -> int:
        """How long the request line may be, in bytes."""
        value = int(self.cfg.limit_request_line)
        return value if 0 < value < MAX_REQUEST_LINE else MAX_REQUEST_LINE
