"""Clients that leave at every moment of a request, in a loop: the worker keeps its capacity and ends clean."""

from __future__ import annotations

import json
import random
import socket
import struct

import pytest

from tests.support.http import encode
from tests.support.wait import wait_for
from tests.support.websocket import BINARY, CLOSE, WebSocket, frame

#: Rounds over all moments; each round leaves at each of them once.
ROUNDS = 25
#: Less than the clients that leave: capacity that is not given back is soon missing.
CONNECTIONS = 20

SOURCE = """
    import asyncio, json, random

    #: The same choices in each run; whose they are depends on who comes first.
    chance = random.Random(5)
    running = set()
    ends = {"returned": 0, "cancelled": 0, "left": 0}

    async def upload(scope, receive, send):
        size, more = 0, True
        while more:
            event = await receive()
            if event["type"] == "http.disconnect":
                raise ConnectionAbortedError
            size, more = size + len(event["body"]), event["more_body"]
            await asyncio.sleep(0)
        await whole(send, b"%d" % size)

    async def stream(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(50):
            await send({"type": "http.response.body", "body": b"x" * 20_000, "more_body": True})
            await asyncio.sleep(0)
        await send({"type": "http.response.body"})

    async def waits(scope, receive, send):
        while (await receive())["type"] != "http.disconnect":
            pass
        raise ConnectionAbortedError

    async def deaf(scope, receive, send):
        \"\"\"Listens to nobody; only a cancellation ends it early.\"\"\"
        await asyncio.sleep(chance.choice([0, 0.01, 30]))
        await whole(send, b"late")

    async def grouped(scope, receive, send):
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(0.01))
            watcher = group.create_task(waits(scope, receive, send))
            await asyncio.sleep(0.02)
            watcher.cancel()
        await whole(send, b"grouped")

    async def chat(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        while (event := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "bytes": event["bytes"]})

    async def whole(send, body):
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def application(scope, receive, send):
        if scope["type"] == "lifespan":
            return await lifespan(receive, send)
        if scope["path"] == "/":
            return await whole(send, json.dumps({"running": len(running), **ends}).encode())
        me = object()
        running.add(me)
        try:
            await globals()[scope["path"].strip("/")](scope, receive, send)
            ends["returned"] += 1
        except asyncio.CancelledError:
            ends["cancelled"] += 1
            raise
        except OSError:
            ends["left"] += 1
        finally:
            running.discard(me)

    async def lifespan(receive, send):
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        with open("at-the-end", "w") as file:
            file.write(str(len(running)))
        await send({"type": "lifespan.shutdown.complete"})
"""

UPLOAD = encode("POST", "/upload", body=b"x" * 100_000)
HEAD = UPLOAD.index(b"\r\n\r\n") + 4
CHUNKED = encode("POST", "/upload", body=[b"x" * 30_000] * 3)

#: What is sent, and how much of the answer is read before the client leaves.
MOMENTS = {
    "at once": (b"", 0),
    "in the head": (UPLOAD[:20], 0),
    "before the body": (UPLOAD[:HEAD], 0),
    "in the body": (UPLOAD[: HEAD + 50_000], 0),
    "a byte before its end": (UPLOAD[:-1], 0),
    "after the body": (UPLOAD, 0),
    "in a chunked body": (CHUNKED[:50_000], 0),
    "before the last chunk": (CHUNKED[:-5], 0),
    "in the head of the answer": (encode(target="/stream"), 10),
    "in the answer": (encode(target="/stream"), 30_000),
    "before the answer": (encode(target="/stream"), 0),
    "while it waits": (encode(target="/waits"), 0),
    "while it is deaf": (encode(target="/deaf"), 0),
    "among tasks": (encode(target="/grouped"), 0),
    "between two requests": (encode(target="/stream") + encode(target="/waits"), 5000),
}
WEBSOCKET = {
    "in the handshake": 0,
    "after the handshake": 1,
    "in a frame": 2,
    "after a message": 3,
    "after a close, behind messages": 4,
}


def leave(peer, how):
    """By a close, a half close, or a reset."""
    if how == "reset":
        peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    elif how == "half":
        peer.half_close()
    peer.close()


def come_and_go(server, moment, how):
    data, read = MOMENTS[moment]
    with server.connect(receive_buffer=8192) as peer:
        if data:
            peer.send(data)
        while read > 0:
            read -= len(peer.receive(read))
        leave(peer, how)


def come_and_go_by_websocket(server, moment, how):
    if moment == 0:
        headers = [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")]
        with server.connect() as peer:
            peer.send(encode(target="/chat", headers=[*headers, ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")]))
            return leave(peer, how)
    with WebSocket(server.address, "/chat") as client:
        message = frame(BINARY, b"x" * 10_000)
        if moment == 4:
            client.peer.send(message * 3 + frame(CLOSE, struct.pack("!H", 1000)))
        elif moment > 1:
            client.peer.send(message if moment == 3 else message[:5000])
        return leave(client.peer, how)


def counts(server):
    return json.loads(server.get("/").body)


@pytest.fixture
def racing(serve, worker, loop):
    options = ["--asgi-loop", loop, "--asgi-disconnect-grace-period", "0", "--graceful-timeout", "5"]
    return serve(SOURCE, *worker, *options, "--worker-connections", str(CONNECTIONS))


def finish(server):
    """Nobody is left behind, everybody is still served, and the end is clean."""
    wait_for(lambda: counts(server)["running"] == 0, what=lambda: f"{counts(server)}\n{server.log}")
    # As many at once as the worker may hold: not one place was lost.
    peers = [server.connect() for _ in range(CONNECTIONS - 2)]
    for peer in peers:
        peer.send(encode(target="/waits"))
    wait_for(lambda: counts(server)["running"] == len(peers), what=lambda: str(counts(server)))
    for peer in peers:
        peer.close()
    wait_for(lambda: counts(server)["running"] == 0, what=lambda: str(counts(server)))
    assert "Traceback" not in server.log
    assert server.stop() == 0
    assert server.read("at-the-end") == "0"


def test_clients_leave_at_every_moment(racing):
    chance = random.Random(5)
    for _ in range(ROUNDS):
        for moment in MOMENTS:
            come_and_go(racing, moment, chance.choice(["close", "half", "reset"]))
    assert sum(counts(racing).values()) > ROUNDS
    finish(racing)


def test_websocket_clients_leave_at_every_moment(racing):
    chance = random.Random(5)
    for _ in range(ROUNDS):
        for moment in WEBSOCKET.values():
            come_and_go_by_websocket(racing, moment, chance.choice(["close", "half", "reset"]))
    finish(racing)


def test_server_stops_while_clients_leave(racing):
    """What is under way when the server is told to stop ends, whoever is still there."""
    peers = []
    for moment in [*MOMENTS] * 2:
        data, _ = MOMENTS[moment]
        if data:
            peers.append(racing.connect())
            peers[-1].send(data)
    racing.kill(15)
    for peer in peers[::2]:
        peer.close()
    assert racing.wait_for_exit(15) == 0
    assert racing.processes() == []
    for peer in peers:
        peer.close()
