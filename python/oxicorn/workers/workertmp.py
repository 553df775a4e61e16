"""``worker.tmp``: when a worker gave its last sign of life.

Gunicorn's workers touch a temporary file, which is where the name comes from. Here they beat in
shared memory, all by themselves, unless their class has a server of its own; nothing is written to
disk.
"""

from __future__ import annotations

import os
import time
from _weakref import ref  # `weakref`, without its larger rest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from oxicorn import _native

__all__ = ["WorkerTmp"]


class WorkerTmp:
    """The heartbeat of one worker, for arbiter and worker."""

    def __init__(self, cfg: Any) -> None:
        self._made = time.monotonic()
        self._heartbeat: _native.Heartbeat | None = None
        self._worker: Callable[[], Any] = lambda: None
        self._file: int | None = None
        #: Set in the worker: gives a sign of life where the native side does not do it by itself.
        self.beat: Callable[[], None] | None = None

    def show(self, heartbeat: _native.Heartbeat, worker: Any) -> None:
        """Where the heartbeat of ``worker`` is to be read, from now on."""
        self._heartbeat = heartbeat
        self._worker = ref(worker)

    def notify(self) -> None:
        """A sign of life, for classes with a server of their own; others give it by themselves."""
        if self.beat is not None:
            self.beat()

    def last_update(self) -> float:
        """When it was, in seconds of ``time.monotonic()``; before the first, when it was made."""
        last = None
        pid = getattr(self._worker(), "pid", None)
        if self._heartbeat is not None and isinstance(pid, int):
            last = self._heartbeat.last(pid)
        return self._made if last is None else last

    def fileno(self) -> int:
        """A descriptor, for code that wants one; nothing is written there."""
        if self._file is None:
            self._file = os.memfd_create("oxicorn-workertmp")
        return self._file

    def close(self) -> None:
        """Closes the descriptor, if there is one."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
