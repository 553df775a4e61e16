"""Ports for servers under test, also where several test runs share a machine.

A port that was free a moment ago (bound to, and closed) is soon given to somebody else, who asks the kernel in the same
way. So each process of tests has a range of its own, below what the kernel gives out, locked while it lives.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import socket
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import IO

FIRST = 10_000
#: Ports of one process, and how many processes there may be at once.
SIZE, PROCESSES = 500, 40


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on. The same one comes again only after all others."""
    for port in itertools.islice(_ports(), SIZE):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("all ports of this test run are taken")


@cache
def _ports() -> Iterator[int]:
    begin = FIRST + _range() * SIZE
    return itertools.cycle(range(begin, begin + SIZE))


def _range() -> int:
    """The number of a range that no other process has."""
    for number in range(PROCESSES):
        path = Path(tempfile.gettempdir()) / f"oxicorn-tests-{os.getuid()}-ports-{number}"
        file = path.open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
        else:
            _locks.append(file)
            return number
    raise RuntimeError(f"more than {PROCESSES} test runs at once")


#: Closed, and so unlocked, at the end of the process.
_locks: list[IO[str]] = []
