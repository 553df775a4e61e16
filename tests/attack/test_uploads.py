"""Bodies that are streamed to an application: what it does not read must be the clients' to keep, whoever they are."""

from __future__ import annotations

import contextlib
import hashlib
import socket
import struct
import time
from pathlib import Path

import pytest

from tests.attack.conftest import BUFFERS, CONFIG, DEADLINE
from tests.support.http import chunk
from tests.support.swarm import Swarm, processor_time, siege
from tests.support.wait import stays, wait_for

#: Clients, and what each has to send.
CLIENTS, BODY = 200, 10 << 20
#: Bytes a worker may hold for one of them: one window, and what Python makes of a piece.
WINDOW = 64 << 10
HEAD = b"POST /%s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"

APP = """
    import asyncio, hashlib, time

    running = 0
    go = asyncio.Event()

    async def application(scope, receive, send):
        global running
        if scope["type"] == "lifespan":
            raise NotImplementedError
        path = scope["path"]
        if path == "/running":
            return await answer(send, str(running).encode())
        if path == "/go":
            go.set()
        elif path == "/deaf":
            # Reads a little, so that it has been asked for, then nothing for a while.
            running += 1
            try:
                first = await receive()
                await go.wait()
                await answer(send, str(len(first["body"]) + await count(receive)).encode())
            finally:
                running -= 1
        elif path == "/block":
            time.sleep(1)
            return await answer(send, b"blocked")
        elif path == "/digests":
            digest, more = hashlib.sha256(), True
            while more:
                event = await receive()
                digest.update(event["body"])
                more = event["more_body"]
            await answer(send, digest.hexdigest().encode())
        elif path == "/counts":
            await answer(send, str(await count(receive)).encode())
        if path in ("/hello", "/", "/go"):
            await answer(send, b"hello")

    async def count(receive):
        size, more = 0, True
        while more:
            event = await receive()
            if event["type"] == "http.disconnect":
                raise OSError
            size, more = size + len(event["body"]), event["more_body"]
        return size

    async def answer(send, body):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})
"""


@pytest.fixture
def server(serve):
    own = f"limit_request_body = {BODY}\ntimeout = 60\nasgi_disconnect_grace_period = 0"
    config = CONFIG.replace("limit_request_body = 32 * 1024", own)
    return serve(APP, "--worker-class", "asgi", config=config)


def worker_memory(server):
    (pid,) = server.worker_pids()
    text = (Path(f"/proc/{pid}/smaps_rollup")).read_text()
    return 1024 * sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Anonymous:"))


@pytest.mark.timeout(50)
def test_application_that_does_not_read(server):
    """Two gigabytes are announced, and nobody takes them: they stay where they are."""
    # Nearly all that the bodies may take of the buffers is theirs; the rest is the margin of the allocator.
    with siege(server, BUFFERS) as under:
        before = worker_memory(server)
        with Swarm(server.address, CLIENTS) as swarm:
            swarm.send(HEAD % b"deaf")
            sent = [0] * CLIENTS
            piece = b"10000\r\n" + b"x" * 65536 + b"\r\n"
            # Fills whatever room there is, at this end too: nothing more goes for a while.
            last, still = -1, time.monotonic()
            while time.monotonic() < still + 1:
                for number, peer in enumerate(swarm.sockets):
                    if sent[number] < BODY:
                        sent[number] += swarm.send_one(peer, piece)
                under.holds()
                if sum(sent) != last:
                    last, still = sum(sent), time.monotonic()
            assert max(sent) < BODY, "each of them was made to wait"
            assert int(server.get("/running").body) == CLIENTS
            # They are not slow: the server does not let them. Two spans pass.
            stays(lambda: swarm.closed() == 0, 2 * DEADLINE + 1)
            under.holds()
            grown = worker_memory(server) - before
            # A window for each, and what the allocator keeps where pieces of every size came and went.
            assert grown < CLIENTS * 3 * WINDOW, f"the worker grew by {grown >> 10} KiB"
            for peer in swarm.sockets:
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # They give up: that is noticed although nobody reads.
        wait_for(lambda: int(server.get("/running").body) == 0, what="the places are free")


@pytest.mark.timeout(50)
def test_uploads_go_on_when_they_are_read_at_last(server):
    """The same, but the application reads in the end: not a byte is lost on any of them, short of memory or not."""
    size = 1 << 20
    request = b"POST /deaf HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size
    with Swarm(server.address, 120) as swarm:
        sent, told = [0] * len(swarm.sockets), False

        def send():
            """Whether all could be sent; once nothing more can be, the application is told to read."""
            nonlocal told
            before = sum(sent)
            for number, peer in enumerate(swarm.sockets):
                with contextlib.suppress(BlockingIOError):
                    sent[number] += peer.send(request[sent[number] :])
            if not told and sum(sent) == before and int(server.get("/running").body) == len(sent):
                told = server.get("/go").status == 200
            return told and min(sent) == len(request)

        wait_for(send, 30, what=lambda: f"{sum(sent)} bytes went:\n{server.log}")
        answers = [b""] * len(sent)

        def answered():
            answers[:] = [old + new for old, new in zip(answers, swarm.received(), strict=True)]
            return all(answer.endswith(b"\r\n\r\n%d" % size) for answer in answers)

        wait_for(answered, what=lambda: str(set(answers)))


def test_worker_that_stands_still_makes_the_clients_wait(server):
    """What its ring has no room for stays with the clients, in its order."""
    bodies = [bytes((number + at // 1000) % 256 for at in range(300_000)) for number in range(12)]
    with siege(server, BUFFERS) as under, Swarm(server.address, len(bodies)) as swarm:
        swarm.send(b"POST /digests HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n")
        # Everybody has been asked for the whole of a window by now.
        under.holds()
        with server.connect() as blocks:
            blocks.send(b"GET /block HTTP/1.1\r\nHost: x\r\n\r\n")
            rest = list(bodies)
            end = time.monotonic() + 10
            while any(rest) and time.monotonic() < end:
                for number, peer in enumerate(swarm.sockets):
                    with contextlib.suppress(BlockingIOError):
                        rest[number] = rest[number][peer.send(rest[number][:10_000]) :]
            assert blocks.answer().body == b"blocked"
        answers = [b""] * len(bodies)

        def answered():
            answers[:] = [old + new for old, new in zip(answers, swarm.received(), strict=True)]
            return all(
                hashlib.sha256(body).hexdigest().encode() in answer
                for body, answer in zip(bodies, answers, strict=True)
            )

        wait_for(answered, what=lambda: str(answers))


def test_tiny_chunks_cost_what_their_bytes_cost(server):
    """A body in chunks of one byte each, as fast as it goes: it takes its turn with the others."""
    size = 100_000
    with siege(server, 16 << 20) as under:
        (worker,) = server.worker_pids()
        used = processor_time(worker)
        with Swarm(server.address, 5) as swarm:
            swarm.send(HEAD % b"counts")
            data = [(chunk(b"x") * size) + b"0\r\n\r\n"] * 5
            end = time.monotonic() + 20
            while any(data) and time.monotonic() < end:
                for number, peer in enumerate(swarm.sockets):
                    try:
                        data[number] = data[number][peer.send(data[number][:100_000]) :]
                    except BlockingIOError:
                        pass
                under.holds()
            answers = [b""] * 5

            def answered():
                answers[:] = [old + new for old, new in zip(answers, swarm.received(), strict=True)]
                return all(b"%d" % size in answer for answer in answers)

            wait_for(answered, what=lambda: str(answers))
        # What came together goes on together: the worker is not told of each.
        assert processor_time(worker) - used < 1
