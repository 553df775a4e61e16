"""gRPC: its own Python client (grpcio), and an application that serves it by ASGI or WSGI (connectrpc).

What gRPC needs of a server: trailers, also in a response without content, streams that are open in both directions at
once, and cancellation.
"""

from __future__ import annotations

import os
import queue
from collections.abc import Iterator

import pytest

from tests.http2.conftest import CLEARTEXT
from tests.support.server import Server
from tests.support.wait import wait_for
from tests.tls.conftest import Pki

# What its threads do at a fork is for servers; ours here are other programs.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
grpc = pytest.importorskip("grpc")
pytest.importorskip("connectrpc")
from google.protobuf.wrappers_pb2 import StringValue  # noqa: E402

pytestmark = pytest.mark.usefixtures("oxicorn_only")

SERVICE = """
    from connectrpc.code import Code
    from connectrpc.compat import google_protobuf_codecs
    from connectrpc.errors import ConnectError
    from connectrpc.method import IdempotencyLevel, MethodInfo, StreamType
    from connectrpc.server import {application}, {endpoint} as Endpoint
    from google.protobuf.wrappers_pb2 import StringValue

    def method(name, kind):
        return MethodInfo(name=name, service_name="shop.Shop", input=StringValue, output=StringValue,
                          idempotency_level=IdempotencyLevel.UNKNOWN, stream_type=kind)

    UNARY = method("Say", StreamType.UNARY)
    SERVER = method("Count", StreamType.SERVER_STREAM)
    CLIENT = method("Sum", StreamType.CLIENT_STREAM)
    BIDI = method("Chat", StreamType.BIDI_STREAM)

    def judge(request):
        if request.value == "fail":
            raise ConnectError(Code.NOT_FOUND, "there is no such thing")

    class Application({application}):
        path = "/shop.Shop"

        def __init__(self):
            super().__init__(codecs=google_protobuf_codecs(), {endpoints}{{
                "/shop.Shop/Say": Endpoint.unary(method=UNARY, function=say),
                "/shop.Shop/Count": Endpoint.server_stream(method=SERVER, function=count),
                "/shop.Shop/Sum": Endpoint.client_stream(method=CLIENT, function=total),
                "/shop.Shop/Chat": Endpoint.bidi_stream(method=BIDI, function=chat),
            }})
"""

ASGI = (
    SERVICE.format(
        application="ConnectASGIApplication", endpoint="Endpoint", endpoints="service=None, endpoints=lambda _: "
    )
    + """
    import asyncio
    left = []

    async def say(request, context):
        judge(request)
        if request.value == "wait":
            try:
                await asyncio.sleep(60)
            finally:
                open("cancelled", "w").close()
        context.response_headers["x-seen"] = context.request_headers.get("x-token", "none")
        context.response_trailers["x-last"] = "trailer"
        return StringValue(value=request.value * 2)

    async def count(request, context):
        for number in range(int(request.value)):
            yield StringValue(value=str(number))

    async def total(requests, context):
        size = 0
        async for request in requests:
            size += len(request.value)
        return StringValue(value=str(size))

    async def chat(requests, context):
        async for request in requests:
            yield StringValue(value="you said " + request.value)

    service = Application()

    async def application(scope, receive, send):
        if scope["type"] != "lifespan":
            await service(scope, receive, send)
"""
)

WSGI = (
    SERVICE.format(application="ConnectWSGIApplication", endpoint="EndpointSync", endpoints="endpoints=")
    + """
    def say(request, context):
        judge(request)
        context.response_headers["x-seen"] = context.request_headers.get("x-token", "none")
        context.response_trailers["x-last"] = "trailer"
        return StringValue(value=request.value * 2)

    def count(request, context):
        for number in range(int(request.value)):
            yield StringValue(value=str(number))

    def total(requests, context):
        return StringValue(value=str(sum(len(request.value) for request in requests)))

    def chat(requests, context):
        for request in requests:
            yield StringValue(value="you said " + request.value)

    service = Application()

    def application(environ, start_response):
        # By the name that connectrpc looks for.
        environ.setdefault("wsgi.ext.http.send_trailers", environ.get("oxicorn.send_trailers"))
        return service(environ, start_response)
"""
)


class Shop:
    """A client of the service, as generated code would have it."""

    def __init__(self, channel: grpc.Channel) -> None:
        def made(kind: str, name: str):
            make = getattr(channel, kind)
            return make(f"/shop.Shop/{name}", StringValue.SerializeToString, StringValue.FromString)

        self.say = made("unary_unary", "Say")
        self.count = made("unary_stream", "Count")
        self.sum = made("stream_unary", "Sum")
        self.chat = made("stream_stream", "Chat")


@pytest.fixture(scope="module")
def asgi(serve_module) -> Server:
    return started(serve_module(ASGI, *CLEARTEXT, "-k", "asgi", access_log=True, ready=None))


@pytest.fixture(scope="module")
def wsgi(serve_module) -> Server:
    flags = [*CLEARTEXT, "-k", "gthread", "--threads", "4"]
    return started(serve_module(WSGI, *flags, access_log=True, ready=None))


def started(server: Server) -> Server:
    server.wait_for_log("Booting worker")
    return server


@pytest.fixture(params=["asgi", "wsgi"])
def shop(request) -> Iterator[Shop]:
    server = request.getfixturevalue(request.param)
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield Shop(channel)


@pytest.fixture
def asgi_shop(asgi) -> Iterator[Shop]:
    with grpc.insecure_channel(f"127.0.0.1:{asgi.port}") as channel:
        yield Shop(channel)


def value(text: str) -> StringValue:
    return StringValue(value=text)


def test_a_call_with_its_metadata(shop):
    answer, call = shop.say.with_call(value("ab"), metadata=[("x-token", "1")], timeout=20)
    assert answer.value == "abab"
    assert dict(call.initial_metadata())["x-seen"] == "1"
    assert dict(call.trailing_metadata())["x-last"] == "trailer"
    assert call.code() is grpc.StatusCode.OK


def test_an_error_is_a_status_in_trailers(shop):
    with pytest.raises(grpc.RpcError) as error:
        shop.say(value("fail"), timeout=20)
    assert error.value.code() is grpc.StatusCode.NOT_FOUND
    assert error.value.details() == "there is no such thing"


def test_a_method_that_is_none(shop):
    """Answered without gRPC; the client makes a status of 404."""
    with pytest.raises(grpc.RpcError) as error:
        list(shop.count(value("x"), timeout=20))
    assert error.value.code() is not grpc.StatusCode.OK


def test_many_small_messages(shop):
    assert [int(one.value) for one in shop.count(value("10000"), timeout=30)] == list(range(10_000))


def test_a_stream_of_requests(shop):
    assert shop.sum((value("x" * 1000) for _ in range(1000)), timeout=30).value == "1000000"


def test_long_messages(shop):
    assert len(shop.say(value("x" * 1_500_000), timeout=30).value) == 3_000_000


def test_many_calls_at_once(shop):
    calls = [shop.say.future(value(str(number)), timeout=30) for number in range(200)]
    assert [call.result().value for call in calls] == [str(number) * 2 for number in range(200)]


def test_a_conversation(asgi_shop):
    """Each question follows the answer before: both directions are open at once."""
    questions: queue.Queue[str | None] = queue.Queue()
    answers = asgi_shop.chat((value(text) for text in iter(questions.get, None)), timeout=30)
    for number in range(100):
        questions.put(str(number))
        assert next(answers).value == f"you said {number}"
    questions.put(None)
    assert list(answers) == []
    assert answers.code() is grpc.StatusCode.OK


def test_a_reader_that_pauses_loses_nothing(asgi_shop):
    """Many frames of a few bytes wait for it in its windows; that is no flood."""
    answers = asgi_shop.count(value("30000"), timeout=60)
    first = [next(answers).value for _ in range(10)]
    assert asgi_shop.say(value("a"), timeout=20).value == "aa"
    assert first + [one.value for one in answers] == [str(number) for number in range(30_000)]


def test_a_deadline_cancels_the_call(asgi, asgi_shop):
    """The client resets the stream; the application's call is cancelled."""

    def is_cancelled() -> bool:
        # The time of one call may pass before the application has begun with it.
        with pytest.raises(grpc.RpcError) as error:
            asgi_shop.say(value("wait"), timeout=0.5)
        assert error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        return (asgi.directory / "cancelled").exists()

    wait_for(is_cancelled)


def test_in_tls(serve, pki: Pki):
    server = started(serve(ASGI, *pki.flags, "--http-protocols", "h2", "-k", "asgi", ready=None))
    roots = (pki.directory / "ca.pem").read_bytes()
    with grpc.secure_channel(f"localhost:{server.port}", grpc.ssl_channel_credentials(roots)) as channel:
        assert Shop(channel).say(value("ab"), timeout=20).value == "abab"
