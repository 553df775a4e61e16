"""WebSockets that hold what they can: messages that never end, answers that nobody reads, talk that nobody hears.

What a message that is not complete takes lies in the worker, so here both processes are watched.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.attack.conftest import BUFFERS, CONFIG, DEADLINE
from tests.support.server import Server, Servers
from tests.support.swarm import Siege, gateway_descriptors, need_descriptors, siege
from tests.support.wait import wait_for
from tests.support.websocket import BINARY, CLOSE, CONTINUATION, TEXT, WebSocket, frame

CLIENTS = 200
#: What each client sends of its message: beyond the buffers as soon as a few have.
MESSAGE = 1 << 20
PIECE = 1 << 16
#: What may lie in a worker as long as there is memory.
FULL_WINDOW = 64 << 10
#: What of it is left where memory is short, with what was read and has to wait.
WINDOW = 24 << 10
#: What of that the gateway may have, uncounted, of each.
READ_AHEAD = 16 << 10
#: Of the allocators: both processes keep some of what was given back to them.
MARGIN = 24 << 20


OWN = "websocket_ping_interval = 0\nasgi_disconnect_grace_period = 0\nlimit_connections = 2000\n"


def start(serve: Servers, more: str = "") -> Server:
    return serve(None, "--worker-class", "asgi", spec="asgi_websockets", config=CONFIG + OWN + more)


@pytest.fixture
def server(serve):
    return start(serve)


def anonymous(server: Server) -> int:
    """What gateway and worker hold for themselves."""
    total = 0
    for pid in [server.gateway_pid(), *server.worker_pids()]:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        total += sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Anonymous:"))
    return total * 1024


@contextlib.contextmanager
def conversations(server: Server, path: str, count: int = CLIENTS, **options: object) -> Iterator[list[WebSocket]]:
    """So many, which do not wait for anything from here on."""
    need_descriptors(count)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(WebSocket(server.address, path, **options)) for _ in range(count)]
        for client in clients:
            client.peer.socket.setblocking(False)
        yield clients


def push(clients: list[WebSocket], data: bytes, sent: dict[int, int], limit: int) -> int:
    """Sends to each as much of ``data`` as there is room for, ``limit`` bytes in all; how many went."""
    total = 0
    for number, client in enumerate(clients):
        at = sent.get(number, 0)
        if at >= limit:
            continue
        try:
            count = client.peer.socket.send(data[at % len(data) :])
        except BlockingIOError:
            continue
        except OSError:
            # The server has closed it.
            count = limit
        sent[number] = at + count
        total += count
    return total


def attack(under: Siege, server: Server, step: Callable[[], int], bound: int) -> None:
    """Goes on with ``step`` until nothing moves any more, or for a while; both processes together are watched."""
    before = anonymous(server)
    end, still = time.monotonic() + 8, 0
    while time.monotonic() < end and still < 3:
        still = 0 if step() else still + 1
        under.holds()
        grown = anonymous(server) - before
        assert grown < bound, f"grew by {grown >> 10} KiB"


def talk(server: Server) -> None:
    """An honest conversation, with a message that is large enough to need room."""
    with WebSocket(server.address, "/echo") as client:
        for message in ("here", "x" * 100_000):
            client.send(message)
            assert client.receive() == message
        assert client.close() == (1000, "")


def closes(client: WebSocket) -> int | None:
    """The code of a close that has come."""
    data = b""
    with contextlib.suppress(OSError):
        while more := client.peer.socket.recv(65536):
            data += more
    return struct.unpack("!H", data[2:4])[0] if len(data) >= 4 and data[0] == 0x80 | CLOSE else None


def given_back(server: Server, before: int, kept: int = MARGIN) -> None:
    wait_for(
        lambda: anonymous(server) - before < kept,
        what=lambda: f"memory is given back: {(anonymous(server) - before) >> 10} KiB are not",
    )


@pytest.mark.timeout(60)
def test_messages_that_never_end(server):
    """200 MiB in frames that are never the last of their message."""
    before = anonymous(server)
    with siege(server, BUFFERS + (8 << 20)) as under:
        # The second time takes what the first one left: an allocator may keep all of it where something small lies
        # behind it, but then it is used again.
        for _ in range(2):
            never_end(server, under)
            talk(server)
            given_back(server, before, BUFFERS + MARGIN)


def never_end(server: Server, under: Siege) -> None:
    with conversations(server, "/echo") as clients, WebSocket(server.address, "/echo") as friend:
        friend.send("before")
        assert friend.receive() == "before"
        piece = frame(CONTINUATION, b"x" * PIECE, fin=False)
        for client in clients:
            client.peer.socket.send(frame(BINARY, b"", fin=False))
        sent: dict[int, int] = {}
        attack(under, server, lambda: push(clients, piece, sent, MESSAGE), BUFFERS + MARGIN)
        wait_for(lambda: "closed the WebSocket of ip=127.0.0.1, whose message is not complete" in server.log)
        # Who holds little is not meant.
        friend.send("after")
        assert friend.receive() == "after"
        talk(server)
        codes = [closes(client) for client in clients]
        assert codes.count(1013) > CLIENTS // 4, codes


@pytest.mark.timeout(60)
def test_compressed_messages_that_never_end(server):
    """A few bytes each; what inflates them is much more."""
    count, before = 800, anonymous(server)
    offer = [("Sec-WebSocket-Extensions", "permessage-deflate")]
    with siege(server, BUFFERS + (8 << 20)) as under:
        with conversations(server, "/echo", count, headers=offer) as clients:
            # "Hello" as RFC 7692 has it, but for the end of the message.
            begun = frame(TEXT, b"\xf2\x48\xcd\xc9\xc9", fin=False, rsv=4)
            sent: dict[int, int] = {}
            attack(under, server, lambda: push(clients, begun, sent, len(begun)), BUFFERS + MARGIN)
            wait_for(lambda: [closes(client) for client in clients].count(1013) > count // 4)
            talk(server)
    given_back(server, before)


@pytest.mark.timeout(60)
def test_messages_that_the_application_does_not_receive(serve):
    """Complete ones: the window of each is all that may lie there, and less where memory is short."""
    count, buffers = 800, BUFFERS // 4
    bound = buffers + count * WINDOW + (16 << 20)
    assert bound < count * FULL_WINDOW
    server = start(serve, f"buffer_limit = {buffers}\n")
    with siege(server, buffers + count * READ_AHEAD + (4 << 20)) as under:
        with conversations(server, "/deaf", count) as clients:
            messages, sent = frame(BINARY, b"x" * 4000) * 16, {}
            attack(under, server, lambda: push(clients, messages, sent, 2 * FULL_WINDOW), bound)
            talk(server)
            for client in clients:
                client.peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@pytest.mark.timeout(60)
def test_messages_that_nobody_reads(server):
    """Some 8 MiB for each; those who take nothing are cut, by the buffers, or else by their deadline."""
    before = anonymous(server)
    with siege(server, BUFFERS + (8 << 20)) as under, conversations(server, "/flood", 100, receive_buffer=4096):
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end:
            under.holds()
            assert anonymous(server) - before < BUFFERS + 100 * PIECE + MARGIN
        talk(server)
        wait_for(lambda: gateway_descriptors(server) <= under.descriptors_before, 20, "all are cut")
    assert "Buffers are full (buffer_limit): cut off ip=127.0.0.1" in server.log
    given_back(server, before)
