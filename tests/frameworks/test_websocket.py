"""WebSockets of applications that take the client's socket over from a worker of threads or greenlets (flask-sock)."""

from __future__ import annotations

import contextlib
import threading

import pytest
import simple_websocket

from tests.support.greenlets import GEVENT
from tests.support.http import encode
from tests.support.wait import wait_for

APP = """
    import time
    from flask import Flask
    from flask_sock import Sock

    application = Flask(__name__)
    sock = Sock(application)
    closed = []

    @application.get("/")
    def hello():
        return "hello"

    @application.get("/closed")
    def closed_reasons():
        return " ".join(closed)

    @sock.route("/echo")
    def echo(ws):
        try:
            while True:
                ws.send(ws.receive())
        finally:
            closed.append("echo")

    @sock.route("/count/<int:number>")
    def count(ws, number):
        for value in range(number):
            ws.send(str(value))
"""


@pytest.fixture(params=["gthread", GEVENT])
def server(serve, request):
    return serve(APP, "--worker-class", request.param, "--threads", "8")


@contextlib.contextmanager
def websocket(server, target):
    client = simple_websocket.Client(f"ws://127.0.0.1:{server.port}{target}")
    try:
        yield client
    finally:
        with contextlib.suppress(simple_websocket.ConnectionClosed):
            client.close()
        client.thread.join(5)
        assert not client.thread.is_alive()


def test_echo(server):
    with websocket(server, "/echo") as client:
        for message in ["text", "\u20ac", b"bytes", "", "x" * 200_000, b"\0" * 70_000]:
            client.send(message)
            assert client.receive(timeout=10) == message


def handshake(target):
    headers = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ]
    return encode(target=target, headers=headers)


def test_server_speaks_first_and_closes(server):
    """The client's own frames by hand: simple_websocket's forgets what it reads together with the 101."""
    with server.connect() as peer:
        peer.send(handshake("/count/100"))
        assert peer.head().status == 101
        expected = b"".join(b"\x81%c%d" % (len(str(number)), number) for number in range(100))
        assert peer.exactly(len(expected)) == expected
        assert peer.exactly(4) == b"\x88\x02\x03\xe8"


def test_frames_sent_with_the_handshake_are_not_lost(server):
    """They are read together with the head, before the socket changes hands."""
    frame = b"\x81\x85\0\0\0\0early"
    with server.connect() as peer:
        peer.send(handshake("/echo") + frame)
        answer = peer.head()
        assert answer.status == 101
        assert answer.header("sec-websocket-accept") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        assert peer.exactly(7) == b"\x81\x05early"


def test_many_at_once_beside_ordinary_requests(server):
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(websocket(server, "/echo")) for _ in range(5)]
        for number, client in enumerate(clients):
            client.send(f"message {number}")
        assert server.get("/").text == "hello"
        assert [client.receive(timeout=10) for client in clients] == [f"message {n}" for n in range(5)]


def test_application_notices_that_the_client_left(server):
    with websocket(server, "/echo") as client:
        client.send("x")
        assert client.receive(timeout=10) == "x"
    wait_for(lambda: server.get("/closed").text == "echo")
    assert "Traceback" not in server.log


def test_ordinary_request_to_a_websocket_address_is_refused(server):
    assert server.get("/echo").status == 400
    assert server.get("/").text == "hello"


@pytest.mark.parametrize("name", ["gthread", GEVENT])
def test_open_websocket_does_not_outlive_the_server(serve, name):
    server = serve(APP, "--worker-class", name, "--threads", "4", "--graceful-timeout", "1")
    with websocket(server, "/echo") as client:
        client.send("x")
        assert client.receive(timeout=10) == "x"
        stopper = threading.Thread(target=server.stop)
        stopper.start()
        with pytest.raises(simple_websocket.ConnectionClosed):
            client.receive(timeout=10)
        stopper.join()
    assert server.processes() == []
