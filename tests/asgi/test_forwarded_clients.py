"""``client`` and ``scheme`` of the scope as X-Forwarded-For and -Proto of a trusted peer say it (uvicorn's rule)."""

from __future__ import annotations

import json

import pytest

from tests.support.server import Server, Servers
from tests.support.websocket import WebSocket

SOURCE = """
    import json

    async def application(scope, receive, send):
        if scope["type"] == "lifespan":
            return
        found = json.dumps([scope["client"], scope["scheme"]])
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            return await send({"type": "websocket.send", "text": found})
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": found.encode()})
"""

FORWARDED = [("X-Forwarded-For", "198.51.100.1, 203.0.113.9"), ("X-Forwarded-For", "10.0.0.1")]


@pytest.fixture(scope="module")
def uvicorns(serve_module: Servers) -> Server:
    flags = ("--worker-class", "uvicorn.workers.UvicornWorker", "--forwarded-allow-ips", "127.0.0.1,10.0.0.0/8")
    return serve_module(SOURCE, *flags)


@pytest.mark.uvicorn
@pytest.mark.parametrize(
    ("headers", "client", "scheme"),
    [
        (FORWARDED, ["203.0.113.9", 0], "http"),
        ([*FORWARDED, ("X-Forwarded-Proto", "https")], ["203.0.113.9", 0], "https"),
        ([("X-Forwarded-For", "10.1.1.1, 10.0.0.1")], ["10.1.1.1", 0], "http"),
        ([("X-Forwarded-For", "unknown")], ["unknown", 0], "http"),
        ([("X-Forwarded-For", "203.0.113.9:4711")], ["203.0.113.9", 4711], "http"),
    ],
)
def test_under_uvicorns_name(uvicorns, headers, client, scheme):
    assert json.loads(uvicorns.request("GET", "/", headers).text) == [client, scheme]


@pytest.mark.uvicorn
def test_websockets_under_uvicorns_name(uvicorns):
    with WebSocket(uvicorns.address, "/", [*FORWARDED, ("X-Forwarded-Proto", "https")]) as client:
        assert json.loads(client.receive()) == [["203.0.113.9", 0], "wss"]


@pytest.mark.uvicorn
def test_nothing_to_believe(uvicorns):
    for headers in [], [("X-Forwarded-For", "")]:
        (host, port), scheme = json.loads(uvicorns.request("GET", "/", headers).text)
        assert (host, scheme) == ("127.0.0.1", "http")
        assert port > 0


@pytest.mark.usefixtures("only_oxicorn")
@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (("-k", "asgi"), "127.0.0.1"),
        (("-k", "asgi", "--asgi-proxy-headers", "on"), "10.0.0.1"),
        (("-k", "uvicorn_worker.UvicornWorker", "--asgi-proxy-headers", "off"), "127.0.0.1"),
        (("-k", "uvicorn_worker.UvicornWorker", "--forwarded-allow-ips", "192.0.2.1"), "127.0.0.1"),
    ],
)
def test_setting_decides(serve: Servers, flags: tuple[str, ...], expected: str) -> None:
    server = serve(SOURCE, *flags)
    assert json.loads(server.request("GET", "/", FORWARDED).text)[0][0] == expected


@pytest.mark.usefixtures("only_oxicorn")
def test_unix_sockets_are_trusted(serve: Servers) -> None:
    server = serve(SOURCE, "-k", "uvicorn_worker.UvicornWorker", bind="unix:server.sock")
    assert json.loads(server.request("GET", "/", FORWARDED).text)[0] == ["10.0.0.1", 0]
