"""An OpenTelemetry collector: takes OTLP over HTTP and keeps the spans it was sent."""

from __future__ import annotations

import contextlib
import ssl
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import trustme
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from tests.support.wait import wait_for


@dataclass
class Span:
    """A span as it came."""

    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    state: str
    flags: int
    start: int
    end: int
    status: int
    attributes: dict[str, Any]
    #: Name and time (nanoseconds since 1970), in order.
    events: list[tuple[str, int]]
    resource: dict[str, Any]
    scope: tuple[str, str]


def _values(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}


def _spans(message: ExportTraceServiceRequest) -> Iterator[Span]:
    for of_resource in message.resource_spans:
        for of_scope in of_resource.scope_spans:
            for span in of_scope.spans:
                yield Span(
                    name=span.name,
                    kind=span.kind,
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(),
                    state=span.trace_state,
                    flags=span.flags,
                    start=span.start_time_unix_nano,
                    end=span.end_time_unix_nano,
                    status=span.status.code,
                    attributes=_values(span.attributes),
                    events=[(event.name, event.time_unix_nano) for event in span.events],
                    resource=_values(of_resource.resource.attributes),
                    scope=(of_scope.scope.name, of_scope.scope.version),
                )


@dataclass
class Collector:
    """What was sent to it, and where it listens."""

    endpoint: str
    spans: list[Span] = field(default_factory=list)
    #: Path and headers of each post.
    posts: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def wait_for(self, count: int) -> list[Span]:
        """All spans, as soon as there are so many."""
        wait_for(lambda: len(self.spans) >= count, what=lambda: f"{count} spans of {self.spans}")
        return list(self.spans)

    def of(self, path: str) -> Span:
        """The only span of a request for ``path``, which is waited for."""
        found = lambda: [span for span in self.spans if span.attributes.get("url.path") == path]  # noqa: E731
        wait_for(found, what=lambda: f"a span of {path} among {self.spans}")
        (span,) = found()
        return span


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    collector: ClassVar[Collector]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        # Whatever is no message raises.
        spans = list(_spans(ExportTraceServiceRequest.FromString(body)))
        self.collector.posts.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        self.collector.spans += spans
        answer = ExportTraceServiceResponse().SerializeToString()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Who does not believe our certificate hangs up: no error of the collector's."""
        if not isinstance(sys.exc_info()[1], ssl.SSLError | ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


@contextlib.contextmanager
def collecting(certificate: trustme.LeafCert | None = None) -> Iterator[Collector]:
    """A collector on a port of its own; with a certificate (of ``localhost``) it speaks TLS."""
    handler = type("Handler", (_Handler,), {})
    with _Server(("127.0.0.1", 0), handler) as server:
        collector = Collector(f"http://127.0.0.1:{server.server_port}")
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            certificate.configure_cert(context)
            # The handshake belongs to the thread of the connection.
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
            collector = Collector(f"https://localhost:{server.server_port}")
        handler.collector = collector  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()
