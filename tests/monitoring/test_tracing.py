"""Spans of the server, as a collector gets them, and those of instrumented applications below them."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from tests.support.collector import Collector, collecting
from tests.support.wait import wait_for

CALLER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
TRACE, PARENT = CALLER.split("-")[1:3]

#: `SPAN_KIND_SERVER`, `STATUS_CODE_ERROR`, and of the flags: sampled, random, the parent is remote.
SERVER, ERROR, SAMPLED, RANDOM, REMOTE = 2, 2, 1, 2, 0x300

QUICKLY = {"OTEL_BSP_SCHEDULE_DELAY": "100"}

#: Writes the application's spans to a file.
PROVIDER = """
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

    out = open("spans.json", "a", buffering=1)
    exporter = ConsoleSpanExporter(out=out, formatter=lambda span: span.to_json(indent=None) + "\\n")
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
"""
FLASK = (
    PROVIDER
    + """
    from flask import Flask, request
    from opentelemetry.instrumentation.flask import FlaskInstrumentor

    application = Flask(__name__)
    FlaskInstrumentor().instrument_app(application)

    @application.get("/<path:path>")
    def show(path):
        return request.headers.get("traceparent", "")
"""
)
FASTAPI = (
    PROVIDER
    + """
    from fastapi import FastAPI, Request
    from fastapi.responses import PlainTextResponse
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

    application = FastAPI()

    @application.get("/{path:path}")
    async def show(request: Request):
        return PlainTextResponse(request.headers.get("traceparent", ""))

    FastAPIInstrumentor.instrument_app(application)
"""
)
PLAIN = """
    def application(environ, start_response):
        if environ["PATH_INFO"] == "/fails":
            raise RuntimeError("as asked")
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [environ.get("HTTP_TRACEPARENT", "").encode()]
"""


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


def start(serve, source: str, collector: Collector, *args: str, **options: object):
    options.setdefault("env", QUICKLY)
    return serve(source, "--tracing", "--tracing-endpoint", collector.endpoint, *args, **options)


def application_spans(directory: Path, trace: str) -> list[dict]:
    """The application's spans in a trace, the outermost first."""
    path = directory / "spans.json"
    # The last line may not be whole yet.
    spans = [json.loads(line) for line in path.read_text().split("\n")[:-1]] if path.exists() else []
    found = [span for span in spans if span["context"]["trace_id"] == f"0x{trace}"]
    return sorted(found, key=lambda span: span["start_time"])


@pytest.mark.parametrize(("source", "worker_class"), [(FLASK, "gthread"), (FASTAPI, "asgi")], ids=["flask", "fastapi"])
def test_spans_of_an_instrumented_application_are_children_of_ours(serve, collector, source, worker_class):
    server = start(serve, source, collector, "--worker-class", worker_class)
    answer = server.get("/child", [("traceparent", CALLER), ("tracestate", "vendor=1")])
    ours = collector.of("/child")
    assert (ours.trace_id, ours.parent_id, ours.state) == (TRACE, PARENT, "vendor=1")
    assert answer.text == f"00-{TRACE}-{ours.span_id}-01"
    wait_for(lambda: application_spans(server.directory, TRACE))

    def is_child() -> bool:
        spans = application_spans(server.directory, TRACE)
        return any(span["parent_id"] == f"0x{ours.span_id}" and span["kind"] == "SpanKind.SERVER" for span in spans)

    wait_for(is_child)
    # A trace that begins here.
    server.get("/root")
    ours = collector.of("/root")
    assert (ours.parent_id, ours.flags) == ("", SAMPLED | RANDOM | REMOTE)
    wait_for(lambda: application_spans(server.directory, ours.trace_id))


def test_a_span_says_what_became_of_the_request(serve, collector):
    server = start(serve, PLAIN, collector, "--request-id", "--request-start", "--worker-class", "gthread")
    with server.connect() as peer:
        peer.send(
            b"GET /a%20b?secret=1 HTTP/1.1\r\nHost: shop.test:81\r\nUser-Agent: tests\r\nX-Request-ID: abc\r\n\r\n"
        )
        assert peer.answer().status == 200
    span = collector.of("/a%20b")
    assert (span.name, span.kind, span.status, span.scope[0]) == ("GET", SERVER, 0, "oxicorn")
    assert span.resource == {"service.name": "unknown_service:oxicorn"}
    attributes = span.attributes
    assert attributes.pop("client.port") > 0
    assert 0 <= attributes.pop("oxicorn.queue_time") < 60
    assert attributes.pop("oxicorn.worker.pid") in server.worker_pids()
    assert attributes.pop("http.response.body.size") == 55
    assert attributes == {
        "http.request.method": "GET",
        "url.path": "/a%20b",
        "url.scheme": "http",
        "network.protocol.version": "1.1",
        "server.address": "shop.test",
        "server.port": 81,
        "client.address": "127.0.0.1",
        "user_agent.original": "tests",
        "http.response.status_code": 200,
        "oxicorn.request_id": "abc",
    }
    assert [name for name, _ in span.events] == ["queue", "application", "response", "client write"]
    times = [span.start, *(time for _, time in span.events), span.end]
    assert times == sorted(times)
    server.get("/fails")
    span = collector.of("/fails")
    assert (span.status, span.attributes["http.response.status_code"]) == (ERROR, 500)
    assert span.attributes["error.type"] == "500"


def test_the_environment_says_where_spans_go(serve, collector):
    variables = {
        **QUICKLY,
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"{collector.endpoint}/base",
        "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20abc",
        "OTEL_SERVICE_NAME": "shop",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
    }
    server = serve(PLAIN, "--tracing", env=variables)
    span = collector.wait_for(1)[0]
    assert span.resource == {"service.name": "shop", "deployment.environment.name": "test"}
    path, headers = collector.posts[0]
    assert path == "/base/v1/traces"
    assert headers["authorization"] == "Bearer abc"
    assert headers["content-type"] == "application/x-protobuf"
    assert "OTEL_EXPORTER_OTLP_PROTOCOL is 'grpc'" in server.log


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.mark.parametrize("by", ["setting", "environment", "system"])
def test_spans_go_over_tls_to_a_collector_that_is_believed(serve, tmp_path, authority, by):
    file = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(file))
    name = {"environment": "OTEL_EXPORTER_OTLP_CERTIFICATE", "system": "SSL_CERT_FILE"}.get(by)
    env = {**QUICKLY, **({name: str(file)} if name else {})}
    args = [] if name else ["--tracing-ca-certs", str(file)]
    with collecting(authority.issue_cert("localhost")) as collector:
        server = start(serve, PLAIN, collector, *args, env=env)
        assert server.get("/secret").status == 200
        assert collector.of("/secret").attributes["http.response.status_code"] == 200
        assert collector.posts[0][0] == "/v1/traces"


def test_a_collector_that_is_not_believed_gets_nothing_until_it_is(serve, tmp_path, authority):
    """The file is read again where a handshake has failed: certificates of authorities change, too."""
    file = tmp_path / "authority.pem"
    trustme.CA().cert_pem.write_to_path(str(file))
    with collecting(authority.issue_cert("localhost")) as collector:
        server = start(serve, PLAIN, collector, "--tracing-ca-certs", str(file))
        server.get("/distrusted")
        server.wait_for_log("Spans are not exported, the collector does not take them: .*certificate.*UnknownIssuer")
        assert collector.posts == []
        authority.cert_pem.write_to_path(str(file))

        def is_taken() -> bool:
            server.get("/believed")
            return bool(collector.posts)

        wait_for(is_taken)
        server.wait_for_log("Spans are exported again")


def test_a_file_of_authorities_that_is_missing_is_told_of_before_the_first_request(serve, tmp_path):
    server = serve(PLAIN, "--tracing", "--tracing-endpoint", "https://localhost:1", "--tracing-ca-certs", "none.pem")
    server.wait_for_log("Spans are not exported, tracing_ca_certs: none.pem cannot be read: No such file")
    assert server.get("/").status == 200


def test_nothing_is_exported_by_the_environment_alone(serve, collector):
    server = serve(PLAIN, env={**QUICKLY, "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint})
    assert server.get("/", [("traceparent", CALLER)]).text == CALLER
    assert server.stop(signal.SIGTERM) == 0
    assert collector.posts == []


def test_what_the_caller_does_not_record_is_not_recorded(serve, collector):
    server = start(serve, PLAIN, collector)
    quiet = CALLER.removesuffix("1") + "0"
    assert server.get("/quiet", [("traceparent", quiet)]).text == quiet
    server.get("/loud")
    collector.of("/loud")
    assert server.stop(signal.SIGTERM) == 0
    assert "/quiet" not in {span.attributes["url.path"] for span in collector.spans}


def test_a_part_of_the_traces_that_begin_here_is_sampled(serve, collector):
    server = start(serve, PLAIN, collector, "--tracing-sample-ratio", "0")
    flags = server.get("/mine").text.rsplit("-", 1)[1]
    assert int(flags, 16) & SAMPLED == 0
    server.get("/theirs", [("traceparent", CALLER)])
    collector.of("/theirs")
    assert len(collector.spans) == 1


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGQUIT], ids=["graceful", "quick"])
def test_spans_that_wait_are_sent_at_the_end(serve, collector, stop):
    server = start(serve, PLAIN, collector, env={"OTEL_BSP_SCHEDULE_DELAY": "600000"})
    for _ in range(5):
        server.get("/waits")
    assert collector.spans == []
    assert server.stop(stop) == 0
    assert [span.attributes["url.path"] for span in collector.spans].count("/waits") == 5


def test_a_collector_that_is_away_harms_nobody(serve):
    with collecting() as gone:
        pass
    server = start(serve, PLAIN, gone)
    for _ in range(20):
        assert server.get("/").status == 200
    server.wait_for_log("Spans are not exported, the collector does not take them: ")
    assert server.stop(signal.SIGTERM) == 0


def test_a_reload_changes_the_collector(serve, collector):
    with collecting() as other:
        config = "tracing = True\ntracing_endpoint = '{}'\n"
        server = serve(PLAIN, config=config.format(collector.endpoint), env=QUICKLY)
        server.get("/before")
        collector.of("/before")
        path = next(server.directory.glob("*conf*.py"))
        path.write_text(config.format(other.endpoint))
        server.kill(signal.SIGHUP)

        def is_moved() -> bool:
            server.get("/after")
            return "/after" in {span.attributes["url.path"] for span in other.spans}

        wait_for(is_moved)
