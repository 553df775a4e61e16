"""Many connections at once that do what no honest client does, and what is seen of a server meanwhile.

An attack is driven from one thread with non-blocking sockets: what it does must not depend on how fast the
server answers.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import socket
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import processes
from tests.support.http import Address
from tests.support.server import Server
from tests.support.wait import wait_for

#: Descriptors the test itself needs beside those of a swarm.
OWN_DESCRIPTORS = 200
#: Requests of the normal client for one measurement.
REQUESTS = 40
#: A normal client may be so much slower under attack than before. Generous: the attack is made on the same few
#: processors, and a server that is held up by it is slower by far more.
RATIO = 40
#: What counts as the least time of a request before: below it the clock says more about the machine.
LEAST = 0.005


class Swarm:
    """``with Swarm(address, 1000) as swarm: ...``; all its connections are closed at the end."""

    def __init__(self, address: Address, count: int, receive_buffer: int | None = None) -> None:
        self._address = address
        self._count = count
        self._receive_buffer = receive_buffer
        self.sockets: list[socket.socket] = []
        #: What each has begun to send and found no room for.
        self._rest: dict[socket.socket, bytes] = {}

    def __enter__(self) -> Swarm:
        need_descriptors(self._count)
        try:
            for _ in range(self._count):
                self.sockets.append(self._connect())
        except BaseException:
            self.close()
            raise
        return self

    def _connect(self) -> socket.socket:
        peer = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if self._receive_buffer is not None:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)
        peer.settimeout(10)
        peer.connect(self._address)
        peer.setblocking(False)
        return peer

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes what is left."""
        for peer in self.sockets:
            peer.close()

    def send(self, data: bytes) -> int:
        """Sends ``data`` to each that has room; to how many nothing can be sent any more.

        What there was no room for goes first the next time: ``data`` arrives whole, or not at all.
        """
        broken = 0
        for peer in self.sockets:
            try:
                self.send_one(peer, data)
            except OSError:
                broken += 1
        return broken

    def send_one(self, peer: socket.socket, data: bytes) -> int:
        """The same to one of them; how many bytes went."""
        data = self._rest.pop(peer, b"") or data
        count = 0
        with contextlib.suppress(BlockingIOError):
            count = peer.send(data)
        if 0 < count < len(data) or count == 0:
            self._rest[peer] = data[count:]
        return count

    def fill(self, data: bytes, deadline: float = 20.0) -> None:
        """Sends ``data`` again and again until nobody has room for a byte more, for a while (or is cut off)."""
        end = time.monotonic() + deadline
        full_since = time.monotonic()
        while time.monotonic() < full_since + 0.5:
            assert time.monotonic() < end, "there is always room for more"
            for peer in self.sockets:
                with contextlib.suppress(OSError):
                    if self.send_one(peer, data):
                        full_since = time.monotonic()

    def received(self) -> list[bytes]:
        """What has come for each, as much as there is at once; for those that were closed too."""
        found = []
        for peer in self.sockets:
            data = b""
            with contextlib.suppress(OSError):
                while piece := peer.recv(65536):
                    data += piece
            found.append(data)
        return found

    def closed(self) -> int:
        """How many the server has closed (what came before is not read)."""
        poller = select.poll()
        for peer in self.sockets:
            poller.register(peer, select.POLLRDHUP)
        return sum(1 for _, events in poller.poll(0) if events & (select.POLLRDHUP | select.POLLHUP | select.POLLERR))

    def wait_until_closed(self, deadline: float) -> None:
        """Waits until the server has closed all of them."""
        wait_for(lambda: self.closed() == len(self.sockets), deadline, lambda: f"{self.closed()} were closed")


def need_descriptors(count: int) -> None:
    """Raises this process' limit on open files, or skips the test."""
    need = count + OWN_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < need:
        pytest.skip(f"needs {need} descriptors, the hard limit is {hard}")
    if soft != resource.RLIM_INFINITY and soft < need:
        resource.setrlimit(resource.RLIMIT_NOFILE, (need, hard))


def response_time(server: Server) -> float:
    """What nine of ten requests of a normal client took at most, each on a connection of its own."""
    times = []
    for _ in range(REQUESTS):
        start = time.monotonic()
        assert server.get("/hello").body == b"hello"
        times.append(time.monotonic() - start)
    return statistics.quantiles(times, n=10)[-1]


def gateway_memory(server: Server) -> int:
    """What the gateway holds for itself, in bytes; its share of files would change with who else has them mapped."""
    return processes.anonymous_memory(server.gateway_pid())


def gateway_descriptors(server: Server) -> int:
    """How many descriptors the gateway has open."""
    return len(processes.open_files(server.gateway_pid()))


def processor_time(pid: int) -> float:
    """Seconds of processor time ``pid`` has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Siege:
    """What must hold during an attack, and after it."""

    def __init__(self, server: Server, memory: int) -> None:
        self.server = server
        #: Bytes by which the gateway may grow.
        self.memory = memory
        self.gateway = server.gateway_pid()
        self.time_before = max(response_time(server), LEAST)
        self.memory_before = gateway_memory(server)
        self.descriptors_before = gateway_descriptors(server)

    def holds(self) -> None:
        """The normal client is served promptly, and the gateway holds no more than it may."""
        limit = self.time_before * RATIO
        during = response_time(self.server)
        if during >= limit:
            # The machine may have stood still for a moment; a server that is held up is so the second time too.
            during = response_time(self.server)
        assert during < limit, f"{during:.3f} s instead of {self.time_before:.3f} s"
        grown = gateway_memory(self.server) - self.memory_before
        assert grown < self.memory, f"grew by {grown >> 10} KiB"

    def is_over(self) -> None:
        """Nothing of the attack is left: neither connections nor memory nor slowness."""
        wait_for(
            lambda: gateway_descriptors(self.server) <= self.descriptors_before,
            what="the attackers' connections are gone",
        )
        assert self.server.gateway_pid() == self.gateway, "it is the same gateway"
        self.holds()
        wait_for(
            lambda: gateway_memory(self.server) - self.memory_before < max(self.memory // 4, 8 << 20),
            what=lambda: (
                f"memory is given back: {(gateway_memory(self.server) - self.memory_before) >> 10} KiB are not"
            ),
        )


@contextlib.contextmanager
def siege(server: Server, memory: int = 16 << 20) -> Iterator[Siege]:
    """``with siege(server) as under: attack; under.holds()``; afterwards everything must be as before."""
    under = Siege(server, memory)
    yield under
    under.is_over()
