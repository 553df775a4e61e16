"""python-socketio: its own client, by long polling, by WebSocket and from one to the other; rooms, acknowledgements."""

from __future__ import annotations

import pytest
import socketio

from tests.support.wait import wait_for

pytestmark = [
    pytest.mark.uvicorn,
    # The client leaves the end of its socket to the collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

SOURCE = """
    import socketio

    server = socketio.AsyncServer(async_mode="asgi", cors_allowed_origins="*", ping_interval=1, ping_timeout=5)
    left = []

    async def hello(scope, receive, send):
        body = ",".join(left).encode() or b"nobody"
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": body})

    application = socketio.ASGIApp(server, hello)

    @server.event
    async def connect(sid, environ, auth):
        if auth and auth.get("token") == "wrong":
            raise ConnectionRefusedError("not you")

    @server.event
    async def join(sid, room):
        await server.enter_room(sid, room)
        return {"joined": room, "transport": server.transport(sid)}

    @server.event
    async def say(sid, data):
        await server.emit("said", data, room=data["room"])

    @server.event
    async def binary(sid, data):
        return data[::-1]

    @server.event
    async def disconnect(sid, reason):
        left.append(str(reason))
"""


@pytest.fixture
def server(serve, asgi):
    return serve(SOURCE, *asgi)


@pytest.mark.parametrize("transports", [["polling"], ["websocket"], ["polling", "websocket"]], ids="+".join)
def test_socketio(server, transports):
    heard = []
    clients = [socketio.Client(reconnection=False) for _ in range(2)]
    try:
        for client in clients:
            client.on("said", heard.append)
            client.connect(f"http://127.0.0.1:{server.port}", transports=transports, wait_timeout=10)
        wait_for(lambda: all(client.transport() == transports[-1] for client in clients), what="the upgrade")
        for client in clients:
            assert client.call("join", "a", timeout=10) == {"joined": "a", "transport": transports[-1]}
        clients[0].emit("say", {"room": "a", "text": "hello \u20ac"})
        wait_for(lambda: heard == [{"room": "a", "text": "hello \u20ac"}] * 2, what=lambda: str(heard))
        data = bytes(range(256)) * 300
        assert clients[1].call("binary", data, timeout=10) == data[::-1]
    finally:
        for client in clients:
            client.disconnect()
            client.wait()
    # A client that leaves says so and closes its connection: either may be heard first. One that polls leaves without a
    # word where its last packet is still being posted: the server misses its answers to pings.
    ends = {"client disconnect", "transport close", "ping timeout"}

    def reasons() -> list[str]:
        return server.get("/").text.split(",")

    wait_for(lambda: [reason in ends for reason in reasons()] == [True, True], 30, lambda: str(reasons()))


def test_socketio_refuses(server):
    client = socketio.Client(reconnection=False)
    with pytest.raises(socketio.exceptions.ConnectionError, match="failed to connect"):
        client.connect(f"http://127.0.0.1:{server.port}", auth={"token": "wrong"}, wait_timeout=10)
