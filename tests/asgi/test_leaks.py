"""Serving leaves nothing behind: memory, objects, tasks and descriptors stay flat over many requests and messages.

Bounded by default; ``--many`` makes it a million requests and 100,000 WebSocket messages (some minutes).
"""

from __future__ import annotations

import json
import threading

import pytest

from tests.support import processes
from tests.support.http import encode
from tests.support.wait import wait_for
from tests.support.websocket import WebSocket

REQUESTS, MANY_REQUESTS = 20_000, 1_000_000
MESSAGES, MANY_MESSAGES = 10_000, 100_000
#: Served before the first look, so that what is allocated once is there.
WARM_UP = 4_000
#: Requests that are under way together on one connection, and connections.
PIPELINED, CONNECTIONS = 20, 4
#: Bytes the whole server may have grown by in the end, whatever the number: what allocators keep. A leak of one small
#: object for each request would be more.
TOLERANCE = 2 * 1024 * 1024

SOURCE = """
    import asyncio, gc, json

    async def application(scope, receive, send):
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            while (event := await receive())["type"] == "websocket.receive":
                await send({"type": "websocket.send", "bytes": event.get("bytes"), "text": event.get("text")})
            return
        assert scope["type"] == "http"
        event = await receive()
        body = b"hello"
        if scope["path"] == "/state":
            gc.collect()
            body = json.dumps({"objects": len(gc.get_objects()), "tasks": len(asyncio.all_tasks())}).encode()
        elif scope["path"] == "/waits":
            await asyncio.sleep(0.001)
        elif scope["path"] == "/task":
            asyncio.create_task(asyncio.sleep(0))
        elif scope["path"] == "/echo":
            body = event["body"]
        elif scope["path"] == "/pieces":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for _ in range(3):
                await send({"type": "http.response.body", "body": b"piece", "more_body": True})
            return await send({"type": "http.response.body"})
        elif scope["path"] == "/refused":
            try:
                await send({"type": "nonsense"})
            except Exception:
                pass
        headers = [(b"content-length", b"%d" % len(body)), (b"x-path", scope["raw_path"])]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
"""

TARGETS = ["/", "/waits", "/task", "/pieces", "/refused", "/", "/?a=b", "/a%20path", "/waits?c", "/"]
ECHOED = b"x" * 500
BATCH = [encode(target=target) for target in TARGETS] + [encode("POST", "/echo", body=ECHOED)] * (PIPELINED - 10)


@pytest.fixture
def server(serve, worker, loop):
    return serve(SOURCE, *worker, "--asgi-loop", loop, "--keep-alive", "20", "--worker-connections", "200")


def in_threads(work, count):
    """Runs ``work`` in so many threads; what any of them raises is raised."""
    failures = []

    def run():
        try:
            work()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def requests(server, number):
    """So many requests, over connections that are kept and pipelined."""
    batch = b"".join(BATCH)

    def work():
        with server.connect() as peer:
            for _ in range(number // CONNECTIONS // PIPELINED):
                peer.send(batch)
                # Counted, not parsed: a million answers are to be read in minutes.
                received = b""
                while received.count(b"HTTP/1.1 200 OK\r\n") < PIPELINED or not received.endswith(ECHOED):
                    data = peer.receive(1 << 20)
                    assert data, f"closed after {received[-300:]!r}"
                    received += data

    in_threads(work, CONNECTIONS)


def messages(server, number):
    """So many WebSocket messages, of both kinds and several sizes."""

    def work():
        with WebSocket(server.address) as client:
            for round_ in range(number // CONNECTIONS // 4):
                sent = [b"x" * 64, "text", b"y" * 200, "z" * (70_000 if round_ % 100 == 0 else 10)]
                for message in sent:
                    client.send(message)
                assert [client.receive() for _ in sent] == sent
            client.close()

    in_threads(work, CONNECTIONS)


def look(server):
    """Memory of the tree, objects of the interpreter, tasks of the loop, descriptors of all processes."""
    state = json.loads(server.get("/state").body)
    descriptors = sum(len(processes.open_files(process.pid)) for process in server.processes())
    return {**state, "memory": processes.proportional_memory(server.pid), "descriptors": descriptors}


def assert_flat(server, before):
    """What ends a moment later (a timer, a connection) is no leak; a leak stays."""
    limits = {"tasks": 0, "descriptors": 0, "objects": 200, "memory": TOLERANCE}
    after = {}

    def flat():
        after.update(look(server))
        return all(after[name] - before[name] <= limit for name, limit in limits.items())

    wait_for(flat, what=lambda: f"{before} again, not {after}")


@pytest.mark.timeout(1800)
def test_requests_leave_nothing_behind(server, request):
    requests(server, WARM_UP)
    before = look(server)
    requests(server, MANY_REQUESTS if request.config.getoption("--many") else REQUESTS)
    assert_flat(server, before)


@pytest.mark.timeout(1800)
def test_websocket_messages_leave_nothing_behind(server, request):
    messages(server, WARM_UP)
    before = look(server)
    messages(server, MANY_MESSAGES if request.config.getoption("--many") else MESSAGES)
    assert_flat(server, before)


def test_websockets_leave_nothing_behind(server):
    def come_and_go(number):
        for index in range(number):
            with WebSocket(server.address) as client:
                client.send("x")
                assert client.receive() == "x"
                if index % 2:
                    client.close()

    come_and_go(100)
    before = look(server)
    come_and_go(500)
    assert_flat(server, before)
