"""A call's time is over wherever the call is: while its values are written, or while its result is read."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from oxicorn._native import PoolConnection
from oxicorn.dirty import DirtyClient, DirtyProtocolError, DirtyTimeoutError

HEAD = b"GD\x01"
RESPONSE, ERROR, CHUNK = 2, 3, 4
WITH_DESCRIPTOR = 0x80
LARGE = 1 << 20
UNREADABLE = 0


def text(value: bytes) -> bytes:
    return b"\x11" + len(value).to_bytes(4, "big") + value


def frame(kind: int, call: int, name: bytes, value: bytes) -> bytes:
    """A frame whose payload has one field."""
    payload = b"\x21" + (1).to_bytes(4, "big") + text(name) + value
    return HEAD + bytes([kind]) + len(payload).to_bytes(4, "big") + call.to_bytes(8, "big") + payload


def external(length: int) -> bytes:
    """Bytes that lie at the beginning of the memory file that comes along."""
    return b"\x30\x10" + (0).to_bytes(8, "big") + length.to_bytes(8, "big")


def listed(count: int) -> bytes:
    return b"\x20" + count.to_bytes(4, "big") + b"\x00" * count


class Broker:
    """What stands at the pool's socket, and answers as the test says."""

    def __init__(self, directory: Path) -> None:
        self.path = str(directory / "pool.sock")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen()
        self._peers: list[socket.socket] = []

    @property
    def peer(self) -> socket.socket:
        """The last connection."""
        return self._peers[-1]

    def accept(self) -> socket.socket:
        peer, _ = self._listener.accept()
        self._peers.append(peer)
        peer.settimeout(20.0)
        return peer

    def answer(self, kind: int, call: int, value: bytes, size: int = 0) -> None:
        """An answer; ``size`` is that of a memory file with it."""
        name = b"data" if kind == CHUNK else b"result"
        if not size:
            self.peer.sendall(frame(kind, call, name, value))
            return
        file = os.memfd_create("answer")
        try:
            os.ftruncate(file, size)
            socket.send_fds(self.peer, [frame(kind | WITH_DESCRIPTOR, call, name, value)], [file])
        finally:
            os.close(file)

    def close(self) -> None:
        self._listener.close()
        for peer in self._peers:
            peer.close()


@pytest.fixture
def broker(tmp_path) -> Iterator[Broker]:
    broker = Broker(tmp_path)
    yield broker
    broker.close()


def connected(broker: Broker) -> PoolConnection:
    connection = PoolConnection.connect(broker.path, 10.0)
    broker.accept()
    return connection


def pass_time(seconds: float) -> None:
    """Returns when so many have passed, not before."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) >= 0:
        time.sleep(left)


@pytest.mark.parametrize(("value", "size"), [(external(LARGE), LARGE), (listed(5000), 0)], ids=["large", "many"])
def test_an_answer_that_cannot_be_read_in_time_is_a_timeout_of_its_call_alone(broker, value, size):
    connection = connected(broker)
    late = connection.post("a:A", "x", (), {}, False, 0.01)
    other = connection.post("a:A", "x", (), {}, False, 60.0)
    pass_time(0.02)
    broker.answer(RESPONSE, late, value, size)
    broker.answer(RESPONSE, other, value, size)
    kind, number, error = connection.take()
    assert (kind, number, type(error)) == (UNREADABLE, late, TimeoutError)
    kind, number, whole = connection.take()
    assert (kind, number, len(whole)) == (RESPONSE, other, size or 5000)


def test_a_piece_of_a_stream_has_the_time_of_its_stream(broker):
    connection = connected(broker)
    call = connection.post("a:A", "x", (), {}, False, 0.01)
    pass_time(0.02)
    for _ in range(2):
        broker.answer(CHUNK, call, external(LARGE), LARGE)
        assert connection.take()[:2] == (UNREADABLE, call)


def test_an_answer_that_came_in_time_and_is_small_is_given(broker):
    connection = connected(broker)
    call = connection.post("a:A", "x", (), {}, False, 0.01)
    pass_time(0.02)
    broker.answer(RESPONSE, call, b"\x01\x01")
    assert connection.take() == (RESPONSE, call, True)


def test_an_answer_that_makes_no_sense_is_the_error_of_its_call_alone(broker):
    connection = connected(broker)
    bad = connection.post("a:A", "x", (), {}, False)
    good = connection.post("a:A", "x", (), {}, False)
    broker.answer(RESPONSE, bad, b"\x99")
    broker.answer(RESPONSE, good, b"\x01\x01")
    kind, number, error = connection.take()
    assert (kind, number, type(error)) == (UNREADABLE, bad, DirtyProtocolError)
    assert connection.take() == (RESPONSE, good, True)


@pytest.mark.parametrize("value", [[None] * 5000, b"x" * LARGE, [bytearray(LARGE)]], ids=["many", "large", "buffer"])
def test_arguments_that_cannot_be_written_in_time_are_not_sent(broker, value):
    client = DirtyClient(broker.path, timeout=0.0)
    with pytest.raises(DirtyTimeoutError) as caught:
        client.execute("a:A", "x", value)
    assert caught.value.timeout == 0.0
    assert broker.accept().recv(1) == b"", "nothing came but the end"
    with pytest.raises(DirtyTimeoutError):
        next(client.stream("a:A", "x", value))
    assert broker.accept().recv(1) == b""


def test_an_awaited_answer_that_is_late_leaves_the_others(broker):
    """The loop is busy until one call's time is over; then both answers are there."""

    async def calls() -> None:
        patient, quick = DirtyClient(broker.path, timeout=60.0), DirtyClient(broker.path, timeout=0.05)
        quick._loops = patient._loops
        one = asyncio.create_task(patient.execute_async("a:A", "x"))
        two = asyncio.create_task(quick.execute_async("a:A", "x"))
        await asyncio.sleep(0)
        broker.accept()
        pass_time(0.06)
        for call in (2, 1):
            broker.answer(RESPONSE, call, external(LARGE), LARGE)
        with pytest.raises(DirtyTimeoutError):
            await two
        assert await one == bytes(LARGE)
        await patient.close_async()

    asyncio.run(calls())


def test_an_awaited_answer_that_makes_no_sense_leaves_the_others(broker):
    async def calls() -> None:
        client = DirtyClient(broker.path, timeout=60.0)
        one, two = (asyncio.create_task(client.execute_async("a:A", "x")) for _ in "12")
        await asyncio.sleep(0)
        broker.accept()
        broker.answer(RESPONSE, 1, b"\x99")
        broker.answer(RESPONSE, 2, b"\x01\x01")
        with pytest.raises(DirtyProtocolError, match="no known type"):
            await one
        assert await two is True
        await client.close_async()

    asyncio.run(calls())
