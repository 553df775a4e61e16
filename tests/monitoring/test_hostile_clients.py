"""Who floods or never reads: metrics, probes, dashboard and control cost a bounded memory, and others are served."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
from collections.abc import Iterator

import pytest

from tests.monitoring.test_control import listens, run
from tests.monitoring.test_metrics import Monitoring
from tests.support import processes
from tests.support.gate import APPLICATION
from tests.support.ports import free_port
from tests.support.wait import wait_for

#: Bytes by which the memory of a process may have grown: all bounds together, and what allocators keep.
ROOM = 24 << 20

#: What one flood sends: were it kept, it would show.
FLOOD = 64 << 20


@pytest.fixture(scope="module")
def watched(serve_module):
    """A server with all the doors there are."""
    port = free_port()
    args = ["--metrics-bind", f"127.0.0.1:{port}", "--dashboard", "--control-socket", "control", "--workers", "1"]
    server = serve_module(APPLICATION, *args)
    wait_for(lambda: listens(server))
    monitoring = Monitoring(("127.0.0.1", port))
    assert monitoring.get("/metrics").status == 200
    return server, monitoring


@contextlib.contextmanager
def grows_little(pid: int) -> Iterator[None]:
    before = processes.anonymous_memory(pid)
    yield
    grown = processes.anonymous_memory(pid) - before
    assert grown < ROOM, f"{grown >> 20} MiB more"


def connect(address: object) -> socket.socket:
    """A client with hardly any room for answers."""
    peer = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    try:
        peer.connect(address)
    except OSError:
        peer.close()
        raise
    peer.settimeout(10)
    return peer


def flood(peer: socket.socket, block: bytes, total: int = FLOOD) -> None:
    """Sends until the other end has had enough: it closes, or reads no more."""
    peer.settimeout(0.5)
    sent = 0
    with contextlib.suppress(OSError):
        while sent < total:
            sent += peer.send(block)


@pytest.mark.parametrize(
    "beginning",
    [b"", b"GET /metrics HTTP/1.1\r\nHost: x\r\nX: ", b"GET /dashboard/stream HTTP/1.1\r\nHost: localhost\r\n\r\n"],
    ids=["no-request", "endless-head", "behind-a-request"],
)
def test_floods_at_the_metrics_listener(watched, beginning):
    server, monitoring = watched
    with grows_little(server.gateway_pid()), contextlib.ExitStack() as ending:
        for _ in range(4):
            peer = ending.enter_context(connect(monitoring.address))
            peer.sendall(beginning)
            flood(peer, b"x" * 65536)
        assert monitoring.get("/livez").status == 200
        assert server.get("/").status == 200


@pytest.mark.parametrize("path", ["/metrics", "/dashboard", "/dashboard/stream"])
def test_many_who_never_read_at_the_metrics_listener(watched, path):
    server, monitoring = watched
    with grows_little(server.gateway_pid()), contextlib.ExitStack() as ending:
        for _ in range(150):  # More than may be there at a time.
            peer = ending.enter_context(connect(monitoring.address))
            peer.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert monitoring.get("/readyz").status == 200
        assert monitoring.get("/metrics").status == 200
        assert server.get("/").status == 200


def watch(peer: socket.socket) -> bool:
    """Asks for the dashboard's stream; whether there is room for one more."""
    peer.sendall(b"GET /dashboard/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
    status = peer.recv(12)
    assert status in (b"HTTP/1.1 200", b"HTTP/1.1 503")
    return status.endswith(b"200")


def test_viewers_that_never_read_are_as_many_as_are_allowed_and_make_room(watched):
    _, monitoring = watched
    with contextlib.ExitStack() as ending:
        viewers = [ending.enter_context(connect(monitoring.address)) for _ in range(20)]
        assert sum(watch(viewer) for viewer in viewers) <= 8
        assert monitoring.get("/livez").status == 200

    def has_room() -> bool:
        with connect(monitoring.address) as viewer:
            return watch(viewer)

    wait_for(has_room)


def framed(message: object) -> bytes:
    payload = json.dumps(message).encode()
    return struct.pack(">I", len(payload)) + payload


@pytest.mark.parametrize(
    "block",
    [
        b"x" * 65536,
        struct.pack(">I", 60_000) + b"x" * 60_000,
        framed({"id": 1, "command": "show config all"}) * 500,
    ],
    ids=["bytes", "messages", "questions"],
)
def test_floods_at_the_control_socket(watched, block):
    server, _ = watched
    path = str(server.directory / "control")
    with grows_little(server.pid), contextlib.ExitStack() as ending:
        for _ in range(8):
            flood(ending.enter_context(connect(path)), block, FLOOD // 8)
        assert run("oxicornctl", server, "show", "stats").returncode == 0
        assert server.get("/").status == 200


def test_silent_clients_of_the_control_socket_make_room(watched):
    server, _ = watched
    path = str(server.directory / "control")
    with contextlib.ExitStack() as ending:
        for _ in range(50):  # More than may be there at a time.
            ending.enter_context(connect(path))
        assert run("oxicornctl", server, "show", "stats").returncode == 0
