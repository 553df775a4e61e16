"""The arbiter's end of the control socket.

It runs in the arbiter's loop, which waits for ``descriptor`` and then calls ``turn``. Nothing here
waits: sockets do not block, and each client has one request under way, whose reply it must read
before the next one is looked at. So a slow or dead client costs a bounded buffer.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import stat
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from oxicorn.control import protocol

#: Clients at a time; the next one takes the place of who has been silent for the longest time.
CLIENTS = 32
#: Seconds after which a client that says nothing is closed, as in Gunicorn.
IDLE = 300.0
READ_SIZE = 16 * 1024


class InUseError(OSError):
    """Another server listens at the path."""


@dataclass
class Client:
    """A connection."""

    socket: socket.socket
    #: Process and user at the other end.
    pid: int
    uid: int
    input: bytearray = field(default_factory=bytearray)
    output: bytearray = field(default_factory=bytearray)
    #: Its request is being worked on.
    busy: bool = False
    #: Closed as soon as it has read what it is owed.
    leaving: bool = False
    #: What is waited for; 0: nothing, because an end that hangs up is reported again and again.
    watched: int = 0
    seen: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class Request:
    """What a client asked for; ``token`` is how the answer finds it."""

    token: int
    message: dict[str, Any]
    pid: int
    uid: int


class ControlServer:
    """Listens at ``path``. InUseError: somebody else does; other OSErrors: it cannot be done."""

    def __init__(self, path: str, mode: int) -> None:
        self.path = os.path.abspath(path)
        self._epoll = select.epoll()
        self._clients: dict[int, Client] = {}
        try:
            self._listener = _listen(self.path, mode)
            self._identity = _identity(self.path)
            self._epoll.register(self._listener, select.EPOLLIN)
        except BaseException:
            self._epoll.close()
            raise

    @property
    def descriptor(self) -> int:
        """Readable when ``turn`` has something to do."""
        return self._epoll.fileno()

    def turn(self) -> Iterator[Request]:
        """Accepts, reads and writes what can be; gives the requests that have come."""
        with contextlib.suppress(BlockingIOError):
            for number, _ in self._epoll.poll(0):
                if number == self._listener.fileno():
                    self._accept()
                elif number in self._clients:
                    self._move(number)
        now = time.monotonic()
        for number, client in list(self._clients.items()):
            if not client.busy and now - client.seen > IDLE:
                self._close(number)
        for number in list(self._clients):
            yield from self._next_request(number)

    def answer(self, token: int, reply: dict[str, Any]) -> None:
        """The answer to a request; who has left gets none."""
        client = self._clients.get(token)
        if client is None or not client.busy:
            return
        client.busy = False
        self._send(token, reply)

    def close(self) -> None:
        """Ends it and removes the socket's file, unless somebody else has put theirs there."""
        self.forget()
        if _identity(self.path) == self._identity:
            with contextlib.suppress(OSError):
                os.unlink(self.path)

    def forget(self) -> None:
        """Closes the descriptors: for a forked child, where none of it goes on."""
        for client in self._clients.values():
            client.socket.close()
        self._clients.clear()
        self._listener.close()
        self._epoll.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.setblocking(False)
            if len(self._clients) >= CLIENTS and not self._make_room():
                connection.close()
                continue
            pid, uid = _peer(connection)
            self._clients[connection.fileno()] = Client(connection, pid, uid)
            self._wait_for(connection.fileno(), select.EPOLLIN)

    def _make_room(self) -> bool:
        """Closes who has said nothing for the longest time; False: all are owed something."""
        silent = [
            (client.seen, number)
            for number, client in self._clients.items()
            if not client.busy and not client.output
        ]
        if silent:
            self._close(min(silent)[1])
        return bool(silent)

    def _move(self, number: int) -> None:
        client = self._clients[number]
        client.seen = time.monotonic()
        try:
            if client.output:
                del client.output[: client.socket.send(client.output)]
            else:
                block = client.socket.recv(READ_SIZE)
                if not block:
                    client.leaving = True
                client.input += block
        except BlockingIOError:
            pass
        except OSError:
            client.leaving = True
            client.output.clear()
        self._watch(number)

    def _next_request(self, number: int) -> Iterator[Request]:
        client = self._clients[number]
        if client.busy or client.output:
            return
        try:
            message = protocol.take(client.input, protocol.REQUEST_LIMIT)
        except protocol.ProtocolError as error:
            client.leaving = True
            client.input.clear()
            self._send(number, protocol.refusal(0, f"Invalid message: {error}"))
            return
        if message is not None:
            client.busy = True
            yield Request(number, message, client.pid, client.uid)
        self._watch(number)

    def _send(self, number: int, message: dict[str, Any]) -> None:
        client = self._clients[number]
        client.output += protocol.encode(message)
        with contextlib.suppress(OSError):
            del client.output[: client.socket.send(client.output)]
        self._watch(number)

    def _watch(self, number: int) -> None:
        """Waits for what the client has to do next: read, or say something."""
        client = self._clients.get(number)
        if client is None:
            return
        if (
            client.leaving
            and not client.busy
            and not client.output
            and not protocol.has_message(client.input, protocol.REQUEST_LIMIT)
        ):
            self._close(number)
        elif client.output:
            self._wait_for(number, select.EPOLLOUT)
        elif client.busy or client.leaving:
            # What it says now is read when it has its answer.
            self._wait_for(number, 0)
        else:
            self._wait_for(number, select.EPOLLIN)

    def _wait_for(self, number: int, events: int) -> None:
        client = self._clients[number]
        if events and client.watched:
            self._epoll.modify(number, events)
        elif events:
            self._epoll.register(number, events)
        elif client.watched:
            self._epoll.unregister(number)
        client.watched = events

    def _close(self, number: int) -> None:
        self._wait_for(number, 0)
        self._clients.pop(number).socket.close()


def _listen(path: str, mode: int) -> socket.socket:
    directory = os.path.dirname(path)
    if not os.path.isdir(directory):
        os.makedirs(directory, mode=0o700)
    _make_room(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    # Nobody may come in between the bind and the change of its mode.
    before = os.umask(0o777 & ~mode)
    try:
        listener.bind(path)
        os.chmod(path, mode)
        listener.listen(CLIENTS)
    except BaseException:
        listener.close()
        raise
    finally:
        os.umask(before)
    return listener


def _make_room(path: str) -> None:
    """Removes the file of a server that is gone."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise FileExistsError(17, "is not a socket", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(path)
        except BlockingIOError:
            raise InUseError(98, "another server listens there", path) from None
        except OSError:
            os.unlink(path)
            return
        pid, _ = _peer(probe)
    raise InUseError(98, f"the server with pid {pid} listens there", path)


def _peer(connection: socket.socket) -> tuple[int, int]:
    credentials = connection.getsockopt(
        socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")
    )
    pid, uid, _ = struct.unpack("3i", credentials)
    return pid, uid


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
