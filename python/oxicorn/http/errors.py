"""The errors of Gunicorn's request parser, for code that catches or raises them.

The server itself raises none: requests that break the rules end in the gateway, which answers them
and writes their line into the access log, and never reach a worker.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["NoMoreData", "ParseException"]


class NoMoreData(OSError):
    """The client ended the connection in the middle of a request."""

    def __init__(self, buf: bytes | None = None) -> None:
        super().__init__(f"No more data after: {buf!r}")
        self.buf = buf


class ParseException(Exception):
    """A request that cannot be taken; ``code`` is the status it is answered with."""

    code = 400


def _error(
    name: str, text: str, attribute: str, code: int = 400, base: type = ParseException
) -> Any:
    """One class: how it is shown, the attribute its first argument becomes."""

    def __init__(self: Any, value: object = None, *more: object) -> None:
        Exception.__init__(self, value, *more)
        setattr(self, attribute, value)

    def __str__(self: Any) -> str:
        return text.format(getattr(self, attribute))

    body = {"__init__": __init__, "__str__": __str__, "__module__": __name__, "code": code}
    made = type(name, (base,), {**body, "__doc__": text.partition(":")[0] + "."})
    __all__.append(name)
    return made


ConfigurationProblem = _error("ConfigurationProblem", "Configuration problem: {}", "info", 500)
InvalidRequestLine = _error("InvalidRequestLine", "Invalid HTTP request line: {!r}", "req")
InvalidRequestMethod = _error("InvalidRequestMethod", "Invalid HTTP method: {!r}", "method")
ExpectationFailed = _error(
    "ExpectationFailed", "Unable to comply with expectation: {!r}", "expect", 417
)
InvalidHTTPVersion = _error("InvalidHTTPVersion", "Invalid HTTP Version: {!r}", "version")
InvalidHeader = _error("InvalidHeader", "Invalid HTTP Header: {!r}", "hdr")
InvalidHeaderName = _error("InvalidHeaderName", "Invalid HTTP header name: {!r}", "hdr")
InvalidResponseHeader = _error(
    "InvalidResponseHeader", "Invalid response header: {}", "hdr", 500, InvalidHeader
)
InvalidResponseHeaderName = _error(
    "InvalidResponseHeaderName", "Invalid response header name: {}", "hdr", 500, InvalidHeaderName
)
ObsoleteFolding = _error("ObsoleteFolding", "Obsolete line folding is unacceptable: {!r}", "hdr")
UnsupportedTransferCoding = _error(
    "UnsupportedTransferCoding", "Unsupported transfer coding: {!r}", "hdr", 501
)
InvalidChunkSize = _error("InvalidChunkSize", "Invalid chunk size: {!r}", "data")
InvalidChunkExtension = _error("InvalidChunkExtension", "Invalid chunk extension: {}", "reason")
ChunkMissingTerminator = _error(
    "ChunkMissingTerminator", "Invalid chunk terminator is not '\\r\\n': {!r}", "term"
)
LimitRequestLine = _error("LimitRequestLine", "Request Line is too large: {}", "size", 414)
LimitRequestHeaders = _error("LimitRequestHeaders", "{}", "msg", 431)
InvalidProxyLine = _error("InvalidProxyLine", "Invalid PROXY line: {!r}", "line")
InvalidProxyHeader = _error("InvalidProxyHeader", "Invalid PROXY header: {}", "msg")
ForbiddenProxyRequest = _error(
    "ForbiddenProxyRequest", "Proxy request from {!r} not allowed", "host", 403
)
InvalidSchemeHeaders = _error("InvalidSchemeHeaders", "Contradictory scheme headers", "hdr")
InvalidH2CPreface = _error(
    "InvalidH2CPreface", "Expected HTTP/2 connection preface, got {!r}", "data"
)
