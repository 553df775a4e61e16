"""The descriptors of log files that the arbiter offers to processes of another user.

In a socket pair lies one message, their paths with the descriptors attached, at which whoever needs
one looks without taking it out (``MSG_PEEK`` duplicates the descriptors). So it serves any number
of processes, also those that are forked later.

The gateway looks at the same message: ``crates/oxicorn-gateway/src/telemetry/log_files.rs``.
"""

from __future__ import annotations

import array
import contextlib
import os
import socket
from collections.abc import Iterable, Iterator

__all__ = ["Offer"]

#: Descriptors in one message (the gateway's ``MAX_DESCRIPTORS``).
LARGEST = 64
#: Bytes of one message (the gateway's ``MAX_MESSAGE``).
LONGEST = 128 << 10


class Offer:
    """What the arbiter offers to the processes it forks."""

    def __init__(self) -> None:
        self._shown, self._filled = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._is_filled = False
        #: Descriptors by path: as it was given, and absolute.
        self._files: dict[str, int] = {}

    def fileno(self) -> int:
        """The end to look at."""
        return self._shown.fileno()

    def update(self, files: Iterable[tuple[str, int]], *, only: bool) -> None:
        """Offers these ``(path, descriptor)``, closed by and by; ``only``: no others any more."""
        before = self._files
        self._files = {} if only else dict(before)
        for path, descriptor in files:
            for name in {path, os.path.abspath(path)}:
                self._files.pop(name, None)
                self._files[name] = descriptor
        for name in list(self._files)[:-LARGEST]:
            del self._files[name]
        self._show()
        for descriptor in set(before.values()) - set(self._files.values()):
            os.close(descriptor)

    def _show(self) -> None:
        was_filled, self._is_filled = self._is_filled, False
        # First the new one: who looks meanwhile finds one of the two.
        if self._files:
            names = b"\0".join(os.fsencode(name) for name in self._files)
            with contextlib.suppress(OSError):
                flags = socket.MSG_DONTWAIT
                socket.send_fds(self._filled, [names], list(self._files.values()), flags)
                self._is_filled = True
        if was_filled:
            with contextlib.suppress(OSError):
                self._shown.recv(1, socket.MSG_DONTWAIT)

    def only_look(self) -> None:
        """In a process that runs as another user: it has nothing to offer."""
        self._filled.close()

    def descriptor(self, path: str) -> int | None:
        """A descriptor of its own for the file ``path``, if it is offered."""
        room = socket.CMSG_SPACE(LARGEST * array.array("i").itemsize)
        flags = socket.MSG_PEEK | socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
        try:
            names, parts, _, _ = self._shown.recvmsg(LONGEST, room, flags)
        except OSError:
            return None
        found = None
        wanted = os.fsencode(os.path.abspath(path))
        for name, number in zip(names.split(b"\0"), _descriptors(parts), strict=False):
            if name == wanted and found is None:
                found = number
            else:
                os.close(number)
        return found


def _descriptors(parts: Iterable[tuple[int, int, bytes]]) -> Iterator[int]:
    for level, kind, data in parts:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            numbers = array.array("i")
            numbers.frombytes(data[: len(data) - len(data) % numbers.itemsize])
            yield from numbers
