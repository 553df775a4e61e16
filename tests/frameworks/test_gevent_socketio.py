"""Flask-SocketIO with ``async_mode="gevent"``: by the client's socket, and by gevent-websocket's worker class."""

from __future__ import annotations

import pytest
import socketio

from tests.support.wait import wait_for

pytest.importorskip("gevent")

#: What is there of gevent-websocket decides how engineio speaks WebSocket.
WITHOUT_GEVENT_WEBSOCKET = """
    import sys
    sys.modules["geventwebsocket"] = None
"""
SOURCE = """
    from flask import Flask, request
    from flask_socketio import SocketIO, emit, join_room

    application = Flask(__name__)
    server = SocketIO(application, async_mode="gevent", ping_interval=1, ping_timeout=5)
    left = []

    @application.get("/")
    def hello():
        return ",".join(left) or "nobody"

    @server.on("join")
    def join(room):
        join_room(room)
        return {"joined": room, "transport": server.server.transport(request.sid)}

    @server.on("say")
    def say(data):
        emit("said", data, to=data["room"])

    @server.on("binary")
    def binary(data):
        return data[::-1]

    @server.on("disconnect")
    def disconnect(reason):
        left.append("left")
"""
CLASSES = {
    "gevent": (WITHOUT_GEVENT_WEBSOCKET + SOURCE, "gevent"),
    "gevent-websocket": (SOURCE, "geventwebsocket.gunicorn.workers.GeventWebSocketWorker"),
}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # The client leaves its socket behind.
@pytest.mark.parametrize("name", list(CLASSES))
def test_socketio(serve, name):
    source, worker = CLASSES[name]
    server = serve(source, "-k", worker)
    heard = []
    clients = [socketio.Client(reconnection=False) for _ in range(2)]
    try:
        for client, transports in zip(clients, (["polling", "websocket"], ["websocket"]), strict=True):
            client.on("said", heard.append)
            client.connect(f"http://127.0.0.1:{server.port}", transports=transports, wait_timeout=10)
        wait_for(lambda: all(client.transport() == "websocket" for client in clients), what="the upgrade")
        for client in clients:
            assert client.call("join", "a", timeout=10) == {"joined": "a", "transport": "websocket"}
        clients[0].emit("say", {"room": "a", "text": "hello"})
        wait_for(lambda: heard == [{"room": "a", "text": "hello"}] * 2, what=lambda: str(heard))
        data = bytes(range(256)) * 300
        assert clients[1].call("binary", data, timeout=10) == data[::-1]
        # Pings of the server come meanwhile, and others are served.
        assert server.get("/").body == b"nobody"
    finally:
        for client in clients:
            client.disconnect()
            client.wait()
    wait_for(lambda: server.get("/").body == b"left,left")
