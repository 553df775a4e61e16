"""Log files for those who may not open them.

Gateway and workers run as another user (settings ``user``, ``group``), and a log may lie where only
the arbiter's user may enter. The arbiter opens such files, anew after each rotation, and offers the
descriptors: in a socket pair lies one message, their paths with the descriptors attached, at which
whoever needs one looks without taking it out (``MSG_PEEK`` duplicates the descriptors). So it
serves any number of processes, also those that are forked later.

The gateway looks at the same message: ``crates/oxicorn-gateway/src/telemetry/log_files.rs``.
"""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import os
import socket
import stat
from collections.abc import Iterable, Iterator

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Offer", "advice", "appended", "offer", "only_look", "open_for", "reopened"]

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
        import array  # only who may not open its log files itself needs it

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
            import array

            numbers = array.array("i")
            numbers.frombytes(data[: len(data) - len(data) % numbers.itemsize])
            yield from numbers


#: The arbiter's, where gateway and workers run as somebody else.
_offer: Offer | None = None


def offer() -> Offer:
    """The one of this server, made where there is none."""
    global _offer
    if _offer is None:
        _offer = Offer()
    return _offer


def only_look() -> None:
    """This process runs as another user from now on."""
    if _offer is not None:
        _offer.only_look()


def reopened(handler: logging.FileHandler) -> io.TextIOWrapper[Any] | Any:
    """A new stream for ``handler``, by its own means or from the arbiter; OSError if neither."""
    try:
        return handler._open()
    except PermissionError:
        descriptor = _offered(handler.baseFilename)
        if descriptor is None:
            raise
        return open(descriptor, "a", encoding=handler.encoding, errors=handler.errors)


def appended(path: str) -> Any:
    """``path`` to append to, opened here or by the arbiter; OSError if neither can."""
    try:
        return open(path, "a+")
    except PermissionError:
        descriptor = _offered(path)
        if descriptor is None:
            raise
        return open(descriptor, "a")


def _offered(path: str) -> int | None:
    return None if _offer is None else _offer.descriptor(path)


def open_for(path: str, owner: tuple[int, int] | None) -> int | None:
    """Opens the log ``path``, made if it is not there, to be written by somebody else.

    It is given to ``owner`` (user and group), if there is one to be. What is not a plain file (a
    terminal, ``/dev/null``) keeps its owner, and so does what a symbolic link leads to. Links are
    followed only where nobody but root and we could have made them. None: it cannot be opened.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        is_link = os.path.islink(path)
        if not (is_link and _is_ours(os.path.dirname(os.path.abspath(path)))):
            flags |= os.O_NOFOLLOW
            is_link = False
        descriptor = os.open(path, flags, 0o666)
    except OSError:
        return None
    with contextlib.suppress(OSError):
        if owner is not None and not is_link and stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.fchown(descriptor, *owner)
        os.set_blocking(descriptor, True)
    return descriptor


def _is_ours(directory: str) -> bool:
    """Whether nobody but root and we can put anything into it."""
    found = os.stat(directory)
    writable = stat.S_IWGRP | stat.S_IWOTH
    return found.st_uid in (0, os.geteuid()) and not found.st_mode & writable


def advice(error: OSError) -> str:
    """What to do about a log file that cannot be opened."""
    if error.errno == errno.ENOENT:
        return "make its directory"
    if isinstance(error, PermissionError):
        return f"let user {os.geteuid()} write it, or name another file"
    return "name another file"
