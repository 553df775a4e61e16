"""Standard streams that nobody waits for without end.

Who reads a pipe may stop reading it: a supervisor that hangs, a log shipper whose network is gone.
A full pipe then stops whoever writes a line, and the arbiter would hear neither TERM nor HUP. So
lines wait for a while, then they are dropped and counted, and the count is written when there is
room again.

How: the pipe is opened once more, without blocking, so that nobody else's descriptor changes. Where
that cannot be (no ``/proc``), and for files, which are always ready, the streams stay as they are.
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import stat
import sys
import time
from collections.abc import Iterator

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["PatientStream", "patient"]

#: Seconds for which the arbiter waits until somebody reads; only the first line pays them.
PATIENCE = 1.0
#: The same for workers: requests wait meanwhile, but what an application prints is worth more.
PATIENCE_OF_WORKERS = 5.0


@contextlib.contextmanager
def patient() -> Iterator[None]:
    """Replaces standard output and error inside the block, where they are pipes or terminals."""
    before = {name: getattr(sys, name) for name in ("stdout", "stderr")}
    try:
        for name, stream in before.items():
            # One that a program has put there is the program's.
            if isinstance(stream, io.TextIOWrapper) and stream is getattr(sys, f"__{name}__"):
                setattr(sys, name, _replaced(stream, name))
        yield
    finally:
        for name, stream in before.items():
            # None: closed before the process began (`>&-`), or taken away by the application.
            if (current := getattr(sys, name)) is not None:
                with contextlib.suppress(OSError, ValueError):
                    current.flush()
            setattr(sys, name, stream)


def _replaced(stream: io.TextIOWrapper, name: str) -> io.TextIOWrapper:
    try:
        # First: a stream that cannot be made must not have to be closed either.
        own = _open_again(stream.fileno())
    except OSError:
        return stream
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(PatientStream(stream.fileno(), own, f"<{name}>")),
        encoding=stream.encoding,
        errors=stream.errors,
        newline="\n",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


class PatientStream(io.RawIOBase):
    """Writes to what descriptor ``fd`` leads to, by one of its own that does not block."""

    def __init__(self, fd: int, own: int, name: str) -> None:
        self.name = name
        self.mode = "wb"
        self._fd = fd
        self._arbiter = os.getpid()
        self._target = _identity(fd)
        self._own = own
        #: Nobody has read for too long; since then so many lines were dropped.
        self._stalled = False
        self._dropped = 0
        #: The last line that was written misses its end.
        self._torn = False

    def writable(self) -> bool:
        """It is for writing."""
        return True

    def fileno(self) -> int:
        """The descriptor all know."""
        return self._fd

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return os.isatty(self._fd)

    def write(self, data: Any) -> int:
        """Writes all of it, or drops what nobody takes in time."""
        view = memoryview(data).cast("B")
        # Somebody has put another file there: into the background, `capture_output`.
        if _identity(self._fd) != self._target:
            return os.write(self._fd, view)
        if self._stalled and not self._recover():
            return self._drop(view)
        deadline = time.monotonic() + self._patience()
        if not self._write(view, deadline):
            self._stalled = True
        return len(view)

    def _patience(self) -> float:
        return PATIENCE if os.getpid() == self._arbiter else PATIENCE_OF_WORKERS

    def _write(self, view: memoryview, deadline: float) -> bool:
        written = 0
        while written < len(view):
            try:
                written += os.write(self._own, view[written:])
            except BlockingIOError:
                if not self._has_room(deadline - time.monotonic()):
                    self._torn = self._torn or written > 0
                    self._drop(view[written:])
                    return False
        return True

    def _has_room(self, seconds: float) -> bool:
        poll = select.poll()
        poll.register(self._own, select.POLLOUT)
        return bool(poll.poll(max(0.0, seconds) * 1000))

    def _recover(self) -> bool:
        """Whether there is room again; then it is told what is missing."""
        if not self._has_room(0):
            return False
        start = time.strftime("\n" * self._torn + "[%Y-%m-%d %H:%M:%S %z]")
        what = f"{self._dropped} lines are missing: {self.name} was not read"
        text = f"{start} [{os.getpid()}] [WARNING] {what}\n"
        self._stalled = self._torn = False
        self._dropped = 0
        if not self._write(memoryview(text.encode()), time.monotonic()):
            self._stalled = True
        return not self._stalled

    def _drop(self, view: memoryview) -> int:
        self._dropped += max(1, bytes(view).count(b"\n"))
        return len(view)

    def close(self) -> None:
        """Lets go of what was opened here."""
        if not self.closed:
            os.close(self._own)
        super().close()


def _identity(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def _open_again(fd: int) -> int:
    """Another descriptor for a pipe or terminal, which does not block; OSError: there is none."""
    mode = os.fstat(fd).st_mode
    if not (stat.S_ISFIFO(mode) or os.isatty(fd)):
        raise OSError(f"descriptor {fd} needs no patience")
    flags = os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    return os.open(f"/proc/self/fd/{fd}", flags)
