"""Sockets that collect what the servers send: StatsD and syslog."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.support.wait import wait_for


class Receiver:
    """Collects datagrams, or what comes on connections, in a thread of its own."""

    def __init__(self, sock: socket.socket, address: str) -> None:
        self.address = address
        self.chunks: list[bytes] = []
        self._sock = sock
        self._connections: list[socket.socket] = []
        self._thread = threading.Thread(target=self._collect, daemon=True)
        self._thread.start()

    def _collect(self) -> None:
        if self._sock.type == socket.SOCK_DGRAM:
            return self._read(self._sock)
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._sock.accept()
                self._connections.append(connection)
                threading.Thread(target=self._read, args=(connection,), daemon=True).start()

    def _read(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while chunk := sock.recv(65536):
                self.chunks.append(chunk)

    @property
    def text(self) -> str:
        """Everything that came, datagrams apart by line feeds."""
        separator = b"\n" if self._sock.type == socket.SOCK_DGRAM else b""
        return separator.join(list(self.chunks)).decode()

    @property
    def lines(self) -> list[str]:
        """All lines of all datagrams."""
        return self.text.split("\n")

    def wait_for(self, condition: Callable[[str], object]) -> None:
        """Waits until ``condition`` holds for what came."""
        wait_for(lambda: condition(self.text), what=lambda: f"received:\n{self.text}")

    def drain(self) -> None:
        """Returns when all datagrams that were sent before have been read: one of our own comes behind them."""
        marker = f"end-{len(self.chunks)}-{id(object())}".encode()
        host, _, port = self.address.rpartition(":")
        with socket.socket(self._sock.family, socket.SOCK_DGRAM) as own:
            own.sendto(marker, (host, int(port)) if host else self.address)
        wait_for(lambda: marker in self.chunks)
        self.chunks.remove(marker)

    def close(self) -> None:
        """Ends the threads."""
        for sock in (self._sock, *self._connections):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(timeout=1.0)
        for sock in (self._sock, *self._connections):
            sock.close()


@contextlib.contextmanager
def receiving(kind: str, directory: Path) -> Iterator[Receiver]:
    """A receiver: ``udp``, ``tcp``, ``unix-dgram`` or ``unix-stream``."""
    unix = kind.startswith("unix")
    stream = kind in ("tcp", "unix-stream")
    sock = socket.socket(
        socket.AF_UNIX if unix else socket.AF_INET, socket.SOCK_STREAM if stream else socket.SOCK_DGRAM
    )
    if unix:
        address = str(directory / "receiver.sock")
        sock.bind(address)
    else:
        sock.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{sock.getsockname()[1]}"
    if stream:
        sock.listen()
    receiver = Receiver(sock, address)
    try:
        yield receiver
    finally:
        receiver.close()
